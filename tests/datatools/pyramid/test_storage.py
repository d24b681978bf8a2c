"""HDF5 closes its file whatever the disk does; the first failure is kept."""

import errno
import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from datatools.pyramid.storage import Storage


def fill(storage: Storage) -> None:
    with h5py.File(storage, "w", libver=("v108", "v108")) as file:
        for number in range(20):
            file.create_dataset(f"{number}", data=np.arange(100) + number)
            file.attrs[f"{number}"] = "text"


def test_a_file_like_any_other(tmp_path: Path) -> None:
    with Storage(tmp_path / "a.h5") as storage:
        fill(storage)
        storage.check()
    with h5py.File(tmp_path / "a.h5") as file:
        assert [file[name][0] for name in map(str, range(20))] == list(range(20))
        assert set(file.attrs.values()) == {"text"}


def test_the_first_failure_is_kept_and_nothing_is_written_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, written = os.pwrite, list[int]()

    def failing(descriptor: int, data: bytes, position: int) -> int:
        written.append(position)
        if len(written) >= 5:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return write(descriptor, data, position)

    monkeypatch.setattr(os, "pwrite", failing)
    with Storage(tmp_path / "a.h5") as storage:
        fill(storage)
        with pytest.raises(OSError, match="Input/output error"):
            storage.check()
    assert len(written) == 5


def test_what_is_discarded_is_not_written(tmp_path: Path) -> None:
    with Storage(tmp_path / "a.h5") as storage:
        storage.discard()
        fill(storage)
        storage.check()
    assert (tmp_path / "a.h5").stat().st_size == 0


def test_zeros_that_stand_for_kept_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    path.write_bytes(b"earlier bytes")
    with Storage(path, resumes=True) as storage:
        assert storage.seek(0, os.SEEK_END) == 0
        with storage.zeros_stand_for_kept_bytes():
            storage.write(memoryview(bytes(7)))
            storage.seek(8)
            storage.write(memoryview(b"B\0"))
        assert storage.seek(0, os.SEEK_END) == 10
        storage.seek(4)
        storage.write(memoryview(bytes(2)))
    assert path.read_bytes() == b"earl\0\0r B\0tes"
