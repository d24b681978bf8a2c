"""Verify finds every kind of damage and says which image of which level it hit."""

import os
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np
import pytest

from datatools.errors import DataError
from datatools.pyramid import Pyramid, verify
from datatools.pyramid.verify import _listed
from tests.support.pyramid_samples import write

COUNT = 40


@pytest.fixture(params=["none", "gzip"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return write(tmp_path / "a.h5", range(COUNT), compression=request.param)


def edit(path: Path, change: Callable[[h5py.File], object]) -> list[str]:
    """Problems after a change through HDF5."""
    with h5py.File(path, "r+") as file:
        change(file)
    return verify(path)


def replace(file: h5py.File, name: str, values: np.ndarray) -> None:
    del file[name]
    file[name] = values


def test_a_sound_file_has_no_problems(path: Path) -> None:
    done: list[int] = []
    assert verify(path, done.append) == []
    assert sum(done) == COUNT


@pytest.mark.parametrize("side", [32, 16, 8, 4])
def test_one_changed_pixel_is_named(path: Path, side: int) -> None:
    """The smallest change, in any level, is found by the checksum alone and blamed on no other level."""

    def change(file: h5py.File) -> None:
        file[f"data{side}x{side}"][17, 2, side - 1, 0] ^= 1

    assert edit(path, change) == [f"data{side}x{side}: changed since it was written (checksum): 1 image: 17"]


def test_several_changed_images_are_listed(path: Path) -> None:
    def change(file: h5py.File) -> None:
        for index in (3, 4, 5, 11):
            file["data16x16"][index] = 255 - file["data16x16"][index]
        file["data32x32"][0] = 0

    assert edit(path, change) == [
        "data32x32: changed since it was written (checksum): 1 image: 0",
        "data16x16: changed since it was written (checksum): 4 images: 3-5, 11",
    ]


def test_long_lists_are_cut(path: Path) -> None:
    def change(file: h5py.File) -> None:
        for index in range(0, COUNT, 2):
            file["data8x8"][index] = 0
        file["data8x8"][1] = 0

    assert edit(path, change)[0].endswith(": 21 images: 0-2, " + ", ".join(map(str, range(4, COUNT, 2))))
    assert _listed(range(0, 100, 2)).endswith("36, 38, ...")


@pytest.mark.parametrize("side", [16, 4])
def test_a_level_inconsistent_with_the_top_although_its_checksum_fits(path: Path, side: int) -> None:
    def change(file: h5py.File) -> None:
        level = file[f"data{side}x{side}"]
        level[9, 0, 0, 0] ^= 1
        file[f"checksums/data{side}x{side}"][9] = zlib.crc32(level[9].tobytes())

    assert edit(path, change) == [f"data{side}x{side}: not the average of the top level: 1 image: 9"]


def test_a_top_that_changed_with_its_checksum(path: Path) -> None:
    def change(file: h5py.File) -> None:
        level = file["data32x32"]
        level[9] = 255 - level[9]
        file["checksums/data32x32"][9] = zlib.crc32(level[9].tobytes())

    assert edit(path, change) == [f"data{r}x{r}: not the average of the top level: 1 image: 9" for r in (16, 8, 4)]


def test_without_checksums_the_levels_still_check_each_other(path: Path) -> None:
    def change(file: h5py.File) -> None:
        file["data16x16"][7, 1, 2, 3] ^= 8
        del file["checksums"]

    problems = edit(path, change)
    assert [f"checksums/data{r}x{r} is missing" in problems for r in (32, 16, 8, 4)] == [True] * 4
    assert problems[-1] == "data16x16: not the average of the top level: 1 image: 7"


@pytest.mark.parametrize(
    ("name", "values", "problem"),
    [
        ("data16x16", np.zeros((COUNT, 3, 16, 8), np.uint8), "data16x16 has the wrong shape (40, 3, 16, 8) instead of"),
        ("data16x16", np.zeros((COUNT, 16, 16, 3), np.uint8), "data16x16 has the wrong shape (40, 16, 16, 3)"),
        ("data16x16", np.zeros((COUNT, 768), np.uint8), "data16x16 has the wrong shape (40, 768)"),
        ("data16x16", np.zeros((39, 3, 16, 16), np.uint8), "data16x16 has 39 rows instead of 40"),
        ("data32x32", np.zeros((41, 3, 32, 32), np.uint8), "data32x32 has 41 rows instead of 40"),
        ("data16x16", np.zeros((COUNT, 3, 16, 16), np.int8), "data16x16 has the type int8 instead of |u1"),
        ("checksums/data8x8", np.zeros(39, np.uint32), "checksums/data8x8 has 39 rows instead of 40"),
        ("provenance/score", np.zeros(41), "provenance/score has 41 rows instead of 40"),
        ("provenance/quad", np.zeros((COUNT, 8)), "provenance/quad has the wrong shape (40, 8)"),
        ("provenance/rank", np.zeros(COUNT), "provenance/rank has the type float64 instead of <i4"),
        ("provenance/file_name", np.zeros(COUNT), "provenance/file_name has the type float64 instead of fixed-length"),
    ],
)
def test_tables_of_wrong_shape_length_or_type(path: Path, name: str, values: np.ndarray, problem: str) -> None:
    problems = edit(path, lambda file: replace(file, name, values))
    assert problems[0].startswith(problem)
    assert len(problems) == 1


@pytest.mark.parametrize("name", ["data32x32", "data4x4", "checksums/provenance", "provenance/split"])
def test_missing_tables(path: Path, name: str) -> None:
    assert edit(path, lambda file: file.__delitem__(name)) == [f"{name} is missing"]


def test_attribute_names_that_do_not_fit(path: Path) -> None:
    problems = edit(path, lambda file: file["provenance/attributes"].attrs.__delitem__("names"))
    assert problems == ["provenance/attributes has the wrong shape (40, 3) instead of (40, 0)"]


def test_a_level_too_many(path: Path) -> None:
    problems = edit(path, lambda file: file.create_dataset("data2x2", (COUNT, 3, 2, 2), np.uint8))
    assert problems == ["data2x2 is not among the levels 32 ... 4 that the file names"]


def test_a_changed_provenance_row(path: Path) -> None:
    def change(file: h5py.File) -> None:
        file["provenance/score"][7] += 0.25
        file["provenance/file_name"][9] = b"other.jpg"

    assert edit(path, change) == ["provenance: changed since it was written (checksum): 2 rows: 7, 9"]


def test_damage_of_two_kinds_is_reported_together(path: Path) -> None:
    def change(file: h5py.File) -> None:
        file.attrs["complete"] = np.uint8(0)
        del file["data8x8"]
        file["data16x16"][1] = 0

    problems = edit(path, change)
    assert problems[0].startswith("the completeness mark is missing")
    assert problems[1:] == ["data8x8 is missing", "data16x16: changed since it was written (checksum): 1 image: 1"]


@pytest.mark.parametrize("keep", [0.0, 0.01, 0.5, 0.999])
def test_a_truncated_file(path: Path, keep: float) -> None:
    os.truncate(path, int(path.stat().st_size * keep))
    (problem,) = verify(path)
    assert problem.startswith(str(path))
    assert ("not an HDF5 file" if keep == 0 else "truncated") in problem


def test_no_file_and_a_foreign_one(tmp_path: Path) -> None:
    assert verify(tmp_path / "a.h5") == [f"{tmp_path / 'a.h5'}: no such file"]
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["data"] = [1, 2, 3]
    (problem,) = verify(tmp_path / "b.h5")
    assert problem == "not a pyramid of this program: the attribute 'format' is not 'celebahq-pyramid'"


def test_overwritten_compressed_bytes(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", range(4), compression="gzip", side=256)
    with h5py.File(path) as file:
        chunk = file["data256x256"].id.get_chunk_info(2)
    with path.open("r+b") as file:
        file.seek(chunk.byte_offset + 100)
        file.write(b"\0" * 5000)
    (problem,) = verify(path)
    assert "data256x256: images 2 to 2 cannot be read" in problem
    assert "\n" not in problem


@pytest.mark.parametrize("position", [0, 0.25, 0.5, 0.999])
def test_any_overwritten_image_byte(tmp_path: Path, position: float) -> None:
    path = write(tmp_path / "a.h5", range(20))
    with h5py.File(path) as file:
        level = file["data32x32"]
        start, size = level.id.get_offset(), level.size
    with path.open("r+b") as file:
        file.seek(start + int(position * size))
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 0x80]))
    assert verify(path) == [f"data32x32: changed since it was written (checksum): 1 image: {int(position * 20)}"]


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_overwritten_tables_are_told_in_plain_lines(tmp_path: Path, compression: str) -> None:
    """Whatever HDF5 makes of noise in its own tables, the user gets lines and no traceback."""
    path = write(tmp_path / "a.h5", range(6), compression=compression)
    sound = path.read_bytes()
    found = 0
    for seed in range(100):
        random = np.random.default_rng(seed)
        damaged = bytearray(sound)
        region = (0, 3000) if seed % 2 else (len(sound) - 12_000, len(sound))
        for position in random.integers(*region, 20).tolist():
            damaged[position] = int(random.integers(256))
        path.write_bytes(damaged)
        problems = verify(path)
        found += bool(problems)
        assert not any("\n" in problem for problem in problems)
        with suppress(DataError):
            pyramid = Pyramid(path)
            for name in pyramid.provenance_names:
                pyramid.provenance(name)
    assert found >= 80  # some bytes are in use for nothing
