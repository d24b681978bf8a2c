"""A pyramid file from a folder of square pictures, for training on other things than CelebA."""

import hashlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray

from datatools.errors import DataError
from datatools.images import ImageError, decode_rgb, image_size, read_bytes
from datatools.pyramid import Provenance, PyramidWriter
from datatools.pyramid_levels import build_levels, level_resolutions


@dataclass(frozen=True)
class Skipped:
    """A file that did not get into the pyramid."""

    file_name: str
    reason: str

    def __str__(self) -> str:
        return f"skipped {self.file_name}: {self.reason}"


def read_square(data: bytes, resolution: int) -> NDArray[np.uint8]:
    """Decode a square picture and reduce it with a box filter to (resolution, resolution, 3) uint8 RGB.

    Sides that are `resolution` times a power of two are averaged exactly, halves to even; for others a pixel at the
    edge of a box counts in part. Raises ImageError for a bad file, for one that is not square and for one that is
    smaller: enlarged pictures would teach a network to paint blur.
    """
    width, height = image_size(data)
    if width != height:
        raise ImageError(f"{width} x {height} pixels are not square; crop it first")
    if width < resolution:
        raise ImageError(f"{width} x {width} pixels, smaller than {resolution}; choose a smaller --resolution")
    picture = decode_rgb(data)
    if width in [resolution << k for k in range(10)] and width <= 1024:
        return np.ascontiguousarray(build_levels(picture, resolution)[resolution].transpose(1, 2, 0))
    return np.asarray(cv2.resize(picture, (resolution, resolution), interpolation=cv2.INTER_AREA), np.uint8)


def write_from_folder(
    folder: Path,
    out: Path,
    *,
    resolution: int,
    compression: str = "none",
    skipped: Callable[[Skipped], None] = lambda _: None,
    progress: Callable[[int], object] = lambda _: None,
) -> int:
    """Write the pictures of `folder`, sorted by name, as the pyramid `out`; subfolders and hidden files are left out.

    `skipped` gets every file that cannot be used, `progress` the number of files done since the last call. The file
    appears whole or not at all. Returns the number of images; DataError when there is none or nothing can be written.
    """
    level_resolutions(resolution)  # refuses a bad one before any picture is read
    names = picture_names(folder)
    if not out.absolute().parent.is_dir():
        raise DataError(f"{out}: the folder {out.absolute().parent} does not exist")
    rows: list[Provenance] = []
    # How many files are good is known only when all have been decoded, and the pyramid wants the number first. The
    # faces wait in a file without a name, which goes away with the process whatever happens.
    try:
        with tempfile.TemporaryFile(dir=out.absolute().parent) as spool:
            for name in names:
                try:
                    data = read_bytes(folder / name)
                    face = read_square(data, resolution)
                except ImageError as error:
                    skipped(Skipped(name, str(error)))
                else:
                    spool.write(face.tobytes())
                    rows.append(_provenance(name, data, len(rows)))
                progress(1)
            if not rows:
                raise DataError(f"{folder}: none of its {len(names)} files is a square picture of {resolution} or more")
            _write(out, rows, spool, resolution, compression)
    except OSError as error:
        raise DataError(f"{out}: cannot be written: {error.strerror or error}") from error
    return len(rows)


def picture_names(folder: Path) -> list[str]:
    """Names of the files in `folder`, sorted; DataError when there is no such folder or it holds no file."""
    try:
        entries = list(folder.iterdir())
    except OSError as error:
        raise DataError(f"{folder}: cannot be read as a folder: {error.strerror}") from error
    names = sorted(entry.name for entry in entries if entry.is_file() and not entry.name.startswith("."))
    if not names:
        folders = sum(entry.is_dir() for entry in entries)
        hint = f"; it has {folders} subfolders, name one of them" if folders else ""
        raise DataError(f"{folder}: holds no files{hint}")
    return names


def _provenance(name: str, data: bytes, index: int) -> Provenance:
    side = float(image_size(data)[0])
    quad = np.array([(0.0, 0.0), (0.0, side), (side, side), (side, 0.0)])  # the whole picture
    md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
    return Provenance(name, md5, 0.0, index, -1, quad, np.full((5, 2), np.nan))


def _write(out: Path, rows: list[Provenance], spool: BinaryIO, resolution: int, compression: str) -> None:
    settings: dict[str, str | int | float] = {"source": "folder", "filter": "box"}
    spool.seek(0)
    with PyramidWriter(out, len(rows), resolution=resolution, compression=compression, settings=settings) as writer:
        for row in rows:
            pixels = spool.read(3 * resolution * resolution)
            writer.append(np.frombuffer(pixels, np.uint8).reshape(resolution, resolution, 3), row)
