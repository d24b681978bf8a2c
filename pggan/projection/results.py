"""What projecting leaves in a folder, and what is done there already.

For each picture `NAME.png`, the picture and its projection side by side, `NAME.safetensors`, w and noise maps, and
`NAME.mp4`; for pictures of the model the same in `generated`. `distances.json` is written last: what it lists is there.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import safetensors.torch
from numpy.typing import NDArray
from torch import Tensor

from datatools.errors import DataError
from datatools.files import as_data_error, atomic_path
from datatools.images import save_png
from pggan.media.video import ENLARGED, enlarged

RECORD = "distances.json"
Group = Literal["images", "generated"]
FOLDERS: dict[Group, str] = {"images": ".", "generated": "generated"}


@dataclass(frozen=True)
class Entry:
    """A projected picture: its distance at the end, and the digest of what was projected."""

    distance: float
    sha256: str


class Results:
    """Results of projections with the same settings, ready for JSON, in a folder.

    Raises DataError for a folder that has those of other settings.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.folder, self.settings = folder, settings
        self.entries: dict[Group, dict[str, Entry]] = {"images": {}, "generated": {}}
        path = folder / RECORD
        if not path.exists():
            return
        try:
            with as_data_error(path, "read"):
                values = json.loads(path.read_text(encoding="utf-8"))
            before = values["settings"]
            for group in self.entries:
                self.entries[group] = {name: Entry(**entry) for name, entry in values[group].items()}
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise DataError(f"{path}: is not a file that pggan.project wrote; choose another --out") from error
        if changed := [name for name in settings if before.get(name) != settings[name]]:
            name = changed[0]
            raise DataError(
                f"{folder}: has projections with {name} {before.get(name)!r}, not {settings[name]!r}; "
                "choose another --out, or remove them"
            )

    def has(self, group: Group, name: str, sha256: str) -> bool:
        """Return whether that picture is projected; another one of its name is not."""
        entry = self.entries[group].get(name)
        return entry is not None and entry.sha256 == sha256

    def place(self, group: Group, name: str) -> Path:
        """Return where a picture's files go, without their endings; the folder is made."""
        folder = self.folder / FOLDERS[group]
        folder.mkdir(parents=True, exist_ok=True)
        return folder / name

    def add(
        self,
        group: Group,
        name: str,
        entry: Entry,
        pictures: tuple[NDArray[np.uint8], NDArray[np.uint8]],
        tensors: dict[str, Tensor],
    ) -> None:
        """Write a picture's files: the two pictures (r, r, 3), and w and noise maps; then the record."""
        place = self.place(group, name)
        save_png(place.with_name(f"{name}.png"), side_by_side(*pictures))
        with atomic_path(place.with_name(f"{name}.safetensors")) as temporary:
            temporary.write_bytes(safetensors.torch.save({key: t.contiguous().cpu() for key, t in tensors.items()}))
        self.entries[group][name] = entry
        self.write()

    def distances(self, group: Group) -> NDArray[np.float64]:
        """Return all distances of a group."""
        return np.array([entry.distance for entry in self.entries[group].values()])

    def write(self, **more: Any) -> None:
        """Write the record, with further values."""
        groups = {
            group: {name: asdict(entry) for name, entry in sorted(entries.items())}
            for group, entries in self.entries.items()
        }
        with atomic_path(self.folder / RECORD) as temporary:
            text = json.dumps({"settings": self.settings, **groups, **more}, indent=2)
            temporary.write_text(text + "\n", encoding="utf-8")


def side_by_side(picture: NDArray[np.uint8], projection: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return two pictures (r, r, 3) next to each other; small ones are enlarged, by repeated pixels."""
    both = np.concatenate([picture, projection], axis=1)
    return enlarged(both, max(1, min(ENLARGED[0] // both.shape[1], ENLARGED[1] // both.shape[0])))


def digest(data: bytes) -> str:
    """Return the SHA-256 of bytes."""
    return hashlib.sha256(data).hexdigest()
