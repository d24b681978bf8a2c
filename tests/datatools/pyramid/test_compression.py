"""Compressions of the library hdf5plugin, which is optional."""

import importlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from datatools.errors import DataError
from datatools.pyramid import Pyramid, PyramidWriter, join, verify
from datatools.pyramid.format import UNKNOWN_ORIGIN, WITH_PLUGIN
from tests.support.pyramid_samples import write

COMPRESSION = pytest.mark.parametrize("compression", WITH_PLUGIN)
SETTINGS = {"restore": "none", "seed": 7, "gain": 0.5}


@pytest.fixture
def plugin() -> Any:
    return pytest.importorskip("hdf5plugin", reason="hdf5plugin is not installed")


@pytest.fixture
def no_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.import_module

    def find(name: str, package: str | None = None) -> Any:
        if name == "hdf5plugin":
            raise ModuleNotFoundError("No module named 'hdf5plugin'")
        return real(name, package)

    monkeypatch.setattr(importlib, "import_module", find)


@COMPRESSION
@pytest.mark.usefixtures("plugin")
def test_the_same_images_and_the_same_bytes(compression: str, tmp_path: Path) -> None:
    plain, packed, again = (
        write(tmp_path / f"{number}.h5", range(9), side=256, compression=kind)
        for number, kind in enumerate(("none", compression, compression))
    )
    assert packed.read_bytes() == again.read_bytes()
    first, second = Pyramid(plain), Pyramid(packed)
    assert second.compression == compression
    assert all(np.array_equal(first[side][:], second[side][:]) for side in first.levels)
    assert verify(packed) == []


@COMPRESSION
@pytest.mark.usefixtures("plugin")
def test_joined_parts_are_what_one_writer_writes(compression: str, tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.h5", range(6), side=256, compression=compression)
    parts = [
        write(tmp_path / f"{kind}.h5", numbers, side=256, compression=kind)
        for kind, numbers in ((compression, range(4)), ("none", range(4, 6)))
    ]
    join(parts, tmp_path / "joined.h5", compression=compression, settings=SETTINGS)
    assert (tmp_path / "joined.h5").read_bytes() == whole.read_bytes()


@pytest.mark.usefixtures("plugin")
def test_smooth_pictures_become_smaller(tmp_path: Path) -> None:
    ramp = np.add.outer(np.arange(256), np.arange(256)) // 2
    face = np.repeat(ramp[:, :, None], 3, axis=2).astype(np.uint8)
    sizes = []
    for compression in ("none", *WITH_PLUGIN):
        with PyramidWriter(tmp_path / compression, 8, resolution=256, compression=compression) as writer:
            for _ in range(8):
                writer.append(face, UNKNOWN_ORIGIN)
        sizes.append((tmp_path / compression).stat().st_size)
    assert max(sizes[1:]) < 0.3 * sizes[0]


@COMPRESSION
@pytest.mark.usefixtures("no_plugin")
def test_a_missing_library_is_told(compression: str, tmp_path: Path) -> None:
    message = rf"never\.h5: compression {compression} needs the library hdf5plugin .*: pip install \"celebahq\[compress"
    with pytest.raises(DataError, match=message):
        write(tmp_path / "never.h5", range(2), compression=compression)
    assert not list(tmp_path.iterdir())
    other = write(tmp_path / "other.h5", range(2))
    with h5py.File(other, "r+") as file:
        file.attrs["compression"] = compression
    with pytest.raises(DataError, match=rf"other\.h5: compression {compression} needs the library"):
        Pyramid(other)
