"""The clusters as a picture: who is near whom, and what sets each group apart."""

import io
import textwrap
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure

from segue.clusters.discover import ClusterReport, MethodReport
from segue.clusters.plane import plane
from segue.clusters.profiles import standardised_differences
from segue.clusters.vectors import Dimension
from segue.warehouse import Connection

#: Okabe and Ito's colours, which people with any colour vision can tell apart; shapes say the same again.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
_MARKERS = "osD^vPX*"
_APART = "#BBBBBB"
_INK = "#222222"

_MOST_POINTS = 3_000
_TITLE_PAD = 36
_MOST_ROWS = 14


def plot(report: ClusterReport, *, method: str = "kmeans") -> bytes:
    """A PNG: people in the plane of the two main components, beside the profile of each cluster.

    With no clusters, a picture that says why.

    Args:
        report: as from `discover`.
        method: `kmeans` or `hdbscan`.
    """
    found = report.method(method)
    if not found.cluster_count:
        return _png(_empty(report, found))
    shown = found.profiles[: len(_COLOURS)]
    figure = Figure(figsize=(13, 6.8), dpi=100, layout="constrained")
    points, heat = figure.subplots(1, 2, width_ratios=[1, 1])
    figure.suptitle(_title(report, found), x=0.01, ha="left", fontsize=13, fontweight="bold", color=_INK)
    _draw_points(points, report, found, len(shown))
    _draw_heat(heat, report, found, len(shown))
    return _png(figure)


def _title(report: ClusterReport, found: MethodReport) -> str:
    name = {"kmeans": "K-Means", "hdbscan": "HDBSCAN"}[found.method]
    quality = "" if found.silhouette is None else f", silhouette {found.silhouette:.2f}"
    return (
        f"{found.cluster_count} clusters of {report.person_count:,} people ({name}{quality}), "
        f"as of {report.as_of:%Y-%m-%d %H:%M} UTC"
    )


def _draw_points(axes: Any, report: ClusterReport, found: MethodReport, shown: int) -> None:
    matrix = report.people.matrix
    places, shares = plane(matrix)
    some = np.arange(len(matrix))
    if len(some) > _MOST_POINTS:
        some = np.sort(np.random.default_rng(0).choice(some, _MOST_POINTS, replace=False))
    size = float(np.clip(6000 / len(some), 6, 30))
    apart = some[(found.labels[some] < 0) | (found.labels[some] >= shown)]
    if len(apart):
        axes.scatter(*places[apart].T, s=size, c=_APART, marker=".", linewidths=0, label=f"no cluster ({len(apart):,})")
    for place, profile in enumerate(found.profiles[:shown]):
        own = some[found.labels[some] == place]
        label = textwrap.shorten(f"{profile.cluster_id} {profile.cluster_name}", 44, placeholder="…")
        axes.scatter(
            *places[own].T,
            s=size,
            c=_COLOURS[place],
            marker=_MARKERS[place],
            alpha=0.75,
            linewidths=0.3,
            edgecolors="white",
            label=f"{label} ({profile.person_count:,})",
        )
    for place, profile in enumerate(found.profiles[:shown]):
        x, y = np.median(places[found.labels == place], axis=0)
        box = {
            "boxstyle": "circle,pad=0.25",
            "facecolor": "white",
            "edgecolor": _COLOURS[place],
            "linewidth": 2,
        }
        axes.annotate(
            str(profile.cluster_id), (x, y), ha="center", va="center", fontsize=10, fontweight="bold", bbox=box
        )
    held = 100 * shares
    axes.set_xlabel(f"first main component ({held[0]:.0f} % of the variance)")
    axes.set_ylabel(f"second ({held[1]:.0f} %)" if len(held) > 1 else "")
    axes.set_title("Who is near whom", loc="left", fontsize=11, pad=_TITLE_PAD)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.07), frameon=False, fontsize=9, ncols=1, alignment="left")


