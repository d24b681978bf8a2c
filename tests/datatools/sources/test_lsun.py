"""datatools.sources.lsun: the middle of an LMDB's pictures, from any entry on."""

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from datatools.errors import DataError
from datatools.images import decode_rgb
from datatools.sources import lsun
from datatools.sources.lsun import Lsun
from datatools.sources.pictures import SourcePicture, Unusable
from tests.support.datasets import encoded, lsun_pictures, make_lsun, noise


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_lsun(tmp_path / "LSUN", lsun_pictures(12))


def test_the_middle_is_cut_out(folder: Path) -> None:
    source = Lsun(folder)
    assert (source.count, source.resolution, source.title) == (12, 256, "LSUN, bedroom_train_lmdb")
    found = [entry for entry in source.entries(0, 99) if isinstance(entry, SourcePicture)]
    stored = {key.decode(): data for key, data in lsun_pictures(12).items()}
    assert [each.file_name for each in found] == sorted(stored)
    for each in found:
        pixels = decode_rgb(stored[each.file_name])
        height, width = pixels.shape[:2]
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        middle = pixels[top : top + side, left : left + side]
        assert each.quad[0].tolist() == [left, top]
        assert each.quad[2].tolist() == [left + side, top + side]
        if side != 256:
            middle = np.asarray(Image.fromarray(middle).resize((256, 256), Image.Resampling.LANCZOS))
        assert np.array_equal(each.pixels, middle)


@pytest.mark.parametrize("step", [1, 3, 5, 1000])
def test_any_range_can_be_read(folder: Path, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lsun, "STEP", step)
    source = Lsun(folder)
    names = [entry.file_name for entry in source.entries(0, 12)]
    assert len(set(names)) == 12
    for start, stop in ((0, 3), (2, 7), (5, 6), (9, 12), (11, 50), (12, 20), (4, 4)):
        assert [entry.file_name for entry in source.entries(start, stop)] == names[start:stop]


def test_the_folder_of_the_lmdb_itself_can_be_named(folder: Path) -> None:
    assert Lsun(folder / "bedroom_train_lmdb").digest == Lsun(folder).digest
    assert Lsun(make_lsun(folder / "other", lsun_pictures(11))).digest != Lsun(folder / "bedroom_train_lmdb").digest


def test_entries_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    entries = {b"a": b"no picture", b"b": encoded(noise(1, 200, 300)), b"c/": encoded(noise(2, 256, 256))}
    found = list(Lsun(make_lsun(tmp_path, entries)).entries(0, 3))
    assert [entry.file_name for entry in found] == ["a", "b", "632f"]  # a key that is no base name, as digits
    assert found[1] == Unusable("b", "has 300 x 200 pixels, less than 256")
    assert isinstance(found[0], Unusable)
    assert isinstance(found[2], SourcePicture)


def test_what_is_missing_is_named(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(DataError, match=r"holds no data.mdb, the file of an LMDB; get a category with: python -m"):
        Lsun(tmp_path / "nowhere")
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "bedroom_train_lmdb.zip").touch()
    with pytest.raises(DataError, match=r"bedroom_train_lmdb.zip is not unpacked"):
        Lsun(tmp_path / "new")
    (folder / "church_train_lmdb").mkdir()
    (folder / "church_train_lmdb" / "data.mdb").touch()
    with pytest.raises(DataError, match=r"holds several LMDBs \(bedroom_train_lmdb, church_train_lmdb\)"):
        Lsun(folder)
    with pytest.raises(DataError, match="holds no pictures"):
        Lsun(make_lsun(tmp_path / "empty", {}))


@pytest.mark.parametrize("data", [b"", b"<html>quota</html>" * 500])
def test_a_damaged_lmdb_is_an_error_of_one_line(data: bytes, folder: Path) -> None:
    (folder / "bedroom_train_lmdb" / "data.mdb").write_bytes(data)
    with pytest.raises(DataError) as caught:
        Lsun(folder)
    assert "\n" not in str(caught.value)
    assert "bedroom_train_lmdb" in str(caught.value)


def test_lmdb_that_is_not_installed_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == "lmdb":
            raise ModuleNotFoundError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(DataError, match=r"pip install 'celebahq\[lsun\]'"):
        Lsun(folder)
