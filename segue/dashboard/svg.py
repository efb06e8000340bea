"""Drawings as SVG text: no script, no library, each with a sentence for who cannot see it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from html import escape

from segue.watch import day as day_words


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A disturbed stretch of days."""

    first: date
    last: date
    severity: str
    label: str
    href: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What a chart of one series shows."""

    points: Sequence[tuple[date, float]]
    band: Sequence[tuple[date, float, float, float]] = ()  # date, expected, lower, upper
    marks: Sequence[Mark] = ()


def chart(line: Line, *, unit: Callable[[float], str], summary: str) -> str:
    """The chart twice, drawn for wide and for narrow screens; the style sheet shows one of them."""
    return "".join(_chart(line, unit, summary, width, name) for width, name in ((760, "wide"), (360, "narrow")))


def _chart(line: Line, unit: Callable[[float], str], summary: str, width: int, name: str) -> str:
    height, left, right, top, bottom = 250, 62, 12, 16, 26
    days = [d for d, _ in line.points] + [row[0] for row in line.band]
    first, last = min(days).toordinal(), max(days).toordinal()
    values = [v for _, v in line.points]
    usual = values + [row[1] for row in line.band]
    high = min(max(usual + [row[3] for row in line.band]), 1.35 * max(usual)) if max(usual) > 0 else max(usual)
    low = min(values + [row[2] for row in line.band])
    if 0 <= low < 0.6 * high:
        low = 0.0
    span = (high - low) or abs(high) or 1.0

    def x(d: date) -> float:
        return left + (width - left - right) * (d.toordinal() - first) / max(last - first, 1)

    def y(v: float) -> float:
        return top + (height - top - bottom) * (1 - (min(max(v, low), high + 0.2 * span) - low) / span)

    parts = [
        f'<svg class="chart {name}" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(summary, quote=True)}">'
    ]
    for tick in range(4):
        value = low + span * tick / 3
        parts.append(
            f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>'
            f'<text class="tick" x="{left - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{escape(unit(value))}</text>'
        )
    count = 6 if name == "wide" else 3
    for tick in range(count):
        d = date.fromordinal(first + round((last - first) * tick / max(count - 1, 1)))
        anchor = "start" if tick == 0 else "end" if tick == count - 1 else "middle"
        words = day_words(d, year=False).partition(" ")[2]
        parts.append(f'<text class="tick" x="{x(d):.1f}" y="{height - 6}" text-anchor="{anchor}">{words}</text>')
    for mark in line.marks:
        a, b = max(mark.first.toordinal(), first), min(mark.last.toordinal(), last)
        if a > b:
            continue
        start, end = x(date.fromordinal(a)) - 3, x(date.fromordinal(b)) + 3
        parts.append(
            f'<a href="{escape(mark.href, quote=True)}" aria-label="{escape(mark.label, quote=True)}">'
            f'<rect class="mark {mark.severity}" x="{start:.1f}" width="{end - start:.1f}" y="{top}" '
            f'height="{height - top - bottom}"><title>{escape(mark.label)}</title></rect></a>'
        )
    for piece in _pieces([row[0] for row in line.band]):
        rows = [line.band[i] for i in piece]
        upper = " ".join(f"{x(r[0]):.1f},{y(r[3]):.1f}" for r in rows)
        lower = " ".join(f"{x(r[0]):.1f},{y(r[2]):.1f}" for r in reversed(rows))
        middle = " ".join(f"{x(r[0]):.1f},{y(r[1]):.1f}" for r in rows)
        parts.append(f'<polygon class="band" points="{upper} {lower}"/><polyline class="expected" points="{middle}"/>')
    for piece in _pieces([d for d, _ in line.points]):
        path = " ".join(f"{x(line.points[i][0]):.1f},{y(line.points[i][1]):.1f}" for i in piece)
        parts.append(f'<polyline class="line" points="{path}"/>')
    for d, v in line.points:
        severity = next((m.severity for m in line.marks if m.first <= d <= m.last), "")
        if severity or len(line.points) <= 100:
            kind, radius = (f"dot {severity}", 4) if severity else ("dot", 1.8)
            title = f"{day_words(d)}: {unit(v)}"
            parts.append(
                f'<circle class="{kind}" cx="{x(d):.1f}" cy="{y(v):.1f}" r="{radius}">'
                f"<title>{escape(title)}</title></circle>"
            )
    return "".join([*parts, "</svg>"])


def spark(line: Line) -> str:
    """A small one without numbers, beside which the numbers stand."""
    values = [v for _, v in line.points] + [x for row in line.band for x in row[2:]]
    days = [d.toordinal() for d, _ in line.points]
    if len(days) < 2:
        return ""
    low, high = min(values), max(values)
    first, last = days[0], max(days[-1], *(row[0].toordinal() for row in line.band)) if line.band else days[-1]

    def at(d: date, v: float) -> str:
        across = 200 * (d.toordinal() - first) / max(last - first, 1)
        return f"{across:.1f},{44 - 40 * (v - low) / ((high - low) or 1):.1f}"

    band = [row for row in line.band if row[0].toordinal() >= first]
    shape = " ".join(at(r[0], r[3]) for r in band) + " " + " ".join(at(r[0], r[2]) for r in reversed(band))
    dots = "".join(
        f'<circle class="dot {m.severity}" r="3.5" cx="{p[0]}" cy="{p[1]}"/>'
        for m in line.marks
        for d, v in line.points
        if m.first <= d <= m.last
        for p in [at(d, v).split(",")]
    )
    return (
        '<svg class="spark" viewBox="0 0 200 48" preserveAspectRatio="none" aria-hidden="true">'
        f'<polygon class="band" points="{shape}"/>'
        f'<polyline class="line" points="{" ".join(at(d, v) for d, v in line.points)}"/>{dots}</svg>'
    )


def sankey(flows: Sequence[tuple[str, str, int]], *, summary: str) -> str:
    """From the left to the right, each flow as wide as it has people."""
    width, height, bar, gap = 720, max(220, 34 * max(len({f[0] for f in flows}), len({f[1] for f in flows}))), 12, 10
    total = sum(n for *_, n in flows)
    sides: list[dict[str, tuple[float, float]]] = []
    for side in (0, 1):
        sums: dict[str, int] = {}
        for flow in flows:
            sums[str(flow[side])] = sums.get(str(flow[side]), 0) + flow[2]
        room = height - gap * (len(sums) - 1)
        at, places = 0.0, {}
        for name, count in sorted(sums.items(), key=lambda item: -item[1]):
            size = room * count / total
            places[name] = (at, size)
            at += size + gap
        sides.append(places)
    parts = [
        f'<svg class="sankey" viewBox="0 0 {width} {height + 8}" role="img" aria-label="{escape(summary, quote=True)}">'
    ]
    used: list[dict[str, float]] = [{}, {}]
    left, right = 210, width - 210
    for index, (source, target, count) in enumerate(sorted(flows, key=lambda f: (-f[2], f[0], f[1]))):
        thick = [
            side[name][1] * count / _sum(flows, n, name)
            for n, (side, name) in enumerate(zip(sides, (source, target), strict=True))
        ]
        y0 = sides[0][source][0] + used[0].get(source, 0.0)
        y1 = sides[1][target][0] + used[1].get(target, 0.0)
        used[0][source] = used[0].get(source, 0.0) + thick[0]
        used[1][target] = used[1].get(target, 0.0) + thick[1]
        a, b, middle = left + bar, right - bar, (left + right) / 2
        parts.append(
            f'<path class="flow f{index % 6}" d="M{a},{y0:.1f} C{middle},{y0:.1f} {middle},{y1:.1f} {b},{y1:.1f} '
            f"L{b},{y1 + thick[1]:.1f} C{middle},{y1 + thick[1]:.1f} {middle},{y0 + thick[0]:.1f} "
            f'{a},{y0 + thick[0]:.1f} Z">'
            f"<title>{escape(source)} → {escape(target)}: {count:,}</title></path>"
        )
    for side, (x, anchor, shift) in enumerate(((left, "end", -8), (right - bar, "start", bar + 8))):
        for name, (at, size) in sides[side].items():
            parts.append(
                f'<rect class="bar" x="{x}" y="{at:.1f}" width="{bar}" height="{max(size, 1):.1f}"/>'
                f'<text class="name" x="{x + shift}" y="{at + size / 2 + 4:.1f}" text-anchor="{anchor}">'
                f"{escape(name)} {_sum(flows, side, name):,}</text>"
            )
    return "".join([*parts, "</svg>"])


def _sum(flows: Sequence[tuple[str, str, int]], side: int, name: str) -> int:
    return sum(flow[2] for flow in flows if flow[side] == name)


def _pieces(days: Sequence[date]) -> list[list[int]]:
    """Indexes of days in a row: a missing day is a gap in the line."""
    pieces: list[list[int]] = []
    for index, d in enumerate(days):
        if pieces and d.toordinal() - days[index - 1].toordinal() <= 1:
            pieces[-1].append(index)
        else:
            pieces.append([index])
    return pieces
