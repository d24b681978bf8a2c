"""An LMDB database of pictures, with the keys that StyleGAN2 in PyTorch and diffusion autoencoders use."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from datatools.errors import DataError, one_line
from datatools.exports.base import InArchive, Named, publish, stored_pictures

MAX_KEY = 511
"""Bytes of a key, as LMDB is built."""
MAP_SIZE = 1 << 40
"""Largest size of the database: addresses that are set aside, not room on the disk."""
SHORT_WRITE = "Input/output error"
"""What LMDB says when the disk takes only a part of what it writes, for want of room."""


class LMDB(InArchive):
    """A folder with data.mdb: keys "256-00000", "256-00001" ... (or photos' names), and "length"."""

    def check(self) -> None:
        try:
            import lmdb  # noqa: F401
        except ImportError as error:
            raise DataError("LMDB needs one more package: pip install 'celebahq[lmdb]'") from error

    def name(self, picture: Named) -> str:
        if picture.stem is None:
            return f"{picture.resolution}-{picture.position:05}"
        if len(picture.plain.encode()) > MAX_KEY:
            raise DataError(f"{picture.plain}: is too long for a key of LMDB; let numbers name the pictures")
        return picture.plain

    def finish(self, folder: Path, out: Path, documents: Mapping[str, bytes]) -> None:
        import lmdb

        made = folder.with_name("lmdb")
        shutil.rmtree(made, ignore_errors=True)  # what a killed process left
        made.mkdir()
        count = 0
        try:
            with lmdb.open(str(made), map_size=MAP_SIZE, lock=False) as database, database.begin(write=True) as writing:
                for name, data in stored_pictures(folder):
                    writing.put(name.encode(), data)
                    count += 1
                writing.put(b"length", str(count).encode())
        except lmdb.Error as error:
            hint = "; LMDB says so of a full disk, too" if SHORT_WRITE in str(error) else ""
            raise DataError(f"{out}: cannot be written: {one_line(error)}{hint}") from error
        publish(made, out, documents)
