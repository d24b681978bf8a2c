"""Which source of landmarks a name means, and CelebA's annotations as one."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from datatools.errors import DataError
from datatools.landmarks import Photo, get_landmark_source
from datatools.landmarks.annotations import has_annotations
from datatools.sample import portraits
from tests.support.builds import environment

ADMIRAL = portraits()["admiral"].landmarks


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A CelebA tree of two rows; the annotations say .jpg, and one photo is a .png."""
    photos, annotations = tmp_path / "Img" / "img_celeba", tmp_path / "Anno"
    photos.mkdir(parents=True)
    annotations.mkdir()
    for name in ("000001.jpg", "000002.png"):
        (photos / name).write_bytes(b"\xff\xd8\xff")
    rows = [f"00000{i + 1}.jpg  " + "  ".join(f"{value:.0f}" for value in (ADMIRAL + i).ravel()) for i in range(2)]
    columns = (
        "lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y rightmouth_x rightmouth_y"
    )
    (annotations / "list_landmarks_celeba.txt").write_text("\n".join(["2", columns, *rows]) + "\n", encoding="utf-8")
    return tmp_path


def test_annotations_are_found_by_any_name_of_a_photo(tree: Path) -> None:
    source = get_landmark_source("annotations", tree)
    names = [
        "000001.jpg",
        "Img/img_celeba/000001.jpg",
        "000002.jpg",
        "000002.png",
        "Img/img_celeba/000002.png",
        "3.jpg",
    ]
    found = source.find([Photo(name) for name in names])
    assert [len(faces) for faces in found] == [1, 1, 1, 1, 1, 0]
    for faces, offset in zip(found, [0, 0, 1, 1, 1], strict=False):
        np.testing.assert_array_equal(faces[0].points, np.round(ADMIRAL + offset))
    assert (source.name, source.reads_pixels) == ("annotations", False)


def test_the_digest_follows_the_landmarks(tree: Path) -> None:
    digest = get_landmark_source("annotations", tree).digest
    file = tree / "Anno" / "list_landmarks_celeba.txt"
    file.write_text(file.read_text(encoding="utf-8").replace("222", "223"), encoding="utf-8")
    assert get_landmark_source("annotations", tree).digest != digest


def test_auto_takes_annotations_where_there_are_some(tree: Path) -> None:
    assert has_annotations(tree)
    assert has_annotations(tree / "Img" / "img_celeba")
    assert get_landmark_source("auto", tree).name == "annotations"


def test_annotations_are_asked_for_where_there_are_none(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff")
    assert not has_annotations(tmp_path)
    with pytest.raises(DataError, match="found no"):
        get_landmark_source("annotations", tmp_path)


def test_an_unknown_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="unknown source of landmarks 'mtcn'; known: auto, annotations, face-alignment"):
        get_landmark_source("mtcn", tmp_path)


def test_sources_load_no_heavy_library() -> None:
    code = (
        "import sys; from pathlib import Path; from datatools.landmarks import get_landmark_source;"
        "import datatools.landmarks.check, datatools.landmarks.table, datatools.landmarks.annotations;"
        "get_landmark_source('mtcnn', Path('.')); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "datatools.landmarks.mtcnn" in loaded
    assert not loaded & {"torch", "face_alignment", "numba", "joblib", "tensorflow", "mtcnn"}
