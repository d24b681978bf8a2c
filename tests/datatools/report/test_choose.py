"""The page of all faces: its data, its sheets and its groups; tests/pipelines/test_choose.py opens it in a browser."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from datatools.pyramid import Pyramid
from datatools.report.choose import SHEET, TILE, duplicate_groups, write_choose_page
from datatools.report.parts import Faces
from datatools.report.summary import BuildSummary, DuplicateFiles
from tests.support.pyramid_samples import face, write
from tests.support.webpages import Page


def pairs_of(*names: str) -> tuple[DuplicateFiles, ...]:
    return tuple(DuplicateFiles(first, second, 3) for first, second in (name.split("-") for name in names))


def write_page(folder: Path, count: int, **values: Any) -> dict[str, Any]:
    """Write a page of `count` faces of 32 x 32 pixels; return its data."""
    path = write(folder / "faces.h5", range(count))
    summary = BuildSummary(path, path, path, {}, (), (), {}, {}, **values)
    with Pyramid(path) as pyramid:
        assert write_choose_page(Faces(pyramid), summary, folder) == "choose.html"
    script = (folder / "choose" / "faces.js").read_text(encoding="ascii")
    assert script.startswith("const data = {")
    data: dict[str, Any] = json.loads(script.removeprefix("const data = ").removesuffix(";\n"))
    return data


@pytest.mark.parametrize("count", [1, SHEET**2, SHEET**2 + 3])
def test_every_face_is_on_its_sheet(count: int, tmp_path: Path) -> None:
    data = write_page(tmp_path, count)
    assert len(data["names"]) == len(data["scores"]) == len(data["groups"]) == count
    sheets = sorted((tmp_path / "choose").glob("*.jpg"))
    assert [path.stem for path in sheets] == [f"{number:05}" for number in range(-(-count // SHEET**2))]
    for index in range(count):
        sheet = np.asarray(Image.open(sheets[index // SHEET**2]), np.float64)
        assert sheet.shape == (SHEET * TILE, SHEET * TILE, 3)
        row, column = divmod(index % SHEET**2, SHEET)
        tile = sheet[row * TILE : (row + 1) * TILE, column * TILE : (column + 1) * TILE]
        small = tile.reshape(32, TILE // 32, 32, TILE // 32, 3).mean(axis=(1, 3))
        errors = [np.abs(small - face(other)).mean() for other in range(count)]
        assert np.argmin(errors) == index


def test_the_data_have_names_as_lists_have_them(tmp_path: Path) -> None:
    data = write_page(tmp_path, 3, excluded=("x.jpg",), list_names={"000001.jpg": "000001.jpg (face 0)"})
    assert data["names"] == ["été_0.jpg", "000001.jpg (face 0)", "été_2.jpg"]
    assert data["scores"] == [1, 0.5, 0.3333]
    assert data["excluded"] == ["x.jpg"]
    page = Page(tmp_path / "choose.html")
    assert "list the 1 name that this build left out, too" in page.text
    assert "http" not in page.source


def test_a_file_without_faces_has_no_page(tmp_path: Path) -> None:
    path = write(tmp_path / "faces.h5", range(0))
    with Pyramid(path) as pyramid:
        assert write_choose_page(Faces(pyramid), BuildSummary(path, path, path, {}, (), (), {}, {}), tmp_path) is None
    assert not (tmp_path / "choose.html").exists()


def test_groups_are_chains_of_pairs_among_the_faces() -> None:
    names = ["a", "b", "c", "d", "e", "f"]
    groups = duplicate_groups(pairs_of("a-d", "f-d", "b-x", "c-e"), names).tolist()
    assert groups == [1, 0, 2, 1, 2, 1]
    assert duplicate_groups((), names).tolist() == [0] * 6
