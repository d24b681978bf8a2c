"""`datatools.sources.own_attributes`: a table of attributes, joined by name."""

from pathlib import Path
from unicodedata import normalize

import pytest

from datatools.errors import DataError
from datatools.sources.own_attributes import OwnAttributes, read_attributes


def write(folder: Path, *lines: str) -> Path:
    path = folder / "attributes.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_columns_become_attributes_identity_and_split(tmp_path: Path, separator: str) -> None:
    lines = [
        "Smiling,file_name,split,identity,Glasses,Camera",
        "1,a/1.jpg,0,17,0,Leica",
        "-1,größe.jpg,,,1,",
        ",c.jpg,2,-1,,",
    ]
    table = read_attributes(write(tmp_path, *(line.replace(",", separator) for line in lines)))
    assert table.names == ("Smiling", "Glasses")
    assert table.unused == ("Camera",)
    assert table.of("a/1.jpg") == {"identity": 17, "split": 0, "attributes": (1, -1)}
    assert table.of(normalize("NFD", "größe.jpg")) == {"identity": None, "split": None, "attributes": (-1, 1)}
    assert table.of("c.jpg") == {"identity": None, "split": 2, "attributes": (0, 0)}
    assert table.of("d.jpg") == {}


def test_the_first_column_has_the_names_if_none_is_called_so(tmp_path: Path) -> None:
    table = read_attributes(write(tmp_path, "image,Young", '"a, b.jpg",1'))
    assert table.of("a, b.jpg")["attributes"] == (1,)


def test_what_is_not_used_is_said(tmp_path: Path) -> None:
    path = write(tmp_path, "file,Young,Place", "a.jpg,1,Rome", "b.jpg,1,Oslo")
    assert read_attributes(path).notes(["a.jpg"]) == (
        f"{path}: not used, since they hold no attributes: Place",
        f"{path}: 1 of 2 rows are of no photo here, such as b.jpg",
    )
    assert OwnAttributes().notes(["a.jpg"]) == ()


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["file,Young", "a.jpg,1", "b.jpg,2"], "line 3: Young is '2'; expected 1, -1"),
        (["file,split", "a.jpg,3"], "line 2: split is '3'; expected a whole number from 0 to 2"),
        (["file,identity", "a.jpg,Anna"], "line 2: identity is 'Anna'; expected a whole number"),
        (["file,Young", "a.jpg"], "line 2: 1 cell for 2 columns"),
        (["file,Young", "a.jpg,1", "a.jpg,1"], "line 3: second row for a.jpg"),
        (["file,Young,Young", "a.jpg,1,1"], "has two columns 'Young'"),
    ],
)
def test_mistakes_name_the_line(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(DataError) as caught:
        read_attributes(write(tmp_path, *lines))
    assert message in str(caught.value)


def test_an_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "attributes.csv"
    path.write_bytes(b"")
    with pytest.raises(DataError, match="is empty"):
        read_attributes(path)
