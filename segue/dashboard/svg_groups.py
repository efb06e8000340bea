"""Drawings of groups of people: each group has a colour and a sign, so that either tells which one it is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from html import escape

from segue.watch import day as day_words

#: Colours of the style sheet.
COLOURS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One group in a drawing."""

    sign: str  # what it is called in the drawing: short
    place: int  # decides the colour; the same in every drawing of a page
    name: str


def colour(place: int) -> str:
    """The class of a group's colour: the eight of the style sheet, one after the other."""
    return f"c{place % COLOURS}"


def sizes(lines: Mapping[Group, Sequence[tuple[date, int]]], marks: Sequence[tuple[date, str]], *, summary: str) -> str:
    """A line per group, drawn for wide and for narrow screens; `marks` are days on which something happened."""
    return "".join(_sizes(lines, marks, summary, width, name) for width, name in ((760, "wide"), (360, "narrow")))


def _sizes(
    lines: Mapping[Group, Sequence[tuple[date, int]]],
    marks: Sequence[tuple[date, str]],
    summary: str,
    width: int,
    name: str,
) -> str:
    height, left, right, top, bottom = 250, 52, 74, 16, 26
    days = [d for points in lines.values() for d, _ in points]
    first, last = min(days).toordinal(), max(days).toordinal()
    high = max(max(n for points in lines.values() for _, n in points), 1)

    def x(d: date) -> float:
        return left + (width - left - right) * (d.toordinal() - first) / max(last - first, 1)

    def y(n: float) -> float:
        return top + (height - top - bottom) * (1 - n / high)

    parts = [_open(f"chart {name}", width, height, summary)]
    for tick in range(4):
        value = high * tick / 3
        parts.append(
            f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>'
            f'<text class="tick" x="{left - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:,.0f}</text>'
        )
    count = 1 if first == last else 6 if name == "wide" else 3
    for tick in range(count):
        d = date.fromordinal(first + round((last - first) * tick / max(count - 1, 1)))
        anchor = "start" if tick == 0 else "end" if tick == count - 1 else "middle"
        words = day_words(d, year=False).partition(" ")[2]
        parts.append(f'<text class="tick" x="{x(d):.1f}" y="{height - 6}" text-anchor="{anchor}">{words}</text>')
    for d, text in marks:
        if first <= d.toordinal() <= last:
            parts.append(
                f'<line class="event" x1="{x(d):.1f}" x2="{x(d):.1f}" y1="{top}" y2="{height - bottom}">'
                f"<title>{escape(day_words(d))}: {escape(text)}</title></line>"
            )
    ends: list[float] = []
    for group, points in sorted(lines.items(), key=lambda item: -item[1][-1][1]):
        path = " ".join(f"{x(d):.1f},{y(n):.1f}" for d, n in points)
        title = f"<title>{escape(group.name)}: {points[-1][1]:,}</title>"
        dots = "".join(f'<circle cx="{x(d):.1f}" cy="{y(n):.1f}" r="2.2"/>' for d, n in points if len(points) <= 60)
        # Signs at the ends of lines that end close together go below each other.
        end = y(points[-1][1]) + 4
        end = max(end, ends[-1] + 13) if ends else end
        ends.append(end)
        parts.append(
            f'<g class="group {colour(group.place)}">{title}<polyline points="{path}"/>{dots}'
            f'<text x="{x(points[-1][0]) + 6:.1f}" y="{end:.1f}">{escape(group.sign)}</text></g>'
        )
    return "".join([*parts, "</svg>"])


