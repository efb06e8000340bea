"""`segue up`: the Dagster UI, its daemon and everything they start, as one thing that starts and stops."""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

from orchestration.beside import Realtime, realtime
from orchestration.beside import announce as announce_realtime
from orchestration.processes import end_with_parent, keep_small, running, stop_on_signals
from orchestration.services import free_port
from segue.cli.console import print_error
from segue.cli.screen import Screen
from segue.errors import SegueError
from segue.settings import PROJECT_ROOT, Settings, load_settings

HOST = "127.0.0.1"
_FIRST_PORT = 3000
_START_SECONDS = 120.0

out = Screen()
err = Screen(stderr=True, soft_wrap=True)


def main(arguments: list[str] | None = None) -> int:
    """Run until Ctrl-C, SIGTERM or the death of whoever started us; then leave no process."""
    parser = argparse.ArgumentParser(prog="segue up", description="Dagster and real time on your data.")
    parser.add_argument("--port", type=int, help="port of the UI; default: the first free one from 3000")
    options = parser.parse_args(arguments)
    stop_on_signals()
    end_with_parent()
    from orchestration.instance import prepare_home

    try:
        settings = load_settings()
        prepare_home(settings)  # a home that cannot be written is told before anything is started
        err.print("starting real time and Dagster", style="dim")
        with (
            realtime(settings) as beside,
            serving(settings, port=options.port, dashboard=dashboard_of(beside)) as (url, program),
        ):
            announce(url, beside)
            wait(settings, program, beside)
    except SegueError as error:
        print_error(error)
        return 1
    except KeyboardInterrupt:
        err.print("stopped")
    return 0


def announce(url: str, beside: Realtime) -> None:
    """The addresses to open, and how to send an event."""
    out.print(f"\n  Dagster UI    {url}", highlight=False)
    out.print(f"  asset graph   {url}/asset-groups", highlight=False)
    announce_realtime(beside)
    out.print("\n  Ctrl-C stops everything\n", highlight=False)


def dashboard_of(beside: Realtime) -> str:
    """Where the dashboard answers: on the port that was free; empty when it does not run."""
    return beside.services["dashboard"].url if "dashboard" in beside.services else ""


def addresses(settings: Settings, *, ui: str, dashboard: str) -> dict[str, str]:
    """The addresses that Dagster's processes are told.

    Links lead to where the two answer, unless a setting says otherwise, since a proxy stands before them. Our own
    sensors never go through a proxy, which may ask for a login.
    """
    said = settings.model_fields_set
    return {
        "SEGUE_DAGSTER_URL": settings.dagster_url if "dagster_url" in said else ui,
        "SEGUE_DAGSTER_API_URL": ui,
        "SEGUE_DASHBOARD_URL": settings.dashboard_url if "dashboard_url" in said or not dashboard else dashboard,
    }


@contextmanager
def serving(
    settings: Settings, *, port: int | None = None, dashboard: str = ""
) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """The UI and the daemon for the length of the block; yields the URL once the UI answers.

    Raises:
        SegueError: when the port is taken, or Dagster ends before the UI answers.
    """
    from orchestration.instance import prepare_home

    home = prepare_home(settings)
    chosen = _port_of_ui(port)
    url = f"http://{HOST}:{chosen}"
    log = home / "up.log"
    command = [sys.executable, "-m", "dagster", "dev", "--host", HOST, "--port", str(chosen)]
    command += ["--workspace", str(PROJECT_ROOT / "workspace.yaml"), "--log-format", "colored"]
    env = {
        **os.environ,
        "SEGUE_HOME": str(settings.home),
        "SEGUE_HISTORY_START": settings.history_start.isoformat(),
        **addresses(settings, ui=url, dashboard=dashboard),
        # So that `import orchestration` works without an installed package.
        "PYTHONPATH": os.pathsep.join(filter(None, [str(PROJECT_ROOT), os.environ.get("PYTHONPATH", "")])),
        "NO_COLOR": "1",
    }
    with running(command, env=env, cwd=PROJECT_ROOT, log=log) as program:
        _await_ui(url, program, log)
        yield url, program


def wait(settings: Settings, program: "subprocess.Popen[bytes]", beside: Realtime) -> None:
    """Until one of the two ends by itself, which it should not.

    Raises:
        SegueError: saying so.
    """
    while True:
        keep_small(settings.home / "dagster" / "up.log")
        if program.poll() is not None:
            raise SegueError(
                f"Dagster ended by itself (exit code {program.returncode})", fix="its log is SEGUE_HOME/dagster/up.log"
            )
        if beside.program is not None and beside.program.poll() is not None:
            raise SegueError(
                f"real time ended by itself (exit code {beside.program.returncode})",
                fix="its log is SEGUE_HOME/realtime/supervisor.log",
            )
        time.sleep(0.3)


def _await_ui(url: str, program: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if program.poll() is not None:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            raise SegueError(f"Dagster did not start:\n{tail}", fix=f"the whole log is {log}")
        try:
            if requests.get(f"{url}/server_info", timeout=2).ok:
                return
        except requests.RequestException:
            pass
        time.sleep(0.3)
    raise SegueError(f"the UI did not answer at {url} within {_START_SECONDS:.0f} s", fix=f"the log is {log}")


def _port_of_ui(wanted: int | None) -> int:
    found = free_port(HOST, _FIRST_PORT if wanted is None else wanted)
    if wanted and found != wanted:
        raise SegueError(f"port {wanted} is taken by another program", fix=f"choose another: `segue up --port {found}`")
    return found


if __name__ == "__main__":
    sys.exit(main())
