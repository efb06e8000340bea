"""Retention and funnel as heat maps: PNG, readable in black and white because every cell says its number."""

from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING

from segue.warehouse import Connection
from segue.watch.cohorts import Cell, cohorts, funnel_by_day
from segue.watch.plot import INK, MUTED, canvas, drawable, png, titles
from segue.watch.words import day

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: From none to all, light enough at the beginning for dark numbers.
_SHADES = ("#ffffff", "#dbe4ff", "#91a7ff", "#4263eb", "#1c2f7a")
_FUNNEL_DAYS = 14


def plot_retention(con: Connection, period: str) -> bytes | None:
    """PNG of the last cohorts: a row per cohort, a column per age, the share that came back.

    Args:
        period: day or week.

    Returns:
        None before the first cohort.
    """
    found = cohorts(con, period)
    if not found:
        return None
    table = [cohort.cells for cohort in found]
    return _draw(
        table,
        rows=[f"{day(cohort.first_date, year=False)} · {cohort.person_count:,}" for cohort in found],
        columns=[str(age) for age in range(len(table[0]))],
        title=f"Retention by {period}: who came back",
        subtitle=f"Row: new in that {period} · people. Column: {period}s since a person's first day. "
        "Italics: not over for all of them",
        # The first column is everybody by definition, and would drown the rest.
        top=max((cell[0] for line in table for cell in line[1:] if cell is not None), default=1.0),
    )


def plot_funnel(con: Connection) -> bytes | None:
    """PNG of the last whole days: a row per day, a column per step, the share of the active people that got there.

    Returns:
        None before the first whole day with somebody active.
    """
    found = funnel_by_day(con, days=_FUNNEL_DAYS)
    counts: dict[date, dict[str, int]] = {}
    for on, step, count in found:
        counts.setdefault(on, {})[step] = count
    counts = {on: steps for on, steps in counts.items() if next(iter(steps.values()))}
    if not counts:
        return None
    steps = list(dict.fromkeys(step for _, step, _ in found))
    table: list[list[Cell]] = []
    for taken in counts.values():
        first = next(iter(taken.values()))
        table.append([(taken.get(step, 0) / first, True) for step in steps])
    return _draw(
        table,
        rows=[f"{day(on, year=False)} · {next(iter(taken.values())):,}" for on, taken in counts.items()],
        columns=[drawable(step, 22) for step in steps],
        title=f"Funnel, the last {len(counts)} days",
        subtitle="Row: day · active people. Column: the share of them that took this step and all before it that day",
        top=max((cell[0] for line in table for cell in line[1:] if cell is not None), default=1.0),
    )


def _draw(
    table: Sequence[Sequence[Cell]],
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    title: str,
    subtitle: str,
    top: float,
) -> bytes:
    from matplotlib.colors import LinearSegmentedColormap

    shades = LinearSegmentedColormap.from_list("shares", _SHADES)
    top = top or 1.0
    fig, ax = canvas(height=1.45 + 0.27 * len(rows))
    ax.spines["bottom"].set_visible(False)
    for y, line in enumerate(table):
        for x, cell in enumerate(line):
            if cell is not None:
                _cell(ax, x, y, cell, shades(min(cell[0] / top, 1.0)), is_dark=cell[0] > 0.55 * top)
    ax.set_xlim(-0.5, len(columns) - 0.5)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.set_yticks(range(len(rows)), [drawable(row, 36) for row in rows], fontsize=9, parse_math=False)
    ax.set_xticks(range(len(columns)), list(columns), fontsize=9, parse_math=False)
    ax.tick_params(colors=MUTED)
    titles(fig, ax, title, subtitle)
    return png(fig)


def _cell(
    ax: "Axes", x: int, y: int, cell: tuple[float, bool], colour: tuple[float, float, float, float], *, is_dark: bool
) -> None:
    from matplotlib.patches import Rectangle

    share, over = cell
    ax.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=colour, edgecolor="white", linewidth=1.2))
    ax.text(
        x,
        y,
        f"{100 * share:.0f} %",
        ha="center",
        va="center",
        fontsize=8.5,
        color="white" if is_dark else INK,
        fontstyle="normal" if over else "italic",
    )
