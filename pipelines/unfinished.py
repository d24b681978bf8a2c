"""Results of a shard's first photos, on the disk as soon as they are there: an interrupted shard resumes after them.

Two files next to the shard's own only grow: one line of JSON per photo, and the photos' faces. A line is written
after its face, whose checksum it has. So however the process ended, each whole line with its face is a finished photo.
Nothing is flushed: when the power fails, the photos that the system had not yet written are lost (half a minute on
Linux), which the checksums find out.
"""

import json
import os
import time
import zlib
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datatools.files import fsync_path
from datatools.pyramid.storage import write_at

NO_FACE = -1
"""In place of a checksum: the photo gave no face."""


def unfinished_path(path: Path) -> Path:
    """Name of what `path` consists of before it is complete, in the same folder."""
    return path.with_name(f".{path.name}.unfinished")


def read_face(path: Path, index: int, resolution: int) -> NDArray[np.uint8]:
    """Read face `index`, (r, r, 3), of a file of faces. Raises ValueError where the file ends before it."""
    size = resolution * resolution * 3
    return np.fromfile(path, np.uint8, size, offset=index * size).reshape(resolution, resolution, 3)


class UnfinishedShard:
    """What is finished of a shard; a context manager.

    path: the shard's file, whose name says by a digest what the results depend on. faces: file of the shard's faces,
    r * r * 3 bytes each, with a hole where a photo gave none; None where faces are not kept. photos: a text that
    identifies each photo, in the order of their results. resolution: r. group: number of photos that are computed
    together; results of an incomplete group are not used, since other groups could give other bytes. current: (index,
    saved result) -> whether the photo is still the one that gave it.

    Raises OSError when the disk is full or cannot be written.

    Attributes:
        rows: results that earlier runs saved, of the first photos.
        checksums: of the faces of all photos so far, None where faces are not kept.
        seconds: how long those runs took for them.
    """

    def __init__(
        self,
        path: Path,
        faces: Path | None,
        photos: Sequence[str],
        *,
        resolution: int,
        group: int = 1,
        current: Callable[[int, dict[str, Any]], bool] = lambda _index, _row: True,
    ) -> None:
        self._path, self._faces = path, faces
        self._photos, self._resolution, self._current = photos, resolution, current
        if faces is not None and faces.exists():
            os.replace(faces, unfinished_path(faces))  # killed between the faces and the shard's own file
        lines = self._valid_lines(group)
        self.rows: list[dict[str, Any]] = [json.loads(line) for line in lines]
        self.checksums: list[int | None] = [row["checksum"] for row in self.rows]
        self.seconds = float(self.rows[-1]["seconds"]) if self.rows else 0.0
        self._count, self._size = len(lines), sum(map(len, lines))

    def __enter__(self) -> "UnfinishedShard":
        self._start = time.perf_counter()
        self._stack = ExitStack()
        self._lines = self._open(self._path)
        os.truncate(self._lines, self._size)
        if self._faces is not None:
            self._stream = self._open(self._faces)
        return self

    def _open(self, path: Path) -> int:
        descriptor = os.open(unfinished_path(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        self._stack.callback(os.close, descriptor)
        return descriptor

    def __exit__(self, *_exception: object) -> None:
        self._stack.close()

    def _valid_lines(self, group: int) -> list[bytes]:
        path = unfinished_path(self._path)
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        valid = 0
        for photo, line in zip(self._photos, lines, strict=False):
            try:
                row = json.loads(line)
                if not line.endswith(b"\n") or row["photo"] != photo or not self._has_face(valid, row["checksum"]):
                    break
                if not self._current(valid, row):
                    break
            except (ValueError, KeyError, TypeError, OSError):
                break
            valid += 1
        return lines[: valid if valid == len(self._photos) else valid - valid % group]

    def _has_face(self, index: int, checksum: int | None) -> bool:
        if self._faces is None or checksum == NO_FACE:
            return True
        return checksum is not None and zlib.crc32(self.face(index).data) == checksum

    def face(self, index: int) -> NDArray[np.uint8]:
        """Read the face of photo `index` back, (r, r, 3)."""
        assert self._faces is not None
        return read_face(unfinished_path(self._faces), index, self._resolution)

    def append(self, face: NDArray[np.uint8] | None, **values: Any) -> None:
        """Save the result of the next photo: its face, None where it gave none, and values that JSON can hold."""
        checksum = None
        if self._faces is not None:
            checksum = NO_FACE
            if face is not None:
                face = np.ascontiguousarray(face)
                write_at(self._stream, face.data.cast("B"), self._count * face.nbytes)
                checksum = zlib.crc32(face.data)
        seconds = round(self.seconds + time.perf_counter() - self._start, 3)
        row = {"photo": self._photos[self._count], "checksum": checksum, "seconds": seconds, **values}
        line = json.dumps(row).encode() + b"\n"
        write_at(self._lines, line, self._size)
        self.checksums.append(checksum)
        self._count, self._size = self._count + 1, self._size + len(line)

    def keep_faces(self) -> None:
        """Give the faces their name, flushed to the disk; the shard's own file has to follow, and then `remove`."""
        if self._faces is not None:
            os.fsync(self._stream)
            os.replace(unfinished_path(self._faces), self._faces)
            fsync_path(self._faces.parent)

    def remove(self) -> None:
        """Remove what is not needed once the shard's own file is complete."""
        for path in (self._path, self._faces):
            if path is not None:
                unfinished_path(path).unlink(missing_ok=True)
