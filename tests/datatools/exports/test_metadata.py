"""Rows, names and classes of exported pictures."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datatools.errors import DataError
from datatools.exports import ExportOptions
from datatools.exports.base import Layout
from datatools.exports.imagefolder import ImageFolder
from datatools.exports.lmdb import LMDB
from datatools.exports.metadata import Classes, Facts, picture_names, read_classes
from datatools.exports.webdataset import WebDataset
from datatools.faces.geometry import face_quad
from datatools.pyramid import Provenance, Pyramid, PyramidWriter
from datatools.pyramid.format import COLUMNS, UNKNOWN_ORIGIN
from tests.support.pyramid_samples import face, write


def write_named(path: Path, names: list[str], **facts: Any) -> Pyramid:
    with PyramidWriter(path, len(names), resolution=4, **facts) as writer:
        for index, name in enumerate(names):
            md5, zeros = "0" * 32, np.zeros
            row = Provenance(name, md5, 0, 1, -1, zeros((4, 2)), zeros((5, 2))) if name else UNKNOWN_ORIGIN
            writer.append(face(index, 4), row)
    return Pyramid(path)


def names_of(pyramid: Pyramid, layout: Layout, names: Any, classes: Classes | None = None) -> list[str]:
    options = ExportOptions("folder", 4, names=names)
    return picture_names(pyramid, np.arange(len(pyramid)), layout, options, classes)


def test_a_row_has_every_column(tmp_path: Path) -> None:
    pyramid = Pyramid(write(tmp_path / "a.h5", range(3)))
    row = Facts(pyramid, np.array([2, 1]), 16, ["x.png", "y.png"], None).row(1)
    assert {column.name for column in COLUMNS} | {"index", "photo", "attributes", "picture_landmarks"} == row.keys()
    assert (row["file_name"], row["index"], row["photo"], row["split"]) == ("y.png", 1, "000001.jpg", "validation")
    assert row["attributes"] == {"5_o_Clock_Shadow": 1, "Smiling": -1, "Young": 1}
    assert row["quad"] == pyramid.provenance("quad")[1].tolist()


def test_what_is_not_known_is_none(tmp_path: Path) -> None:
    pyramid = write_named(tmp_path / "a.h5", [""])
    row = Facts(pyramid, np.array([0]), 4, ["x.png"], None).row(0)
    unknown = (
        "photo",
        "source_md5",
        "score",
        "rank",
        "celebahq_index",
        "quad",
        "landmarks",
        "picture_landmarks",
        "identity",
        "split",
    )
    assert {name: row[name] for name in unknown} == dict.fromkeys(unknown)


def test_landmarks_in_the_picture(tmp_path: Path) -> None:
    points = np.array([[40.0, 50], [60, 50], [50, 62], [42, 72], [58, 72]])
    quad = face_quad(points)
    with PyramidWriter(tmp_path / "a.h5", 1, resolution=64) as writer:
        writer.append(face(0, 64), Provenance("a.jpg", "0" * 32, 0, 1, -1, quad, points))
    row = Facts(Pyramid(tmp_path / "a.h5"), np.array([0]), 32, ["x.png"], None).row(0)
    assert np.allclose(row["picture_landmarks"], (points + 0.5 - quad[0]) / (quad[2] - quad[0]) * 32 - 0.5)


def test_names_of_photos(tmp_path: Path) -> None:
    pyramid = write_named(tmp_path / "a.h5", ["a.b.jpg", "cats/1.jpeg", "plain"])
    assert names_of(pyramid, Layout(), "source") == ["a.b.png", "cats/1.png", "plain.png"]
    assert names_of(pyramid, WebDataset(), "source") == ["a_b.png", "cats/1.png", "plain.png"]
    assert names_of(pyramid, LMDB(), "index") == ["4-00000", "4-00001", "4-00002"]


@pytest.mark.parametrize(
    ("photos", "message"),
    [
        (["a.jpg", "A.png"], "names source: 2 pictures would be called a.png; choose index"),
        (["a.jpg", ""], "names source: the photo of image 1 is not known; choose index"),
        (["a\udcff.jpg"], r"the photo of image 0 is 'a\\udcff.jpg', which is no name of a picture"),
    ],
)
def test_photos_that_cannot_name_pictures(tmp_path: Path, photos: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        names_of(write_named(tmp_path / "a.h5", photos), Layout(), "source")


def test_classes(tmp_path: Path) -> None:
    pyramid = Pyramid(write(tmp_path / "a.h5", range(12)))
    known = np.array([9, 0, 4])
    identity = read_classes(pyramid, "identity", known)
    assert identity == Classes(("100", "104", "109"), [2, 0, 1])
    split = read_classes(pyramid, "split", known)
    assert split is not None
    assert (split.names, split.labels, split.folders) == (("train", "validation"), [0, 0, 1], ["train", "validation"])
    both = read_classes(pyramid, "Smiling,Young", known)
    assert both is not None
    assert both.names == ("not_Smiling-not_Young", "not_Smiling-Young", "Smiling-not_Young", "Smiling-Young")
    assert [both.names[int(str(label))] for label in both.labels] == [
        "not_Smiling-Young" if young > 0 else "not_Smiling-not_Young" for young in pyramid.attribute("Young")[known]
    ]
    assert [name[:2] for name in both.folders] == ["0-", "1-", "2-", "3-"]
    with pytest.raises(DataError, match="labels identity: 1 of 2 images has none"):
        read_classes(pyramid, "identity", np.array([1, 2]))
    with pytest.raises(DataError, match=r"labels Young: 1 of 2 images of .* have no attributes"):
        read_classes(pyramid, "Young", np.array([1, 2]))


def test_classes_of_a_file(tmp_path: Path) -> None:
    pyramid = write_named(tmp_path / "a.h5", ["1.jpg", "2.jpg"], settings={"classes": '["a/b", "c"]'})
    np.save(tmp_path / "a-labels.npy", np.array([[0, 1], [1, 0]], np.float32))
    classes = read_classes(pyramid, "file", np.array([1]))
    assert classes == Classes(("a/b", "c"), [0])
    assert classes.folders == ["a_b", "c"]
    assert names_of(pyramid, ImageFolder(), "index", Classes(("a/b", "c"), [1, 0])) == ["c/00000.png", "a_b/00001.png"]
    np.save(tmp_path / "a-labels.npy", np.array([[0.25, 0.75], [1, 0]], np.float32))
    weights = read_classes(pyramid, "file", np.array([0, 1]))
    assert weights is not None
    assert weights.labels == [[0.25, 0.75], [1, 0]]
    with pytest.raises(DataError, match="labels are weights of classes; choose identity, split"):
        names_of(pyramid, ImageFolder(), "index", weights)
