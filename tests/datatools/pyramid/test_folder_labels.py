"""datatools.pyramid.folder_labels: classes from folders, StyleGAN's JSON and CSV; mistakes are named."""

import json
from pathlib import Path

import numpy as np
import pytest

from datatools.errors import DataError
from datatools.pyramid.folder_labels import labels_of_csv, labels_of_folders, labels_of_json, read_class_labels
from datatools.pyramid.folder_source import Entry, PictureSource


def test_folders_are_classes_in_natural_order() -> None:
    names = ["top/class 10/a.png", "top/class 2/a.png", "top/class 2/more/b.png"]
    labels = labels_of_folders(names)
    assert labels.classes == ("class 2", "class 10")
    assert labels.rows(names).tolist() == [[0, 1], [1, 0], [1, 0]]
    assert labels.rows(names).dtype == np.float32
    with_loose_ones = labels_of_folders(["cat/1.png", "dog/1.png", "loose.png"])
    assert with_loose_ones.classes == ("cat", "dog")
    assert "loose.png" not in with_loose_ones.by_name


@pytest.mark.parametrize("names", [[], ["a.png"], ["one/a.png", "one/b.png"], ["all/one/a.png", "all/one/b.png"]])
def test_less_than_two_folders_are_no_classes(names: list[str]) -> None:
    with pytest.raises(DataError, match="labels need two classes or more"):
        labels_of_folders(names)


def test_numbers_of_stylegans_json() -> None:
    pairs = [["00000/img00000000.png", 3], ["00000\\img00000001.png", 0]]
    names = ["00000/img00000000.png", "00000/img00000001.png"]
    for content in (pairs, dict(pairs)):
        labels = labels_of_json(json.dumps({"labels": content}).encode(), Path("dataset.json"))
        assert labels.classes == ("0", "1", "2", "3")
        assert labels.rows(names).tolist() == [[0, 0, 0, 1], [1, 0, 0, 0]]


def test_weights_of_stylegans_json() -> None:
    labels = labels_of_json(b'{"labels": [["a.png", [0.25, 0.75]], ["b.png", [1, 0]]]}', Path("dataset.json"))
    assert labels.rows(["b.png", "a.png"]).tolist() == [[1, 0], [0.25, 0.75]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is not JSON"),
        (b"[]", "holds no labels"),
        (b'{"labels": null}', "holds no labels"),
        (b'{"labels": ["a.png"]}', "the label of 'a.png' is 'None'"),
        (b'{"labels": [["a.png", -1]]}', "the label of 'a.png' is '-1'"),
        (b'{"labels": [["a.png", true]]}', "the label of 'a.png' is 'True'"),
        (b'{"labels": [["a.png", [0.5, 0.6]]]}', "weights that sum to 1"),
        (b'{"labels": [["a.png", [NaN, 1]]]}', "weights that sum to 1"),
        (b'{"labels": [["a.png", 1], ["b.png", [0, 1]]]}', "of another kind or length"),
        (b'{"labels": [["a.png", 0], ["b.png", 0]]}', "two classes or more"),
    ],
)
def test_other_json_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        labels_of_json(content, Path("dataset.json"))


@pytest.mark.parametrize(
    "text",
    [
        "file_name,label\na b/1.png,cat\nü.png,dog\n",
        "\ufeffclass;path;note\r\ncat;./a b/1.png;x\r\ndog;ü.png;\r\n\r\n",
        'picture\tkind\n"a b/1.png"\tcat\nü.png\tdog',
    ],
)
def test_tables_of_names_and_classes(tmp_path: Path, text: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(text, encoding="utf-8", newline="")
    labels = labels_of_csv(path)
    assert labels.classes == ("cat", "dog")
    assert labels.rows(["ü.png", "a b/1.png"]).tolist() == [[0, 1], [1, 0]]


def test_class_numbers_in_a_table_are_ordered_as_numbers(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("file,label\n" + "".join(f"{number}.png,{number}\n" for number in (10, 9, 1)))
    assert labels_of_csv(path).classes == ("1", "9", "10")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("file_name,kind,size\n", "has no column label"),
        ("who,label,size\n", "has no column file_name"),
        ("file_name,label\na.png\n", "line 2: expected a file name and a label"),
        ("file_name,label\na.png,x\nb.png,\n", "line 3: expected a file name and a label"),
        ("file_name,label\na.png,x\na.png,y\n", "line 3: a.png has the label 'x' above"),
        ("file_name,label\na.png,x\n", "two classes or more"),
    ],
)
def test_other_tables_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        labels_of_csv(path)


def test_the_choice_of_labels(tmp_path: Path) -> None:
    source = PictureSource(tmp_path, (Entry("a/1.png", ()), Entry("b/1.png", ())), ())
    assert read_class_labels("folders", source).classes == ("a", "b")
    with pytest.raises(DataError, match=r"dataset\.json: cannot be read"):
        read_class_labels("json", source)
    (tmp_path / "dataset.json").write_text('{"labels": {"a/1.png": 0, "b/1.png": 2}}')
    assert read_class_labels("json", source) == read_class_labels(str(tmp_path / "dataset.json"), source)
    with pytest.raises(DataError, match="expected folders, json, or a file that ends in"):
        read_class_labels("names", source)
