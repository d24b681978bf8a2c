"""A category of LSUN, an LMDB of compressed pictures: the square in their middle, reduced to 256 x 256 pixels.

Yu et al., "LSUN: Construction of a Large-scale Image Dataset using Deep Learning with Humans in the Loop", 2015. The
smaller side of its pictures has 256 pixels, so that most need no reduction.
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datatools.errors import DataError, one_line
from datatools.images import ImageError, decode_rgb
from datatools.sources.pictures import SourcePicture, Unusable, square

RESOLUTION = 256
HOW_TO_GET = "get a category with: python -m datatools.download lsun --category bedroom --out DIR"
STEP = 1000
"""Entries between two keys that are remembered: an LMDB can be entered at a key, not at a number."""


class Lsun:
    """An LMDB of LSUN: the folder with data.mdb, or one that holds exactly one such folder."""

    resolution = RESOLUTION
    classes: tuple[str, ...] = ()
    attribute_names: tuple[str, ...] = ()

    def __init__(self, folder: Path) -> None:
        self._folder = find_database(folder)
        self.title = f"LSUN, {self._folder.name}"
        with _errors(self._folder), self._open() as database:
            self.count = int(database.stat()["entries"])
        if not self.count:
            raise DataError(f"{self._folder}: holds no pictures; {HOW_TO_GET}")

    @property
    def settings(self) -> Mapping[str, str | int]:
        return {"data_set": self.title, "crop": "middle", "filter": "lanczos"}

    @cached_property
    def digest(self) -> str:
        size = (self._folder / "data.mdb").stat().st_size
        return hashlib.md5(repr((size, self.count, self._keys)).encode(), usedforsecurity=False).hexdigest()

    @cached_property
    def _keys(self) -> list[bytes]:
        """Return every STEP-th key; reads all keys and no picture."""
        with _errors(self._folder), self._open() as database, database.begin() as transaction:
            keys = transaction.cursor().iternext(keys=True, values=False)
            return [bytes(key) for index, key in enumerate(keys) if index % STEP == 0]

    def entries(self, start: int, stop: int) -> Iterator[SourcePicture | Unusable]:
        if start >= min(stop, self.count):
            return
        first = self._keys[start // STEP]  # LMDB can be opened once at a time in a process
        with _errors(self._folder), self._open() as database, database.begin() as transaction:
            cursor = transaction.cursor()
            cursor.set_key(first)
            for index, (key, data) in enumerate(cursor.iternext(), start // STEP * STEP):
                if index >= stop:
                    return
                if index >= start:
                    yield read_entry(bytes(key), bytes(data))

    def _open(self) -> Any:
        return _lmdb().open(str(self._folder), readonly=True, lock=False, readahead=False)


@contextmanager
def _errors(folder: Path) -> Iterator[None]:
    """Turn an error of LMDB inside the block into a DataError."""
    try:
        yield
    except _lmdb().Error as error:
        raise DataError(
            f"{folder}: is not a whole LMDB ({one_line(error, 100)}); remove it and {HOW_TO_GET}"
        ) from error


def _lmdb() -> Any:
    try:
        import lmdb
    except ImportError as error:
        raise DataError("lmdb is needed for LSUN: pip install 'celebahq[lsun]'") from error
    return lmdb


def find_database(folder: Path) -> Path:
    """Return the folder with data.mdb: this one, or the only one below. Raises DataError where there is none."""
    below = sorted(folder.iterdir()) if folder.is_dir() else []
    found = [path for path in (folder, *below) if (path / "data.mdb").is_file()]
    if len(found) == 1 or (found and found[0] == folder):
        return found[0]
    if found:
        raise DataError(f"{folder} holds several LMDBs ({', '.join(path.name for path in found)}); name one of them")
    archive = next((path for path in below if path.name.endswith("lmdb.zip")), None)
    unpacked = f"; {archive} is not unpacked" if archive else ""
    raise DataError(f"{folder}: holds no data.mdb, the file of an LMDB{unpacked}; {HOW_TO_GET}")


def read_entry(key: bytes, data: bytes) -> SourcePicture | Unusable:
    """Return the middle of a stored picture, or why it cannot be used."""
    name = key.decode("ascii") if key.isalnum() and key.isascii() else key.hex()
    try:
        stored = decode_rgb(data)
    except ImageError as error:
        return Unusable(name, str(error))
    height, width = stored.shape[:2]
    side = min(height, width)
    if side < RESOLUTION:
        return Unusable(name, f"has {width} x {height} pixels, less than {RESOLUTION}")
    top, left = (height - side) // 2, (width - side) // 2
    return SourcePicture(
        file_name=name,
        md5=hashlib.md5(data, usedforsecurity=False).hexdigest(),
        pixels=_reduce(stored[top : top + side, left : left + side]),
        quad=square(left, top, side),
    )


def _reduce(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if len(pixels) == RESOLUTION:
        return np.ascontiguousarray(pixels)
    image = Image.fromarray(pixels).resize((RESOLUTION, RESOLUTION), Image.Resampling.LANCZOS)
    return np.asarray(image, np.uint8)
