"""A pyramid file from a folder of square pictures, for training on other things than CelebA."""

import hashlib
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from datatools.errors import DataError
from datatools.files import PICTURE_ENDINGS, as_data_error, list_pictures
from datatools.images import ImageError, decode_upright, image_size, read_bytes, turn_upright
from datatools.pyramid import Provenance, PyramidWriter
from datatools.pyramid.levels import build_levels, level_resolutions
from datatools.text import counted

SkippedKind = Literal["unreadable", "not square", "too small", "no picture", "no regular file", "in a subfolder"]


@dataclass(frozen=True)
class Skipped:
    """A file that did not get into the pyramid. file_name: below the folder; reason: of this very file."""

    file_name: str
    kind: SkippedKind
    reason: str


class UnsuitableError(ImageError):
    """A picture that can be read, but is not square or too small."""

    def __init__(self, kind: SkippedKind, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def read_square(data: bytes, resolution: int) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Decode a square picture, turn it as EXIF asks, and reduce it with a box filter.

    Sides that are `resolution` times a power of two are averaged exactly, halves to even; for others a pixel at the
    edge of a box counts in part.

    Returns: (resolution, resolution, 3) uint8 RGB; (4, 2) its corners in stored pixels, as `Provenance.quad` has them.
    Raises: ImageError for a bad file; UnsuitableError for one that is not square and for one that is smaller: enlarged
        pictures would teach a network to paint blur.
    """
    width, height = image_size(data)
    if width != height:
        raise UnsuitableError("not square", f"{width} x {height} pixels are not square; crop it first")
    if width < resolution:
        small = f"{width} x {width} pixels, smaller than {resolution}; choose a smaller --resolution"
        raise UnsuitableError("too small", small)
    picture, orientation = decode_upright(data)
    stored_corners = np.array([[(0, 0), (width, 0)], [(0, width), (width, width)]], np.float64)
    quad = turn_upright(stored_corners, orientation)[[0, 1, 1, 0], [0, 0, 1, 1]]  # as the face lies
    if width in [resolution << k for k in range(10)] and width <= 1024:
        return np.ascontiguousarray(build_levels(picture, resolution)[resolution].transpose(1, 2, 0)), quad
    return np.asarray(cv2.resize(picture, (resolution, resolution), interpolation=cv2.INTER_AREA), np.uint8), quad


def write_from_folder(
    folder: Path,
    out: Path,
    *,
    resolution: int,
    compression: str = "none",
    skipped: Callable[[Skipped], None] = lambda _: None,
    progress: Callable[[int], object] = lambda _: None,
) -> int:
    """Write the pictures of `folder` (see `list_pictures`) as the pyramid `out`; those in subfolders are left out.

    `skipped` gets every file that cannot be used, `progress` the number of pictures done since the last call. The file
    appears whole or not at all. Returns the number of images; DataError when there is none or nothing can be written.
    """
    level_resolutions(resolution)  # refuses a bad one before any picture is read
    files = list_pictures(folder)
    for path in files.others:
        if path.suffix.lower() in PICTURE_ENDINGS:
            skipped(Skipped(path.name, "no regular file", "no regular file, or a link that leads nowhere"))
        else:
            skipped(Skipped(path.name, "no picture", "not a picture by its name's ending"))
    for path in files.below:
        name = path.relative_to(folder).as_posix()
        skipped(Skipped(name, "in a subfolder", "lies in a subfolder; those are not read, name one as DIR to use it"))
    if not files.pictures:
        raise DataError(f"{folder}: holds no pictures{files.hint}")
    if not out.absolute().parent.is_dir():
        raise DataError(f"{out}: the folder {out.absolute().parent} does not exist")
    rows: list[Provenance] = []
    # How many files are good is known only when all have been decoded, and the pyramid wants the number first. The
    # faces wait in a file without a name, which goes away with the process whatever happens.
    with as_data_error(out), tempfile.TemporaryFile(dir=out.absolute().parent) as spool:
        for path in files.pictures:
            try:
                data = read_bytes(path)
                face, quad = read_square(data, resolution)
            except ImageError as error:
                kind = error.kind if isinstance(error, UnsuitableError) else "unreadable"
                skipped(Skipped(path.name, kind, str(error)))
            else:
                spool.write(face.tobytes())
                rows.append(_provenance(path.name, data, len(rows) + 1, quad))
            progress(1)
        if not rows:
            count = len(files.pictures) + len(files.others)
            raise DataError(
                f"{folder}: none of its {counted(count, 'file')} is a square picture of {resolution} or more"
            )
        _write(out, rows, spool, resolution, compression)
    return len(rows)


def describe_skipped(skipped: Iterable[Skipped]) -> list[str]:
    """Return a line for every kind of files that were left out: how many, an example and its reason."""
    kinds: dict[str, list[Skipped]] = {}
    for one in skipped:
        kinds.setdefault(one.kind, []).append(one)
    return [
        f"skipped {'' if len(alike) == 1 else f'{len(alike):,} files, such as '}{alike[0].file_name}: {alike[0].reason}"
        for alike in kinds.values()
    ]


def _provenance(name: str, data: bytes, rank: int, quad: NDArray[np.float64]) -> Provenance:
    md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
    return Provenance(name, md5, 0.0, rank, -1, quad, np.full((5, 2), np.nan))


def _write(out: Path, rows: list[Provenance], spool: BinaryIO, resolution: int, compression: str) -> None:
    settings: dict[str, str | int | float] = {"source": "folder", "filter": "box"}
    spool.seek(0)
    with PyramidWriter(out, len(rows), resolution=resolution, compression=compression, settings=settings) as writer:
        for row in rows:
            pixels = spool.read(3 * resolution * resolution)
            writer.append(np.frombuffer(pixels, np.uint8).reshape(resolution, resolution, 3), row)
