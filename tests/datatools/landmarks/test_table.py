"""Files of landmarks: what is written is read again, hand-made files are read, and mistakes name their line."""

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datatools.errors import DataError
from datatools.landmarks import Face, Photo, get_landmark_source
from datatools.landmarks.base import face_of_points
from datatools.landmarks.table import COLUMNS, read_file_landmarks, read_table, write_table

POINTS = np.array([[30.25, 40], [70, 41.5], [50, 60], [35, 80], [65, 80.01]])
FACE = Face(POINTS, (10.5, 0, 80, 100.25), 0.9876)
HEADER = ",".join(COLUMNS[:11])
ROW = "30.25,40,70,41.5,50,60,35,80,65,80.01"

names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).filter(lambda name: name.strip())


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "faces.csv"
    small = Face(np.round(POINTS / 2 - 60, 2), (-40.25, 3, 40, 50), 0.5)
    written = {"b/Grüße 1.jpg": [FACE, small], 'a, "b";\tc.PNG': [FACE], " leading.jpg": [], "日本/🙂.webp": [FACE]}
    write_table(path, written, dict.fromkeys(written, "mtcnn"))
    found = read_table(path)
    assert list(found) == list(written)
    for name, faces in written.items():
        assert len(found[name]) == len(faces)
        for one, other in zip(found[name], faces, strict=True):
            np.testing.assert_array_equal(one.points, other.points)
            assert (one.box, one.score) == (other.box, other.score)


def test_the_file_looks_as_documented(tmp_path: Path) -> None:
    path = tmp_path / "faces.csv"
    write_table(path, {"a b/1.jpg": [FACE], "2.jpg": []}, {"a b/1.jpg": "mtcnn", "2.jpg": "annotations"})
    assert path.read_text(encoding="utf-8").splitlines() == [
        HEADER + ",score,face,box_x,box_y,box_width,box_height,source",
        f"a b/1.jpg,{ROW},0.9876,0,10.5,0,80,100.25,mtcnn",
        "2.jpg,,,,,,,,,,,,,,,,,annotations",
    ]


@given(name=names, values=st.lists(st.floats(-9999, 9999), min_size=10, max_size=10))
def test_any_name_and_points_survive(tmp_path_factory: pytest.TempPathFactory, name: str, values: list[float]) -> None:
    path = tmp_path_factory.mktemp("table") / "faces.csv"
    points = np.round(np.array(values).reshape(5, 2), 2)
    write_table(path, {name: [face_of_points(points)]}, {name: "mtcnn"})
    ((found, (face,)),) = read_table(path).items()
    assert found == name
    np.testing.assert_array_equal(face.points, points)


@pytest.mark.parametrize("separator", [";", "\t"])
def test_spreadsheets_may_write_other_separators_and_decimal_commas(tmp_path: Path, separator: str) -> None:
    header, row = HEADER.replace(",", separator), ROW.replace(",", separator).replace(".", ",")
    path = write(tmp_path / "faces.csv", f"\ufeff{header}", f"a.jpg{separator}{row}", separator * 10)
    np.testing.assert_array_equal(read_table(path)["a.jpg"][0].points, POINTS)


def test_a_hand_made_file_needs_eleven_columns_in_any_order(tmp_path: Path) -> None:
    header = ["comment", *COLUMNS[1:11], "File "]
    path = write(tmp_path / "faces.csv", ",".join(header), f"good,{ROW},a.jpg", "", f",{ROW},a.jpg")
    first, second = read_table(path)["a.jpg"]
    np.testing.assert_array_equal(first.points, POINTS)
    assert first.score == second.score == 1
    assert first.box == face_of_points(POINTS).box


