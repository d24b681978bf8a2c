"""Draw the curves of the report page as SVG, shaded where a level fades in, with the levels named along the top."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogFormatter
from numpy.typing import NDArray

from datatools.webpage import DASHES, INK, SOFT, PageFigure, Picture, add_legend, data_uri, new_plot, svg
from pggan.config.schedule import Stage
from pggan.report.data import Stats, levels_of

# Of nearly equal weight on white, and distinct for colour-blind readers.
COLOURS = ("#1f5f99", "#d1600c", "#5a5a5f", "#2e8b6f", "#a33c8f", "#b8930b", "#58a6d6", "#7a1f1f")
SHADE = "#e9e4d8"
WIDTH, HEIGHT = 544, 300  # CSS pixels: two charts fit next to each other on the page
FEW = 40  # up to so many points get a marker each: a single one has no line
NARROW = 0.045  # part of the axis below which a level has no room for its name
AVERAGE, REALS = "average", "reals"  # labels of curves


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
    """Return the ends of an axis, at most three times as long as the middle 96 % of the values: outliers are cut."""
    first, last = np.quantile(values, [0.02, 0.98])
    low, high = max(values.min(), 2 * first - last), min(values.max(), 2 * last - first)
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 0.5
    return float(low - margin), float(high + margin)


def draw(
    lines: Sequence[Line],
    phases: Sequence[Stage],
    *,
    logarithmic: bool = False,
    from_zero: bool = False,
    mark: float | None = None,
) -> bytes:
    """Return curves over kimg as an SVG file, the same bytes for the same arguments.

    Args:
        lines: with at least one finite value. phases: of the whole schedule.
        mark: value to mark by a dashed line.
    """
    figure, axes = new_plot(WIDTH, HEIGHT)
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
    for line, colour in zip(lines, itertools.cycle(COLOURS), strict=False):
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
    axes.set_xlabel("kimg")
    if len(lines) > 1:
        add_legend(figure)
    return svg(figure)


def _show_phases(axes: Axes, phases: Sequence[Stage], end: float) -> None:
    """Shade what fades in, and name each level where its stretch begins."""
    named = 0
    for phase in phases:
        first = phase.first_image / 1000
        if first >= end:
            break
        if phase.fading:
            axes.axvspan(first, min(phase.end_image / 1000, end), color=SHADE, linewidth=0, zorder=0)
        if phase.resolution != named:
            named = phase.resolution
            last = max(p.end_image for p in phases if p.resolution == named) / 1000
            if min(last, end) - first > NARROW * end:
                axes.annotate(
                    str(named),
                    (first, 1.0),
                    (1, 3),
                    xycoords=axes.get_xaxis_transform(),
                    textcoords="offset points",
                    fontsize=8,
                    color=SOFT,
                )


def contributions(stats: Stats) -> list[Line]:
    """Return the share of each resolution in the pictures in per cent, the lowest resolution first."""
    levels = sorted((name for name in stats.names("rgb_std") if name.isdecimal()), key=int)
    found = {name: stats.series("rgb_std", name) for name in levels}
    if len({len(kimg) for kimg, _ in found.values()}) != 1:  # none, or lines that were damaged
        return []
    total = sum(values for _, values in found.values())
    with np.errstate(invalid="ignore", divide="ignore"):  # 0 / 0 before anything was learned: no point
        return [Line(name, kimg, 100 * values / total) for name, (kimg, values) in found.items()]


def charts(
    stats: Stats, phases: Sequence[Stage], gradient_target: float | None, ada_target: float | None = None
) -> list[PageFigure]:
    """Return curves of everything that stats.jsonl has numbers of.

    gradient_target: what WGAN-GP's penalty pulls the gradient's norm to, None without it.
    ada_target: what ADA pulls r_t to, None without it.
    """

    def chart(title: str, caption: str, group: str, labels: dict[str, str], **options: Any) -> None:
        add(
            title,
            caption,
            [
                Line(
                    label,
                    *stats.series(group, name),
                    strong=label == AVERAGE,
                    soft=label == REALS and group == "metrics",
                )
                for name, label in labels.items()
            ],
            **options,
        )

    def add(title: str, caption: str, lines: list[Line], **options: Any) -> None:
        several = len(lines) > 1
        lines = [line for line in lines if len(line.finite)]
        if not lines:
            return
        last = ", ".join(f"{line.label}: " * several + f"{line.finite[-1]:.4g}" for line in lines)
        plot = data_uri(draw(lines, phases, **options), "svg+xml")
        picture = Picture(plot, WIDTH, HEIGHT, f"{title} over kimg; last: {last}")
        figures.append(PageFigure(title, f"{caption}. Last: {last}.", (picture,)))

    figures: list[PageFigure] = []
    caption = "discriminator (D) and generator (G), as they are minimized"
    chart("Loss", caption, "loss", {"d_loss": "D", "g_loss": "G"})
    caption = "mean output of the discriminator; mixed images lie between a real image and a fake"
    chart("Scores", caption, "loss", {"real_score": "reals", "fake_score": "fakes", "mixed_score": "mixed"})
    caption = "norm of the gradient of each network's loss by its weights"
    chart("Gradients", caption, "loss", {"d_gradient": "D", "g_gradient": "G"}, logarithmic=True)
    caption = "of the score by the mixed image; the penalty pulls it to the dashed line"
    chart("Norm of the gradient", caption, "loss", {"gradient_norm": "norm"}, mark=gradient_target)
    caption = "penalties as they are added to the losses: R1 of the discriminator, path length of the generator"
    chart("Regularizers", caption, "loss", {"r1": "R1", "path_penalty": "path length"}, logarithmic=True)
    caption = "how far images move when w does, a mean"
    chart("Path length", caption, "loss", {"path_length": "length"})
    caption = (
        "per cent; the deviation of the pixel values that each level's toRGB adds, as a part of the sum over all levels"
    )
    add("Contribution of each resolution", caption, contributions(stats), from_zero=True)
    caption = "r_t: how surely the discriminator tells reals from fakes, from 0 (not at all) to 1 (always)"
    if ada_target is not None:
        caption += "; ADA's strength p rises while r_t is above the dashed line"
    chart("Augmentation", caption, "loss", {"r_t": "r_t", "augment_p": "p"}, mark=ada_target, from_zero=True)

    names = stats.names("metrics")
    swd = {f"swd_{level}": str(level) for level in levels_of(names, "swd")} | {"swd": AVERAGE, "swd_floor": REALS}
    caption = (
        "sliced Wasserstein distance of patches, times 1000, at the levels of a Laplacian pyramid; lower is better"
    )
    if len(Line(REALS, *stats.series("metrics", "swd_floor")).finite):
        caption += ". Dashed: the average of reals among themselves"
    chart("SWD", caption, "metrics", swd, from_zero=True)
    similarity = {"ms_ssim": "fakes", "ms_ssim_reals": REALS}
    chart("MS-SSIM", "similarity within a set; values near 1 mean mode collapse", "metrics", similarity)
    shown = {*swd, *similarity, *(f"swd_floor_{level}" for level in levels_of(names, "swd_floor"))}
    for name in names:
        if name not in shown:
            chart(name, "as in stats.jsonl", "metrics", {name: name})
    return figures
