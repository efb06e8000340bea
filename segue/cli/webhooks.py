"""`segue webhooks`: who is called when somebody enters or leaves a segment."""

import asyncio
import base64
import secrets
import signal
from collections.abc import Sequence
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from segue.cli.console import Format, OutputFormat, err, log_aloud, moment, print_rows, settings

if TYPE_CHECKING:
    from segue.segments import Segment
    from segue.serving import Subscription

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
    named_only: Annotated[
        bool, typer.Option("--named-only", help="Only segments whose YAML says `on_change: [NAME]`.")
    ] = False,
    secret_env: Annotated[
        str,
        typer.Option(help="Variable with the signing secret (whsec_…). Without it a secret is made and shown once."),
    ] = "",
) -> None:
    """Have a receiver called at each change from now on.

    It gets `segment.entered`, `segment.exited` or `segment.merged`, with the person, the segment, and the person's
    segments before and after: of every segment, or of those given here and those whose YAML names it.
    """
    from contextlib import suppress

    from segue.errors import ValkeyError
    from segue.serving import Endpoint, Webhooks, add_endpoint

    secret = "" if secret_env else "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    made = Endpoint(
        name=name,
        url=url,
        created_at=moment(None),
        segments=tuple(segment or ()),
        named_only=named_only,
        secret=secret,
        secret_env=secret_env,
    )
    made.signing_secret()
    _say_unknown(segment or ())
    add_endpoint(settings(), made)
    with suppress(ValkeyError):  # not running: there is no change that it could miss
        Webhooks(settings()).begin(name, made.created_at)
    if secret:
        err.print("signing secret; keep it, it is not shown again:", markup=False, highlight=False)
        typer.echo(secret)


def _say_unknown(segments: Sequence[str]) -> None:
    """A segment may come later, so a name that is not known is no error, but it is worth a word."""
    if segments:
        known = _project_segments()
        for name in segments:
            if name not in known:
                err.print(f"note: there is no segment {name} in real time today", markup=False, highlight=False)


def _project_segments() -> "dict[str, Segment]":
    from segue.models import prepare
    from segue.segments import definitions

    return {s.name: s for s in definitions(prepare(settings())).segments if s.realtime}


def _subscriptions() -> "list[Subscription]":
    from segue.serving import named_in, subscriptions

    return subscriptions(settings(), named_in(_project_segments().values()))


def _subscription(name: str) -> "Subscription":
    from segue.errors import BadInputError

    for one in _subscriptions():
        if one.name == name:
            if one.endpoint is None:
                raise BadInputError(f"webhook {name} cannot be called", fix=one.fault)
            return one
    raise BadInputError(f"there is no webhook {name}", fix="`segue webhooks list` shows those there are")


@app.command("list")
def list_all(format: OutputFormat = Format.table) -> None:
    """Every webhook: of `segue webhooks add`, and those that the YAML of segments names."""
    rows = []
    for one in _subscriptions():
        made = one.endpoint.created_at if one.endpoint else None
        segments = "all" if one.segments is None else ", ".join(sorted(one.segments)) or "none yet"
        rows.append((one.name, one.endpoint.url if one.endpoint else one.fault, segments, made))
    print_rows(
        ["name", "url", "segments", "created_at"], rows, format, none="nobody is called: segue webhooks add NAME URL"
    )


@app.command()
def remove(name: Name) -> None:
    """Call it no more; drops what waits for it, and its dead letters."""
    from segue.serving import Webhooks, endpoint, remove_endpoint

    endpoint(settings(), name)  # there is one
    Webhooks(settings()).forget(name)  # first: it may fail, and then nothing has happened
    remove_endpoint(settings(), name)
    err.print(f"webhook {name} is removed", markup=False, highlight=False)


