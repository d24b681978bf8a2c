"""Pictures of a folder as finished parts of a pyramid: made by several processes, found again after a kill."""

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from datatools.files import LOCK, as_data_error, atomic_path
from datatools.images import ImageError
from datatools.pyramid.folder_source import Entry, Skipped, read_entry
from datatools.pyramid.format import UNKNOWN, Provenance
from datatools.pyramid.square import Crop, ResizeFilter, UnsuitableError, read_square
from datatools.pyramid.writer import PyramidWriter

VERSION = 1
"""Raise it when the same picture comes out otherwise: parts of another version are made again."""

PART_ENTRIES = 256
PART_BYTES = 64 << 20
"""Largest numbers of pictures, and of bytes of their top level, in a part."""


UNKNOWN_LANDMARKS = np.full((5, 2), np.nan)


@dataclass(frozen=True)
class PartOptions:
    """What a part depends on besides its pictures."""

    resolution: int
    crop: Crop
    resize_filter: ResizeFilter
    compression: str


@dataclass(frozen=True)
class Part:
    """Some consecutive pictures of a folder. name: of its files in the folder of parts, made from all it depends on."""

    number: int
    name: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class FinishedPart:
    """A part that is done.

    Attributes:
        path: the pyramid of its usable pictures; None where there are none.
        rows: provenance of these, without rank.
        skipped: the other ones.
    """

    part: Part
    path: Path | None
    rows: tuple[Provenance, ...]
    skipped: tuple[Skipped, ...]


def parts_folder(out: Path) -> Path:
    """Return the folder of the parts of `out`: next to it, so that a copy may share its blocks."""
    return out.with_name(f".{out.name}.parts")


def plan_parts(root: Path, entries: Sequence[Entry], options: PartOptions) -> list[Part]:
    """Split the pictures of a folder into parts, independently of the number of processes."""
    size = max(1, min(PART_ENTRIES, PART_BYTES // (3 * options.resolution**2)))
    groups = [tuple(entries[start : start + size]) for start in range(0, len(entries), size)]
    return [plan_part(root, number, group, options) for number, group in enumerate(groups)]


def plan_part(root: Path, number: int, entries: tuple[Entry, ...], options: PartOptions) -> Part:
    """Return the part of these pictures."""
    files = [(entry.name, entry.stamp) for entry in entries]
    content = json.dumps([VERSION, asdict(options), str(root.absolute()), files])
    return Part(number, f"{number:06}-{hashlib.sha256(content.encode()).hexdigest()[:16]}", entries)


class PartMaker:
    """Makes parts, in any process.

    Args:
        root: the folder or archive of the pictures.
        folder: where the parts go; it is there.
        options: see there.
    """

    def __init__(self, root: Path, folder: Path, options: PartOptions) -> None:
        self.root, self.folder, self.options = root, folder, options

    def finished(self, part: Part) -> FinishedPart | None:
        """Return the part if it was made before."""
        try:
            content = json.loads((self.folder / f"{part.name}.json").read_bytes())
        except (OSError, ValueError):
            return None
        rows = tuple(_row(*one) for one in content["rows"])
        skipped = tuple(Skipped(*one) for one in content["skipped"])
        return FinishedPart(part, self.folder / f"{part.name}.h5" if rows else None, rows, skipped)

    def __call__(self, part: Part) -> FinishedPart:
        """Return the part, made now unless it is there."""
        return self.finished(part) or self._make(part)

    def _make(self, part: Part) -> FinishedPart:
        faces, skipped = [], []
        for entry in part.entries:
            try:
                faces.append(self._face(entry.name))
            except ImageError as error:
                kind = error.kind if isinstance(error, UnsuitableError) else "unreadable"
                skipped.append(Skipped(entry.name, kind, str(error)))
        path = self.folder / f"{part.name}.h5"
        if faces:
            resolution, compression = self.options.resolution, self.options.compression
            with PyramidWriter(path, len(faces), resolution=resolution, compression=compression) as writer:
                for face, row in faces:
                    writer.append(face, row)
        rows = tuple(row for _, row in faces)
        content = {
            "rows": [(row.file_name, row.source_md5, np.asarray(row.quad).tolist()) for row in rows],
            "skipped": [(one.file_name, one.kind, one.reason) for one in skipped],
        }
        record = self.folder / f"{part.name}.json"
        with as_data_error(record), atomic_path(record) as temporary:
            temporary.write_text(json.dumps(content))
        return FinishedPart(part, path if faces else None, rows, tuple(skipped))

    def _face(self, name: str) -> tuple[NDArray[np.uint8], Provenance]:
        data = read_entry(self.root, name)
        options = self.options
        face, quad = read_square(data, options.resolution, options.crop, options.resize_filter)
        md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
        return face, _row(name, md5, quad)


def _row(name: str, md5: str, quad: ArrayLike) -> Provenance:
    return Provenance(name, md5, 0.0, 0, UNKNOWN, quad, UNKNOWN_LANDMARKS)


def remove_others(folder: Path, parts: Sequence[Part]) -> None:
    """Delete what other options or an older state of the pictures left among the parts."""
    names = {part.name for part in parts}
    for path in _files(folder):
        if path.name.split(".")[0] not in names:
            with suppress(OSError):
                path.unlink()


def size_of_parts(folder: Path) -> int:
    """Return the bytes that finished parts take."""
    return sum(path.stat().st_size for path in _files(folder))


def _files(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from (path for path in sorted(folder.iterdir()) if path.name != LOCK)


def remove_parts(folder: Path) -> None:
    """Delete the folder of parts."""
    shutil.rmtree(folder, ignore_errors=True)
