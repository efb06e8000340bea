"""One line per step on stderr, for a person who waits at a terminal."""

import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

import dagster as dg

from segue.cli.screen import visible

_NAME = "segue.progress"


class _Lines(logging.Handler):
    """Turns Dagster's event records into lines; everything else that is logged stays in the run's own log."""

    def __init__(self) -> None:
        super().__init__()
        self._rows: dict[str, dict[str, str]] = {}
        self._now = _Now()

    def emit(self, record: logging.LogRecord) -> None:
        meta: dict[str, Any] = getattr(record, "dagster_meta", {})
        event: dg.DagsterEvent | None = meta.get("dagster_event")
        if event is None:
            text = str(meta.get("orig_message", record.getMessage()))
            # That what follows a failed step is left out goes without saying.
            if record.levelno >= logging.WARNING and not text.startswith("Dependencies for step"):
                self._say(f"  · {text}")
            return
        step = event.step_key or ""
        if event.is_step_materialization:
            name, rows = self._describe(event)
            # A run over many days tells of the same table once per day; the last one knows its rows.
            known = self._rows.setdefault(step, {})
            known[name] = rows or known.get(name, "")
        elif event.is_step_start:
            self._now.begin(_name_of(step))
        elif event.is_step_success:
            self._now.end()
            seconds = event.step_success_data.duration_ms / 1000
            self._say(f"✓ {_name_of(step):<22} {seconds:6.1f} s  {self._summary(step)}")
        elif event.is_step_failure:
            self._now.end()
            self._say(f"✗ {_name_of(step):<22} {first_line(reason_of(event))}")
        elif event.event_type_value == "ASSET_CHECK_EVALUATION":
            result = event.asset_check_evaluation_data
            if not result.passed:
                mark = "✗" if result.severity is dg.AssetCheckSeverity.ERROR else "!"
                said = _shortened(first_line(result.description or ""))
                self._say(f"  {mark} check {result.asset_key.to_user_string()}: {result.check_name} {said}")

    def _describe(self, event: dg.DagsterEvent) -> tuple[str, str]:
        materialization = event.step_materialization_data.materialization
        name = materialization.asset_key.path[-1]
        rows = materialization.metadata.get("dagster/row_count")
        return name, f"{rows.value:,}" if rows is not None and isinstance(rows.value, int) else ""

    def _summary(self, step: str) -> str:
        done = [f"{name} {rows}".rstrip() for name, rows in self._rows.pop(step, {}).items()]
        return ", ".join(done) if len(done) <= 4 else f"{', '.join(done[:3])} and {len(done) - 3} more"

    def _say(self, line: str) -> None:
        self._now.clear()
        screen = _Now.terminal or sys.stderr
        screen.write(visible(line.rstrip()) + "\n")
        screen.flush()


class _Now:
    """The step that is running and for how long, on the last line of a terminal: a minute without a word looks hung."""

    terminal: TextIO | None = None

    def __init__(self) -> None:
        self._running: tuple[str, float] | None = None
        self._ticker: threading.Thread | None = None

    def begin(self, name: str) -> None:
        if self.terminal is None:
            return
        self._running = (name, time.monotonic())
        self._show()
        if self._ticker is None:
            self._ticker = threading.Thread(target=self._tick, daemon=True)
            self._ticker.start()

    def end(self) -> None:
        self._running = None

    def clear(self) -> None:
        if self._ticker is not None and self.terminal is not None:
            self.terminal.write("\r\033[K")

    def _tick(self) -> None:
        while True:
            time.sleep(1)
            self._show()

    def _show(self) -> None:
        running, terminal = self._running, self.terminal
        if running is not None and terminal is not None:
            name, since = running
            # In one write, so that another thread's line does not get into it.
            terminal.write(f"\r… {name:<22} {time.monotonic() - since:6.0f} s\033[K")
            terminal.flush()


@contextmanager
def at_a_terminal() -> Iterator[None]:
    """For the block, lines go straight to the terminal, if there is one.

    Dagster lets what a step writes pass through a file, by which it is late and no terminal any more.
    """
    if not sys.stderr.isatty():
        yield
        return
    with os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding="utf-8") as terminal:
        _Now.terminal = terminal
        try:
            yield
        finally:
            _Now.terminal = None


def _name_of(step: str) -> str:
    """`watch__anomalies` is `anomalies` to a reader."""
    return step.rpartition("__")[2]


@dg.logger(config_schema={}, description="One line per step, for a terminal.")
def progress(_context: dg.InitLoggerContext) -> logging.Logger:
    """Chosen by `segue refresh`; runs started from the UI use Dagster's own."""
    logger = logging.Logger(_NAME, logging.DEBUG)
    logger.addHandler(_Lines())
    return logger


def reason_of(event: dg.DagsterEvent) -> str:
    """What a failed step said, without Dagster's frame around it."""
    data = event.step_failure_data
    failure = data.user_failure_data
    if failure is not None and failure.description:
        return failure.description
    error = data.error
    while error is not None and error.cause is not None:
        error = error.cause
    if error is None:
        return event.message or "failed"
    if error.cls_name == "DagsterExecutionInterruptedError":
        return "it was stopped before it ended (Ctrl-C, or a restart); the next refresh does what is left"
    # `SegueError: message` reads better without the name of the class.
    name, _, text = error.message.strip().partition(": ")
    return text if text and name.rpartition(".")[2].endswith("Error") else error.message.strip()


def _shortened(text: str, limit: int = 200) -> str:
    """A check over many series has much to say; all of it is in the UI."""
    return text if len(text) <= limit else f"{text[:limit].rsplit(' ', 1)[0]} …"


def first_line(text: str) -> str:
    """The first line that says something."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")
