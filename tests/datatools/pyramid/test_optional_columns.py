"""Optional columns: files without them read, verify and join as with the defaults."""

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from datatools.errors import DataError
from datatools.pyramid import Pyramid, PyramidWriter, join, verify
from tests.support.pyramid_samples import NAMES, face, row, write

OPTIONAL = ("orientation", "face")


def write_both(path: Path, indices: range) -> Path:
    """Images with both columns: every image turned otherwise, and of another number."""
    with PyramidWriter(path, len(indices), resolution=32, attribute_names=NAMES, optional_columns=OPTIONAL) as writer:
        for index in indices:
            writer.append(face(index), replace(row(index), orientation=1 + index % 8, face=index))
    return path


def test_a_file_without_the_columns_has_the_defaults(tmp_path: Path) -> None:
    path = write(tmp_path / "old.h5", range(3))
    with h5py.File(path) as file:
        assert not set(OPTIONAL) & set(file["provenance"])
    assert verify(path) == []
    pyramid = Pyramid(path)
    assert not set(OPTIONAL) & set(pyramid.provenance_names)
    assert pyramid.provenance("orientation").tolist() == [1, 1, 1]
    assert pyramid.provenance("face").tolist() == [0, 0, 0]
    assert pyramid.provenance("orientation").dtype == np.int8


def test_a_file_with_the_columns_gives_them_back(tmp_path: Path) -> None:
    path = write_both(tmp_path / "new.h5", range(9))
    assert verify(path) == []
    pyramid = Pyramid(path)
    assert set(OPTIONAL) < set(pyramid.provenance_names)
    assert pyramid.provenance("orientation").tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 1]
    assert pyramid.provenance("face").tolist() == list(range(9))


def test_a_changed_orientation_is_found(tmp_path: Path) -> None:
    path = write_both(tmp_path / "new.h5", range(3))
    with h5py.File(path, "r+") as file:
        file["provenance/orientation"][1] = 6
    assert any("provenance" in problem and "1" in problem for problem in verify(path))


def test_joining_fills_in_what_a_part_lacks(tmp_path: Path) -> None:
    parts = [write(tmp_path / "old.h5", range(2)), write_both(tmp_path / "new.h5", range(2, 4))]
    join(parts, tmp_path / "joined.h5")
    assert verify(tmp_path / "joined.h5") == []
    joined = Pyramid(tmp_path / "joined.h5")
    assert joined.provenance("orientation").tolist() == [1, 1, 3, 4]
    assert joined.provenance("face").tolist() == [0, 0, 2, 3]


def test_joining_does_not_hide_damage_of_a_part_that_lacks_them(tmp_path: Path) -> None:
    parts = [write(tmp_path / "old.h5", range(2)), write_both(tmp_path / "new.h5", range(2, 4))]
    with h5py.File(parts[0], "r+") as file:
        file["provenance/rank"][1] = 77
    join(parts, tmp_path / "joined.h5")
    assert len(verify(tmp_path / "joined.h5")) == 1


def test_joined_parts_with_the_columns_are_what_one_writer_writes(tmp_path: Path) -> None:
    parts = [write_both(tmp_path / "a.h5", range(2)), write_both(tmp_path / "b.h5", range(2, 5))]
    join(parts, tmp_path / "joined.h5")
    assert (tmp_path / "joined.h5").read_bytes() == write_both(tmp_path / "whole.h5", range(5)).read_bytes()


def test_a_value_without_its_column_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match="orientation is 6, and the file has no such column"),
        PyramidWriter(tmp_path / "a.h5", 1, resolution=32, attribute_names=NAMES) as writer,
    ):
        writer.append(face(0), replace(row(0), orientation=6))


def test_a_column_of_another_type_is_reported(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", range(2))
    with h5py.File(path, "r+") as file:
        file.create_dataset("provenance/orientation", data=np.ones(2, np.float32))
    with pytest.raises(DataError, match="provenance/orientation has the type float32"):
        Pyramid(path)
