"""Damaged texts are noticed before HDF5 reads them for ever."""

from pathlib import Path

import pytest

from datatools.pyramid import verify
from datatools.pyramid.heap import is_endless
from tests.support.pyramid_samples import write


@pytest.mark.parametrize(("number", "size"), [(0, 0), (1, 2**64 - 16)])
def test_an_object_of_no_size(number: int, size: int, tmp_path: Path) -> None:
    h5 = write(tmp_path / "a.h5", range(2))
    assert not is_endless(h5)
    data = bytearray(h5.read_bytes())
    heap = data.index(b"GCOL")
    data[heap + 16 : heap + 18] = number.to_bytes(2, "little")
    data[heap + 24 : heap + 32] = size.to_bytes(8, "little")
    h5.write_bytes(data)
    assert is_endless(h5)
    assert verify(h5) == [f"{h5}: damaged HDF5 file (a global heap)"]
