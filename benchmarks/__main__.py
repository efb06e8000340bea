"""Every benchmark, or those that are named, one after the other; full runs keep the table of docs/benchmarks.md true.

Each is a command of its own, `python -m benchmarks.NAME --help`; its last line is the figure as JSON. A goal that is
missed fails nothing here, it stands in the table; a benchmark that does not end does fail. All of them take hours:
leave the machine alone meanwhile.

    python -m benchmarks [--quick] [NAME…]
"""

import argparse
import json
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

from rich.console import Console

from segue.clock import system_time

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"
NAMES = sorted(file.stem for file in Path(__file__).parent.glob("[a-z]*.py"))

#: What stands between these lines is written here.
FIRST, LAST = "<!-- figures: written by `make bench` -->", "<!-- end of the figures -->"
HEADING = "| command | figure | against | goal | holds | measured |\n|---|---|---|---|---|---|\n"

say = Console(stderr=True, highlight=False, markup=False, soft_wrap=True).print


def main() -> int:
    """Run them; 1 when one did not end well."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(NAMES)}; default: all")
    parser.add_argument("--quick", action="store_true", help="a minute each; the table of the page is left as it is")
    options = parser.parse_args()
    names = options.names or NAMES
    if unknown := set(names) - set(NAMES):
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    failed = []
    for number, name in enumerate(names, 1):
        say(f"[{number}/{len(names)}] {name}", style="bold")
        began = time.monotonic()
        result = _run(name, quick=options.quick)
        say(f"{time.monotonic() - began:.0f} s", style="dim")
        if result is None:
            failed.append(name)
        elif not options.quick:
            PAGE.write_text(with_row(PAGE.read_text(), name, row(name, result, system_time().date())))
    if failed:
        say(f"did not end: {', '.join(failed)}", style="red")
    return 1 if failed else 0


def row(name: str, result: dict[str, Any], day: date) -> str:
    """The line of the table for what a benchmark reported."""
    cells = [
        f"`benchmarks.{name}`",
        f"{result['figure']:,g} {result['unit']}",
        result["against"],
        result["goal"],
        "yes" if result["holds"] else "**no**",
        day.isoformat(),
    ]
    return "| " + " | ".join(str(cell).replace("|", "/") for cell in cells) + " |\n"


def with_row(page: str, name: str, line: str) -> str:
    """The page with this line instead of the last one of the same name; rows stand in order of their names."""
    before, rest = page.split(FIRST)
    table, after = rest.split(LAST)
    rows = {line.split("`")[1]: line for line in table.splitlines(keepends=True) if line.startswith("| `")}
    rows[f"benchmarks.{name}"] = line
    return before + FIRST + "\n" + HEADING + "".join(rows[key] for key in sorted(rows)) + LAST + after


def _run(name: str, *, quick: bool) -> dict[str, Any] | None:
    """Show what it prints as it comes; its last line as JSON, None when it failed."""
    command = [sys.executable, "-m", f"benchmarks.{name}", *(["--quick"] if quick else [])]
    last = ""
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for last in process.stdout:
            print(last, end="", flush=True)
    try:
        return dict(json.loads(last)) if process.returncode == 0 else None
    except ValueError:
        return None


if __name__ == "__main__":
    sys.exit(main())
