"""Joined parts are what one writer would have written, byte for byte."""

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from datatools.errors import DataError
from datatools.pyramid import Pyramid, join, verify
from tests.support.pyramid_samples import NAMES, row, write

SETTINGS = {"restore": "none", "seed": 7, "gain": 0.5}


def parts(folder: Path, **options: Any) -> list[Path]:
    """38 images in four parts, one of them empty; part 3 has the longest file name."""
    borders = [0, 20, 20, 21, 38]
    return [
        write(folder / f"part{k}.h5", range(borders[k], borders[k + 1]), **{"settings": {"part": k}, **options})
        for k in range(4)
    ]


@pytest.mark.parametrize("side", [32, 256])
@pytest.mark.parametrize("compression", ["none", "gzip", "lzf"])
@pytest.mark.parametrize("parts_compression", ["none", "gzip", "lzf"])
def test_same_bytes_as_one_writer(tmp_path: Path, side: int, compression: str, parts_compression: str) -> None:
    whole = write(tmp_path / "whole.h5", range(38), side=side, compression=compression)
    done: list[int] = []
    join(
        parts(tmp_path, side=side, compression=parts_compression),
        tmp_path / "joined.h5",
        compression=compression,
        settings=SETTINGS,
        progress=done.append,
    )
    assert (tmp_path / "joined.h5").read_bytes() == whole.read_bytes()
    assert sum(done) == 38
    assert verify(tmp_path / "joined.h5") == []


def test_other_rows_replace_the_provenance_of_the_parts(tmp_path: Path) -> None:
    plain = parts(tmp_path, attribute_names=NAMES)
    rows = [row(index) for index in range(100, 138)]
    join(plain, tmp_path / "joined.h5", settings=SETTINGS, rows=rows, attribute_names=NAMES)
    joined, first = Pyramid(tmp_path / "joined.h5"), Pyramid(plain[0])
    assert verify(tmp_path / "joined.h5") == []
    assert joined.provenance("rank").tolist() == list(range(100, 138))
    assert joined.attribute("Young").tolist() == [0 if one.attributes is None else one.attributes[2] for one in rows]
    assert np.array_equal(joined[32][:20], first[32][:])
    join(plain, tmp_path / "without.h5", rows=[replace(one, attributes=None) for one in rows])
    assert Pyramid(tmp_path / "without.h5").attribute_names == ()
    with pytest.raises(ValueError, match="37 rows of provenance for 38 images"):
        join(plain, tmp_path / "few.h5", rows=rows[:37])


@pytest.mark.parametrize("code", [errno.EXDEV, errno.ENOSYS])
def test_where_the_kernel_cannot_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refuse(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "copy_file_range", refuse)
    join(parts(tmp_path), tmp_path / "joined.h5", settings=SETTINGS)
    assert (tmp_path / "joined.h5").read_bytes() == write(tmp_path / "whole.h5", range(38)).read_bytes()


def test_where_the_system_knows_no_copying(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = parts(tmp_path)
    join(pieces, tmp_path / "kernel.h5")
    monkeypatch.delattr(os, "copy_file_range")
    join(pieces, tmp_path / "plain.h5")
    assert (tmp_path / "plain.h5").read_bytes() == (tmp_path / "kernel.h5").read_bytes()


def test_a_disk_error_while_copying_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    files = parts(tmp_path)
    monkeypatch.setattr(os, "copy_file_range", refuse)
    with pytest.raises(DataError, match=r"joined\.h5: cannot be written after 0 of 38 images: No space left"):
        join(files, tmp_path / "joined.h5")
    assert sorted(tmp_path.iterdir()) == files


def test_settings_are_the_joined_files_own(tmp_path: Path) -> None:
    join(parts(tmp_path), tmp_path / "joined.h5", settings={"only": "this"})
    assert Pyramid(tmp_path / "joined.h5").settings == {"only": "this"}


def test_a_damaged_part_shows_in_verify(tmp_path: Path) -> None:
    files = parts(tmp_path)
    with h5py.File(files[3], "r+") as file:
        file["data32x32"][4, 0, 0, 0] ^= 1
    join(files, tmp_path / "joined.h5")
    assert verify(tmp_path / "joined.h5") == ["data32x32: changed since it was written (checksum): 1 image: 25"]


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1000)


def unmark(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file.attrs["complete"] = np.uint8(0)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (Path.unlink, "no such file"),
        (truncate, "truncated"),
        (unmark, "did not finish"),
        (lambda path: write(path, range(3), side=64), "levels or attribute names differ"),
        (lambda path: write(path, range(3), min_level=1), "levels or attribute names differ"),
        (lambda path: write(path, range(3), attribute_names=("Old", "Bald", "Hat")), "attribute names differ"),
    ],
)
def test_unusable_parts(tmp_path: Path, damage: Callable[[Path], object], message: str) -> None:
    files = parts(tmp_path)
    damage(files[2])
    with pytest.raises(DataError, match=rf"part2\.h5: .*{message}"):
        join(files, tmp_path / "joined.h5")
    assert not [path for path in tmp_path.iterdir() if "joined" in path.name]


def test_nothing_to_join(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing to join"):
        join([], tmp_path / "joined.h5")
