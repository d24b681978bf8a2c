"""Files that lack levels say which, and everything else works with those that they have."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from datatools.errors import DataError
from datatools.pyramid import Pyramid, build_levels, join, verify
from datatools.pyramid.subset import write_subset
from tests.support.pyramid_samples import face, write


@pytest.fixture
def few(tmp_path: Path) -> Path:
    return write(tmp_path / "few.h5", range(5), levels=(32, 8))


def test_the_levels_are_those_of_the_whole_pyramid(few: Path) -> None:
    pyramid = Pyramid(few)
    assert pyramid.levels == (32, 8)
    built = build_levels(face(3))
    assert all(np.array_equal(pyramid[side][3], built[side]) for side in (32, 8))
    assert verify(few) == []


def test_a_level_that_is_missing_is_told(few: Path) -> None:
    with pytest.raises(DataError, match=r"few\.h5: no level 16; it has 32, 8$"):
        Pyramid(few)[16]


def test_all_levels_leave_no_trace(tmp_path: Path) -> None:
    plain, named = (write(tmp_path / f"{k}.h5", range(3), **options) for k, options in enumerate(ALL))
    assert plain.read_bytes() == named.read_bytes()


ALL: tuple[dict[str, tuple[int, ...]], ...] = ({}, {"levels": (4, 8, 16, 32)})


def test_joined_and_chosen_files_have_the_same_levels(few: Path, tmp_path: Path) -> None:
    join([few, few], tmp_path / "joined.h5")
    write_subset(Pyramid(few), tmp_path / "subset.h5", [1, 3], description="two")
    for path in (tmp_path / "joined.h5", tmp_path / "subset.h5"):
        assert Pyramid(path).levels == (32, 8)
        assert verify(path) == []
    with pytest.raises(DataError, match="levels or attribute names differ"):
        join([few, write(tmp_path / "all.h5", range(2))], tmp_path / "never.h5")


def test_verify_compares_the_levels_that_are_there(few: Path) -> None:
    with h5py.File(few, "r+") as file:
        file["data8x8"][2] ^= 1
        file["checksums/data8x8"][2] = 0
        del file["data32x32"]
    assert any("data32x32 is missing" in problem for problem in verify(few))


def test_levels_that_contradict_each_other_are_found(few: Path) -> None:
    from datatools.pyramid.format import image_checksum

    with h5py.File(few, "r+") as file:
        file["data8x8"][2] ^= 1
        file["checksums/data8x8"][2] = image_checksum(file["data8x8"][2])
    (problem,) = verify(few)
    assert problem.startswith("data8x8: ")
    assert problem.endswith("1 image: 2")


@pytest.mark.parametrize("levels", [(), (16, 8), (32, 12), (32, 32, 8), (64, 32)])
def test_impossible_levels(levels: tuple[int, ...], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="they must be 32 and any of 16, 8, 4, 2, 1, each once"):
        write(tmp_path / "never.h5", range(2), levels=levels)
    assert not list(tmp_path.iterdir())


def test_a_damaged_list_of_levels(few: Path) -> None:
    with h5py.File(few, "r+") as file:
        file.attrs["levels"] = np.array([32, 7])
    with pytest.raises(DataError, match="unusable level sizes: levels 32, 7: they must be 32 and any of"):
        Pyramid(few)
