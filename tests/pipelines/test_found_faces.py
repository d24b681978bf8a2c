"""`pipelines.found_faces`, `pipelines.find_faces`: the table that people may correct, and what is looked at again."""

import csv
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datatools.landmarks.base import Face, Photo
from datatools.landmarks.views import ENOUGH
from pipelines.find_faces import FaceFinder, map_finder
from pipelines.found_faces import FoundFaces, Row, face_values

POINTS = np.array([[10, 20], [30, 20], [20, 30], [12, 40], [28, 40]], np.float64)


def row(name: str, path: Path, *faces: float) -> Row:
    """What was found in a photo: a face for each number, which shifts it."""
    stamp = path.stat()
    found = [face_values(Face(POINTS + shift, (shift, shift, 40, 50), 0.5)) for shift in faces]
    return {
        "name": name,
        "source_md5": hashlib.md5(path.read_bytes()).hexdigest(),
        "stamp": [stamp.st_size, stamp.st_mtime_ns, stamp.st_ctime_ns],
        "size": [60, 50],
        "rejection": None,
        "faces": found,
    }


@pytest.fixture
def photos(tmp_path: Path) -> dict[str, Path]:
    paths = {name: tmp_path / "photos" / name for name in ("a.jpg", "b/1.jpg")}
    for name, path in paths.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return paths


@pytest.fixture
def found(tmp_path: Path, photos: dict[str, Path]) -> FoundFaces:
    known = FoundFaces(tmp_path / "landmarks.csv", tmp_path / "work" / "landmarks")
    assert known.missing(photos, "d1") == ("a.jpg", "b/1.jpg")
    known.add([row(name, path, 1, 2) for name, path in photos.items()], photos, "mtcnn", "d1")
    return known


def cells(table: Path) -> list[dict[str, str]]:
    with table.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_the_table_has_every_face_and_its_source(found: FoundFaces, photos: dict[str, Path]) -> None:
    rows = cells(found.table)
    assert [(r["file"], r["face"], r["left_eye_x"], r["source"]) for r in rows] == [
        ("a.jpg", "0", "11", "mtcnn"),
        ("a.jpg", "1", "12", "mtcnn"),
        ("b/1.jpg", "0", "11", "mtcnn"),
        ("b/1.jpg", "1", "12", "mtcnn"),
    ]
    assert found.missing(photos, "d1") == ()


def test_new_and_changed_photos_are_looked_at_again(found: FoundFaces, photos: dict[str, Path]) -> None:
    photos["b/1.jpg"].write_bytes(b"another")
    os.utime(photos["a.jpg"])
    photos["c.jpg"] = photos["a.jpg"].with_name("c.jpg")
    photos["c.jpg"].write_bytes(b"new")
    assert found.missing(photos, "d1") == ("b/1.jpg", "c.jpg")


def test_another_source_looks_at_all(found: FoundFaces, photos: dict[str, Path]) -> None:
    assert found.missing(photos, "d2") == ("a.jpg", "b/1.jpg")


def test_without_the_table_all_are_looked_at(found: FoundFaces, photos: dict[str, Path]) -> None:
    found.table.unlink()
    assert found.missing(photos, "d1") == ("a.jpg", "b/1.jpg")


def correct(table: Path) -> None:
    text = table.read_text(encoding="utf-8")
    assert "\na.jpg,11," in text
    table.write_text(text.replace("\na.jpg,11,", "\na.jpg,11.5,"), encoding="utf-8")


def test_corrections_stay_when_photos_are_added(found: FoundFaces, photos: dict[str, Path]) -> None:
    correct(found.table)
    photos["c.jpg"] = photos["a.jpg"].with_name("c.jpg")
    photos["c.jpg"].write_bytes(b"new")
    found.add([row("c.jpg", photos["c.jpg"], 5)], photos, "mtcnn", "d1")
    assert [(r["file"], r["left_eye_x"]) for r in cells(found.table) if r["face"] == "0"] == [
        ("a.jpg", "11.5"),
        ("b/1.jpg", "11"),
        ("c.jpg", "15"),
    ]
    assert found.missing(photos, "d1") == ()
    assert found.written == ""  # still known as corrected


def test_a_corrected_table_of_another_source_is_kept(
    found: FoundFaces, photos: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    correct(found.table)
    found.add([row(name, path, 3) for name, path in photos.items()], photos, "other", "d2")
    assert [r["left_eye_x"] for r in cells(found.table)] == ["13", "13"]
    assert cells(found.table.with_name("landmarks-1.csv"))[0]["left_eye_x"] == "11.5"
    assert "it is kept as landmarks-1.csv" in capsys.readouterr().out


def test_a_table_that_nobody_corrected_is_replaced(found: FoundFaces, photos: dict[str, Path]) -> None:
    found.add([row(name, path, 3) for name, path in photos.items()], photos, "other", "d2")
    assert not found.table.with_name("landmarks-1.csv").exists()


@dataclass(frozen=True)
class Centre:
    """A source that finds a small face at the corner and a large one at the centre of what it is given."""

    name: str = "centre"
    digest: str = "c"
    reads_pixels: bool = True
    batch_size: int = 1

    def find(self, photos: Sequence[Photo], /) -> list[list[Face]]:
        faces = []
        for photo in photos:
            assert photo.pixels is not None
            height, width = photo.pixels.shape[:2]
            middle = np.tile([width / 2 - 0.5, height / 2 - 0.5], (5, 1))
            large = Face(middle, (width / 4, height / 4, width / 2, height / 2))
            faces.append([Face(np.zeros((5, 2)), (0, 0, 9, 9)), large])
        return faces


@pytest.mark.parametrize(("orientation", "size"), [(1, (3 * ENOUGH, 900)), (6, (900, 3 * ENOUGH)), (1, (300, 200))])
def test_points_are_in_pixels_of_the_upright_photo(tmp_path: Path, orientation: int, size: tuple[int, int]) -> None:
    """However much smaller the detector saw it; the large face comes first."""
    stored = size if orientation == 1 else size[::-1]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", stored, "grey").save(tmp_path / "a.jpg", exif=exif)
    found = next(map_finder(FaceFinder(Centre()), [("a.jpg", tmp_path / "a.jpg")], 1))
    assert found["rejection"] is None
    assert len(found["faces"]) == 2
    first = found["faces"][0]
    assert first[:2] == pytest.approx([size[0] / 2 - 0.5, size[1] / 2 - 0.5])
    assert first[11:] == pytest.approx([size[0] / 4, size[1] / 4, size[0] / 2, size[1] / 2])


def test_a_photo_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    found = next(map_finder(FaceFinder(Centre()), [("a.jpg", tmp_path / "a.jpg")], 1))
    assert found["faces"] == []
    assert found["rejection"][0] == "unknown-format"
