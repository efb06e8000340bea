"""`segue identity`: people, what is known of them, and why."""

from typing import Annotated

import typer

from segue.cli.console import Format, OutputFormat, out, print_rows, warehouse

app = typer.Typer(no_args_is_help=True, help="People: their identifiers, merges and refused links.")


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
    print_rows(columns, rows, format)


@app.command()
def show(
    identifier: Annotated[
        str,
        typer.Argument(
            metavar="PERSON_OR_IDENTIFIER",
            help="A person_id, also one that was merged away; any identifier; or TYPE:VALUE.",
        ),
    ],
) -> None:
    """One person: identifiers, the merges that led here, the links that were refused."""
    from rich.markup import escape
    from rich.tree import Tree

    from segue.identity import lookup
    from segue.identity.graph import REASONS

    with warehouse().read() as con:
        person = lookup(con, identifier)
    # Values come from events: never let them be read as markup.
    went = identifier in {merge.from_person_id for merge in person.merges}
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
            branch.add(escape(f"{ends}  {r.rule}: {REASONS.get(r.reason, r.reason)}"))
    out.print(tree, highlight=False)
