"""What `join` keeps of a part whose images are in the file that is being joined: its tables."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datatools.errors import DataError
from datatools.files import atomic_path
from datatools.pyramid.format import (
    CHECKSUMS,
    OPTIONAL,
    PROVENANCE,
    default_table,
    level_name,
    provenance_checksums,
)
from datatools.pyramid.reader import Pyramid


def joined_path(part: Path) -> Path:
    """Return where that of a part is kept, once its images are on the disk in another file."""
    return part.with_name(part.name + ".joined")


@dataclass(frozen=True)
class PartTables:
    """A part without its images.

    Attributes:
        checksums: of each image, (N,) uint32, by level, largest first.
        columns: of provenance, as in the file. row_checksums: of their rows, (N,) uint32.
        place: where its images are in the file that is being joined: number of the first one, and of all images there.
            None for a part that still has its own.
    """

    checksums: dict[int, NDArray[np.uint32]]
    columns: dict[str, NDArray]
    row_checksums: NDArray[np.uint32]
    attribute_names: tuple[str, ...]
    place: tuple[int, int] | None = None

    @classmethod
    def of(cls, part: Pyramid) -> "PartTables":
        """Return the tables of a pyramid file. Raises DataError for damaged ones."""
        with part:
            return cls(
                {r: part.table(f"{CHECKSUMS}/{level_name(r)}") for r in part.levels},
                {name: _plain(part.table(f"{PROVENANCE}/{name}")) for name in part.provenance_names},
                part.table(f"{CHECKSUMS}/{PROVENANCE}"),
                part.attribute_names,
            )

    @classmethod
    def read(cls, path: Path) -> "PartTables":
        """Return what `write` wrote. Raises DataError for a damaged file."""
        try:
            with np.load(path, allow_pickle=False) as stored:
                return cls(
                    {int(r): stored[f"{CHECKSUMS}/{r}"] for r in stored["levels"]},
                    {name: stored[f"{PROVENANCE}/{name}"] for name in stored["columns"].tolist()},
                    stored[f"{CHECKSUMS}/{PROVENANCE}"],
                    tuple(stored["attribute_names"].tolist()),
                    (int(stored["place"][0]), int(stored["place"][1])),
                )
        except Exception as error:  # NumPy and zipfile raise what the damage leads to
            raise DataError(f"{path}: is damaged; remove it, and build its part again") from error

    def write(self, path: Path, first: int, count: int) -> None:
        """Write the file, whole or not at all; `first` and `count` make the `place`."""
        content = io.BytesIO()
        arrays = {f"{CHECKSUMS}/{r}": values for r, values in self.checksums.items()}
        arrays |= {f"{PROVENANCE}/{name}": values for name, values in self.columns.items()}
        np.savez(
            content,
            allow_pickle=False,
            place=np.array([first, count]),
            levels=np.array(self.levels),
            columns=np.array(list(self.columns), np.str_),
            attribute_names=np.array(self.attribute_names, np.str_),
            **{**arrays, f"{CHECKSUMS}/{PROVENANCE}": self.row_checksums},
        )
        with atomic_path(path) as temporary:
            temporary.write_bytes(content.getbuffer())

    def __len__(self) -> int:
        return len(self.row_checksums)

    @property
    def levels(self) -> tuple[int, ...]:
        return tuple(self.checksums)

    @property
    def kind(self) -> tuple[tuple[int, ...], tuple[str, ...]]:
        """Return what parts of one file have in common."""
        return self.levels, self.attribute_names

    def provenance(self, name: str) -> NDArray:
        """Return a column, as `Pyramid.provenance` does."""
        if name in OPTIONAL and name not in self.columns:
            return default_table(OPTIONAL[name], len(self))
        values = self.columns[name]
        return np.char.decode(values, "utf-8", "surrogateescape") if values.dtype.kind == "S" else values

    def with_columns(self, names: list[str]) -> tuple[dict[str, NDArray], NDArray[np.uint32]]:
        """Return the columns of these names and the rows' checksums; the defaults of columns that are missing."""
        missing = [name for name in names if name not in self.columns]
        if not missing:
            return self.columns, self.row_checksums
        sound = self.row_checksums == provenance_checksums(self.columns)
        columns = self.columns | {name: default_table(OPTIONAL[name], len(self)) for name in missing}
        # damage has to show in `verify`
        return columns, np.where(sound, provenance_checksums(columns), self.row_checksums)


def _plain(values: NDArray) -> NDArray:
    """Return the values without what h5py notes in their type, which NumPy does not write."""
    return values.astype(values.dtype.str)
