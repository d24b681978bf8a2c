"""How much faster the measures are than the papers' formulations in NumPy and SciPy, and how much memory they need.

    python benchmarks/metrics.py [--images 2048] [--resolution 128] [--threads 2]
    python benchmarks/metrics.py --device cuda --images 16384 --resolution 256

SWD of two sets of made-up pictures, from bytes to the distances of all levels, and MS-SSIM within one of them; the
plain formulations are those of tests/support/metrics_reference.py: in float64 as the tests use it, and in float32. Ways
take turns in one process; of several --repeats the fastest counts. Memory: peak of a process of its own, and what the
paper's 16,384 images of 1024 x 1024 pixels need, by computation.
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.rows import Row, seconds, show
from datatools.text import counted
from pggan.metrics.ms_ssim import ms_ssim
from pggan.metrics.swd import BLOCK_BYTES, VALUES, Descriptors, levels, swd
from tests.support import metrics_reference as reference

BATCH = 64
PAPER = 16_384, 1024, 128
"""Images, their side, patches per image."""
PEAK = """
import sys
sys.path.insert(0, sys.argv[5])
from pathlib import Path
import numpy as np
import torch
from benchmarks.rows import peak_bytes
from pggan.metrics.swd import Descriptors, swd
count, size, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
torch.set_num_threads(int(sys.argv[4]))
print(peak_bytes())
rng = np.random.default_rng(0)
with Descriptors(count, size, 1, folder=folder) as first, Descriptors(count, size, 2, folder=folder) as second:
    for gathered in (first, second):
        for start in range(0, count, 16):
            gathered.add(rng.integers(0, 256, (min(16, count - start), 3, size, size), dtype=np.uint8))
    print(peak_bytes())
    swd(first, second, 3, repeats=1, directions=8)
print(peak_bytes())
"""

Bytes = NDArray[np.uint8]


def made_up(count: int, size: int, seed: int) -> Bytes:
    parts = [
        reference.clouds(min(256, count - start), size, 1000 * seed + start, 1 + 0.1 * seed)
        for start in range(0, count, 256)
    ]
    return np.concatenate(parts)


def our_swd(a: Bytes, b: Bytes, device: str = "cpu") -> dict[int, float]:
    size = a.shape[2]
    with Descriptors(len(a), size, 1, device=device) as first, Descriptors(len(b), size, 2, device=device) as second:
        for images, gathered in ((a, first), (b, second)):
            for start in range(0, len(images), BATCH):
                gathered.add(images[start : start + BATCH])
        return swd(first, second, 3)


def our_ms_ssim(images: Bytes) -> float:
    return float(ms_ssim(images[0::2], images[1::2]).mean())


def plain_ms_ssim(images: Bytes) -> float:
    parts = [images[start : start + BATCH] for start in range(0, len(images), BATCH)]
    return float(np.concatenate([reference.ms_ssim(part[0::2], part[1::2]) for part in parts]).mean())


def compare(name: str, what: str, ways: dict[str, Callable[[], object]], repeats: int) -> Iterator[Row]:
    """Yield the plain ways' seconds over those of the way named `ours`."""
    wall: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(repeats):
        for way, run in ways.items():
            wall[way].append(seconds(run))
    ours = min(wall.pop("ours"))
    for way, taken in wall.items():
        yield Row(f"{name}_{way}", min(taken) / ours, f"plain, {min(taken):.1f} s, over ours, {ours:.1f} s: {what}")


def seconds_on(images: int, resolution: int, device: str, repeats: int) -> Row:
    """Return the seconds of SWD on a device, where the plain formulation would take hours."""
    a, b = made_up(images, resolution, 1), made_up(images, resolution, 2)
    our_swd(a[:BATCH], b[:BATCH], device)  # so that starting the device is not counted
    taken = min(seconds(lambda: our_swd(a, b, device)) for _ in range(repeats))
    return Row("swd_seconds", taken, f"seconds, 2 x {images} images of {resolution} x {resolution} on {device}")


def memory(threads: int) -> Iterator[Row]:
    """Yield the peak of a process that measures few pictures, and the sum for the paper's number of them."""
    count, size, patches = PAPER
    few = 64
    with tempfile.TemporaryDirectory() as folder:
        root = str(Path(__file__).resolve().parent.parent)
        command = [sys.executable, "-c", PEAK, str(few), str(size), folder, str(threads), root]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    imported, gathered, whole = (int(line) for line in done.stdout.split())
    what = f"GB, peak of {few} images of {size} x {size}; {gathered / 1e9:.2f} GB gathering"
    yield Row("swd_memory_few", whole / 1e9, what)
    level = 2 * 4 * VALUES * count * patches
    # A row of either set is projected, sorted in place and subtracted in place; no more is held than a block of them.
    total = max(imported + level + BLOCK_BYTES, gathered)
    what = (
        f"GB for 2 x {count} images of {size} x {size} by computation: {imported / 1e9:.2f} libraries, "
        f"{level / 1e9:.2f} descriptors, {BLOCK_BYTES / 1e9:.2f} projections; "
        f"{level * len(levels(size)) / 1e9:.1f} GB of temporary files"
    )
    yield Row("swd_memory", total / 1e9, what)


def measure(
    images: int = 2048,
    resolution: int = 128,
    threads: int = 2,
    repeats: int = 1,
    only: str | None = None,
    device: str = "cpu",
) -> Iterator[Row]:
    """Yield the plain formulations' seconds over ours, and memory; on another device than the CPU, seconds of SWD."""
    torch.set_num_threads(threads)
    if device != "cpu":
        yield seconds_on(images, resolution, device, repeats)
        return
    a, b = made_up(images, resolution, 1), made_up(images, resolution, 2)
    what = f"{images} images of {resolution} x {resolution}, {counted(threads, 'thread')}"
    if only in (None, "swd"):
        ways: dict[str, Callable[[], object]] = {
            "ours": lambda: our_swd(a, b),
            "float32": lambda: reference.swd(a, b, 3, dtype=np.float32),
            "float64": lambda: reference.swd(a, b, 3),
        }
        yield from compare("swd", f"2 x {what}", ways, repeats)
    if only in (None, "ms-ssim"):
        ways = {"ours": lambda: our_ms_ssim(a), "float64": lambda: plain_ms_ssim(a)}
        yield from compare("ms_ssim", what, ways, repeats)
    if only in (None, "memory"):
        yield from memory(threads)


@click.command()
@click.option("--images", default=2048, show_default=True, help="Of each set.")
@click.option("--resolution", default=128, show_default=True)
@click.option("--threads", default=2, show_default=True)
@click.option("--repeats", default=1, show_default=True)
@click.option("--only", type=click.Choice(["swd", "ms-ssim", "memory"]), help="Default: all.")
@click.option("--device", default="cpu", show_default=True, help="Of ours; another than cpu: seconds of SWD alone.")
def main(**options: Any) -> None:
    """Prints `ratio swd_...`, `ratio ms_ssim_...` and memory; with a GPU the seconds of SWD."""
    show(measure(**options))


if __name__ == "__main__":
    main()
