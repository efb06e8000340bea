"""KPIs, slices and anomalies in words that need no explanation."""

import math
import re
import unicodedata
from datetime import date, timedelta

from segue.watch.tables import Anomaly, Kind

_WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_SPACES = re.compile(r"\s+")
_LONGEST_NAME = 80


def clean(text: object, *, limit: int = _LONGEST_NAME) -> str:
    """One line of visible characters, cut with an ellipsis: names come from data and may be anything."""
    line = _SPACES.sub(" ", str(text))
    # Other control and format characters could reorder or hide what stands beside them.
    line = "".join(c for c in line if unicodedata.category(c) not in {"Cc", "Cf", "Cs", "Co", "Cn"}).strip()
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def name_of(kpi: str, slice_: str, label: str = "") -> str:
    """`Conversion, platform web`; `Size of segment power users`; without a slice just `Conversion`.

    Args:
        label: how people call the KPI; without one it is made of its name.
    """
    measure = clean(label) or clean(kpi.replace("_", " ")) or "unnamed KPI"
    measure = measure[0].upper() + measure[1:]
    where = where_of(slice_)
    if not where:
        return measure
    if kpi == "segment_size" and slice_.startswith("segment="):
        return f"Size of {where}"
    return f"{measure}, {where}"


def where_of(slice_: str) -> str:
    """`platform web`; empty for everybody."""
    if slice_ in ("", "all"):
        return ""
    dimension, equals, value = slice_.partition("=")
    if not equals:
        return clean(slice_)
    if dimension == "segment":
        value = value.replace("_", " ")
    return clean(f"{dimension.replace('_', ' ')} {value}")


def amount(value: float, *, kpi: str, kind: Kind) -> str:
    """The value with its unit: `3.2 %`, `4 min 12 s`, `1,234`, `0.57`."""
    if kind == "ratio":
        digits = 0 if value in (0.0, 1.0) else 1 if value >= 0.01 else 2
        return f"{100 * value:.{digits}f} %"
    if "duration" in kpi or kpi.endswith("_seconds"):
        return _duration(value)
    if abs(value) < 1e-6:
        return "0"
    if kind == "count" or abs(value) >= 100 or float(value).is_integer():
        return f"{value:,.0f}"
    digits = 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 2 - math.floor(math.log10(abs(value)))
    return f"{value:,.{min(digits, 6)}f}"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes:02d} min"


def percent(share: float) -> str:
    """A change with its sign: `+42 %`, `−8.1 %`; from tenfold on as a multiple, `×12`."""
    if share >= 9:
        return f"×{share + 1:,.0f}"
    size = abs(100 * share)
    return f"{'+' if share >= 0 else '−'}{size:.{0 if size >= 10 else 1}f} %"


def points(share: float) -> str:
    """A difference of two shares in percentage points: `+4.3`, `−17.8`; what rounds to nothing is `0.0`."""
    size = f"{abs(100 * share):.1f}"
    return size if float(size) == 0 else f"{'+' if share > 0 else '−'}{size}"


def change_of(anomaly: Anomaly) -> str:
    """How far from expected: as a share; for a ratio in percentage points, which is what a reader would compare."""
    if anomaly.kind == "ratio":
        return f"{points(anomaly.value - anomaly.expected)} pts"
    change = anomaly.change
    return percent(change) if change is not None else "from 0"


def day(value: date, *, year: bool = True) -> str:
    """`Sat 14 Feb 2026`."""
    text = f"{_WEEKDAYS[value.weekday()]} {value.day} {_MONTHS[value.month - 1]}"
    return f"{text} {value.year}" if year else text


def period(anomaly: Anomaly, *, known_until: date | None = None) -> str:
    """`on Sat 14 Feb 2026`, `Sat 14 – Mon 16 Feb 2026 (3 days)`, `since Sat 14 Feb 2026, still going on`.

    Args:
        known_until: the last complete day; an anomaly that nothing later is known to have ended is still going on.
    """
    if anomaly.hours is not None:
        first, last = anomaly.hours
        end = f"{(last.hour + 1) % 24:02d}:00 UTC"
        if first.date() == last.date():
            return f"from {first:%H:%M} to {end} on {day(anomaly.first_date)}"
        return f"from {first:%H:%M} on {day(anomaly.first_date, year=False)} to {end} on {day(anomaly.last_date)}"
    if anomaly.grain == "week" and anomaly.day_count == 7:
        return f"in the week from {day(anomaly.first_date)}"
    if known_until is not None and anomaly.is_going_on(known_until) and anomaly.day_count > 1:
        return f"since {day(anomaly.first_date)}, still going on"
    if anomaly.day_count == 1:
        return f"on {day(anomaly.first_date)}"
    same_year = anomaly.first_date.year == anomaly.last_date.year
    return f"{day(anomaly.first_date, year=not same_year)} – {day(anomaly.last_date)} ({_length(anomaly)})"


def _length(anomaly: Anomaly) -> str:
    return f"{anomaly.day_count // 7} weeks" if anomaly.grain == "week" else f"{anomaly.day_count} days"


def describe(anomaly: Anomaly, *, known_until: date | None = None) -> str:
    """What happened, in one sentence a stakeholder can read out."""

    def unit(value: float) -> str:
        return amount(value, kpi=anomaly.kpi, kind=anomaly.kind)

    verb = "rose" if anomaly.direction == "up" else "fell"
    when = f"on {day(anomaly.worst_date)}"
    if anomaly.hours is not None or (anomaly.grain == "week" and anomaly.day_count == 7):
        when = period(anomaly)
    elif anomaly.day_count > 1:
        is_week, length = anomaly.grain == "week", _length(anomaly)
        first = anomaly.worst_date - timedelta(days=6 if is_week else 0)
        when = f"{'in the week from' if is_week else 'on'} {day(first, year=False)}, the worst of {length}"
        when += f" ({period(anomaly, known_until=known_until).removesuffix(f' ({length})')})"
    name = name_of(anomaly.kpi, anomaly.slice, anomaly.label)
    return (
        f"{name} {verb} to {unit(anomaly.value)} {when}, {_distance(anomaly)}"
        f" the {unit(anomaly.expected)} expected (ordinary: {unit(anomaly.lower)} to {unit(anomaly.upper)})."
    )


def _distance(anomaly: Anomaly) -> str:
    side = "above" if anomaly.direction == "up" else "below"
    if anomaly.kind == "ratio":
        return f"{abs(100 * (anomaly.value - anomaly.expected)):.1f} points {side}"
    change = anomaly.change
    if change is None:
        return side
    if change >= 9:
        return f"{change + 1:,.0f} times"
    size = abs(100 * change)
    return f"{size:.{0 if size >= 10 else 1}f} % {side}"
