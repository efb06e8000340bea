"""`segue propensity`: models of what people will probably do, their versions, and why somebody has a score."""

from pathlib import Path
from typing import Annotated, Any

import typer

from segue.cli.console import AsOf, Format, OutputFormat, moment, out, print_rows, settings, warehouse

app = typer.Typer(no_args_is_help=True, help="Scores of what people will probably do: models, versions, reasons.")

Name = Annotated[str, typer.Argument(help="The propensity: a model in models/propensity.")]


def register(root: typer.Typer) -> None:
    """Add this room's commands to `segue`."""
    root.add_typer(app, name="propensity")


@app.command("list")
def list_propensities(format: OutputFormat = Format.table) -> None:
    """Every propensity: the version in force, and what came of the last training or why it was withdrawn."""
    from segue import propensity

    rows = []
    with warehouse().read() as con:
        for one in _declared():
            last = next(iter(propensity.versions(con, one.name)), None)
            force, gone = propensity.in_force(con, one.name), propensity.withdrawn(con, one.name)
            status, reason = (last.status, last.reason) if last else ("never trained", "")
            if gone is not None:
                status, reason = "withdrawn", gone
            rows.append(
                (one.name, one.score, force[0] if force else None, last.as_of if last else None, status, reason)
            )
    print_rows(["name", "score", "version", "trained_as_of", "status", "reason"], rows, format)


@app.command("versions")
def list_versions(name: Name, format: OutputFormat = Format.table) -> None:
    """Every version of a propensity, newest first."""
    from segue import propensity

    with warehouse().read() as con:
        found = propensity.versions(con, _one(name).name)
    print_rows(
        ["version", "as_of", "status", "auc", "recency_auc", "calibration_error", "reason"],
        [
            (v.version, v.as_of, v.status, _metric(v.metrics, "model", "auc"), _metric(v.metrics, "recency", "auc"),
             _metric(v.metrics, "model", "calibration_error"), v.reason)
            for v in found
        ],
        format,
    )  # fmt: skip


@app.command("train")
def train(as_of: AsOf = None) -> None:
    """Train every propensity now, and put in force what is better. Dagster does it by itself when it is due."""
    from segue import propensity
    from segue.models import prepare

    project = prepare(settings())
    reports = propensity.refresh(
        warehouse(), project, propensity.propensities(project), as_of=moment(as_of), force=True
    )
    print_rows(
        ["name", "status", "version", "reason"],
        [(r.propensity.name, r.status, r.version, r.reason) for r in reports],
    )


@app.command("card")
def show_card(
    name: Name,
    version: Annotated[str | None, typer.Option(help="Which version; else the newest.")] = None,
    to: Annotated[Path, typer.Option("--out", help="The HTML file to write.")] = Path("model-card.html"),
) -> None:
    """The model card of a version, as a page."""
    from segue.propensity.card import card

    with warehouse().read() as con:
        to.write_text(card(con, _one(name), _version(con, name, version)))
    out.print(f"written to {to}", markup=False)


@app.command("why")
def why(
    name: Name,
    person: Annotated[str, typer.Argument(help="A person_id.")],
    limit: Annotated[int, typer.Option(help="At most so many reasons.", min=1)] = 8,
    format: OutputFormat = Format.table,
) -> None:
    """What makes a person's score: what each feature adds to the odds, or takes away."""
    from segue.propensity.why import why as explain

    with warehouse().read() as con:
        found = explain(con, _one(name), person)
    print_rows(
        ["feature", "value", "odds_times"],
        [("everybody", None, round(found.base_odds, 4))]
        + [(c.feature, c.value, round(c.odds_times, 4)) for c in found.contributions[:limit]],
        format,
        title=f"{found.score:.3f}: odds of everybody, times what each feature adds",
    )


@app.command("rollback")
def rollback(
    name: Name, to: Annotated[str | None, typer.Option(help="The version; else the one before.")] = None
) -> None:
    """Put an earlier version in force; the engine follows by itself, the warehouse with the next refresh."""
    from segue import propensity

    current = moment(None)
    with warehouse().write("propensity rollback") as con:
        version = propensity.rollback(con, _one(name).name, to=to, as_of=current)
    out.print(f"{name} {version} is in force", markup=False)


@app.command("withdraw")
def withdraw(name: Name, reason: Annotated[str, typer.Option(help="Why; told wherever the score is missed.")]) -> None:
    """Take the model out of force: nobody has the score until `rollback` puts a version in force."""
    from segue import propensity

    current = moment(None)
    with warehouse().write("propensity withdrawal") as con:
        version = propensity.withdraw(con, _one(name).name, as_of=current, reason=reason)
    out.print(f"{name} {version} is withdrawn", markup=False)


@app.command("reproduce")
def reproduce(name: Name, version: Annotated[str, typer.Argument(help="Which version.")]) -> None:
    """Train a version again from its date and seed, and compare."""
    from segue import propensity
    from segue.models import prepare

    with warehouse().read() as con:
        found = _version(con, name, version)
    out.print(propensity.reproduce(warehouse(), prepare(settings()), _one(name), found), markup=False)


def _declared() -> Any:
    from segue import propensity
    from segue.models import prepare

    return propensity.propensities(prepare(settings()))


def _one(name: str) -> Any:
    from segue.errors import BadInputError

    found = {p.name: p for p in _declared()}
    if name not in found:
        raise BadInputError(f"there is no propensity {name!r}", fix=f"name one of them: {', '.join(found) or 'none'}")
    return found[name]


def _version(con: Any, name: str, version: str | None) -> Any:
    from segue import propensity
    from segue.errors import BadInputError

    found = propensity.versions(con, name)
    one = next((v for v in found if version is None or v.version == version), None)
    if one is None:
        raise BadInputError(
            f"{name} has no version {version}" if version else f"{name} was never trained",
            fix=f"`segue propensity versions {name}` lists them",
        )
    return one


def _metric(metrics: Any, way: str, figure: str) -> float | None:
    return round(metrics[way][figure], 4) if metrics else None