@app.command()
def status(format: OutputFormat = Format.table) -> None:
    """What each has received, what waits, and what is wrong. Exit code 1 when one is in trouble.

    `waiting` counts what it is to get and has not got; `held` of them wait because the receiver refused (4xx) one of
    the same person. With `failing_since` nothing can be delivered, and the webhook is paused until `next_attempt_at`.
    """
    from segue.serving import Webhooks

    rows = []
    for one in Webhooks(settings()).standings(_subscriptions()):
        d = one.delivery
        rows.append(
            (one.name, d.delivered, one.waiting, one.held, one.dead_letters, d.failing_since, d.next_at, one.trouble)
        )
    names = ["name", "delivered", "waiting", "held", "dead_letters", "failing_since", "next_attempt_at", "trouble"]
    print_rows(names, rows, format)
    if any(row[-1] for row in rows):
        raise typer.Exit(1)


@app.command()
def test(name: Name) -> None:
    """Send a `segment.test` to the receiver now, and say what it answers."""
    from segue.clock import system_time
    from segue.errors import BadInputError
    from segue.serving import Attempt, Poster, Verdict

    current, to = settings(), _subscription(name).endpoint
    assert to is not None

    async def send() -> Attempt:
        poster, now = Poster(allow_private=current.webhook_allow_private), system_time()
        try:
            return await poster.send(to, f"test_{secrets.token_hex(8)}", "segment.test", {}, happened_at=now, now=now)
        finally:
            await poster.close()

    attempt = asyncio.run(send())
    if attempt.verdict is not Verdict.TAKEN:
        # What is refused before it is called says its fix in the reason.
        raise BadInputError(
            f"{name} did not take it: {attempt.error}",
            fix=None
            if "SEGUE_WEBHOOK_ALLOW_PRIVATE" in attempt.error
            else "a receiver answers 2xx once it has verified the signature; see its address and its log",
        )
    err.print(f"{name} answered {attempt.status}", markup=False, highlight=False)


@app.command()
def letters(name: Name, format: OutputFormat = Format.table) -> None:
    """The dead letters of a webhook, oldest first: what was refused again and again, or could not be told in 3 days."""
    from segue.serving import Webhooks

    rows = [
        (f"tr_{d.transition.transition_id}", d.transition.person_id, d.transition.segment, d.transition.change,
         d.transition.effective_at, d.error)
        for d in Webhooks(settings()).dead(name)
    ]  # fmt: skip
    print_rows(["id", "person_id", "segment", "change", "effective_at", "error"], rows, format)


@app.command()
def replay(name: Name) -> None:
    """Send the dead letters of a webhook again, oldest first; those that are taken are dead no more.

    When one of a person is refused again, that person's later ones stay too. Exit code 1 when any stays.
    """
    from segue.clock import system_time
    from segue.errors import BadInputError
    from segue.serving import Webhooks
    from segue.serving.replay import replay as send_again

    current, to = settings(), _subscription(name).endpoint
    assert to is not None
    report = asyncio.run(send_again(current, Webhooks(current), to, clock=system_time))
    err.print(f"{report.taken} dead letters are delivered", markup=False, highlight=False)
    if report.left:
        raise BadInputError(
            f"{report.left} dead letters stay: {report.error}",
            fix=f"mend the receiver and repeat; or `segue webhooks discard {name}` drops them",
        )


@app.command()
def discard(name: Name) -> None:
    """Drop the dead letters of a webhook for good, once you have seen them with `segue webhooks letters`."""
    from segue.serving import Webhooks

    kept = Webhooks(settings())
    found = kept.dead(name)
    for letter in found:
        kept.exhume(name, letter)
    err.print(f"{len(found)} dead letters are dropped", markup=False, highlight=False)


@app.command()
def run() -> None:
    """Send what waits, until Ctrl-C or SIGTERM. [bold]segue up[/] starts it for you."""
    from segue.clock import system_time
    from segue.serving import Sender

    log_aloud()
    sender = Sender(settings(), system_time)

    def stop(_number: int, _frame: FrameType | None) -> None:
        sender.stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    err.print("webhooks are sent", markup=False, highlight=False)
    sender.run()
