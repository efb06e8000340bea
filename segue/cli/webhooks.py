"""`segue webhooks`: who is called when somebody enters or leaves a segment."""

import base64
import logging
import secrets
import signal
import sys
from types import FrameType
from typing import Annotated

import typer

from segue.cli.console import Format, OutputFormat, err, moment, print_rows, settings

app = typer.Typer(no_args_is_help=True, help="Receivers of segment changes, signed as Standard Webhooks prescribe.")

Name = Annotated[str, typer.Argument(help="Name of the webhook: `crm`.")]


def register(root: typer.Typer) -> None:
    """Add this room's commands to `segue`."""
    root.add_typer(app, name="webhooks")


@app.command()
def add(
    name: Name,
    url: Annotated[str, typer.Argument(help="Where to send to: https://host/path")],
    segment: Annotated[list[str] | None, typer.Option(help="Only this segment; may be repeated.")] = None,
    secret_env: Annotated[
        str,
        typer.Option(help="Variable with the signing secret (whsec_…). Without it a secret is made and shown once."),
    ] = "",
) -> None:
    """Have a receiver called at each change from now on.

    It gets `segment.entered`, `segment.exited` or `segment.merged`, with the person, the segment, and the person's
    segments before and after.
    """
    from segue.serving import Endpoint, add_endpoint

    secret = "" if secret_env else "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    made = Endpoint(
        name=name,
        url=url,
        created_at=moment(None),
        segments=tuple(segment or ()),
        secret=secret,
        secret_env=secret_env,
    )
    add_endpoint(settings(), made)
    if secret:
        err.print("signing secret; keep it, it is not shown again:", markup=False, highlight=False)
        typer.echo(secret)


@app.command("list")
def list_all(format: OutputFormat = Format.table) -> None:
    """Every webhook."""
    from segue.serving import endpoints

    rows = [(e.name, e.url, ", ".join(e.segments) or "all", e.created_at) for e in endpoints(settings())]
    print_rows(["name", "url", "segments", "created_at"], rows, format)


@app.command()
def remove(name: Name) -> None:
    """Call it no more; drops what waits for it, and its dead letters."""
    from segue.serving import Webhooks, remove_endpoint

    remove_endpoint(settings(), name)
    Webhooks(settings()).forget(name)
    err.print(f"webhook {name} is removed", markup=False, highlight=False)


@app.command()
def status(format: OutputFormat = Format.table) -> None:
    """What each has received, what waits, and what is wrong. Exit code 1 when one is failing or has dead letters."""
    from segue.serving import Webhooks, endpoints

    kept = Webhooks(settings())
    rows = []
    for one in endpoints(settings()):
        state = kept.state(one.name)
        dead = kept.dead_count(one.name)
        waits = kept.waiting(one.name)
        rows.append((one.name, state.delivered, waits, dead, state.failing_since, state.next_at, state.last_error))
    names = ["name", "delivered", "waiting", "dead_letters", "failing_since", "next_attempt_at", "last_error"]
    print_rows(names, rows, format)
    if any(row[3] or row[4] for row in rows):
        raise typer.Exit(1)


@app.command()
def test(name: Name) -> None:
    """Send a `segment.test` to the receiver now, and say what it answers."""
    from segue.clock import system_time
    from segue.errors import BadInputError
    from segue.serving import Poster, endpoint

    current = settings()
    poster = Poster(allow_private=current.webhook_allow_private)
    try:
        answer = poster.send(
            endpoint(current, name), f"test_{secrets.token_hex(8)}", "segment.test", {}, now=system_time()
        )
    except Exception as error:
        raise BadInputError(f"{name} cannot be reached: {error}", fix="see that it listens, and its address") from error
    if not 200 <= answer < 300:
        raise BadInputError(
            f"{name} answered {answer}", fix="a receiver answers 2xx once it has verified the signature"
        )
    err.print(f"{name} answered {answer}", markup=False, highlight=False)


@app.command()
def replay(name: Name) -> None:
    """Send the dead letters of a webhook again, oldest first; those that are taken are dead no more."""
    from segue.clock import system_time
    from segue.errors import BadInputError
    from segue.serving import Poster, Webhooks, attempt, endpoint

    current = settings()
    to, kept = endpoint(current, name), Webhooks(current)
    poster = Poster(allow_private=current.webhook_allow_private)
    sent = 0
    letters = kept.dead(name)
    for letter in letters:
        error, _ = attempt(poster, to, letter.transition, system_time())
        if error:
            raise BadInputError(
                f"{sent} of {len(letters)} dead letters are delivered; then {error}", fix="mend the receiver, repeat"
            )
        kept.exhume(name, letter)
        sent += 1
    err.print(f"{sent} dead letters are delivered", markup=False, highlight=False)


@app.command()
def run() -> None:
    """Send what waits, until Ctrl-C or SIGTERM. [bold]segue up[/] starts it for you."""
    from segue.clock import system_time
    from segue.serving import Sender

    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", force=True)
    sender = Sender(settings(), system_time)

    def stop(_number: int, _frame: FrameType | None) -> None:
        sender.stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    err.print("webhooks are sent", markup=False, highlight=False)
    sender.run()