def _draw_heat(axes: Any, report: ClusterReport, found: MethodReport, shown: int) -> None:
    differences = standardised_differences(report.people, found.labels)[:shown]
    # The rows that tell most, in the order of their largest difference.
    order = np.argsort(-np.abs(differences).max(axis=0), kind="stable")[:_MOST_ROWS]
    values = differences[:, order].T
    limit = max(1.0, float(np.abs(values).max()))
    axes.imshow(values, cmap="PuOr_r", norm=TwoSlopeNorm(0, -limit, limit), aspect="auto")
    for row, column in np.ndindex(values.shape):
        value = values[row, column]
        ink = "white" if abs(value) > 0.65 * limit else _INK
        text = f"{value:+.1f}".replace("-", "−") if abs(value) >= 0.05 else "0"
        axes.text(column, row, text, ha="center", va="center", fontsize=9, color=ink)
    axes.set_yticks(range(len(order)), [_row_name(report.people.dimensions[d]) for d in order], fontsize=9)
    headings = [f"{p.cluster_id}\n{100 * p.share:.0f} %" for p in found.profiles[:shown]]
    axes.set_xticks(range(shown), headings, fontsize=9)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title("What sets them apart: standard deviations from everybody", loc="left", fontsize=11, pad=_TITLE_PAD)


def _row_name(dimension: Dimension) -> str:
    name = dimension.feature.column.replace("_", " ")
    return f"{name}: missing" if dimension.is_missing else name


def plot_sizes(con: Connection, *, method: str = "kmeans") -> bytes:
    """A PNG: how many people were in each cluster, over time, and when clusters came or went."""
    sizes = con.execute(
        "select cluster_id, arg_max(cluster_name, as_of), list(as_of order by as_of), list(person_count order by as_of)"
        " from clusters.sizes where method = $1 group by cluster_id order by cluster_id",
        [method],
    ).fetchall()
    events = con.execute(
        "select as_of, event, cluster_id from clusters.events where method = $1 order by as_of, cluster_id", [method]
    ).fetchall()
    figure = Figure(figsize=(11, 4.6), dpi=100, layout="constrained")
    axes = figure.subplots()
    for place, (number, name, times, counts) in enumerate(sizes):
        label = textwrap.shorten(f"{number} {name}", 44, placeholder="…")
        colour, marker = _COLOURS[place % len(_COLOURS)], _MARKERS[place % len(_MARKERS)]
        axes.plot(times, counts, color=colour, marker=marker, markersize=4, label=label)
    first = min((times[0] for _, _, times, _ in sizes), default=None)
    for moment, event, number in events:
        if moment != first:  # at the beginning all are born
            axes.axvline(moment, color=_APART, linestyle=":", linewidth=1)
            axes.annotate(f"{event} {number}", (moment, 1), xycoords=("data", "axes fraction"), fontsize=8, rotation=90)
    axes.set(ylabel="people", ylim=(0, None))
    axes.set_title("Sizes of the clusters over time", loc="left", fontsize=13, fontweight="bold", color=_INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(axis="x", rotation=20)
    if sizes:
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, fontsize=9)
    return _png(figure)


def plot_profiles(report: ClusterReport, *, method: str = "kmeans") -> bytes:
    """A PNG: what sets each cluster apart, as bars of standard deviations from everybody."""
    found = report.method(method)
    if not found.cluster_count:
        return _png(_empty(report, found))
    shown = found.profiles[: len(_COLOURS)]
    columns = 3
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(13, 0.8 + 2.7 * rows), dpi=100, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[len(shown) :]:
        axes.axis("off")
    for place, (axes, profile) in enumerate(zip(grid.flat, shown, strict=False)):
        told = profile.differences[:6][::-1]
        names = [d.column.replace("_", " ") + (": missing" if d.is_missing else "") for d in told]
        axes.barh(names, [d.difference for d in told], color=_COLOURS[place])
        axes.axvline(0, color=_INK, linewidth=0.8)
        title = textwrap.shorten(f"{profile.cluster_id} {profile.cluster_name}", 40, placeholder="…")
        axes.set_title(f"{title} ({profile.person_count:,})", loc="left", fontsize=10)
        axes.tick_params(labelsize=8, length=0)
        axes.spines[["top", "right", "left"]].set_visible(False)
    figure.supxlabel("standard deviations from everybody", fontsize=9)
    return _png(figure)


def _empty(report: ClusterReport, found: MethodReport) -> Figure:
    figure = Figure(figsize=(9, 2.2), dpi=100)
    figure.text(0.04, 0.62, f"No clusters as of {report.as_of:%Y-%m-%d %H:%M} UTC", fontsize=14, fontweight="bold")
    figure.text(0.04, 0.2, "\n".join(textwrap.wrap(found.criterion, 90)), fontsize=11, color=_INK)
    return figure


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
