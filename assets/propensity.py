"""What people will probably do: models that learn from past dates, and where segments lead."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from orchestration import present
from orchestration.automation import REFRESH, REFRESH_WITH_WHAT_IS_THERE, WRITER
from orchestration.keys import EVALUATIONS, TRANSITIONS
from orchestration.project import PROJECT
from orchestration.resources import Clock, Turn, Warehouse
from segue.errors import SegueError
from segue.warehouse import row_count

PUBLISHED, VERSIONS = dg.AssetKey(["propensity", "published"]), dg.AssetKey(["propensity", "versions"])

_MODELS = [dg.AssetKey([m.schema, m.identifier]) for m in PROJECT.models if m.schema == "propensity"]
_COMMON: dict[str, Any] = {
    "group_name": "propensity",
    "kinds": {"python", "scikitlearn"},
    "owners": ["team:data"],
    "automation_condition": REFRESH,
}


@dg.multi_asset(
    name="propensity",
    specs=[
        dg.AssetSpec(
            PUBLISHED,
            deps=[["marts", "person_features"], *_MODELS],
            description="Which model of each propensity is in force, since when and why.",
            **_COMMON,
        ),
        dg.AssetSpec(
            VERSIONS,
            deps=[["marts", "person_features"], *_MODELS],
            description="Every model that was trained, or the reason why there was none: data, figures, file.",
            **_COMMON,
        ),
    ],
    check_specs=[
        dg.AssetCheckSpec(
            "models_are_in_force", asset=PUBLISHED, description="Each propensity has a model that is used."
        ),
        dg.AssetCheckSpec(
            "inputs_are_stable", asset=PUBLISHED, description="Features and scores are distributed as when trained."
        ),
    ],
    pool=WRITER,
)
def training(
    context: dg.AssetExecutionContext, warehouse: Warehouse, clock: Clock, turn: Turn
) -> Iterator[dg.MaterializeResult]:
    """Trains what is due; a model is used only while it beats doing without one.

    A fault in a declaration takes out training alone: scores go on with the model in force.
    """
    from segue import propensity as core  # loads scikit-learn, as in `assets.clusters`
    from segue.propensity.card import card
    from segue.propensity.picture import plot_quality

    as_of = clock.as_of(context)
    store = warehouse.core()
    trouble = ""
    reports: tuple[core.PropensityReport, ...] = ()
    try:
        reports = core.refresh(store, PROJECT, core.propensities(PROJECT), as_of=as_of)
    except SegueError as error:
        trouble = str(error)
        context.log.warning(trouble)
    if not reports:
        with warehouse.write("propensity tables", as_of=as_of) as con:
            core.ensure_tables(con)
    with warehouse.read(as_of=as_of) as con:
        counts = {t: row_count(con, f"propensity.{t}") for t in ("published", "versions")}
        cards: dict[str, Any] = {}
        for report in reports:
            if report.trained is None or report.trained.scorer is None:
                continue
            name = report.propensity.name
            version = core.versions(con, name)[0]
            path = core.model_path(store, name, report.trained.scorer.version).with_suffix(".html")
            path.write_text(card(con, report.propensity, version))
            cards[f"model card, {name}"] = present.link(path)
            if version.metrics:
                cards[f"quality, {name}"] = present.picture(
                    plot_quality(version.metrics, title=f"{name}, as of {as_of:%Y-%m-%d}"), title=f"quality of {name}"
                )
    without = [f"{r.propensity.name}: {r.reason}" for r in reports if r.version is None]
    drifted = [f"{r.propensity.name}: {', '.join(r.drifted)}" for r in reports if r.drifted]
    yield dg.MaterializeResult(
        asset_key=PUBLISHED,
        metadata={
            "dagster/row_count": counts["published"],
            "propensities": present.table(
                ["propensity", "what came of it", "version in force", "why"],
                [(r.propensity.name, r.status, r.version, r.reason) for r in reports],
            ),
            **({"trouble": trouble} if trouble else {}),
            **cards,
        },
        check_results=[
            _check("models_are_in_force", without + ([trouble] if trouble else [])),
            _check("inputs_are_stable", drifted),
        ],
    )
    yield dg.MaterializeResult(asset_key=VERSIONS, metadata={"dagster/row_count": counts["versions"]})


@dg.asset(
    key=["propensity", "next_changes"],
    deps=[TRANSITIONS, EVALUATIONS],
    description="Into which segment people of another one go within 14 days, by month of entering.",
    pool=WRITER,
    **{
        **_COMMON,
        "group_name": "segments",  # it is made of transitions, and segments of scores: no circle of groups
        "kinds": {"python", "duckdb"},
        "automation_condition": REFRESH_WITH_WHAT_IS_THERE,
    },
)
def next_changes(
    context: dg.AssetExecutionContext, warehouse: Warehouse, clock: Clock, turn: Turn
) -> dg.MaterializeResult:
    """A transition matrix of the history of segments."""
    from segue import propensity as core
    from segue.propensity.next_changes import matrix
    from segue.propensity.picture import plot_changes

    as_of = clock.as_of(context)
    with warehouse.write("next changes", as_of=as_of) as con:
        found = core.next_changes(con, as_of=as_of)
    overall = sorted((c for c in found if c.cohort == "all"), key=lambda c: -c.probability)
    names, values = matrix(found)
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": len(found),
            "likeliest": present.table(
                ["from", "to", "stays", "probability"],
                [(c.from_segment, c.to_segment, c.stay_count, present.percent(c.probability)) for c in overall[:20]],
            ),
            "matrix": present.picture(
                plot_changes(names, values, title="% who enter within 14 days of entering"), title="next changes"
            ),
        }
    )


def _check(name: str, wrong: list[str]) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        check_name=name,
        asset_key=PUBLISHED,
        passed=not wrong,
        severity=dg.AssetCheckSeverity.WARN,
        description="; ".join(wrong) or None,
    )
