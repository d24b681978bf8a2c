"""MTCNN on real photos whose landmarks are known: CELEBAHQ_TEST_DATA's celeba_sample."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from datatools.images import read_rgb
from datatools.landmarks import Face, Photo, nearest_face
from datatools.landmarks.base import CROP_POINTS
from datatools.landmarks.check import Verdict, compare
from datatools.landmarks.mtcnn import Mtcnn
from datatools.sources.celeba import read_tree
from datatools.sources.landmark_checks import contradictions

Points = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Annotated:
    """A photo's size, its annotation, and what MTCNN finds in it."""

    width: int
    height: int
    points: Points
    faces: list[Face]

    @property
    def eye_distance(self) -> float:
        return float(np.hypot(*(self.points[1] - self.points[0])))

    def distance(self, face: Face) -> float:
        """Return how far the furthest of the four points is from the annotation, in eye distances."""
        return float(np.hypot(*(face.points - self.points)[list(CROP_POINTS)].T).max() / self.eye_distance)

    def is_wrong(self, points: Points) -> bool:
        return compare(points, self.faces, self.width, self.height).verdict is Verdict.WRONG


@pytest.fixture(scope="module")
def sample(sample_data: Path) -> Mapping[str, Annotated]:
    source, found = Mtcnn(), {}
    for record in read_tree(sample_data / "celeba_sample").records:
        pixels = read_rgb(record.path)
        (faces,) = source.find([Photo(record.file_name, pixels)])
        found[record.file_name] = Annotated(pixels.shape[1], pixels.shape[0], record.landmarks, faces)
    return found


def test_the_annotated_face_is_found(sample: Mapping[str, Annotated]) -> None:
    assert len(sample) == 212
    nearest = [(photo, nearest_face(photo.faces, photo.points)) for photo in sample.values()]
    distances = np.array([photo.distance(face) for photo, face in nearest if face is not None])
    assert len(distances) >= 208
    assert np.median(distances) <= 0.1
    assert np.mean(distances <= 0.3) >= 0.97


def planted(kind: int, points: Points, others: Points, rng: np.random.Generator) -> Points:
    """Return a wrong row: an eye in the mouth, shifted by 100 px, left and right exchanged, or another photo's row."""
    wrong = points.copy()
    if kind == 0:
        wrong[rng.integers(2)] = points[3:].mean(axis=0)
    elif kind == 1:
        angle = rng.uniform(0, 2 * np.pi)
        wrong = points + 100 * np.array([np.cos(angle), np.sin(angle)])
    elif kind == 2:
        wrong = points[[1, 0, 2, 4, 3]]
    else:
        wrong = others
    return wrong


def test_planted_wrong_rows_are_caught_and_repaired(sample: Mapping[str, Annotated]) -> None:
    rng = np.random.default_rng(0)
    names = list(rng.permutation(list(sample)))
    bad, good = names[:48], names[48:96]
    repaired = []
    for i, name in enumerate(bad):
        photo = sample[name]
        partner = bad[i + 4 if i % 8 < 4 else i - 4]  # of the same kind: two rows are exchanged
        wrong = planted(i % 4, photo.points, sample[partner].points, rng)
        comparison = compare(wrong, photo.faces, photo.width, photo.height)
        assert comparison.verdict is Verdict.WRONG, name
        assert comparison.face is not None
        repaired.append(photo.distance(comparison.face))
        if i % 4 == 2:
            assert contradictions(wrong[None])[0]  # without a detector
    assert np.mean(np.array(repaired) <= 0.3) >= 0.97
    assert sum(sample[name].is_wrong(sample[name].points) for name in good) <= 1
    assert sum(photo.is_wrong(photo.points) for photo in sample.values()) <= 4
