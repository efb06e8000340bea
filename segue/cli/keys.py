"""`segue keys`: who may send events."""

from typing import Annotated

import typer

from segue.cli.console import Format, OutputFormat, err, moment, print_rows, settings

app = typer.Typer(no_args_is_help=True, help="Write keys of the collector, one for each source. Only hashes are kept.")

Source = Annotated[str, typer.Argument(help="Name of the source, as in raw.events.source: `web`, `ios-app`.")]


def register(root: typer.Typer) -> None:
    """Add this room's commands to `segue`."""
    root.add_typer(app, name="keys")


@app.command()
def create(source: Source) -> None:
    """Make a write key for a source and print it. It cannot be shown again."""
    from segue.keys import create_key

    key = create_key(settings(), source, as_of=moment(None))
    err.print(f"write key of {source}; keep it, it is not shown again:", markup=False, highlight=False)
    typer.echo(key)


@app.command("list")
def list_all(format: OutputFormat = Format.table) -> None:
    """The sources that have or had a key."""
    from segue.keys import list_keys

    rows = [(one.source, one.hash[:8], one.created_at, one.revoked_at) for one in list_keys(settings())]
    print_rows(["source", "hash", "created_at", "revoked_at"], rows, format, none="no key yet: segue keys create NAME")


@app.command()
def revoke(source: Source) -> None:
    """The source's key opens nothing from now on; running collectors notice within a second."""
    from segue.keys import revoke_key

    revoke_key(settings(), source, as_of=moment(None))
    err.print(f"the write key of {source} is revoked", markup=False, highlight=False)
