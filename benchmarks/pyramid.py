"""Speed of writing, joining and verifying a pyramid, over that of plain files of as many bytes.

    python benchmarks/pyramid.py --images 256

Ways take turns; the fastest of --rounds counts. Writing and copying end with fsync. `write`: images are given, levels
and checksums are computed. `write_levels`: the levels are there. `join` copies four files into one. `verify` is
compared with reading, from the page cache and from the disk: the kernel is asked to drop the file's pages, but a
virtual disk may still answer from its host's memory. Peak memory is that of a process of its own.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.rows import Row, seconds, show
from datatools.pyramid import Provenance, PyramidWriter, build_levels, join, level_resolutions, verify
from datatools.pyramid.format import provenance_checksums, provenance_tables
from datatools.pyramid.writer import FileLayout, new_file

PARTS = 4
DIFFERENT = 4
"""Images that differ; the others repeat them. What is stored does not depend on it, and they stay in memory."""
READ_BYTES = 4 << 20
WRITE_BYTES = 1 << 18  # larger pieces may be slower, see datatools.pyramid.storage
MEMORY_LIMIT = 500e6
PEAK = """
import sys
sys.path.insert(0, sys.argv[1])
from benchmarks.rows import peak_bytes
from datatools.pyramid import join, verify
{step}
print(peak_bytes())
"""


def provenance(index: int) -> Provenance:
    return Provenance(f"{index}.jpg", f"{index:032x}", 0.0, index, -1, np.zeros((4, 2)), np.zeros((5, 2)))


def noise(side: int) -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (side, side, 3), dtype=np.uint8) for _ in range(DIFFERENT)]


def write_images(path: Path, count: int, images: list[NDArray[np.uint8]]) -> None:
    with PyramidWriter(path, count, resolution=len(images[0])) as writer:
        for index in range(count):
            writer.append(images[index % DIFFERENT], provenance(index))


def write_levels(path: Path, count: int, images: list[dict[int, NDArray[np.uint8]]]) -> None:
    with new_file(path, FileLayout(count, tuple(images[0]), "none"), {}) as file:
        for index in range(count):
            file.append({side: level[None] for side, level in images[index % DIFFERENT].items()})
        tables = provenance_tables([provenance(index) for index in range(count)], ())
        file.finish(tables, (), provenance_checksums(tables))


def write_plain(path: Path, size: int, data: memoryview) -> None:
    with path.open("wb", buffering=0) as file:
        for start in range(0, size, len(data)):
            file.write(data[: size - start])
        os.fsync(file.fileno())


def copy_plain(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)
    with target.open("rb") as file:
        os.fsync(file.fileno())


def read_plain(path: Path) -> None:
    buffer = bytearray(READ_BYTES)
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def drop_from_cache(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def check(path: Path) -> None:
    if problems := verify(path):
        raise RuntimeError(f"{path}: {problems[0]}")


def in_turn(ways: dict[str, Callable[[], object]], rounds: int, before: Callable[[], object]) -> dict[str, float]:
    """Return the seconds of each way's fastest try; `before` is called before each try."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            before()
            times[name].append(seconds(way))
    return {name: min(values) for name, values in times.items()}


def peak_of(step: str, *arguments: Path) -> int:
    """Return the peak resident memory of a process that does `step`."""
    command = [sys.executable, "-c", PEAK.format(step=step), sys.path[0], *map(str, arguments)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure(images: int = 256, side: int = 1024, rounds: int = 3, folder: Path | None = None) -> Iterator[Row]:
    """Yield what writing, joining and verifying a file of that many images cost."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        yield from _measure(images, side, rounds, Path(name))


def _measure(images: int, side: int, rounds: int, folder: Path) -> Iterator[Row]:
    part, whole, other = folder / "part.h5", folder / "whole.h5", folder / "other"
    faces = noise(side)
    levels = [build_levels(face) for face in faces]
    count = images // PARTS * PARTS
    write_images(part, count // PARTS, faces)
    parts = [part] * PARTS
    join(parts, whole)
    size = whole.stat().st_size
    data = memoryview(np.random.default_rng(1).bytes(WRITE_BYTES))

    def rate(time: float) -> str:
        return f"{size / time / 1e9:.2f} GB/s"

    def clear() -> None:
        """Remove what the last try wrote; nothing that others wrote waits for the disk."""
        other.unlink(missing_ok=True)
        os.sync()

    def compared(name: str, way: str, plain: str, what: str, times: dict[str, float]) -> Row:
        ours, theirs = times[way], times[plain]
        return Row(name, theirs / ours, f"{what}: {rate(ours)} over {rate(theirs)}")

    writing: dict[str, Callable[[], object]] = {
        "plain": partial(write_plain, other, size, data),
        "images": partial(write_images, other, count, faces),
        "levels": partial(write_levels, other, count, levels),
        "copy": partial(copy_plain, whole, other),
        "join": partial(join, parts, other),
    }
    times = in_turn(writing, rounds, clear)
    clear()
    compute = statistics.median(seconds(partial(build_levels, face)) for face in faces * 8)
    about = f"{count} images of {side} x {side}, {size / 1e9:.2f} GB"
    share = f"levels take {1e3 * compute:.1f} ms an image"
    yield compared("pyramid_write", "images", "plain", f"writing images, {about}; {share}, over a plain file", times)
    yield compared("pyramid_write_levels", "levels", "plain", "writing levels that are there, over a plain file", times)
    yield compared("pyramid_join", "join", "copy", f"joining {PARTS} files over copying one", times)
    reading: dict[str, Callable[[], object]] = {
        "read": partial(read_plain, whole),
        "verify": partial(check, whole),
    }
    for where, before in (("disk", partial(drop_from_cache, whole)), ("page cache", partial(read_plain, whole))):
        found = in_turn(reading, rounds, before)
        name = f"pyramid_verify_{where.split()[-1]}"
        yield compared(name, "verify", "read", f"verifying over reading, from the {where}", found)
    for name, step in (
        ("join", f"join([sys.argv[2]] * {PARTS}, sys.argv[3])"),
        ("verify", "assert not verify(sys.argv[3])"),
    ):
        peak = peak_of(step, part, other)
        yield Row(
            f"pyramid_{name}_memory", peak / MEMORY_LIMIT, f"peak memory of {name} ({peak / 1e6:.0f} MB) over 500 MB"
        )


@click.command(help=__doc__)
@click.option("--images", default=256, show_default=True, help="Images in the file.")
@click.option("--side", type=click.Choice([str(r) for r in level_resolutions(1024)]), default="1024", show_default=True)
@click.option("--rounds", default=3, show_default=True)
@click.option("--folder", type=click.Path(path_type=Path), help="Where the temporary files go.")
def main(images: int, side: str, rounds: int, folder: Path | None) -> None:
    show(measure(images, int(side), rounds, folder))


if __name__ == "__main__":
    main()
