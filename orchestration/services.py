"""`segue realtime`: which processes real time is made of, started and stopped as one thing."""

import argparse
import os
import socket
import sys

from orchestration.processes import end_with_parent, guarding, stop_on_signals
from orchestration.supervisor import STOP_SECONDS, Service, Supervisor, owning
from segue.cli.console import print_error
from segue.cli.screen import Screen
from segue.errors import SegueError
from segue.settings import Settings, load_settings
from segue.valkey import serve_command

err = Screen(stderr=True, soft_wrap=True)


def main(arguments: list[str] | None = None) -> int:
    """Run until Ctrl-C, SIGTERM or the death of whoever started us; then leave no process."""
    parser = argparse.ArgumentParser(prog="segue realtime", description="Collector, engine, API and what they need.")
    parser.parse_args(arguments)
    stop_on_signals()
    end_with_parent()
    try:
        settings = load_settings()
        with owning(settings):
            chosen = services(settings)
            with guarding(STOP_SECONDS) as guard:
                Supervisor(settings, chosen, guard, told=_say).run()
    except SegueError as error:
        print_error(error)
        return 1
    except KeyboardInterrupt:
        err.print("stopped")
    return 0


def services(settings: Settings) -> tuple[Service, ...]:
    """The processes of this installation, with free ports, in the order of their start.

    Raises:
        SegueError: when a port that was set is taken: whoever set it has told others where to send.
    """
    collector = _port_of(settings, "collector", set())
    api = _port_of(settings, "api", {collector})
    pages = _port_of(settings, "dashboard", {collector, api})
    env = {"SEGUE_HOME": str(settings.home), "SEGUE_COLLECTOR_PORT": str(collector), "SEGUE_API_PORT": str(api)}
    env["SEGUE_DASHBOARD_PORT"] = str(pages)
    os.environ.update(env)
    # The engine's statements make and free thousands of small objects; kept by their thread, they cost a seventh less.
    os.environ.setdefault("GLIBC_TUNABLES", "glibc.malloc.tcache_count=20000")
    found = []
    if not settings.valkey_url:
        command = tuple(serve_command(settings, ends_with_caller=True))
        found.append(Service(name="valkey", command=command, does="event log and serving store", stops=3))
    named = [
        ("collector", ("collector",), f"http://{settings.collector_host}:{collector}", "takes events", 0),
        ("landing", ("landing",), "", "log into the landing zone", 2),
        ("engine", ("engine",), "", "keeps segments true", 2),
        ("api", ("api",), f"http://{settings.api_host}:{api}", "answers who is in which segment", 0),
        ("dashboard", ("dashboard",), f"http://{settings.dashboard_host}:{pages}", "KPIs, incidents, segments", 0),
        ("webhooks", ("webhooks", "run"), "", "tells others of changes", 1),
    ]
    segue = (sys.executable, "-c", "from segue.cli import app; app()")
    for name, words, url, does, stops in named:
        found.append(Service(name=name, command=(*segue, *words), url=url, does=does, stops=stops))
    return tuple(found)


def _port_of(settings: Settings, name: str, taken: set[int]) -> int:
    host, wanted = getattr(settings, f"{name}_host"), getattr(settings, f"{name}_port")
    found = free_port(host, wanted, taken=taken)
    if wanted and found != wanted and f"{name}_port" in settings.model_fields_set:
        raise SegueError(
            f"port {wanted} on {host} (SEGUE_{name.upper()}_PORT) is taken",
            fix="stop what listens there, set another port, or unset it: then the next free one is taken",
        )
    return found


def free_port(host: str, wanted: int, *, taken: set[int] | None = None) -> int:
    """The wanted port, or the next one that is free. 0: any.

    Raises:
        SegueError: when none of the fifty after it is free.
    """
    for port in range(wanted, wanted + 50) if wanted else (0,):
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                if port in (taken or ()):
                    continue
                probe.bind((host, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise SegueError(f"no port from {wanted} to {wanted + 49} is free on {host}", fix="choose another port")


def _say(name: str, what: str, more: str) -> None:
    colour = {"up": "green", "ended": "yellow", "killed": "red"}.get(what, "white")
    err.print(f"{name:<10} [{colour}]{what:<6}[/] ", end="")
    err.print(more, markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
