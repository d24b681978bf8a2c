"""Curves of the report page, as SVG: shaded where a level fades in, with the levels named along the top."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter
from numpy.typing import NDArray

from pggan.report.data import Phase

# Of nearly equal weight on white, told apart by eyes that see red and green alike.
COLOURS = ("#1f5f99", "#d1600c", "#5a5a5f", "#2e8b6f", "#a33c8f", "#b8930b", "#58a6d6", "#7a1f1f")
SHADE, INK, SOFT = "#e9e4d8", "#1d1d1f", "#5c5c61"
DASHES = (0, (4, 3))
WIDTH, HEIGHT = 544, 300  # CSS pixels: two charts beside each other on the page
FEW = 40  # points that are marked each: a single one has no line
NARROW = 0.045  # part of the axis below which a level has no room for its name


@dataclass(frozen=True)
class Line:
    """A curve: kimg and values, each (n,). `strong`: drawn thicker than the others; `soft`: dashed, to compare with."""

    label: str
    kimg: NDArray[np.float64]
    values: NDArray[np.float64]
    strong: bool = False
    soft: bool = False

    @property
    def finite(self) -> NDArray[np.float64]:
        return self.values[np.isfinite(self.values)]


def limits(values: NDArray[np.float64]) -> tuple[float, float]:
    """Ends of an axis, at most three times as long as the middle 96 % of the values: far ones leave the picture."""
    first, last = np.quantile(values, [0.02, 0.98])
    low, high = max(values.min(), 2 * first - last), min(values.max(), 2 * last - first)
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 0.5
    return float(low - margin), float(high + margin)


def draw(
    lines: Sequence[Line],
    phases: Sequence[Phase],
    *,
    logarithmic: bool = False,
    from_zero: bool = False,
    mark: float | None = None,
) -> str:
    """SVG of curves over kimg, the same for the same arguments.

    Args:
        lines: with at least one finite value. phases: of the whole schedule.
        mark: value to mark by a dashed line.
    """
    dots = 96.0
    figure = Figure(figsize=(WIDTH / dots, HEIGHT / dots), dpi=dots, layout="constrained")
    axes = figure.add_subplot()
    values = np.concatenate([line.finite for line in lines])
    end = max(float(line.kimg.max()) for line in lines)
    axes.set_xlim(0, end * 1.02 or 1.0)
    if logarithmic and values.min() > 0:
        axes.set_yscale("log")
        for axis_part in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
            axis_part(LogFormatter(minor_thresholds=(1.5, 0.5)))
    else:
        low, high = limits(values if mark is None else np.append(values, mark))
        axes.set_ylim(min(0.0, low) if from_zero else low, high)
    _show_phases(axes, phases, end)
    if mark is not None:
        axes.axhline(mark, color=SOFT, linewidth=1, linestyle=DASHES)
    for line, colour in zip(lines, COLOURS * (1 + len(lines) // len(COLOURS)), strict=False):
        axes.plot(
            line.kimg,
            line.values,
            color=INK if line.strong else SOFT if line.soft else colour,
            linewidth=2.2 if line.strong else 1.4,
            linestyle=DASHES if line.soft else "-",
            marker="o" if len(line.finite) <= FEW else None,
            markersize=2.8,
            label=line.label,
        )
    axes.set_xlabel("kimg", color=SOFT)
    axes.tick_params(which="both", colors=SOFT, labelsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#b5b1a8")
    if len(lines) > 1:
        figure.legend(loc="outside upper left", ncols=4, frameon=False, fontsize=9, handlelength=1.3, columnspacing=1.2)
    stream = io.StringIO()
    # A fixed salt and no date: the same numbers give the same file.
    with matplotlib.rc_context({"svg.hashsalt": "run"}):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    return stream.getvalue()


def _show_phases(axes: Axes, phases: Sequence[Phase], end: float) -> None:
    """Shades what fades in, names each level where its stretch begins."""
    named = 0
    for phase in phases:
        if phase.first >= end:
            break
        if phase.fading:
            axes.axvspan(phase.first, min(phase.end, end), color=SHADE, linewidth=0, zorder=0)
        if phase.resolution != named:
            own = [p.end for p in phases if p.resolution == phase.resolution]
            if min(max(own), end) - phase.first > NARROW * end:
                axes.annotate(
                    str(phase.resolution),
                    (phase.first, 1.0),
                    (1, 3),
                    xycoords=axes.get_xaxis_transform(),
                    textcoords="offset points",
                    fontsize=8,
                    color=SOFT,
                )
            named = phase.resolution
