"""`segue identity`: people, what is known of them, why, and what a person can change about it."""

import getpass
from typing import TYPE_CHECKING, Annotated

import typer

from segue.cli.console import AsOf, Format, OutputFormat, err, moment, out, print_rows, settings, warehouse

if TYPE_CHECKING:
    from segue.identifiers import Normaliser, Rules
    from segue.identity import Plan

app = typer.Typer(no_args_is_help=True, help="People: their identifiers, merges and refused links; splits and merges.")

PersonArgument = Annotated[
    str,
    typer.Argument(
        metavar="PERSON_OR_IDENTIFIER",
        help="A person_id, also one of before a merge; any identifier; or TYPE:VALUE.",
    ),
]
#: Identifiers of one person that are all listed; of a larger one, only those that move.
_SHOWN = 8
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would change, and change nothing.")]
Note = Annotated[str, typer.Option("--note", help="Why; kept with the decision.")]


def register(root: typer.Typer) -> None:
    """Add this room's commands to `segue`."""
    root.add_typer(app, name="identity")


@app.command("list")
def list_people(
    limit: Annotated[int, typer.Option(min=1, help="How many people.")] = 20, format: OutputFormat = Format.table
) -> None:
    """People with most identifiers first."""
    from segue.identity import people

    columns = ["person_id", "identifier_count", "user_ids", "merge_count", "first_seen_at", "last_seen_at"]
    with warehouse().read() as con:
        rows = people(con, limit=limit)
    print_rows(columns, rows, format, none="nobody is known yet: segue refresh reads the events and finds people")


@app.command()
def show(identifier: PersonArgument) -> None:
    """One person: identifiers, the merges that led here, the links that were refused."""
    from rich.markup import escape
    from rich.tree import Tree

    from segue.identity import REASONS, lookup

    with warehouse().read() as con:
        person = lookup(con, identifier, _normaliser())
    # Values come from events: never let them be read as markup.
    went = identifier.startswith("p_") and identifier != person.person_id
    tree = Tree(f"[bold]{person.person_id}[/]" + (f"  (was {escape(identifier)})" if went else ""))
    branch = tree.add(f"identifiers ({len(person.identifiers)})")
    for i in person.identifiers:
        seen = f"{i.first_seen_at:%Y-%m-%d %H:%M} – {i.last_seen_at:%Y-%m-%d %H:%M}"
        branch.add(f"{i.identifier_type} [bold]{escape(i.identifier_value)}[/]  {seen}")
    if person.merges:
        branch = tree.add(f"merges ({len(person.merges)})")
        for m in person.merges:
            ids = f"{m.from_person_id} → {m.into_person_id}"
            branch.add(f"{m.merged_at:%Y-%m-%d %H:%M}  {ids}  {m.rule}: {escape(m.evidence)}")
    if person.refused:
        branch = tree.add(f"refused links ({len(person.refused)})")
        for r in person.refused:
            ends = f"{r.left_type} {r.left_value} and {r.right_type} {r.right_value}"
            detail = f" ({r.detail})" if r.detail else ""
            branch.add(escape(f"{r.seen_at:%Y-%m-%d %H:%M}  {ends}  {r.rule}: {REASONS[r.reason]}{detail}"))
    out.print(tree, highlight=False)


@app.command()
def explain(
    one: PersonArgument, other: Annotated[str, typer.Argument(help="The other one.")], as_of: AsOf = None
) -> None:
    """Which links join two identifiers, one after another; or which refused links keep them apart."""
    from rich.markup import escape

    from segue.identity import REASONS, explain

    with warehouse().read() as con:
        a, b, start, steps = explain(con, one, other, as_of=moment(as_of), rules=_rules(), normaliser=_normaliser())
    if a.person_id == b.person_id:
        out.print(f"[bold]{a.person_id}[/]: both are one person", highlight=False)
    elif steps:
        out.print(f"[bold]{a.person_id}[/] and [bold]{b.person_id}[/] are two people", highlight=False)
    else:
        out.print(f"[bold]{a.person_id}[/] and [bold]{b.person_id}[/]: nothing links them", highlight=False)
        return
    out.print(f"  {escape(':'.join(start))}", highlight=False)
    for step in steps:
        how = f"{step.edge.rule}, first on {step.first_seen_at:%Y-%m-%d %H:%M} in {step.message}"
        mark = f"[red]✗ refused[/]: {escape(REASONS[step.refused])}; " if step.refused else ""
        out.print(f"  │ {mark}{escape(how)}", highlight=False)
        out.print(f"  {escape(':'.join(step.at))}", highlight=False)


