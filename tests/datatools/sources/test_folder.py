"""`datatools.sources.folder`: names of one's own photos, which of their faces are used, and exclusions."""

from dataclasses import dataclass
from pathlib import Path
from unicodedata import normalize

import numpy as np
import pytest

from datatools.errors import DataError
from datatools.sources.folder import FaceChoice, FolderTree, list_photos, read_folder, read_own_names
from datatools.sources.own_attributes import OwnAttributes
from datatools.sources.records import Rejection, RejectionKind, face_name


@dataclass(frozen=True)
class Found:
    points: np.ndarray
    size: float


def found(size: float) -> Found:
    return Found(np.full((5, 2), size), size)


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


def read(folder: Path, faces: dict[str, list[Found]], **choice: object) -> FolderTree:
    return read_folder(
        folder,
        list_photos(folder),
        faces,
        FaceChoice(**choice),  # type: ignore[arg-type]
        source="mtcnn",
        no_face="nothing found",
        unreadable={"broken.png": Rejection(RejectionKind.DAMAGED_PHOTO, "broken.png", "cut off")},
        attributes=OwnAttributes(),
    )


def test_names_are_paths_below_the_folder(tmp_path: Path) -> None:
    names = ["1.jpg", "Ümläute/größe/1.JPG", "with blank/1.jpg", "with blank/a, b #1.HEIC", "x/y/z.TiFF"]
    touch(tmp_path, *names, "notes.txt", ".hidden.jpg", "x/.git/1.jpg")
    photos = list_photos(tmp_path)
    assert sorted(photos.paths) == sorted(names)
    assert all(path == tmp_path / name for name, path in photos.paths.items())
    assert photos.rejections == ()


def test_pictures_that_a_build_made_are_none_of_its_photos(tmp_path: Path) -> None:
    touch(tmp_path, "1.jpg", "report/pictures/001.jpg", "work/1.png", "reports/2.jpg")
    assert list(list_photos(tmp_path, without=(tmp_path / "report", tmp_path / "work")).paths) == [
        "1.jpg",
        "reports/2.jpg",
    ]


def test_entries_that_are_no_photos_are_rejected(tmp_path: Path) -> None:
    touch(tmp_path, "1.jpg", "line\nbreak.jpg")
    (tmp_path / "pipe.jpg").mkdir()
    touch(tmp_path, "pipe.jpg/2.jpg")
    with open(bytes(tmp_path) + b"/\xff.jpg", "wb") as stream:
        stream.write(b"x")
    photos = list_photos(tmp_path)
    assert list(photos.paths) == ["1.jpg", "pipe.jpg/2.jpg"]
    assert [rejection.kind for rejection in photos.rejections] == [RejectionKind.BAD_FILE_NAME] * 2


def test_a_folder_without_pictures(tmp_path: Path) -> None:
    touch(tmp_path, "notes.txt")
    with pytest.raises(DataError, match="holds no pictures"):
        list_photos(tmp_path)


def test_the_first_face_is_used(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "b/1.jpg", "broken.png", "empty.jpg")
    tree = read(tmp_path, {"a/1.jpg": [found(90), found(120)], "b/1.jpg": [found(50)], "empty.jpg": []})
    assert [(r.file_name, r.face, r.landmarks[0, 0], r.own) for r in tree.records] == [
        ("a/1.jpg", 0, 90, True),
        ("b/1.jpg", 0, 50, True),
    ]
    assert [(r.file_name, r.kind) for r in tree.rejections] == [
        ("broken.png", RejectionKind.DAMAGED_PHOTO),
        ("empty.jpg", RejectionKind.NO_FACE),
    ]
    assert "2 faces of 4 photos, landmarks from mtcnn; 2 photos without a face" in tree.describe_unannotated()
    assert tree.describe_missing() == ""
    assert tree.converted == ()


def test_every_face_is_a_record_of_its_own(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg")
    tree = read(tmp_path, {"a/1.jpg": [found(90), found(20), found(70)]}, all_faces=True, min_face=30)
    assert [(r.file_name, r.photo_name, r.face) for r in tree.records] == [
        ("a/1.jpg", "a/1.jpg", 0),
        ("a/1.jpg (face 2)", "a/1.jpg", 2),
    ]


def test_small_faces_are_left_out(tmp_path: Path) -> None:
    touch(tmp_path, "1.jpg", "2.jpg")
    tree = read(tmp_path, {"1.jpg": [found(20), found(80)], "2.jpg": [found(29.6)]}, min_face=30)
    assert [(r.file_name, r.face) for r in tree.records] == [("1.jpg (face 1)", 1)]
    assert [(r.kind, r.detail) for r in tree.rejections] == [
        (RejectionKind.SMALL_FACE, "the largest face has 30 px, and --min-face is 30")
    ]


def test_without_any_face_the_source_says_so(tmp_path: Path) -> None:
    touch(tmp_path, "1.jpg")
    assert "no face of the photos in" in read(tmp_path, {}).describe_missing()


def test_names_of_faces() -> None:
    assert [face_name("a.jpg", number) for number in (0, 1, 12)] == ["a.jpg", "a.jpg (face 1)", "a.jpg (face 12)"]


def test_exclusions_may_have_any_name(tmp_path: Path) -> None:
    photos = ["a, b.jpg", "IMG #1.jpg", "x/1.jpg", "x/1.jpg (face 1)", "größe.jpg", "2.jpg", " 3.jpg"]
    lines = [
        " 3.jpg",
        "a, b.jpg",
        "IMG #1.jpg",
        "x/1.jpg (face 1)",
        normalize("NFD", "größe.jpg"),
        "2.jpg,0.7",
        "# comment",
        "",
    ]
    (tmp_path / "exclude.txt").write_text("\n".join([*lines, "gone.jpg # why"]), encoding="utf-8")
    names = read_own_names(tmp_path / "exclude.txt", "--exclude", photos)
    assert names == {" 3.jpg", "a, b.jpg", "IMG #1.jpg", "x/1.jpg (face 1)", "größe.jpg", "2.jpg", "gone.jpg"}


def test_exclusions_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"--exclude .*gone\.txt: cannot be read"):
        read_own_names(tmp_path / "gone.txt", "--exclude", [])
