"""How fast images come from the pyramid, against what training can use and against plain reads of the same bytes.

    python benchmarks/loader.py --h5 celebahq.h5
    python benchmarks/loader.py                      # a made-up file, with levels up to 1024 x 1024

Prints for every level the loader's images per second over those that one training step of the paper's network uses
on this machine's processors (measured where a step is quick, else from its multiplications), and for the largest
level the loader's bytes per second over numpy.fromfile's for the same images in the same order, without threads and
with --workers of them. All read from a warm page cache, keep no minibatch while they read the next one, and take
turns; the medians count.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.rows import Row, show
from datatools.pyramid import Provenance, PyramidWriter
from pggan.config.presets import get_preset
from pggan.data.stream import Batch, Order, Request, Source, stream
from pggan.precision import PrecisionName, computes
from pggan.training.plan import make_plan

REPEATS = 15


def write_sample(path: Path, count: int, resolution: int) -> None:
    """A pyramid of noise: contents do not matter to an uncompressed file."""
    rng = np.random.default_rng(1)
    with PyramidWriter(path, count, resolution=resolution) as writer:
        for index in range(count):
            face = rng.integers(0, 256, (resolution, resolution, 3), dtype=np.uint8)
            quad, landmarks = np.zeros((4, 2)), np.zeros((5, 2))
            writer.append(face, Provenance(f"{index}.png", "0" * 32, 0.0, index, -1, quad, landmarks))


def wanted(resolution: int, images: int, minibatch: int) -> Iterator[Request]:
    for start in range(0, images - minibatch + 1, minibatch):
        yield Request(resolution, np.arange(start, start + minibatch))


def image_count(batch: Batch) -> int:
    return len(batch.images)


def loader_rate(
    source: Source, resolution: int, images: int, minibatch: int, workers: int, memory: int | None
) -> float:
    """Images per second; with `memory` None the first batch is left out, which may read the whole level."""
    order = Order(0, source.count, True)
    batches = stream(source, order, wanted(resolution, images, minibatch), workers=workers, memory_bytes=memory)
    if memory is None:
        next(batches)
    start = time.perf_counter()
    count = sum(map(image_count, batches))
    return count / (time.perf_counter() - start)


def plain_rate(path: Path, source: Source, resolution: int, images: int, minibatch: int) -> float:
    """Images per second of numpy.fromfile, one after the other in the loader's order, a minibatch of them kept."""
    stored = source.pyramid.handles().levels[resolution]
    assert stored.offset is not None, "the file is compressed: there are no plain reads to compare with"
    indices, _ = Order(0, source.count, True).at(np.arange(images))
    size = 3 * resolution**2
    start = time.perf_counter()
    with path.open("rb", buffering=0) as file:
        for first in range(0, images, minibatch):
            batch = []
            for index in indices[first : first + minibatch].tolist():
                file.seek(stored.offset + index * size)
                batch.append(np.fromfile(file, np.uint8, size))
    return images / (time.perf_counter() - start)


def median_rates(path: Path, source: Source, images: int, minibatch: int, workers: int) -> tuple[float, float, float]:
    """(plain reads, loader without threads, loader with them) at the largest level, measured in turn."""
    top = source.resolution
    rounds = [
        (
            plain_rate(path, source, top, images, minibatch),
            loader_rate(source, top, images, minibatch, 0, 0),
            loader_rate(source, top, images, minibatch, workers, 0),
        )
        for _ in range(REPEATS)
    ]
    plain, loader, ahead = (statistics.median(rates) for rates in zip(*rounds, strict=True))
    return plain, loader, ahead


def measure(h5: Path | None = None, images: int = 128, workers: int = 2, threads: int = 2) -> Iterator[Row]:
    """Yield the loader's speed over that of training steps, by level, and over plain reads of the largest level."""
    torch.set_num_threads(threads)
    cpu = torch.device("cpu")
    with tempfile.TemporaryDirectory() as folder:
        path = h5 or Path(folder) / "sample.h5"
        if h5 is None:
            write_sample(path, images, 1024)
        source = Source(path)
        preset = get_preset("celebahq-v2").with_resolution(source.resolution)
        precision: PrecisionName = "bf16" if computes("bf16", cpu) else "fp32"
        plan = make_plan(preset, cpu, precision, threads)
        for resolution, level in plan.levels.items():
            minibatch = min(level.at_once, 16)
            count = min(4096, max(256, (256 << 20) // (3 * resolution**2))) // minibatch * minibatch
            rate = loader_rate(source, resolution, count, minibatch, workers, None)
            how = "measured" if level.measured else "estimated"
            what = f"{rate:.0f} images/s of the loader over {1 / level.seconds:.3g} of the training step ({how})"
            yield Row(f"loader_{resolution}", rate * level.seconds, what)
        top = source.resolution
        plain, loader, ahead = median_rates(path, source, min(512, 4 * source.count), 4, workers)
        what = f"{loader:.0f} images/s without threads over {plain:.0f} of numpy.fromfile"
        yield Row(f"loader_reads_{top}", loader / plain, what)
        what = f"{ahead:.0f} images/s through {workers} threads over {plain:.0f} of numpy.fromfile"
        yield Row(f"loader_ahead_{top}", ahead / plain, what)


@click.command(help=__doc__)
@click.option("--h5", type=click.Path(path_type=Path), help="A pyramid; without one, a made-up file.")
@click.option("--images", default=128, show_default=True, help="Images of a made-up file.")
@click.option("--workers", default=2, show_default=True)
@click.option("--threads", default=2, show_default=True)
def main(h5: Path | None, images: int, workers: int, threads: int) -> None:
    show(measure(h5, images, workers, threads))


if __name__ == "__main__":
    main()
