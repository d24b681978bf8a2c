"""Faces that were found in photos: the table that people may correct, and what is needed to use it again.

The table has the faces. A file of the work folder has the MD5 and stamp of each photo when it was looked at, so that
only new and changed photos are looked at again, and why photos could not be read.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datatools.console import say
from datatools.files import FileStamp, as_data_error, atomic_path, file_stamp
from datatools.landmarks.base import Face
from datatools.landmarks.table import read_table, write_table
from datatools.sources.records import Rejection, RejectionKind

Row = dict[str, Any]
"""What was found in one photo, as values for JSON: `name`, `source_md5`, `stamp`; `size` (width, height) of the photo;
`rejection` (kind, detail), None for a photo that could be read; `faces`, in the order of their numbers, each of ten
numbers, the score, and the box's four."""


def face_values(face: Face) -> list[float]:
    """Return a face as a row has it."""
    return [*face.points.ravel().tolist(), float(face.score), *map(float, face.box)]


def _face(values: Sequence[float]) -> Face:
    left, top, width, height = values[11:]
    return Face(np.array(values[:10]).reshape(5, 2), (left, top, width, height), values[10])


@dataclass(frozen=True, eq=False)
class Seen:
    """What a detector saw in a photo of this size (width, height)."""

    faces: Sequence[Face]
    size: tuple[int, int]


@dataclass(frozen=True)
class FoundFaces:
    """What was found. table: the file of landmarks; folder: of what else is known."""

    table: Path
    folder: Path

    @property
    def _index(self) -> Path:
        return self.folder / "found.json"

    def _read(self) -> dict[str, Any]:
        try:
            known: dict[str, Any] = json.loads(self._index.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {"digest": "", "written": "", "photos": {}}
        return known

    @property
    def written(self) -> str:
        """Return the SHA-256 of the table as it was written; another one says that people have corrected it."""
        return str(self._read()["written"])

    @property
    def rejections(self) -> dict[str, Rejection]:
        """Return the photos that could not be read, by name."""
        photos = self._read()["photos"]
        bad = {name: photo["rejection"] for name, photo in photos.items() if photo["rejection"]}
        return {name: Rejection(RejectionKind(kind), name, detail) for name, (kind, detail) in bad.items()}

    def seen(self) -> dict[str, Seen]:
        """Return what was seen in each photo that could be read, by name."""
        photos, faces = self._read()["photos"], read_table(self.table)
        return {
            name: Seen(faces[name], (photo["size"][0], photo["size"][1]))
            for name, photo in photos.items()
            if not photo["rejection"]
        }

    def missing(self, photos: Mapping[str, Path], digest: str) -> tuple[str, ...]:
        """Return the names of photos that were not looked at, as they are now, by the source of this digest."""
        known = self._read()
        if known["digest"] != digest or not self.table.exists():
            return tuple(photos)
        looked_at = known["photos"]
        return tuple(name for name, path in photos.items() if not is_same(path, looked_at.get(name)))

    def add(self, rows: Iterable[Row], photos: Iterable[str], source: str, digest: str) -> None:
        """Write the table with new rows; those of other photos in the folder stay as they are, corrected or not.

        Args:
            rows: what was found.
            photos: names of all photos, in the order of the table.
            source, digest: of what found them. The table of another source is replaced; kept under another name if
                people have corrected it.
        """
        known = self._read()
        faces: dict[str, list[Face]] = {}
        if self.table.exists():
            if known["digest"] == digest:
                faces = read_table(self.table)
            elif known["written"] != _sha256(self.table):
                self._keep_table()
        kept: dict[str, Any] = known["photos"] if known["digest"] == digest else {}
        for row in rows:
            faces[row["name"]] = [_face(values) for values in row["faces"]]
            kept[row["name"]] = {name: row[name] for name in ("source_md5", "stamp", "size", "rejection")}
        names = [name for name in photos if name in faces]
        self.folder.mkdir(parents=True, exist_ok=True)
        edited = self.table.exists() and known["digest"] == digest and known["written"] != _sha256(self.table)
        write_table(self.table, {name: faces[name] for name in names}, dict.fromkeys(names, source))
        content = {
            "digest": digest,
            "written": "" if edited else _sha256(self.table),
            "photos": {name: kept[name] for name in names if name in kept},
        }
        with atomic_path(self._index) as temporary:
            temporary.write_text(json.dumps(content), encoding="utf-8")

    def _keep_table(self) -> None:
        number = next(i for i in range(1, 10**6) if not self.table.with_stem(f"{self.table.stem}-{i}").exists())
        kept = self.table.with_stem(f"{self.table.stem}-{number}")
        self.table.rename(kept)
        say(f"{self.table} was corrected by hand, and another source finds the faces now: it is kept as {kept.name}")


def is_same(path: Path, photo: Mapping[str, Any] | None) -> bool:
    """Return whether a photo is as it was when it was looked at; photo: its `stamp` and `source_md5` then."""
    if photo is None:
        return False
    try:
        if file_stamp(path) == FileStamp(*photo["stamp"]):
            return True
        with path.open("rb") as stream:
            return bool(hashlib.file_digest(stream, "md5").hexdigest() == photo["source_md5"])
    except OSError:
        return False  # looking at it says what is wrong


def _sha256(path: Path) -> str:
    with as_data_error(path, "read"):
        return hashlib.sha256(path.read_bytes()).hexdigest()
