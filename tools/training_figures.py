"""The pictures of docs/results/training.md, from a run folder of the trainer.

python tools/training_figures.py RUN docs/images --name faces-32 --kimg 20,60,111,166,227
"""

import argparse
import itertools
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from datatools.images import read_rgb, save_png
from pggan.media.video import snapshots
from pggan.report.data import read_stats

ACROSS = 7
"""Pictures of each grid that are shown, in either direction."""
PIXEL = 2
"""Side of a pixel in the figure."""
CAPTION = 26
"""Pixels for a line of text above each grid."""


def excerpt(path: Path, side: int, caption: str, across: int = ACROSS) -> NDArray[np.uint8]:
    """The upper left of a grid, enlarged, with a line of text above."""
    part = read_rgb(path)[: across * side, : across * side]
    large = part.repeat(PIXEL, axis=0).repeat(PIXEL, axis=1)
    head = np.full((CAPTION, large.shape[1], 3), 255, np.uint8)
    cv2.putText(head, caption, (4, CAPTION - 8), cv2.FONT_HERSHEY_SIMPLEX, 0.55, (0, 0, 0), 1, cv2.LINE_AA)
    return np.concatenate([head, large])


def grids(run: Path, kimg: list[int], side: int) -> NDArray[np.uint8]:
    """Grids after about so many kimg, and the reals, three to a row."""
    found = snapshots(run)
    nearest = [min(found, key=lambda snapshot: abs(snapshot[0] - k)) for k in kimg]
    parts = [excerpt(path, side, f"{k:.0f} kimg") for k, path in nearest]
    parts.append(excerpt(run / "reals.png", side, "real"))
    return in_rows(parts, 3)


def in_rows(parts: list[NDArray[np.uint8]], count: int) -> NDArray[np.uint8]:
    """Pictures of one size, so many to a row; white where there are none."""
    gap = np.full((parts[0].shape[0], 12, 3), 255, np.uint8)
    rows = []
    for start in range(0, len(parts), count):
        row = parts[start : start + count]
        row += [np.full_like(parts[0], 255)] * (count - len(row))
        apart = [piece for part in row for piece in (part, gap)][:-1]
        rows.append(np.concatenate(apart, axis=1))
    return np.concatenate(rows)


def curves(run: Path) -> Figure:
    """Losses, scores, gradient norm, memory and, where it was measured, the sliced Wasserstein distance."""
    lines = read_stats(run / "stats.jsonl").rows
    rows = [line for line in lines if "loss" in line]
    measured = [line for line in lines if "metrics" in line]
    kimg = [row["images"] / 1000 for row in rows]
    figure = Figure(figsize=(9, 9.5 if measured else 6.5), layout="constrained")
    axes = figure.subplots(3 if measured else 2, 2)
    for name, label in (("real_score", "real"), ("fake_score", "fake"), ("mixed_score", "mixed")):
        axes[0, 0].plot(kimg, [row["loss"][name] for row in rows], label=label)
    axes[0, 0].set_title("the discriminator's scores")
    distance = [row["loss"]["real_score"] - row["loss"]["fake_score"] for row in rows]
    axes[0, 1].plot(kimg, distance, label="real - fake")
    axes[0, 1].set_title("estimated Wasserstein distance")
    for name, label in (("gradient_norm", "norm"), ("gradient_penalty", "penalty")):
        axes[1, 0].plot(kimg, [row["loss"][name] for row in rows], label=label)
    axes[1, 0].set_title("gradient between reals and fakes")
    axes[1, 1].plot(kimg, [row["memory"]["process_peak"] / 2**20 for row in rows], label="peak of the process")
    axes[1, 1].set_title("memory (MiB)")
    axes[1, 1].set_ylim(bottom=0)
    if measured:
        draw_measures(axes[2], measured)
    for axis in axes[:2].flat:
        for before, after in itertools.pairwise(rows):
            if after["resolution"] != before["resolution"]:
                axis.axvline(after["images"] / 1000, color="0.8", zorder=0)
    for axis in axes.flat:
        axis.set_xlabel("kimg")
        if axis.has_data():
            axis.legend()
    return figure


def draw_measures(axes: NDArray[np.object_], measured: list[dict[str, Any]]) -> None:
    """Draw the mean distance and MS-SSIM of the fakes, each with that of the reals."""
    kimg = [line["images"] / 1000 for line in measured]
    for axis, ours, reals, title in (
        (axes[0], "swd", "swd_floor", "sliced Wasserstein distance (average, x 1000)"),
        (axes[1], "ms_ssim", "ms_ssim_reals", "MS-SSIM among the pictures"),
    ):
        axis.set_title(title)
        if not any(ours in line["metrics"] for line in measured):
            continue
        axis.plot(kimg, [line["metrics"].get(ours, np.nan) for line in measured], "o-", label="fakes")
        axis.plot(kimg, [line["metrics"].get(reals, np.nan) for line in measured], "--", label="reals")
        axis.set_ylim(0, 1.15 * axis.get_ylim()[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--name", required=True)
    parser.add_argument("--kimg", required=True, help="when the grids were made, with commas")
    arguments = parser.parse_args()
    side = int(read_stats(arguments.run / "stats.jsonl").rows[-1]["resolution"])
    chosen = [int(k) for k in arguments.kimg.split(",")]
    save_png(arguments.out / f"{arguments.name}-grids.png", grids(arguments.run, chosen, side))
    curves(arguments.run).savefig(arguments.out / f"{arguments.name}-curves.png", dpi=100)


if __name__ == "__main__":
    main()
