"""`segue demo`: a made-up shop, its whole history through the graph, and the UI to look at it."""

import argparse
import json
import os
import shutil
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from orchestration.beside import realtime
from orchestration.processes import end_with_parent, stop_on_signals
from orchestration.turns import turn
from orchestration.up import announce, dashboard_of, serving, wait
from segue import watch
from segue.cli.console import print_error
from segue.cli.screen import Screen
from segue.clock import system_time
from segue.errors import SegueError
from segue.events import accounting
from segue.events.simulator import simulate
from segue.segments import sizes
from segue.settings import Settings, load_settings
from segue.warehouse import Warehouse

out = Screen()
err = Screen(stderr=True, soft_wrap=True)

#: Of the history: the same days give the same one.
_SEED = 1

#: Alerts that the summary shows, the latest first.
_TOLD = 5


def main(arguments: list[str] | None = None) -> int:
    """Make a history, run the graph, say what was found, and keep the UI up until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="segue demo", description="A made-up history through the whole graph.")
    parser.add_argument("--port", type=int, help="port of the UI; default: the first free one from 3000")
    parser.add_argument("--people", type=int, default=300, help="how many people")
    parser.add_argument("--days", type=int, default=60, help="how many days, ending today")
    options = parser.parse_args(arguments)
    stop_on_signals()
    end_with_parent()
    try:
        started = time.monotonic()
        # A home of its own: the demo never meets a real installation.
        home = load_settings().home / "demo"
        with turn(
            home.with_suffix(".lock"),
            lambda _: err.print("another demo is running in this home; waiting for it to end (stop it with Ctrl-C)"),
        ):
            today = system_time().replace(hour=0, minute=0, second=0, microsecond=0)
            has_run = (home / "warehouse").exists()
            settings = settle(home, people=options.people, days=options.days, until=today)
            # Only now: the graph is made for the settings that are in force when it is imported.
            from orchestration.refresh import refresh

            # What came in live since the history ends is known here: as of then, it would be missing where it was seen.
            outcome = refresh(settings, as_of=system_time() if has_run else today)
            summarize(settings)
            for step, reason in outcome.failures:
                err.print(f"[bold red]failed[/] {step}: {reason}", highlight=False)
            err.print(f"{time.monotonic() - started:.0f} s", style="dim", highlight=False)
            err.print("starting real time and Dagster", style="dim")
            with (
                realtime(settings, renew_keys=True) as beside,
                serving(settings, port=options.port, dashboard=dashboard_of(beside)) as (url, program),
            ):
                out.print(f"\n  export SEGUE_HOME={settings.home}", soft_wrap=True, highlight=False)
                out.print("  has every `segue` command read this demo", style="dim", highlight=False)
                announce(url, beside)
                wait(settings, program, beside)
    except SegueError as error:
        print_error(error)
        return 1
    except KeyboardInterrupt:
        err.print("stopped")
    return 0


def settle(home: Path, *, people: int, days: int, until: datetime) -> Settings:
    """The demo's home with a history in its landing zone; what is there is used again when it is the same history."""
    wanted = {"people": people, "days": days, "until": until.isoformat()}
    note = home / "demo.json"
    if not note.exists() or json.loads(note.read_text()) != wanted:
        shutil.rmtree(home, ignore_errors=True)
    first = (until - timedelta(days=days)).date()
    # Named one by one: a `.env` that points at a real warehouse must not reach the demo.
    own = {
        "home": str(home),
        "landing": str(home / "landing"),
        "catalog": f"sqlite:{home / 'warehouse' / 'catalog.sqlite'}",
        "data_path": str(home / "warehouse" / "data"),
        "history_start": first.isoformat(),
        "history_days": str(days),
    }
    os.environ.update({f"SEGUE_{name.upper()}": value for name, value in own.items()})
    settings = load_settings()
    if note.exists():
        err.print("using the history that is there", style="dim")
        return settings
    err.print(f"making a history: {people} people, {days} days until {until:%Y-%m-%d}", style="dim", highlight=False)
    simulate_into(settings, people=people, days=days, until=until)
    note.write_text(json.dumps(wanted))
    return settings


def simulate_into(settings: Settings, *, people: int, days: int, until: datetime) -> None:
    """A history of events in the landing zone; its truth beside it, out of reach of the graph."""
    draft = settings.home / "history"
    shutil.rmtree(draft, ignore_errors=True)
    report = simulate(draft, people=people, days=days, seed=_SEED, until=until)
    shutil.rmtree(settings.landing_zone, ignore_errors=True)
    report.events.rename(settings.landing_zone)
    err.print(f"{report.lines:,} messages in {report.files} files", style="dim", highlight=False)


def summarize(settings: Settings) -> None:
    """Say what the graph found."""
    with Warehouse(settings).read() as con:
        books = accounting(con)
        found = sizes(con, system_time())
        people = con.execute("select count(distinct person_id) from identity.identifiers").fetchall()[0][0]
        clusters = con.execute(
            "select cluster_name, person_count, profile from clusters.profiles where method = 'kmeans' order by 2 desc"
        ).fetchall()
        unusual = watch.anomalies(con)
        sent = con.execute(
            "select payload ->> '$.title', channel, status, detail from alerts.announcements"
            " group by all order by max(created_at) desc, 1"
        ).fetchall()
    out.print(
        f"\n[bold]{books.read:,}[/] events read: {books.loaded:,} loaded, {books.duplicates:,} duplicates, "
        f"{books.quarantined:,} in quarantine; [bold]{people:,}[/] people found\n",
        highlight=False,
    )
    _print(
        "Segments",
        ["segment", "members", "of active people"],
        [(s.segment, f"{s.member_count:,}", _percent(s.share)) for s in found],
    )
    _print(
        "Clusters",
        ["cluster", "people", "profile"],
        [(name, f"{count:,}", profile) for name, count, profile in clusters],
    )
    told = [a for a in unusual if a.severity != "low"]
    _print(
        "Anomalies",
        ["since", "what", "value", "expected", "severity"],
        [
            (
                f"{a.first_date:%Y-%m-%d}",
                watch.name_of(a.kpi, a.slice, a.label),
                watch.amount(a.value, kpi=a.kpi, kind=a.kind),
                watch.amount(a.expected, kpi=a.kpi, kind=a.kind),
                a.severity,
            )
            for a in told
        ],
    )
    if len(unusual) > len(told):
        out.print(
            f"and {len(unusual) - len(told)} of low severity: segue anomalies list\n", style="dim", highlight=False
        )
    out.print("[bold]Alerts[/]" if sent else "Alerts: none")
    for title, channel, status, where in sent[:_TOLD]:
        out.print(f"  {status} to {channel}: {title or ''}", markup=False, highlight=False, soft_wrap=True)
        # On a line of its own and never folded: it is there to be opened.
        out.print(f"    {where or ''}", markup=False, highlight=False, soft_wrap=True)
    if len(sent) > _TOLD:
        out.print(f"  and {len(sent) - _TOLD} before: segue alerts list", style="dim", highlight=False)


def _print(title: str, columns: list[str], rows: list[tuple[str, ...]]) -> None:
    table = Table(title=title, title_justify="left", title_style="bold", header_style="dim", box=SIMPLE_HEAD)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    out.print(table if rows else f"{title}: none")


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"


if __name__ == "__main__":
    sys.exit(main())
