"""`--check-landmarks` of builds: what becomes of landmarks that a detector contradicts."""

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from datatools.errors import DataError
from datatools.landmarks.base import face_of_points
from datatools.landmarks.check import Action
from datatools.pyramid import Pyramid
from datatools.sources.celeba import CelebATree
from datatools.sources.records import FaceRecord, RejectionKind, face_name
from pipelines.folder_layout import FolderLayout
from pipelines.found_faces import Seen
from pipelines.landmark_check import check_tree
from pipelines.layout import BuildLayout
from tests.support.builds import build, make_photos, make_tree, run

POINTS = np.array([[100, 100], [160, 100], [130, 135], [106, 165], [154, 165]], np.float64)
SIZE = (400, 400)


def tree(*points: np.ndarray, photo: str = "a.jpg") -> CelebATree:
    """Return the faces of one photo."""
    faces = [FaceRecord(face_name(photo, i), Path(), photo, each, own=True, face=i) for i, each in enumerate(points)]
    return CelebATree(Path(), Path(), tuple(faces), (), ())


def seen(*points: np.ndarray, photo: str = "a.jpg") -> dict[str, Seen]:
    return {photo: Seen([face_of_points(each) for each in points], SIZE)}


@pytest.mark.parametrize(
    ("action", "kind", "used"),
    [
        ("report", RejectionKind.SUSPECT_LANDMARKS, [POINTS + 40]),
        ("reject", RejectionKind.WRONG_LANDMARKS, []),
        ("repair", RejectionKind.REPAIRED_LANDMARKS, [POINTS]),
    ],
)
def test_wrong_landmarks(action: Action, kind: RejectionKind, used: Sequence[np.ndarray]) -> None:
    checked = check_tree(tree(POINTS + 40), seen(POINTS), action, "mtcnn")
    assert [record.landmarks.tolist() for record in checked.tree.records] == [each.tolist() for each in used]
    (rejection,) = checked.tree.rejections
    assert (rejection.kind, rejection.file_name) == (kind, "a.jpg")
    assert "eye distances from the detected ones" in rejection.detail
    assert checked.wrong == 1
    assert f"--check-landmarks {action}" in checked.tree.notes[0]


@pytest.mark.parametrize("action", ["report", "reject", "repair"])
@pytest.mark.parametrize(
    ("detected", "unchecked"),
    [(seen(POINTS - 1), 0), (seen(), 1), ({}, 0)],
    ids=["the same face", "no face", "unreadable"],
)
def test_other_landmarks_stay(action: Action, detected: dict[str, Seen], unchecked: int) -> None:
    checked = check_tree(tree(POINTS), detected, action, "mtcnn")
    assert [record.landmarks.tolist() for record in checked.tree.records] == [POINTS.tolist()]
    assert checked.tree.rejections == ()
    assert (checked.wrong, checked.unchecked, len(checked.tree.notes)) == (0, unchecked, unchecked)


def test_no_face_is_used_twice() -> None:
    """Two wrong rows near one face, and a wrong row near a face that another row has."""
    for first in (POINTS + 40, POINTS):
        checked = check_tree(tree(first, POINTS + 30), seen(POINTS), "repair", "mtcnn")
        assert [record.landmarks.tolist() for record in checked.tree.records] == [POINTS.tolist()]
        assert checked.tree.rejections[-1].kind is RejectionKind.WRONG_LANDMARKS


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def shifted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A CelebA tree with one row that is 40 pixels off, and its photo's name."""
    photos = dict(list(make_photos().items())[:3])
    name, photo = next(iter(photos.items()))
    values = [float(value) + 40 for value in photo.row.split()[1:]]
    photos[name] = replace(photo, row=" ".join([name, *(f"{value:.1f}" for value in values)]))
    return make_tree(tmp_path_factory.mktemp("shifted") / "CelebA", photos), name


def test_a_build_repairs_and_then_rejects_without_looking_again(shifted: tuple[Path, str], tmp_path: Path) -> None:
    folder, name = shifted
    check = ("--selection", "all", "--check-with", "mtcnn", "--check-landmarks")
    planned = build(folder, tmp_path / "out", *check, "repair", "--dry-run")
    assert "3 photos to find faces in, by mtcnn, to check the landmarks" in planned.stdout
    assert "find faces    3 in " in planned.stdout
    assert not (tmp_path / "out").exists()

    done = build(folder, tmp_path / "out", *check, "repair")
    assert "1 of 3 rows of landmarks disagrees with mtcnn" in done.stdout
    (row,) = table(tmp_path / "out/rejected.csv")
    assert (row["file_name"], row["kind"]) == (name, "repaired-landmarks")
    with Pyramid(tmp_path / "out/celebahq.h5") as pyramid:
        assert len(pyramid) == 3
        settings = pyramid.settings
        place = pyramid.provenance("file_name").tolist().index(name)
        repaired = pyramid.provenance("landmarks")[place]
    wrong = np.array([float(value) for value in _row(folder, name)]).reshape(5, 2)
    assert np.abs(repaired - wrong + 40).max() < 15
    assert (settings["check_landmarks"], settings["checked_with"]) == ("repair", "mtcnn")
    assert (settings["wrong_landmarks"], settings["unchecked_landmarks"]) == (1, 0)

    rejecting = build(folder, tmp_path / "out", *check, "reject")
    assert "FindShard" not in rejecting.stderr
    with Pyramid(tmp_path / "out/celebahq.h5") as pyramid:
        assert name not in pyramid.provenance("file_name").tolist()


def _row(folder: Path, name: str) -> list[str]:
    lines = (folder / "Anno/list_landmarks_celeba.txt").read_text(encoding="utf-8").splitlines()
    return next(line.split()[1:] for line in lines if line.startswith(name))


def test_mistakes_end_in_one_line(shifted: tuple[Path, str], tmp_path: Path) -> None:
    done = run(shifted[0], tmp_path / "out", "--check-landmarks", "mend")
    assert "error: --check-landmarks mend: one of no, report, reject, repair is needed" in done.stderr
    layout = FolderLayout(photos=tmp_path, output_dir=tmp_path, landmarks="mtcnn", check_landmarks="report")
    with pytest.raises(DataError, match="--check-landmarks report: mtcnn finds faces itself; name annotations or a"):
        _ = layout.search


def test_faces_are_found_in_candidates_alone(shifted: tuple[Path, str], tmp_path: Path) -> None:
    folder, name = shifted
    (tmp_path / "ids.txt").write_text(name, encoding="utf-8")
    layout = BuildLayout(
        folder, tmp_path, ids=str(tmp_path / "ids.txt"), selection="all", check_landmarks="report", check_with="mtcnn"
    )
    assert layout.search is not None
    assert list(layout.search.photos) == [name]
    assert not layout.search.own
    assert not layout.search.is_done
