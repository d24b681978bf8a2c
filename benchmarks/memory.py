"""Peak memory of one worker: the first pass (decode, crop, pad, resample, score, hash) on the largest photos.

    python benchmarks/memory.py --celeba-dir CelebA

Every photo is given to a fresh process, whose peak resident memory is read from the kernel. The photos are the largest
one of the tree, and some of 60 megapixels made on the spot: baseline and progressive, with a small face, with one that
fills the picture, and with one that leaves it.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datatools.cli import OneLineCommand
from datatools.errors import DataError
from datatools.images import image_size
from datatools.sources.celeba import read_tree

BUDGET = 1.5e9
SIZE_60MP = (9488, 6328)
"""(width, height): 60.04 megapixels."""

LARGEST_FILES = 50
"""Photos of a tree whose size in pixels is looked at: those with the most bytes."""

FACE = np.array([(-0.35, -0.3), (0.35, -0.3), (0.0, 0.1), (-0.3, 0.5), (0.3, 0.5)])
"""Landmarks of a face whose rectangle has a side of about 2.8."""

WORKER = """
import json, sys
from pathlib import Path
import numpy as np
from datatools.sources.records import FaceRecord
from datatools.restore import get_restorer
from pipelines.photo_work import FaceMaker

path, landmarks = Path(sys.argv[1]), np.array(json.loads(sys.argv[2]))
record = FaceRecord(path.name, path.parent, path.name, landmarks)
row, _ = FaceMaker(get_restorer("none"), "lanczos", 1024, scores=True)(record)
assert "rejection" not in row, row
# Not getrusage: its figure survives exec, so a large parent would be counted.
status = Path("/proc/self/status").read_text()
print(1024 * int(status.split("VmHWM:")[1].split()[0]))
"""


@dataclass(frozen=True)
class Case:
    """A photo and the landmarks (5, 2) of the face to cut out of it."""

    what: str
    path: Path
    landmarks: NDArray[np.float64]


def peak_bytes(case: Case) -> int:
    """Peak resident memory, in bytes, of a process that does the first pass on one photo."""
    landmarks = json.dumps(case.landmarks.tolist())
    command = [sys.executable, "-c", WORKER, str(case.path), landmarks]
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    if done.returncode:
        raise DataError(f"{case.what}: the worker failed: {done.stderr.strip().splitlines()[-1]}")
    return int(done.stdout)


def large_photo(path: Path, *, progressive: bool) -> Path:
    """Write a JPEG of 60 megapixels with shapes and grain, as a camera would."""
    random = np.random.default_rng(0)
    shapes = random.integers(0, 256, (100, 150, 3), dtype=np.uint8)
    pixels = cv2.resize(shapes, SIZE_60MP, interpolation=cv2.INTER_CUBIC)
    tile = random.integers(-8, 9, (512, 512, 1)).astype(np.int16)
    for top in range(0, SIZE_60MP[1], 512):
        for left in range(0, SIZE_60MP[0], 512):
            part = pixels[top : top + 512, left : left + 512]
            part[:] = np.clip(part + tile[: part.shape[0], : part.shape[1]], 0, 255)
    Image.fromarray(pixels).save(path, quality=90, progressive=progressive)
    return path


def face_at(x: float, y: float, side: float) -> NDArray[np.float64]:
    """Landmarks (5, 2) of a face with a rectangle of about `side` pixels."""
    return FACE * side / 2.8 + (x, y)


def large_cases(folder: Path) -> Iterator[Case]:
    """60-megapixel photos in both codings, with faces of several sizes."""
    width, height = SIZE_60MP
    for coding in ("baseline", "progressive"):
        path = large_photo(folder / f"{coding}.jpg", progressive=coding == "progressive")
        yield Case(f"60 megapixels, {coding}, face of 300 px", path, face_at(width / 2, height / 2, 300))
        yield Case(f"60 megapixels, {coding}, face of 6000 px", path, face_at(width / 2, height / 2, 6000))
        yield Case(f"60 megapixels, {coding}, face of 2700 px", path, face_at(width / 2, height / 2, 2700))
        yield Case(f"60 megapixels, {coding}, face of 6000 px over the edge", path, face_at(2000, 2000, 6000))


def largest_photo(celeba_dir: Path) -> Case:
    """The photo of a tree with the most pixels, among the largest files."""
    records = sorted(read_tree(celeba_dir).records, key=lambda record: -record.path.stat().st_size)[:LARGEST_FILES]
    sizes = {}
    for record in records:
        try:
            sizes[record.file_name] = image_size(record.path.read_bytes())
        except DataError:
            continue
    if not sizes:
        raise DataError(f"{celeba_dir}: none of the largest files is a picture")
    name = max(sizes, key=lambda name: sizes[name][0] * sizes[name][1])
    best = next(record for record in records if record.file_name == name)
    width, height = sizes[name]
    return Case(f"largest photo of the tree ({name}, {width} x {height})", best.path, best.landmarks)


@click.command(cls=OneLineCommand, epilog="Example: python benchmarks/memory.py --celeba-dir CelebA")
@click.option("--celeba-dir", type=click.Path(path_type=Path), help="CelebA's folder; without it, made photos only.")
def main(celeba_dir: Path | None) -> None:
    """Measure the peak memory of one worker."""
    peaks = []
    with tempfile.TemporaryDirectory() as folder:
        cases = [] if celeba_dir is None else [largest_photo(celeba_dir)]
        for case in [*cases, *large_cases(Path(folder))]:
            peaks.append(peak_bytes(case))
            print(f"{peaks[-1] / 1e6:7.0f} MB  {case.what}")
    print(f"ratio memory_worker {max(peaks) / BUDGET:.3f}  peak bytes of one worker over the 1.5 GB budget")


if __name__ == "__main__":
    main()
