"""How much faster than the exact procedure faces are made, and how near to it they are.

    python benchmarks/crop.py --celeba-dir CelebA --limit 30

Both ways run in turn on the same photos, on one core, decoding included; the exact one is
`datatools/faces/reference.py`.
"""

import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.rows import Row, seconds, show
from datatools.cli import OneLineCommand
from datatools.faces.recipe import make_face, reduce_face
from datatools.faces.reference import reference_face
from datatools.faces.resample import FINAL_FILTERS, FinalFilter
from datatools.images import ImageError, read_bytes
from datatools.parallel import reuse_freed_memory
from datatools.restore import get_restorer
from datatools.sources.celeba import read_tree
from datatools.sources.records import FaceRecord

TARGETS = {"plain": (53, 46), "padded": (50, 38)}  # mean and worst PSNR in dB that we promise
FAST_RUNS = 3  # the fast way is short: the median of some runs


@dataclass(frozen=True)
class Comparison:
    """One photo both ways: seconds, decibels at 256 x 256 and at 1024 x 1024, and the difference of the means."""

    file_name: str
    padded: bool
    exact_seconds: float
    fast_seconds: float
    psnr_256: float
    psnr_1024: float
    bias: float


def psnr(a: NDArray[Any], b: NDArray[Any]) -> float:
    error = np.mean((a.astype(np.float64) - b) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def compare(record: FaceRecord, final_filter: FinalFilter) -> Comparison:
    restorer = get_restorer("none")

    def exact() -> NDArray[np.uint8]:
        return reference_face(read_bytes(record.path), record.landmarks, final_filter).face

    def fast() -> NDArray[np.uint8]:
        return make_face(read_bytes(record.path), record.landmarks, restorer, final_filter=final_filter).face

    result = make_face(read_bytes(record.path), record.landmarks, restorer, final_filter=final_filter)
    start = time.perf_counter()
    expected = exact()
    exact_seconds = time.perf_counter() - start
    return Comparison(
        record.file_name,
        result.frame.padded,
        exact_seconds,
        statistics.median(seconds(fast) for _ in range(FAST_RUNS)),
        psnr(reduce_face(result.face, 256), reduce_face(expected, 256)),
        psnr(result.face, expected),
        float(result.face.mean() - expected.mean()),
    )


def measure(celeba_dir: Path, limit: int, final_filter: FinalFilter = "lanczos") -> Iterator[Row]:
    """Yield how much faster and how exact faces are, with and without padding; photos that are none are left out."""
    cv2.setNumThreads(1)
    reuse_freed_memory()  # as the pipeline's workers do
    records = read_tree(celeba_dir).records
    results = []
    for record in tqdm(records[:: -(-len(records) // limit)], unit="photo", disable=None, leave=False):
        with suppress(ImageError):
            results.append(compare(record, final_filter))
    for name, padded in (("plain", False), ("padded", True)):
        group = [r for r in results if r.padded == padded]
        if not group:
            continue
        exact = statistics.fmean(r.exact_seconds for r in group)
        fast = statistics.fmean(r.fast_seconds for r in group)
        what = f"exact {exact:.3f} s per photo over fast {fast * 1e3:.1f} ms, {len(group)} photos"
        yield Row(f"crop_{name}", exact / fast, what)
        mean, worst = statistics.fmean(r.psnr_256 for r in group), min(r.psnr_256 for r in group)
        for figure, found, target in zip(("mean", "worst"), (mean, worst), TARGETS[name], strict=True):
            what = f"{figure} PSNR at 256 x 256 ({found:.2f} dB) over {target} dB"
            yield Row(f"crop_{name}_psnr_{figure}", found / target, what)
        full, bias = (statistics.fmean(values) for values in zip(*((r.psnr_1024, r.bias) for r in group), strict=True))
        what = f"mean PSNR at 1024 x 1024 in dB; mean difference {bias:+.3f} grey levels"
        yield Row(f"crop_{name}_psnr_1024", full, what)


@click.command(cls=OneLineCommand)
@click.option("--celeba-dir", type=click.Path(path_type=Path), required=True, help="CelebA's folder")
@click.option("--limit", type=click.IntRange(1), default=60, show_default=True, help="photos, evenly spread")
@click.option("--final-filter", type=click.Choice(FINAL_FILTERS), default="lanczos", show_default=True)
def main(celeba_dir: Path, limit: int, final_filter: FinalFilter) -> None:
    """Time and compare faces made the exact and the fast way."""
    show(measure(celeba_dir, limit, final_filter))


if __name__ == "__main__":
    main()