@app.command()
def split(
    person: PersonArgument,
    edge: Annotated[
        list[str] | None,
        typer.Option(
            "--edge", help="A link to cut, 'TYPE:VALUE TYPE:VALUE'; may be given again. None: the last merge is undone."
        ),
    ] = None,
    dry_run: DryRun = False,
    note: Note = "",
) -> None:
    """Take a person apart, and remember it: the same links never join them again."""
    from segue.identity import plan_split

    now = moment(None)
    with warehouse().read() as con:
        plan = plan_split(con, person, as_of=now, edges=edge or (), rules=_rules(), normaliser=_normaliser())
    _do(plan, dry_run=dry_run, note=note)


@app.command()
def merge(
    one: PersonArgument,
    other: Annotated[str, typer.Argument(help="The other one.")],
    dry_run: DryRun = False,
    note: Note = "",
) -> None:
    """Declare two people one, whatever the guards say; the older id stays."""
    from segue.identity import plan_merge

    now = moment(None)
    with warehouse().read() as con:
        plan = plan_merge(con, one, other, as_of=now, rules=_rules(), normaliser=_normaliser())
    _do(plan, dry_run=dry_run, note=note)


@app.command()
def decisions(format: OutputFormat = Format.table) -> None:
    """The audit trail: every split and merge that somebody made, oldest first."""
    from segue.identity import read_decisions

    with warehouse().read() as con:
        rows = read_decisions(con)
    columns = ["decided_at", "decided_by", "kind", "person_id", "link", "note", "decision_id"]
    links = (f"{r['left_type']}:{r['left_value']} {r['rule']} {r['right_type']}:{r['right_value']}" for r in rows)
    print_rows(
        columns,
        [
            (r["decided_at"], r["decided_by"], r["kind"], r["person_id"], link, r["note"], r["decision_id"])
            for r, link in zip(rows, links, strict=True)
        ],
        format,
    )


def _do(plan: "Plan", *, dry_run: bool, note: str) -> None:
    from rich.markup import escape
    from rich.tree import Tree

    from segue.identity import carry_out, impact
    from segue.models import prepare

    was = {key: person for person, keys in plan.before.items() for key in keys}
    staying = {key for person, keys in plan.after.items() for key in keys if was.get(key) == person}
    for title, people in (("now", plan.before), ("then", plan.after)):
        tree = Tree(f"[bold]{title}[/]")
        for person, keys in people.items():
            branch = tree.add(f"[bold]{person}[/] ({_identifiers(len(keys))})")
            # Of a large person, what moves would be lost among what does not.
            shown = [key for key in keys if key not in staying] if len(keys) > _SHOWN else keys
            for key in shown:
                branch.add(escape(":".join(key)))
            if len(shown) < len(keys):
                branch.add(f"[dim]{_identifiers(len(keys) - len(shown))} that stay[/]")
        out.print(tree, highlight=False)
    for one in plan.edges:
        out.print(f"{'cut' if plan.kind == 'split' else 'joined'}: {escape(str(one))}", highlight=False)
    if dry_run:
        with warehouse().read() as con:
            found = impact(con, prepare(settings()), plan, as_of=moment(None))
        print_rows(["person_id", "segment", "change"], found.memberships, title="memberships", none="none changes")
        columns = ["kpi", "slice", "date", "numerator", "denominator"]
        print_rows(columns, found.kpis, title="KPIs, by how much", none="none changes")
        err.print("nothing was changed; without --dry-run it is done")
        return
    now = moment(None)
    with warehouse().write("identity", as_of=now) as con:
        report = carry_out(con, plan, by=getpass.getuser(), note=note, as_of=now, rules=_rules())
    out.print(
        f"done: another person for {_identifiers(report.written_count)}. The engine follows in seconds; "
        "sessions, segments and KPIs with the next [bold]segue refresh[/]"
    )


def _identifiers(count: int) -> str:
    return f"{count} identifier{'' if count == 1 else 's'}"


def _rules() -> "Rules":
    from segue.models import prepare

    return prepare(settings()).rules


def _normaliser() -> "Normaliser":
    from segue.identifiers import Normaliser, load_key

    return Normaliser(load_key(settings()))
