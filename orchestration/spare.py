"""dbt, loaded before it is needed: while one dbt process works, the next one already waits for its orders.

Loading dbt takes longer than most of what it builds in a refresh. Run as a program, this file is the process that
waits.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from segue.settings import dbt_child_environment

_waiting: "subprocess.Popen[bytes] | None" = None


def make_ready() -> None:
    """See to it that a process has loaded dbt, or is about to. It ends when we do."""
    global _waiting
    if _waiting is None or _waiting.poll() is not None:
        # -P: this folder holds another `dbt`.
        _waiting = subprocess.Popen(
            [sys.executable, "-P", "-u", __file__],
            # Its first environment can be read for as long as it lives, also by SQL.
            env=dbt_child_environment({}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )


def start(arguments: Sequence[str], *, env: Mapping[str, str], cwd: Path) -> "subprocess.Popen[bytes]":
    """Run dbt; both of its outputs come in one pipe.

    Args:
        arguments: what follows `dbt` on a command line.
        env: the whole environment.
        cwd: where it runs.
    """
    global _waiting
    make_ready()
    process, _waiting = _waiting, None
    assert process is not None
    assert process.stdin is not None
    orders = {"arguments": list(arguments), "env": dict(env), "cwd": str(cwd)}
    with process.stdin as pipe:
        pipe.write(json.dumps(orders).encode())
    process.args = ["dbt", *arguments]  # for messages
    return process


def _wait_and_run() -> None:
    from dbt.cli.main import cli

    import segue.warehouse.dbt_plugin  # noqa: F401

    orders = sys.stdin.buffer.read()
    if not orders:  # there was nothing left to build
        return
    told = json.loads(orders)
    os.environ.clear()
    os.environ.update(told["env"])
    os.chdir(told["cwd"])
    cli(args=told["arguments"], prog_name="dbt")


if __name__ == "__main__":
    _wait_and_run()