def plane(cells: Mapping[Group | None, Sequence[tuple[int, int, int]]], *, summary: str) -> str:
    """The map: a dot per cell and group, as large as people are many; None is nobody's group.

    Args:
        cells: across, up and people, per group.
    """
    step, edge = 20, 12
    everything = [cell for rows in cells.values() for cell in rows]
    width = step * (max(c[0] for c in everything) + 1) + 2 * edge
    height = step * (max(c[1] for c in everything) + 1) + 2 * edge
    most = max(c[2] for c in everything)

    def at(across: float, up: float) -> tuple[float, float]:
        return edge + step * (across + 0.5), height - edge - step * (up + 0.5)

    parts = [_open("map", width, height, summary)]
    numbers = []
    for group, rows in sorted(cells.items(), key=lambda item: -sum(c[2] for c in item[1])):
        dots = []
        for across, up, count in rows:
            x, y = at(across, up)
            dots.append(f'<circle cx="{x:.0f}" cy="{y:.0f}" r="{2 + 11 * (count / most) ** 0.5:.1f}"/>')
        name, kind = (group.name, colour(group.place)) if group is not None else ("No cluster", "apart")
        total = sum(c[2] for c in rows)
        parts.append(f'<g class="dots {kind}"><title>{escape(name)}: {total:,}</title>{"".join(dots)}</g>')
        if group is not None:
            x, y = at(_middle([(c[0], c[2]) for c in rows]), _middle([(c[1], c[2]) for c in rows]))
            numbers.append(
                f'<g class="number {kind}"><circle cx="{x:.0f}" cy="{y:.0f}" r="15"/>'
                f'<text x="{x:.0f}" y="{y + 6:.0f}" text-anchor="middle">{escape(group.sign)}</text></g>'
            )
    return "".join([*parts, *numbers, "</svg>"])


def _middle(weighted: Sequence[tuple[int, int]]) -> int:
    """The weighted median."""
    half, so_far = sum(n for _, n in weighted) / 2, 0
    for value, count in sorted(weighted):
        so_far += count
        if so_far >= half:
            return value
    return 0


def leaning(value: float, most: float) -> str:
    """A bar to the left or to the right of the middle; the number stands beside it."""
    width = 50 * min(abs(value) / most, 1.0) if most else 0.0
    return (
        '<svg viewBox="0 0 100 10" preserveAspectRatio="none" height="14" aria-hidden="true">'
        f'<rect width="100" height="10" class="ground"/>'
        f'<rect x="{50 - width if value < 0 else 50:.1f}" width="{width:.1f}" height="10" class="part"/></svg>'
    )


def share(value: float) -> str:
    """A bar of a share; the number stands beside it."""
    return (
        '<svg viewBox="0 0 100 10" preserveAspectRatio="none" height="14" aria-hidden="true">'
        '<rect width="100" height="10" class="ground"/>'
        f'<rect width="{100 * min(max(value, 0.0), 1.0):.1f}" height="10" class="part"/></svg>'
    )


def calibration(points: Sequence[tuple[float, float, int]], *, summary: str) -> str:
    """What was said against what came: on the dashed line a promise was kept.

    Args:
        points: probability said, share it happened to, people.
    """
    side, left, top, bottom = 340, 46, 10, 40
    # To the next tenth, so that the ticks are round.
    high = min(-(-max([*(max(p[0], p[1]) for p in points), 0.05]) * 10 // 1) / 10, 1.0)
    far = side - left - 12
    tall = side - top - bottom

    def at(said: float, came: float) -> str:
        return f"{left + far * said / high:.1f},{top + tall * (1 - came / high):.1f}"

    parts = [_open("calibration", side, side, summary)]
    step = 0.2 if high > 0.55 else 0.1
    for tick in range(int(high / step + 1e-9) + 1):
        value = step * tick
        x, y = at(value, value).split(",")
        parts.append(
            f'<line class="grid" x1="{left}" x2="{left + far}" y1="{y}" y2="{y}"/>'
            f'<text class="tick" x="{left - 6}" y="{float(y) + 4:.1f}" text-anchor="end">{100 * value:.0f} %</text>'
            f'<text class="tick" x="{x}" y="{side - bottom + 16}" text-anchor="middle">{100 * value:.0f}</text>'
        )
    parts.append(f'<polyline class="expected" points="{at(0, 0)} {at(high, high)}"/>')
    parts.append(f'<polyline class="line" points="{" ".join(at(said, came) for said, came, _ in sorted(points))}"/>')
    for said, came, count in points:
        x, y = at(said, came).split(",")
        parts.append(
            f'<circle class="dot" cx="{x}" cy="{y}" r="4"><title>{100 * said:.1f} % said, {100 * came:.1f} % came, '
            f"{count:,} examples</title></circle>"
        )
    parts.append(
        f'<text class="tick" x="{left + far / 2}" y="{side - 6}" text-anchor="middle">probability that was said, %'
        "</text>"
    )
    return "".join([*parts, "</svg>"])


def _open(kind: str, width: int, height: int, summary: str) -> str:
    return f'<svg class="{kind}" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(summary, quote=True)}">'
