"""Speed and memory of building levels, joining and verifying: `python benchmarks/verify.py`.

Verifying is compared with reading the file's bytes, once from the page cache and once from the disk (after asking the
kernel to drop the file's pages; a virtual disk may still answer from its host's memory). Peak memory is that of a
process of its own for each step.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
from read_random import SIDE, write_random

from datatools.pyramid import build_levels, join, verify

PEAK = """
import resource, sys
from datatools.pyramid import join, verify
{step}
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def peak_bytes(step: str, *arguments: Path) -> int:
    """Peak resident memory of a process that does `step`."""
    command = [sys.executable, "-c", PEAK.format(step=step), *map(str, arguments)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def read_all(path: Path) -> None:
    buffer = bytearray(8 << 20)
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def drop_from_cache(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@click.command(help=__doc__)
@click.option("--images", default=600, show_default=True, help="Images of 4 MB in the joined file.")
@click.option("--folder", type=click.Path(), help="Where the temporary files go.")
@click.option("--celeba-dir", hidden=True, help="Taken by every benchmark; this one needs no photos.")
def main(images: int, folder: str | None, celeba_dir: str | None) -> None:  # noqa: ARG001
    face = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    times = [seconds(lambda: build_levels(face)) for _ in range(50)]
    print(f"build_levels {1e3 * statistics.median(times):.2f} ms for one 1024 x 1024 face")

    with tempfile.TemporaryDirectory(dir=folder) as work:
        part, whole = Path(work, "part.h5"), Path(work, "whole.h5")
        write_random(part, images // 4)
        parts = [part] * 4
        joining = seconds(lambda: join(parts, whole))
        size = whole.stat().st_size
        print(f"join   {size / joining / 1e9:6.2f} GB/s for {size / 1e9:.1f} GB, flushed to the disk")

        def measure(cold: bool) -> tuple[float, float]:
            pairs = []
            for _ in range(3):
                for work in (lambda: read_all(whole), lambda: verify(whole)):
                    if cold:
                        drop_from_cache(whole)
                    pairs.append(seconds(work))
            return statistics.median(pairs[0::2]), statistics.median(pairs[1::2])

        for cold, where, name in ((True, "disk", "verify_speed"), (False, "page cache", "verify_speed_cached")):
            reading, verifying = measure(cold)
            print(f"read   {size / reading / 1e9:6.2f} GB/s from the {where}")
            print(f"verify {size / verifying / 1e9:6.2f} GB/s from the {where}")
            print(f"ratio {name} {reading / verifying:.3f}  reading the bytes from the {where} over verify, time")
        limit = 500e6
        step = "join([sys.argv[1]] * 4, sys.argv[2])"
        peak = peak_bytes(step, part, whole)
        print(f"ratio join_memory {peak / limit:.3f}  peak memory of join ({peak / 1e6:.0f} MB) over 500 MB")
        peak = peak_bytes("assert verify(sys.argv[1]) == []", whole)
        print(f"ratio verify_memory {peak / limit:.3f}  peak memory of verify ({peak / 1e6:.0f} MB) over 500 MB")


if __name__ == "__main__":
    main()
