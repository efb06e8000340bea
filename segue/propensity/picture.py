"""How good a model is, and where people go next, as pictures."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_BLUE, _GREY, _ORANGE, _INK = "#0072B2", "#999999", "#E69F00", "#222222"


def plot_quality(metrics: Mapping[str, Any], *, title: str) -> bytes:
    """A PNG of a backtest: calibration, lift by tenth, AUC by date.

    Args:
        metrics: as in `propensity.versions`.
    """
    figure = Figure(figsize=(13, 4.4), dpi=100, layout="constrained")
    calibration, lift, dates = figure.subplots(1, 3)
    figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold", color=_INK)
    told = metrics["tenths"]
    scores, rates = [t["mean_score"] for t in told], [t["rate"] for t in told]
    top = max([*scores, *rates, 0.05]) * 1.08
    calibration.plot([0, top], [0, top], color=_GREY, linestyle="--", linewidth=1, label="as promised")
    calibration.plot(scores, rates, color=_BLUE, marker="o", label="a tenth of the examples")
    calibration.set(xlabel="probability that was said", ylabel="share it happened to", xlim=(0, top), ylim=(0, top))
    error = metrics["model"]["calibration_error"]
    calibration.set_title(f"Calibration (expected error {error:.3f})", loc="left", fontsize=11)
    calibration.legend(frameon=False, fontsize=9)
    places = range(1, len(told) + 1)
    lift.bar(places, [t["lift"] for t in told], color=_BLUE)
    lift.axhline(1, color=_GREY, linestyle="--", linewidth=1)
    lift.set(xlabel="tenth of examples, highest scores first", ylabel="times everybody's share", xticks=list(places))
    lift.set_title("Lift", loc="left", fontsize=11)
    by_date = metrics["by_date"]
    at = range(len(by_date))
    dates.plot(at, [pair[0] for pair in by_date], color=_BLUE, marker="o", label="model")
    dates.plot(at, [pair[1] for pair in by_date], color=_ORANGE, marker="s", label="recency alone")
    dates.set_xticks(list(at), metrics["dates"], rotation=30, ha="right", fontsize=8)
    dates.set(ylabel="AUC", ylim=(0.4, 1.0))
    dates.set_title("On each past date", loc="left", fontsize=11)
    dates.legend(frameon=False, fontsize=9)
    for axes in (calibration, lift, dates):
        axes.spines[["top", "right"]].set_visible(False)
    return _png(figure)


def plot_changes(names: Sequence[str], matrix: Sequence[Sequence[float | None]], *, title: str) -> bytes:
    """A PNG of probabilities from each segment (row) to each other one (column)."""
    if not names:
        figure = Figure(figsize=(8, 1.6), dpi=100)
        figure.text(0.04, 0.4, "Too few stays in segments to say where they lead.", fontsize=12, color=_INK)
        return _png(figure)
    side = 2.6 + 0.42 * len(names)
    figure = Figure(figsize=(side + 2, side), dpi=100, layout="constrained")
    axes = figure.subplots()
    values = [[float("nan") if v is None else v for v in row] for row in matrix]
    axes.imshow(values, cmap="Blues", vmin=0, vmax=1)
    for row, line in enumerate(matrix):
        for column, value in enumerate(line):
            if value is not None:
                ink = "white" if value > 0.6 else _INK
                axes.text(column, row, f"{100 * value:.0f}", ha="center", va="center", fontsize=8, color=ink)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="left", fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_ylabel("from")
    axes.set_title(title, loc="left", fontsize=11, pad=12)
    return _png(figure)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
