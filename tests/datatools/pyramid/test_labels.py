"""Labels are one-hot or weights; class numbers, archives and damaged files are refused in one line."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from datatools.errors import DataError
from datatools.pyramid.labels import labels_of_file
from pggan.data.stream import Source
from tests.support.pggan_runs import write_pyramid

ONE_HOT = np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 1]]
NUMBERS = np.array([0, 1, 2, 0, 1])


@pytest.fixture(scope="module")
def h5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pyramid(tmp_path_factory.mktemp("pyramid") / "ramps.h5", attributes=True)


def test_attributes_become_classes(h5: Path) -> None:
    labels = Source(h5, "Smiling,Male").labels
    assert labels is not None
    assert labels.shape == (50, 4)
    assert labels.argmax(axis=1)[:6].tolist() == [0, 3, 1, 2, 1, 3]  # smiling for odd rows, male but for every third
    assert Source(h5).classes == 0


def test_labels_of_a_file(h5: Path, tmp_path: Path) -> None:
    other = write_pyramid(tmp_path / "labelled.h5", 5)
    expected = np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 1]]
    np.save(tmp_path / "labelled-labels.npy", expected)
    assert np.array_equal(Source(other, "file").labels, expected)
    np.save(tmp_path / "labelled-labels.npy", expected[:4])
    with pytest.raises(DataError, match=r"labelled-labels\.npy is \(4, 3\), expected finite values \(5, classes\)"):
        Source(other, "file")
    np.save(tmp_path / "labelled-labels.npy", expected.argmax(axis=1)[:, None])
    with pytest.raises(DataError, match="class numbers are not labels yet"):
        Source(other, "file")
    with pytest.raises(DataError, match=r"ramps-labels\.npy cannot be read"):
        Source(h5, "file")
    with pytest.raises(DataError, match="no attribute 'Smilin', did you mean 'Smiling'"):
        Source(h5, "Smilin")


def packed(array: NDArray, **options: bool) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


@pytest.mark.parametrize(
    "array",
    [
        ONE_HOT.astype(bool),
        ONE_HOT.astype(np.uint8),
        ONE_HOT.astype(">i4"),
        ONE_HOT.astype(">f8"),
        np.asfortranarray(ONE_HOT),
        np.pad(ONE_HOT, ((0, 0), (0, 2))),  # classes without images
        np.random.default_rng(0).dirichlet(np.ones(1000), 5).astype(np.float16),
        np.full((5, 3), 1 / 3, np.float32),
    ],
    ids=["bool", "uint8", "int32 big-endian", "float64 big-endian", "fortran", "empty classes", "float16", "weights"],
)
def test_every_way_to_store_right_labels(array: NDArray, tmp_path: Path) -> None:
    np.save(tmp_path / "labels.npy", array)
    labels = labels_of_file(tmp_path / "labels.npy", 5)
    assert labels.dtype == np.float32
    assert labels.flags.c_contiguous
    assert np.array_equal(labels, array.astype(np.float32))


STRUCTURED = np.array([(0, 1.0)] * 5, [("a", "i4"), ("b", "f4")])
ARCHIVE = io.BytesIO()
np.savez(ARCHIVE, ONE_HOT)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (packed(NUMBERS), r"is \(5,\), expected .*class numbers are not labels yet"),
        (packed(NUMBERS[:, None]), r"is \(5, 1\), expected .*class numbers are not labels yet"),
        (packed(NUMBERS[:, None].astype(np.float32)), r"is \(5, 1\), expected .*class numbers are not labels yet"),
        (packed(np.ones((5, 1), np.float32)), r"is \(5, 1\), expected .*class numbers are not labels yet"),
        (packed(np.float32(1)), r"is \(\), expected finite values \(5, classes\)"),
        (packed(ONE_HOT[None]), r"is \(1, 5, 3\), expected"),
        (packed(ONE_HOT[:, :0]), r"is \(5, 0\), expected"),
        (packed(ONE_HOT[:0]), r"is \(0, 3\), expected"),
        (packed(ONE_HOT.T), r"is \(3, 5\), expected .*: transpose it"),
        (packed(np.where(ONE_HOT == 1, np.nan, ONE_HOT)), "row 0 holds a value that is not finite, as do 4 others"),
        (packed(np.where(ONE_HOT == 1, np.inf, -np.inf)), "row 0 holds a value that is not finite"),
        (packed(ONE_HOT * 2 - 1), "row 0 holds a negative value, as do 4 others"),
        (packed(ONE_HOT + np.eye(5, 3)[::-1]), "row 2 sums to 2, not to 1, as do 2 others"),
        (packed(ONE_HOT * np.array([[1], [1], [1.01], [1], [1]])), "row 2 sums to 1.01, not to 1;"),
        (packed((ONE_HOT * 255).astype(np.uint8)), "row 0 sums to 255, not to 1, as do 4 others"),
        (packed(np.zeros((5, 3))), "row 0 sums to 0, not to 1"),
        (packed(ONE_HOT.astype(complex)), "holds values of type complex128, expected numbers"),
        (packed(ONE_HOT.astype(str)), "holds values of type <U32, expected numbers"),
        (packed(STRUCTURED), "holds values of type .*expected numbers"),
        (packed(ONE_HOT.astype(object), allow_pickle=True), "cannot be read: it holds Python objects, not numbers;"),
        (ARCHIVE.getvalue(), r"cannot be read: it is an \.npz archive"),
        (packed(ONE_HOT)[:-1], "cannot be read: it is cut off or damaged;"),
        (packed(ONE_HOT)[:40], "cannot be read: "),
        (packed(ONE_HOT).replace(b"descr", b"decsr"), "cannot be read: "),
        (packed(ONE_HOT).replace(b"(5, 3)", b"(-5,3"), "cannot be read: "),
        (packed(ONE_HOT).replace(b"(5, 3), }" + b" " * 9, b"(9999999, 9999999)"), "cannot be read: "),
        (b"", "cannot be read: it is not a file that numpy.save wrote"),
        (b"0,1,0\n1,0,0\n", "cannot be read: it is not a file that numpy.save wrote"),
        (b"\x80\x04]\x94.", "cannot be read: it is not a file that numpy.save wrote"),
    ],
)
def test_wrong_labels_are_refused_in_a_line_that_says_how(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "labels.npy"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"labels file: .*labels\.npy.*({message})") as error:
        labels_of_file(path, 5)
    assert 'numpy.eye(classes, dtype="float32")[class_numbers]' in str(error.value)
    assert "\n" not in str(error.value)


def test_an_array_of_a_wrong_shape_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "labels.npy"
    path.write_bytes(packed(ONE_HOT).replace(b"(5, 3), }" + b" " * 14, b"(1000000000, 1000), }  "))
    os.truncate(path, 128 + 4 * 10**12)  # a hole, not 4 TB
    with pytest.raises(DataError, match=r"is \(1000000000, 1000\), expected finite values \(5, classes\)"):
        labels_of_file(path, 5)


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_what_is_no_file_is_not_waited_for(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "labels.npy"
    os.mkfifo(path) if kind == "pipe" else path.mkdir()
    with pytest.raises(DataError, match="cannot be read: it is not a regular file"):
        labels_of_file(path, 5)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("Smiling,", "labels Smiling,: name each attribute once"),
        ("", "labels : name each attribute once"),
        ("Male,Smiling,Male", "name each attribute once, such as Smiling,Male"),
        (",".join("abcdefg"), "7 attributes are 128 classes; take fewer"),
        ("labels.npy", "no attribute 'labels.npy'; known: Smiling, Male; the choice \"file\" reads a file of labels"),
    ],
)
def test_wrong_attributes_are_refused(choice: str, message: str, h5: Path) -> None:
    with pytest.raises(DataError, match=message):
        Source(h5, choice)


def test_pyramids_without_attributes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the file was built without any"):
        Source(write_pyramid(tmp_path / "plain.h5", 3), "Male")


def test_images_without_attributes_are_counted(tmp_path: Path) -> None:
    mixed = write_pyramid(tmp_path / "mixed.h5", 5, attributes=True, without=(1, 3))
    with pytest.raises(DataError, match=r"labels Male: 2 of 5 images of .*mixed\.h5 have no attributes; build"):
        Source(mixed, "Male")
