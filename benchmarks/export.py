"""How fast pictures are exported, over PNG encoding alone of the same pictures in one process.

    python benchmarks/export.py --h5 faces.h5 --level 128
    python benchmarks/export.py --celeba-dir CELEBA      # a pyramid of the middles of its photos, up to 2000
    python benchmarks/export.py                          # a pyramid of parts of two portraits

Prints for a WebDataset and a StyleGAN zip: the pictures per second of one process over those of encoding, which reads
the same images and writes nothing, and those of two processes over those of one. On a busy machine two processes get
no more of it than one; the CPU time, also printed, says what they cost. Rounds take turns; medians count.
"""

import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import click

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.rows import Row, show
from benchmarks.samples import sample_pyramid
from datatools.exports import ExportOptions, plan_export, write_export
from datatools.files import list_pictures
from datatools.images import encode_png
from datatools.parallel import limit_threads
from datatools.pyramid import Pyramid
from datatools.pyramid.folder_source import open_source
from datatools.pyramid.from_folder import FolderOptions, plan_folder, write_from_folder

LAYOUTS = ("webdataset", "stylegan-zip")
PHOTOS = 2000  # two shards of a WebDataset, each the work of one process


def sample(celeba_dir: Path | None, out: Path, images: int, side: int) -> Path:
    """Write a pyramid of the photos' middle squares, or of parts of two portraits."""
    if celeba_dir is None:
        return sample_pyramid(out, images, side)
    folder = next(path.parent for path in list_pictures(celeba_dir, recursive=True).pictures)
    options = FolderOptions(side, crop="center", max_images=images)
    write_from_folder(plan_folder(open_source(folder), out, options))
    return out


@dataclass(frozen=True)
class Cost:
    """What an export took: seconds on the clock, and of the CPUs in all processes."""

    wall: float
    cpu: float


def cost_of(work: Callable[[], object]) -> Cost:
    start, before = time.perf_counter(), sum(os.times()[:4])
    work()
    return Cost(time.perf_counter() - start, sum(os.times()[:4]) - before)


def median(costs: Sequence[Cost]) -> Cost:
    return Cost(statistics.median(cost.wall for cost in costs), statistics.median(cost.cpu for cost in costs))


def encode_all(pyramid: Pyramid, level: int) -> None:
    for index in range(len(pyramid)):
        encode_png(pyramid.image(index, level))


def export_all(pyramid: Pyramid, level: int, layout: str, jobs: int, folder: Path) -> None:
    out = folder / ("out.zip" if layout == "stylegan-zip" else "out")
    options = ExportOptions(layout, level, jobs=jobs)  # type: ignore[arg-type]
    write_export(plan_export(pyramid, out, range(len(pyramid)), options))
    if out.is_dir():
        shutil.rmtree(out)
    else:
        out.unlink()


def measure(
    h5: Path | None = None, celeba_dir: Path | None = None, images: int = PHOTOS, level: int = 128, rounds: int = 5
) -> Iterator[Row]:
    """Yield the speed of exports over that of encoding, and that of two processes over one."""
    limit_threads()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pyramid = Pyramid(h5 or sample(celeba_dir, folder / "sample.h5", images, level))
        count = len(pyramid)
        costs: dict[tuple[str, int], list[Cost]] = {}
        for _ in range(rounds):
            costs.setdefault(("encode", 1), []).append(cost_of(partial(encode_all, pyramid, level)))
            for layout, jobs in product(LAYOUTS, (1, 2)):
                work = partial(export_all, pyramid, level, layout, jobs, folder)
                costs.setdefault((layout, jobs), []).append(cost_of(work))
        plain = median(costs["encode", 1])
        for layout in LAYOUTS:
            one, two = median(costs[layout, 1]), median(costs[layout, 2])
            what = (
                f"{count / one.wall:.0f} pictures/s over {count / plain.wall:.0f} of encoding alone; "
                f"CPU time {plain.cpu / one.cpu:.2f}"
            )
            yield Row(f"export_{layout}", plain.wall / one.wall, what)
            what = (
                f"{count / two.wall:.0f} pictures/s of two processes over {count / one.wall:.0f}; "
                f"CPU time {one.cpu / two.cpu:.2f}"
            )
            yield Row(f"export_{layout}_two", one.wall / two.wall, what)


@click.command(help=__doc__)
@click.option("--h5", type=click.Path(path_type=Path), help="A pyramid.")
@click.option("--celeba-dir", type=click.Path(path_type=Path), help="Photos; without, parts of two portraits.")
@click.option("--images", default=PHOTOS, show_default=True, help="Pictures at most, without --h5.")
@click.option("--level", default=128, show_default=True)
@click.option("--rounds", default=5, show_default=True)
def main(**options: Any) -> None:
    show(measure(**options))


if __name__ == "__main__":
    main()
