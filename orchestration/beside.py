"""Real time beside Dagster: started with it, announced with it, stopped with it."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from orchestration.processes import running
from orchestration.supervisor import ServiceState, is_owned, read_state
from segue.cli.screen import Screen
from segue.clock import system_time
from segue.errors import SegueError
from segue.keys import READ, WRITE, Kind, create_key, list_keys, revoke_key
from segue.settings import PROJECT_ROOT, Settings, child_environment

#: The source that the first write key is made for, and the reader of the first token.
FIRST = "first"

_START_SECONDS = 60.0
#: Longer than the services take to end one after the other.
_STOP_SECONDS = 45.0

out = Screen(soft_wrap=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Realtime:
    """What runs."""

    program: "subprocess.Popen[bytes] | None"  # None: it ran before we came
    services: Mapping[str, ServiceState] = field(default_factory=dict)
    # The write key and the read token that were made at this start.
    key: str | None = None
    token: str | None = None


@contextmanager
def realtime(settings: Settings, *, renew_keys: bool = False) -> Iterator[Realtime]:
    """The processes of real time for the length of the block; yields once collector and API answer.

    Those that run already, started by `segue realtime`, are used as they are and left alone.

    Args:
        settings: whose.
        renew_keys: make the first write key and read token anew, since nobody keeps those of a demo.

    Raises:
        SegueError: when they do not start.
    """
    if is_owned(settings):
        yield _found(settings, None, renew_keys)
        return
    log = settings.home / "realtime" / "supervisor.log"
    env = child_environment({"SEGUE_HOME": str(settings.home), "NO_COLOR": "1"})
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(PROJECT_ROOT), os.environ.get("PYTHONPATH", "")]))
    command = [sys.executable, "-m", "orchestration.services"]
    with running(command, env=env, cwd=PROJECT_ROOT, log=log, grace_seconds=_STOP_SECONDS) as program:
        deadline = time.monotonic() + _START_SECONDS
        while not _answers(settings):
            if program.poll() is not None or time.monotonic() > deadline:
                tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
                raise SegueError(f"real time did not start:\n{tail}", fix=f"the whole log is {log}")
            time.sleep(0.1)
        yield _found(settings, program, renew_keys)


def _answers(settings: Settings) -> bool:
    found = read_state(settings)
    return all(found.get(name, ServiceState()).is_up for name in ("collector", "api"))


def _found(settings: Settings, program: "subprocess.Popen[bytes] | None", renew_keys: bool) -> Realtime:
    return Realtime(
        program=program,
        services=read_state(settings),
        key=first_key(settings, WRITE, renew=renew_keys),
        token=first_key(settings, READ, renew=renew_keys),
    )


def first_key(settings: Settings, kind: Kind, *, renew: bool) -> str | None:
    """A key, when there has never been one of the kind or it is to be renewed; shown once and kept as a hash."""
    known = list_keys(settings, kind)
    if known and not renew:
        return None
    if any(one.source == FIRST and one.revoked_at is None for one in known):
        revoke_key(settings, FIRST, as_of=system_time(), kind=kind)
    return create_key(settings, FIRST, as_of=system_time(), kind=kind)


def announce(found: Realtime) -> None:
    """The addresses, the keys, and the two lines that send an event and read what came of it."""
    collector, api = found.services["collector"].url, found.services["api"].url
    live = f"{api}/live" + (f"#token={found.token}" if found.token else "")
    pages = found.services["dashboard"].url if "dashboard" in found.services else ""
    for name, text in (("dashboard", pages), ("live page", live), ("API", f"{api}/docs"), ("collector", collector)):
        out.print(f"  {name:<13} {text}", highlight=False, markup=False)
    if found.key or found.token:
        for name, secret in (("write key", found.key), ("read token", found.token)):
            if secret:
                out.print(f"  {name:<13} {secret}", highlight=False, markup=False)
        out.print("                not shown again; `segue keys` and `segue tokens` make others", highlight=False)
    body = """'{"userId": "ada", "event": "Signed In", "properties": {"method": "email"}}'"""
    sends = f"curl -u {found.key or '$WRITE_KEY'}: {collector}/v1/track -H 'content-type: application/json' -d {body}"
    reads = f"curl -H 'authorization: Bearer {found.token or '$READ_TOKEN'}' {api}/v1/people/ada/segments"
    out.print(f"\n  {sends}\n  {reads}", highlight=False, markup=False)
