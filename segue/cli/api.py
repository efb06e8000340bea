"""`segue api` and `segue tokens`: reading over HTTP, and who may."""

from typing import Annotated

import typer

from segue.cli.console import Format, OutputFormat, err, log_aloud, moment, print_rows, settings

app = typer.Typer(no_args_is_help=True, help="Read tokens of the API, one for each reader. Only hashes are kept.")

Name = Annotated[str, typer.Argument(help="Who reads: `shop`, `crm`.")]


def register(root: typer.Typer) -> None:
    """Add this room's commands to `segue`."""
    root.command("api")(api)
    root.add_typer(app, name="tokens")


def api(
    port: Annotated[int | None, typer.Option(help="Port. Default: SEGUE_API_PORT; 0: any free one.")] = None,
) -> None:
    """Answer who is in which segment over HTTP: by person, by segment, as a stream, and on a live page.

    Readers need a token of [bold]segue tokens create[/]. Runs in the foreground; [bold]segue up[/] starts it together
    with everything else.
    """
    from segue.clock import system_time
    from segue.serving import serve

    log_aloud()
    serve(settings(), clock=system_time, port=port, told=lambda text: err.print(text, markup=False, highlight=False))


@app.command()
def create(name: Name) -> None:
    """Make a read token and print it. It cannot be shown again."""
    from segue.keys import READ, create_key

    key = create_key(settings(), name, as_of=moment(None), kind=READ)
    err.print(f"read token of {name}; keep it, it is not shown again:", markup=False, highlight=False)
    typer.echo(key)


@app.command("list")
def list_all(format: OutputFormat = Format.table) -> None:
    """The readers that have or had a token."""
    from segue.keys import READ, list_keys

    rows = [(one.source, one.hash[:8], one.created_at, one.revoked_at) for one in list_keys(settings(), READ)]
    print_rows(
        ["name", "hash", "created_at", "revoked_at"], rows, format, none="no token yet: segue tokens create NAME"
    )


@app.command()
def revoke(name: Name) -> None:
    """The token opens nothing from now on; a running API notices within a second."""
    from segue.keys import READ, revoke_key

    revoke_key(settings(), name, as_of=moment(None), kind=READ)
    err.print(f"the read token of {name} is revoked", markup=False, highlight=False)
