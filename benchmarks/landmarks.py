"""Does MTCNN find the annotated faces, are wrong rows caught, and how long does a photo take?

\b
    python benchmarks/landmarks.py --celeba-dir DIR

DIR is a CelebA tree (by default celeba_sample in CELEBAHQ_TEST_DATA). Distances are in eye distances: of four points
used by the crop, that of the one furthest from the annotation. One core, detection alone: photos are decoded before.
"""

import os
import time
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from datatools.cli import OneLineCommand
from datatools.images import read_rgb
from datatools.landmarks import Face, Photo, get_landmark_source, nearest_face
from datatools.landmarks.base import CROP_POINTS
from datatools.landmarks.check import Verdict, compare
from datatools.parallel import limit_threads
from datatools.sources.celeba import read_tree
from datatools.sources.landmark_checks import contradictions
from datatools.sources.records import FaceRecord

Points = NDArray[np.float64]
KINDS = ("eye in the mouth", "shifted by 100 px", "left and right exchanged", "two rows exchanged")


def distance(face: Face, points: Points) -> float:
    moved = np.hypot(*(face.points - points)[list(CROP_POINTS)].T)
    return float(moved.max() / np.hypot(*(points[1] - points[0])))


def wrong_row(kind: str, points: Points, others: Points, rng: np.random.Generator) -> Points:
    if kind == KINDS[0]:
        wrong = points.copy()
        wrong[rng.integers(2)] = points[3:].mean(axis=0)
        return wrong
    if kind == KINDS[1]:
        angle = rng.uniform(0, 2 * np.pi)
        return points + 100 * np.array([np.cos(angle), np.sin(angle)])
    return points[[1, 0, 2, 4, 3]] if kind == KINDS[2] else others


def find(records: tuple[FaceRecord, ...]) -> tuple[list[list[Face]], list[tuple[int, int]], float]:
    """Return the faces and size of each photo, and the CPU seconds of a photo."""
    source = get_landmark_source("mtcnn", Path())
    faces, sizes, seconds = [], [], 0.0
    for record in records:
        pixels = read_rgb(record.path)
        if not faces:
            source.find([Photo("", pixels)])  # loads the networks
        start = time.process_time()
        faces += source.find([Photo(record.file_name, pixels)])
        seconds += time.process_time() - start
        sizes.append((pixels.shape[1], pixels.shape[0]))
    return faces, sizes, seconds / len(records)


@click.command(cls=OneLineCommand)
@click.option("--celeba-dir", type=click.Path(path_type=Path), help="CelebA tree.")
def main(celeba_dir: Path | None) -> None:
    limit_threads()
    data = os.environ.get("CELEBAHQ_TEST_DATA")
    if celeba_dir is None and not data:
        raise click.UsageError("name a CelebA tree with --celeba-dir, or set CELEBAHQ_TEST_DATA")
    records = read_tree(celeba_dir or Path(str(data)) / "celeba_sample").records
    faces, sizes, seconds = find(records)
    nearest = [nearest_face(found, record.landmarks) for found, record in zip(faces, records, strict=True)]
    distances = np.array(
        [distance(face, record.landmarks) for face, record in zip(nearest, records, strict=True) if face is not None]
    )
    print(f"ratio landmarks.found {len(distances) / len(records):.4f}  of {len(records)} annotated faces")
    print(f"ratio landmarks.median {np.median(distances):.4f}  eye distances from the annotation, median")
    print(f"ratio landmarks.within {np.mean(distances <= 0.3):.4f}  of them within 0.3 eye distances")
    rng = np.random.default_rng(0)
    for kind in KINDS:
        caught, alone = 0, 0
        for i, record in enumerate(records):
            row = wrong_row(kind, record.landmarks, records[(i + 1) % len(records)].landmarks, rng)
            caught += compare(row, faces[i], *sizes[i]).verdict is Verdict.WRONG
            alone += bool(contradictions(row[None])[0])
        name = kind.replace(" ", "-")
        print(f"ratio landmarks.caught-{name} {caught / len(records):.4f}  of wrong rows; {alone} without a detector")
    harmed = sum(
        compare(record.landmarks, found, *size).verdict is Verdict.WRONG
        for record, found, size in zip(records, faces, sizes, strict=True)
    )
    print(f"ratio landmarks.harmed {harmed / len(records):.4f}  of good rows taken for wrong")
    print(
        f"ratio landmarks.seconds {seconds:.4f}  CPU seconds of a photo, {np.mean(np.prod(sizes, axis=1)) / 1e6:.2f} MP"
    )


if __name__ == "__main__":
    main()
