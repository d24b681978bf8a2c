"""The histogram of quality scores in the build report."""

import math

import numpy as np
from matplotlib.ticker import FuncFormatter, NullFormatter
from numpy.typing import NDArray

from datatools.text import score_text
from datatools.webpage import DASHES, add_legend, new_plot, svg

CHOSEN_COLOUR = "#1f5f99"
OTHER_COLOUR = "#c9c2b4"
CUT_COLOUR = "#b3261e"
BARS = 60
DECADES = 4  # of a logarithmic axis below the one of the highest score


def bar_edges(scores: NDArray[np.float64], cut: float | None, bars: int = BARS) -> NDArray[np.float64]:
    """Return edges of equally wide bars over the scores, one of them at `cut`, so that no bar mixes both of its sides.

    Far outliers do not stretch the axis, which is at most three times as wide as the middle 98 % of the scores: count
    them into the first and last bar.
    """
    first, last = np.quantile(scores, [0.01, 0.99])
    low, high = max(scores.min(), 2 * first - last), min(scores.max(), 2 * last - first)
    if not high > low:  # all scores equal, or all but a few
        low, high = first - 0.5, first + 0.5
    width = (high - low) / bars
    if cut is None or not low < cut < high:
        return np.linspace(low, high, bars + 1)
    below, above = math.ceil((cut - low) / width), math.ceil((high - cut) / width)
    return cut + width * np.arange(-below, above + 1)


def log_axis_start(scores: NDArray[np.float64]) -> float | None:
    """Return where a logarithmic axis for these scores begins; None where a linear one shows them better.

    That is where half of them would crowd into the first tenth of a linear axis; no score may be negative.
    """
    if scores.min() < 0 or not np.median(scores) < 0.1 * np.quantile(scores, 0.99):
        return None
    return float(10.0 ** (math.floor(math.log10(scores.max())) - DECADES))


def score_histogram(
    chosen: NDArray[np.float64], others: NDArray[np.float64], cut: float | None, width: int, height: int
) -> tuple[bytes, int]:
    """Draw finite scores of the chosen and of the other photos as stacked bars.

    Args:
        chosen, others: (n,) finite scores; at least one in either. cut: score to mark, or None.
        width, height: CSS pixels of the plot.
    Returns: an SVG file, and how many scores lie outside the axis and were counted in the first or last bar; not those
        below `log_axis_start`, which the first bar of a logarithmic axis is for.
    """
    scores = np.concatenate([chosen, others])
    start = log_axis_start(scores)
    figure, axes = new_plot(width, height)
    if start is None:
        edges = bar_edges(scores, cut)
    else:
        chosen, others, scores = (np.maximum(part, start) for part in (chosen, others, scores))
        edges = 10 ** bar_edges(np.log10(scores), None if cut is None else math.log10(max(cut, start)))
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    if cut is not None:
        label = f"cut at {score_text(cut)}"
        axes.axvline(max(cut, start or cut), color=CUT_COLOUR, linestyle=DASHES, linewidth=1.3, label=label)
    parts = [(chosen, CHOSEN_COLOUR, "chosen"), (others, OTHER_COLOUR, "not chosen")]
    parts = [(part, colour, f"{name} ({len(part):,})") for part, colour, name in parts if len(part)]
    inside = [np.clip(part, edges[0], edges[-1]) for part, _, _ in parts]
    colours, labels = [colour for _, colour, _ in parts], [label for *_, label in parts]
    axes.hist(inside, edges.tolist(), stacked=True, color=colours, label=labels, linewidth=0)
    axes.set_xlim(edges[0], edges[-1])
    axes.set_xlabel("quality score" if start is None else "quality score, logarithmic")
    axes.set_ylabel("photos")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value == round(value) else ""))
    add_legend(figure)
    slack = 1e-6 * (edges[1] - edges[0])  # the edges are rounded
    return svg(figure), int(np.count_nonzero((scores < edges[0] - slack) | (scores > edges[-1] + slack)))
