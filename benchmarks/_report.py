"""The last line of every benchmark."""

import json
from typing import Any


def report(name: str, *, figure: float, unit: str, against: str, goal: str, holds: bool, **more: Any) -> None:
    """Print the one JSON line that tools read."""
    line = {"name": name, "figure": round(figure, 4), "unit": unit, "against": against, "goal": goal, "holds": holds}
    print(json.dumps(line | more), flush=True)
