"""On-disk cache of results that depend only on the reals."""

import hashlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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

    def get(self, kind: str, key: Key) -> dict[str, Any] | None:
        """Return the arrays that `keep` stored under the key, or None."""
        path = self._path(kind, key)
        if path is None:
            return None
        try:
            with np.load(path, allow_pickle=False) as file:
                known = {name: file[name] for name in file.files}
            return known if json.loads(str(known.pop("question"))) == key else None
        except (OSError, ValueError, KeyError, EOFError, AttributeError, zipfile.BadZipFile):
            return None

    def keep(self, kind: str, key: Key, values: Mapping[str, Any]) -> None:
        """Store arrays or numbers by name."""
        path = self._path(kind, key)
        if path is None:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(path) as temporary, temporary.open("wb") as stream:
                np.savez(stream, question=np.array(json.dumps(key)), **values)
        except OSError as error:
            self.notes.append(
                f"{path.parent}: nothing can be kept there ({reason(error)}), and all is computed again every time; "
                "make it writable, or name another folder"
            )
            self.folder = None

    def _path(self, kind: str, key: Key) -> Path | None:
        if self.folder is None or key["digest"] is None:
            return None
        text = json.dumps(key, sort_keys=True)
        return self.folder / f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.npz"