def test_faces_come_by_number(tmp_path: Path) -> None:
    header = f"{HEADER},score,face"
    path = write(tmp_path / "faces.csv", header, f"a.jpg,{ROW},0.5,1", f"b.jpg,{ROW},1,0", f"a.jpg,{ROW},0.25,0")
    assert [face.score for face in read_table(path)["a.jpg"]] == [0.25, 0.5]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([f"a.jpg,{ROW.replace('70', 'seventy')}"], r"line 2: right_eye_x is 'seventy'; expected a number of pixels"),
        ([f"a.jpg,{ROW.replace('70', 'nan')}"], r"line 2: right_eye_x is 'nan'"),
        ([f"a.jpg,{ROW.replace('70', '1_0')}"], r"line 2: right_eye_x is '1_0'"),
        ([f"a.jpg,{ROW.replace('70', '2e6')}"], r"line 2: right_eye_x is '2e6'"),
        ([f"a.jpg,{ROW}", f"b.jpg,{ROW.replace('70', '')}"], r"line 3: right_eye_x is empty; a face has all ten"),
        (["a.jpg,1,2,3"], r"line 2: right_eye_y is empty"),
        ([f",{ROW}"], r"line 2: the file name is empty"),
        ([f"a.jpg,{ROW},7"], r"line 2: score is 7; expected 0 to 1"),
        ([f"a.jpg,{ROW},1,0.5"], r"line 2: face is 0.5; expected 0, 1, 2"),
        ([f"a.jpg,{ROW},1,0", "", f"a.jpg,{ROW},1,0"], r"line 4: second row for face 0 of a.jpg"),
        ([f"a.jpg,{ROW},1,0,5,5,-1,9"], r"line 2: the box is -1 x 9 pixels"),
    ],
)
def test_a_mistake_names_its_line(tmp_path: Path, rows: list[str], message: str) -> None:
    path = write(tmp_path / "faces.csv", f"{HEADER},score,face,box_x,box_y,box_width,box_height", *rows)
    with pytest.raises(DataError, match=rf"faces.csv, {message}"):
        read_table(path)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "is empty; its first line has to be file,left_eye_x"),
        (["name,x,y"], r"has no column file: its first line is 'name,x,y', expected file,left_eye_x"),
        ([HEADER.replace(",nose_y", "")], "has no column nose_y"),
        ([f"{HEADER},file"], "has two columns file"),
        (["<!DOCTYPE html>"], "it is a web page"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, lines: list[str], message: str) -> None:
    path = tmp_path / "faces.csv"
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_table(path)


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no.csv: cannot be read"):
        get_landmark_source(str(tmp_path / "no.csv"), tmp_path)


def test_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not valid UTF-8; rename the file"):
        write_table(tmp_path / "faces.csv", {"a\udcff.jpg": [FACE]}, {"a\udcff.jpg": "mtcnn"})
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_a_source_of_landmarks(tmp_path: Path) -> None:
    path = write(tmp_path / "faces.csv", HEADER, f"sub/ä.jpg,{ROW}", "none.jpg,,,,,,,,,,")
    source = get_landmark_source(str(path), tmp_path)
    assert (source.name, source.reads_pixels, source.batch_size) == ("faces.csv", False, 1)
    found = source.find([Photo("sub/ä.jpg"), Photo("none.jpg"), Photo("other.jpg")])
    assert [len(faces) for faces in found] == [1, 0, 0]
    assert read_file_landmarks(path).unknown(["none.jpg", "other.jpg"]) == ["other.jpg"]
    digest = source.digest
    write(path, HEADER, f"sub/ä.jpg,{ROW}")
    assert get_landmark_source(str(path), tmp_path).digest != digest


def test_letters_and_accents_apart_are_the_same_name(tmp_path: Path) -> None:
    apart = unicodedata.normalize("NFD", "ä.jpg")
    assert apart != "ä.jpg"
    for in_file, on_disk in (("ä.jpg", apart), (apart, "ä.jpg")):
        source = read_file_landmarks(write(tmp_path / "faces.csv", HEADER, f"{in_file},{ROW}"))
        assert len(source.find([Photo(on_disk)])[0]) == 1
        assert source.unknown([on_disk]) == []
