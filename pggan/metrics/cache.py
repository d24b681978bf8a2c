"""On-disk cache of results that depend only on the reals."""

import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np

from datatools.errors import reason
from datatools.files import atomic_path

Key = dict[str, Any]
"""Everything that a result depends on, ready for JSON; "digest": that of the data, None where it is not known."""


class Cache:
    """Keep results that depend on the reals alone in a folder; one file per key, which the file holds as well.

    Without a folder, and for data without a digest, nothing is kept. A file that cannot be read counts as missing; a
    folder that cannot be written is reported in `notes`.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.notes: list[str] = []

    def number(self, kind: str, key: Key) -> Any:
        """Return what `keep_number` stored under the key, or None."""
        path = self._path(kind, key, "json")
        try:
            known = json.loads(path.read_text(encoding="utf-8")) if path else {}
            return known["answer"] if known.get("question") == key else None
        except (OSError, ValueError, KeyError, AttributeError):
            return None

    def keep_number(self, kind: str, key: Key, answer: Any) -> None:
        """Store numbers that JSON can hold."""
        text = json.dumps({"question": key, "answer": answer}, indent=1) + "\n"
        self._write(self._path(kind, key, "json"), lambda stream: stream.write(text.encode()))

    def arrays(self, kind: str, key: Key) -> dict[str, Any] | None:
        """Return the arrays that `keep_arrays` stored under the key, or None."""
        path = self._path(kind, key, "npz")
        if path is None:
            return None
        try:
            with np.load(path, allow_pickle=False) as file:
                known = {name: file[name] for name in file.files}
            return known if json.loads(str(known.pop("question"))) == key else None
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None

    def keep_arrays(self, kind: str, key: Key, arrays: dict[str, Any]) -> None:
        """Store arrays by name."""
        question = np.array(json.dumps(key))
        self._write(self._path(kind, key, "npz"), lambda stream: np.savez(stream, question=question, **arrays))

    def _path(self, kind: str, key: Key, suffix: str) -> Path | None:
        if self.folder is None or key["digest"] is None:
            return None
        text = json.dumps(key, sort_keys=True)
        return self.folder / f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.{suffix}"

    def _write(self, path: Path | None, write: Callable[[IO[bytes]], object]) -> None:
        if path is None:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(path) as temporary, temporary.open("wb") as stream:
                write(stream)
        except OSError as error:
            self.notes.append(
                f"{path.parent}: nothing can be kept there ({reason(error)}), and all is computed again every time; "
                "make it writable, or name another folder"
            )
            self.folder = None
