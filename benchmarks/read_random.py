"""Random single images from a pyramid against `os.pread` of the same bytes: `python benchmarks/read_random.py`.

Both files lie in the page cache, so that the reading code is measured and not the disk, and both ways give a NumPy
array. Rounds alternate and their medians are compared. For comparison: h5py's own indexing, and the 2017 layout with
one gzip chunk per image.
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import click
import h5py
import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.rows import Row, show
from datatools.pyramid import Provenance, Pyramid, PyramidWriter

SIDE = 1024
IMAGE_BYTES = 3 * SIDE * SIDE


def write_random(path: Path, count: int, compression: str = "none") -> None:
    """A pyramid of noise; every image differs."""
    face = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    with PyramidWriter(path, count, resolution=SIDE, compression=compression) as writer:
        for index in range(count):
            face[0, 0] = index % 251, index // 251, 7
            writer.append(
                face, Provenance(f"{index}.jpg", f"{index:032x}", 0.0, index, -1, np.zeros((4, 2)), np.zeros((5, 2)))
            )


def seconds_per_image(read: Callable[[int], NDArray[np.uint8]], indices: Sequence[int]) -> float:
    start = time.perf_counter()
    for index in indices:
        read(index)
    return (time.perf_counter() - start) / len(indices)


def measure(images: int = 200, rounds: int = 15, folder: Path | None = None) -> Iterator[Row]:
    """Yield the time of a flat file's image over a pyramid's, and over others'."""
    with tempfile.TemporaryDirectory(dir=folder) as work:
        path, flat, zipped = Path(work, "a.h5"), Path(work, "flat"), Path(work, "gzip.h5")
        write_random(path, images)
        write_random(zipped, min(images, 20), "gzip")
        pyramid, compressed = Pyramid(path), Pyramid(zipped)
        with flat.open("wb") as file:
            for image in pyramid[SIDE]:
                file.write(image.tobytes())
        descriptor = os.open(flat, os.O_RDONLY)

        def from_flat_file(index: int) -> NDArray[np.uint8]:
            data = os.pread(descriptor, IMAGE_BYTES, index * IMAGE_BYTES)
            return np.frombuffer(data, np.uint8).reshape(3, SIDE, SIDE)

        with h5py.File(path) as plain:
            dataset = plain["data1024x1024"]
            ways: dict[str, Callable[[int], NDArray[np.uint8]]] = {
                "pread": from_flat_file,
                "pyramid": lambda index: pyramid[SIDE][index],
                "h5py": lambda index: dataset[index],
                "gzip": lambda index: compressed[SIDE][index % len(compressed)],
            }
            random = np.random.default_rng(1)
            times: dict[str, list[float]] = {name: [] for name in ways}
            for _ in range(rounds):
                indices = random.integers(0, images, 40).tolist()
                for name, read in ways.items():
                    times[name].append(seconds_per_image(read, indices[:4] if name == "gzip" else indices))
        os.close(descriptor)
    median = {name: statistics.median(values) for name, values in times.items()}
    for name in ("pyramid", "h5py", "gzip"):
        what = f"of {1e3 * median[name]:.3f} ms: os.pread of a flat file, {1e3 * median['pread']:.3f} ms, over {name}"
        yield Row(f"read_random_{name}", median["pread"] / median[name], what)


@click.command(help=__doc__)
@click.option("--images", default=200, show_default=True, help="Images of 4 MB in the file.")
@click.option("--rounds", default=15, show_default=True)
@click.option("--folder", type=click.Path(path_type=Path), help="Where the temporary files go.")
def main(images: int, rounds: int, folder: Path | None) -> None:
    show(measure(images, rounds, folder))


if __name__ == "__main__":
    main()
