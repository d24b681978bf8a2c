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
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pggan.metrics.ms_ssim import ms_ssim
from pggan.metrics.swd import BLOCK_BYTES, VALUES, Descriptors, levels, swd
from tests.support import metrics_reference as reference

BATCH = 64
PAPER = 16_384, 1024, 128
"""Images, their side, patches per image."""
PEAK = """
import sys
from pathlib import Path
import numpy as np
import torch
from pggan.metrics.swd import Descriptors, swd
status = lambda: 1024 * int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
count, size, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
torch.set_num_threads(int(sys.argv[4]))
print(status())
rng = np.random.default_rng(0)
with Descriptors(count, size, 1, folder=folder) as first, Descriptors(count, size, 2, folder=folder) as second:
    for gathered in (first, second):
        for start in range(0, count, 16):
            gathered.add(rng.integers(0, 256, (min(16, count - start), 3, size, size), dtype=np.uint8))
    print(status())
    swd(first, second, 3, repeats=1, directions=8)
print(status())
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


def compare(name: str, what: str, ways: dict[str, Callable[[], object]], repeats: int) -> None:
    """Prints the plain ways' seconds over those of the way named `ours`."""
    wall: dict[str, list[float]] = {way: [] for way in ways}
    processor: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(repeats):
        for way, run in ways.items():
            start = time.perf_counter(), time.process_time()
            found = run()
            wall[way].append(time.perf_counter() - start[0])
            processor[way].append(time.process_time() - start[1])
            print(f"# {name} {way}: {wall[way][-1]:.1f} s, processor {processor[way][-1]:.1f} s: {found}", flush=True)
    for way in ways:
        if way != "ours":
            ratio = min(wall[way]) / min(wall["ours"])
            print(f"ratio {name}_{way} {ratio:.2f}  {way} seconds over ours, {what}", flush=True)


def print_seconds(images: int, resolution: int, device: str, repeats: int) -> None:
    """Of SWD on a device, where the plain formulation would take hours."""
    a, b = made_up(images, resolution, 1), made_up(images, resolution, 2)
    our_swd(a[:BATCH], b[:BATCH], device)  # so that starting the device is not counted
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        our_swd(a, b, device)
        seconds.append(time.perf_counter() - start)
    print(f"seconds_swd {min(seconds):.1f}  2 x {images} images of {resolution} x {resolution} on {device}")


def print_memory(threads: int) -> None:
    """Peak of a process that measures few pictures, and the sum for the paper's number of them."""
    count, size, patches = PAPER
    few = 64
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", PEAK, str(few), str(size), folder, str(threads)]
        root = Path(__file__).resolve().parent.parent
        done = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True)
    imported, gathered, whole = (int(line) for line in done.stdout.split())
    print(f"# peak of {few} images of {size} x {size}: {gathered / 1e9:.2f} GB gathering, {whole / 1e9:.2f} in all")
    level = 2 * 4 * VALUES * count * patches
    # A row of either set is projected, sorted in place and subtracted in place; no more is held than a block of them.
    total = imported + level + BLOCK_BYTES
    disk = level * len(levels(size))
    print(
        f"memory_swd {max(total, gathered) / 1e9:.2f} GB for 2 x {count} images of {size} x {size} by computation: "
        f"{imported / 1e9:.2f} libraries, {level / 1e9:.2f} descriptors, {BLOCK_BYTES / 1e9:.2f} projections; "
        f"{disk / 1e9:.1f} GB of temporary files"
    )


@click.command()
@click.option("--images", default=2048, show_default=True, help="Of each set.")
@click.option("--resolution", default=128, show_default=True)
@click.option("--threads", default=2, show_default=True)
@click.option("--repeats", default=1, show_default=True)
@click.option("--only", type=click.Choice(["swd", "ms-ssim", "memory"]), help="Default: all.")
@click.option("--device", default="cpu", show_default=True, help="Of ours; another than cpu: seconds of SWD alone.")
@click.option("--celeba-dir", hidden=True, help="Ignored: other benchmarks read photos.")
def main(
    images: int, resolution: int, threads: int, repeats: int, only: str | None, device: str, celeba_dir: str | None
) -> None:
    """Prints `ratio swd_...`, `ratio ms_ssim_...` and `memory_swd`; with a GPU `seconds_swd`."""
    del celeba_dir
    torch.set_num_threads(threads)
    if device != "cpu":
        print_seconds(images, resolution, device, repeats)
        return
    a, b = made_up(images, resolution, 1), made_up(images, resolution, 2)
    what = f"{images} images of {resolution} x {resolution}, {threads} threads"
    if only in (None, "swd"):
        ways: dict[str, Callable[[], object]] = {
            "ours": lambda: our_swd(a, b),
            "float32": lambda: reference.swd(a, b, 3, dtype=np.float32),
            "float64": lambda: reference.swd(a, b, 3),
        }
        compare("swd", f"2 x {what}", ways, repeats)
    if only in (None, "ms-ssim"):
        compare("ms_ssim", what, {"ours": lambda: our_ms_ssim(a), "float64": lambda: plain_ms_ssim(a)}, repeats)
    if only in (None, "memory"):
        print_memory(threads)


if __name__ == "__main__":
    main()
