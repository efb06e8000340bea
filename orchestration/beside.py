"""Real time beside Dagster: started with it, announced with it, stopped with it."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console

from orchestration.processes import running
from orchestration.services import State, is_owned, read_state
from segue.clock import system_time
from segue.collector import create_key, list_keys
from segue.errors import SegueError
from segue.settings import PROJECT_ROOT, Settings, child_environment

#: The source that the first write key is made for.
FIRST_SOURCE = "first"

_START_SECONDS = 60.0
#: Longer than the services take to end one after the other.
_STOP_SECONDS = 45.0

out = Console(soft_wrap=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Realtime:
    """What runs."""

    program: "subprocess.Popen[bytes] | None"  # None: it ran before we came
    services: Mapping[str, State] = field(default_factory=dict)
    key: str | None = None  # the write key that was made at this start


@contextmanager
def realtime(settings: Settings) -> Iterator[Realtime]:
    """The processes of real time for the length of the block; yields once the collector takes events.

    Those that run already, started by `segue realtime`, are used as they are and left alone.

    Raises:
        SegueError: when they do not start.
    """
    if is_owned(settings):
        yield Realtime(program=None, services=read_state(settings), key=first_key(settings))
        return
    log = settings.home / "realtime" / "supervisor.log"
    env = child_environment({"SEGUE_HOME": str(settings.home), "NO_COLOR": "1"})
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(PROJECT_ROOT), os.environ.get("PYTHONPATH", "")]))
    command = [sys.executable, "-m", "orchestration.services"]
    with running(command, env=env, cwd=PROJECT_ROOT, log=log, grace_seconds=_STOP_SECONDS) as program:
        deadline = time.monotonic() + _START_SECONDS
        while not (found := read_state(settings)).get("collector", State()).is_up:
            if program.poll() is not None or time.monotonic() > deadline:
                tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
                raise SegueError(f"real time did not start:\n{tail}", fix=f"the whole log is {log}")
            time.sleep(0.1)
        yield Realtime(program=program, services=found, key=first_key(settings))


def first_key(settings: Settings) -> str | None:
    """A write key, when no source has ever had one; it is shown once and kept as a hash."""
    if list_keys(settings):
        return None
    return create_key(settings, FIRST_SOURCE, as_of=system_time())


def announce(found: Realtime) -> None:
    """The addresses, a write key, and a line that sends an event."""
    collector = found.services["collector"].url
    out.print(f"  collector     {collector}", highlight=False)
    if "api" in found.services:
        api = found.services["api"].url
        out.print(f"  API           {api}/docs", highlight=False)
        out.print(f"  live page     {api}/live", highlight=False)
    key = found.key or "$WRITE_KEY"
    if found.key is not None:
        out.print(f"  write key     {key}", highlight=False, markup=False)
        out.print(f"                of the source {FIRST_SOURCE!r}; it is not shown again", highlight=False)
    out.print("                `segue keys create NAME` makes one for each of your sources", highlight=False)
    body = """'{"userId": "ada", "event": "Signed In"}'"""
    line = f"curl -u {key}: {collector}/v1/track -H 'content-type: application/json' -d {body}"
    out.print(f"\n  {line}", highlight=False, markup=False)
