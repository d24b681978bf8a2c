"""How fast single faces are read at random from a pyramid, over the same faces in other formats, and their sizes.

    python benchmarks/read_formats.py --h5 celebahq.h5 --level 1024 --images 40
    python benchmarks/read_formats.py --celeba-dir CELEBA      # a pyramid of the middles of its photos
    python benchmarks/read_formats.py                          # a pyramid of parts of two portraits

Every format is read in its usual way to an array of bytes: files with Pillow, archives and databases with their own
libraries and Pillow, the layout of 2017 (gzip, an image to a chunk) with h5py. A WebDataset is read in order, as it is
meant to be. Files lie in the page cache, one process reads, rounds take turns, and medians of the CPU time count.
"""

import io
import itertools
import statistics
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import h5py
import lmdb
import numpy as np
import webdataset
from numpy.typing import NDArray
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.export import sample
from benchmarks.rows import Row, show
from datatools.exports import ExportOptions, plan_export, write_export
from datatools.files import list_pictures
from datatools.parallel import limit_threads
from datatools.pyramid import Pyramid
from datatools.pyramid.format import GZIP_LEVEL, level_name

Read = Callable[[int], NDArray[np.uint8]]


def decode(data: bytes | Path) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(data) if isinstance(data, bytes) else data))


def folder_reader(out: Path) -> Read:
    names = list_pictures(out).pictures
    return lambda index: decode(names[index])


def zip_reader(out: Path) -> Read:
    archive = zipfile.ZipFile(out)
    names = [name for name in archive.namelist() if name.endswith(".png")]
    return lambda index: decode(archive.read(names[index]))


def lmdb_reader(out: Path, level: int) -> Read:
    database = lmdb.open(str(out), readonly=True, lock=False)

    def read(index: int) -> NDArray[np.uint8]:
        with database.begin() as reading:
            return decode(reading.get(f"{level}-{index:05}".encode()))

    return read


def shard_reader(out: Path) -> Read:
    shards = sorted(map(str, out.glob("*.tar")))

    def endless() -> Iterator[NDArray[np.uint8]]:
        while True:
            for picture in webdataset.WebDataset(shards, shardshuffle=False).decode("rgb8", only="png"):
                yield picture["png"]

    pictures = endless()
    return lambda _: next(pictures)


def write_2017(pyramid: Pyramid, level: int, count: int, out: Path) -> Read:
    """Write a level as the authors' file has it: compressed, an image to a chunk."""
    images = pyramid[level][:count]
    with h5py.File(out, "w") as file:
        layout = {"chunks": (1, *images.shape[1:]), "compression": "gzip", "compression_opts": GZIP_LEVEL}
        file.create_dataset(level_name(level), data=images, **layout)
    dataset = h5py.File(out)[level_name(level)]
    return lambda index: dataset[index]


def bytes_of(out: Path) -> int:
    files = out.rglob("*") if out.is_dir() else [out]
    files = [path for path in files if path.is_file() and not path.name.startswith(("metadata", "export"))]
    return sum(path.stat().st_size for path in files)


def measure(
    h5: Path | None = None,
    celeba_dir: Path | None = None,
    level: int = 128,
    images: int = 500,
    reads: int = 40,
    rounds: int = 9,
) -> Iterator[Row]:
    """Yield the CPU time of each format over that of a pyramid."""
    limit_threads()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pyramid = Pyramid(h5 or sample(celeba_dir, folder / "sample.h5", images, level))
        count = min(images, len(pyramid))

        def exported(to: str, out: str, picture_format: str = "png") -> Path:
            choice = ExportOptions(to, level, picture_format)  # type: ignore[arg-type]
            write_export(plan_export(pyramid, folder / out, range(count), choice))
            return folder / out

        places = {
            "PNG folder": exported("folder", "png"),
            "JPEG folder": exported("folder", "jpeg", "jpeg"),
            "StyleGAN zip": exported("stylegan-zip", "faces.zip"),
            "LMDB": exported("lmdb", "lmdb"),
            "WebDataset, in order": exported("webdataset", "shards"),
            "layout of 2017": folder / "2017.h5",
        }
        readers: dict[str, Read] = {
            "pyramid": lambda index: pyramid[level][index],
            "layout of 2017": write_2017(pyramid, level, count, places["layout of 2017"]),
            "PNG folder": folder_reader(places["PNG folder"]),
            "JPEG folder": folder_reader(places["JPEG folder"]),
            "StyleGAN zip": zip_reader(places["StyleGAN zip"]),
            "LMDB": lmdb_reader(places["LMDB"], level),
            "WebDataset, in order": shard_reader(places["WebDataset, in order"]),
        }
        sizes = {name: bytes_of(path) / count for name, path in places.items()} | {"pyramid": 3.0 * level**2}
        random = np.random.default_rng(1)
        times: dict[str, list[float]] = {name: [] for name in readers}
        for _, (name, read) in itertools.product(range(rounds), readers.items()):
            indices = random.integers(0, count, reads).tolist()
            start = time.process_time()
            for index in indices:
                read(index)
            times[name].append((time.process_time() - start) / reads)
        median = {name: statistics.median(values) for name, values in times.items()}
        for name, seconds in median.items():
            what = f"CPU time over a pyramid's: {1e3 * seconds:.3g} ms, {sizes[name] / 1e3:.0f} kB each, {count} images"
            yield Row(f"read_{level}_{name.replace(',', '').replace(' ', '_')}", seconds / median["pyramid"], what)


@click.command(help=__doc__)
@click.option("--h5", type=click.Path(path_type=Path), help="A pyramid.")
@click.option("--celeba-dir", type=click.Path(path_type=Path), help="Photos; without, parts of two portraits.")
@click.option("--level", default=128, show_default=True)
@click.option("--images", default=500, show_default=True)
@click.option("--reads", default=40, show_default=True, help="Images that are read in a round.")
@click.option("--rounds", default=9, show_default=True)
def main(**options: Any) -> None:
    show(measure(**options))


if __name__ == "__main__":
    main()
