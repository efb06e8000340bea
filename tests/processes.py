"""A command of ours that serves, for the length of a test."""

import signal
import subprocess
import sys
from pathlib import Path

from segue.settings import Settings, child_environment


def start(settings: Settings, command: str, *, says: str) -> tuple["subprocess.Popen[str]", str]:
    """The command when it listens, and its address, which it says with these words."""
    process = subprocess.Popen(
        [str(Path(sys.executable).parent / "segue"), command, "--port", "0"],
        env=child_environment({"SEGUE_HOME": str(settings.home), "COLUMNS": "200"}),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    told = process.stderr.readline()
    assert f"{says} on http://" in told, told + process.stderr.read()
    return process, told.split()[2].rstrip(",")


def stop(process: "subprocess.Popen[str]") -> int:
    """End it as `segue up` does; its exit code."""
    process.send_signal(signal.SIGTERM)
    try:
        return process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise
