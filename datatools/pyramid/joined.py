"""What `join` keeps of a part whose images are in the file that is being joined: its tables, and where they are."""

import io
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datatools.errors import DataError
from datatools.files import atomic_path
from datatools.parallel import uninterrupted
from datatools.pyramid.format import (
    CHECKSUMS,
    OPTIONAL,
    PROVENANCE,
    default_table,
    level_name,
    provenance_checksums,
)
from datatools.pyramid.reader import Pyramid
from datatools.pyramid.writer import FileLayout, UnfinishedFile


def joined_path(part: Path) -> Path:
    """Return where the tables of a part are kept, once its images are on the disk in another file."""
    return part.with_name(part.name + ".joined")


@dataclass(frozen=True)
class Place:
    """Where a part's images are in the file that is being joined.

    Attributes:
        first: number of the first one. count, compression: of that file.
        offsets: of uncompressed levels: where the first one begins.
        chunks: of compressed levels: offset, bytes and HDF5's filter mask of each chunk that the images filled, (K, 3).
        pending: the last images of compressed levels, which fill no chunk, (n, 3, r, r).
    """

    first: int
    count: int
    compression: str
    offsets: dict[int, int] = field(default_factory=dict)
    chunks: dict[int, NDArray[np.int64]] = field(default_factory=dict)
    pending: dict[int, NDArray[np.uint8]] = field(default_factory=dict)

    @classmethod
    def of(cls, target: UnfinishedFile, first: int) -> "Place":
        """Return the place of the images from `first` to the last one that is there."""
        offsets, chunks, pending = {}, {}, {}
        with target.as_data_error(), uninterrupted():
            for resolution, level in target.levels.items():
                if level.chunks is not None:
                    filled = range(target.filled_chunks(resolution, first), target.filled_chunks(resolution))
                    found = [level.id.get_chunk_info_by_coord((n * level.chunks[0], 0, 0, 0)) for n in filled]
                    places = [(chunk.byte_offset, chunk.size, chunk.filter_mask) for chunk in found]
                    chunks[resolution] = np.array(places, np.int64).reshape(-1, 3)
                    waiting = target.pending[resolution]
                    pending[resolution] = np.array(waiting, np.uint8).reshape(-1, *level.shape[1:])
                elif target.layout.count:
                    offsets[resolution] = target.image_offset(resolution, first)
        return cls(first, target.layout.count, target.layout.compression, offsets, chunks, pending)

    def fits(self, first: int, layout: FileLayout) -> bool:
        """Return whether image number `first` of such a file is the first one here."""
        return (self.first, self.count, self.compression) == (first, layout.count, layout.compression)

    def take(self, target: UnfinishedFile, count: int) -> bool:
        """Let HDF5 know the `count` images of a part that is gone, in a file that has them; return whether it can.

        HDF5 gets chunks of the same sizes in the same order again. Everything has to get the same place as before.
        """
        left = {resolution: iter(chunks.tolist()) for resolution, chunks in self.chunks.items()}
        for _ in range(count):
            target.done += 1
            for resolution in self.chunks:
                level, number = target.levels[resolution], target.filled_chunks(resolution, target.done - 1)
                if target.filled_chunks(resolution) > number:
                    _, size, mask = next(left[resolution])
                    with target.as_data_error(), uninterrupted(), target.storage.zeros_stand_for_kept_bytes():
                        level.id.write_direct_chunk((number * level.chunks[0], 0, 0, 0), bytes(size), mask)
        for resolution, images in self.pending.items():
            target.pending[resolution] = list(images)
        place = Place.of(target, self.first)
        same_chunks = (np.array_equal(place.chunks[resolution], chunks) for resolution, chunks in self.chunks.items())
        return place.offsets == self.offsets and all(same_chunks)


@dataclass(frozen=True)
class PartTables:
    """A part without its images.

    Attributes:
        checksums: of each image, (N,) uint32, by level, largest first.
        columns: of provenance, as in the file. row_checksums: of their rows, (N,) uint32.
        place: where its images are in the file that is being joined; None for a part that still has its own.
    """

    checksums: dict[int, NDArray[np.uint32]]
    columns: dict[str, NDArray]
    row_checksums: NDArray[np.uint32]
    attribute_names: tuple[str, ...]
    place: Place | None = None

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
                    Place(
                        int(stored["place"][0]),
                        int(stored["place"][1]),
                        str(stored["compression"]),
                        dict(stored["offsets"].tolist()),
                        {int(r): stored[f"chunks/{r}"] for r in stored["chunked"]},
                        {int(r): stored[f"pending/{r}"] for r in stored["chunked"]},
                    ),
                )
        except Exception as error:  # NumPy and zipfile raise what the damage leads to
            raise DataError(f"{path}: is damaged; remove it, and build its part again") from error

    def write(self, path: Path, place: Place) -> None:
        """Write the file with this `place`, whole or not at all."""
        content = io.BytesIO()
        arrays: dict[str, NDArray] = {f"{CHECKSUMS}/{r}": values for r, values in self.checksums.items()}
        arrays |= {f"{PROVENANCE}/{name}": values for name, values in self.columns.items()}
        arrays |= {f"chunks/{r}": values for r, values in place.chunks.items()}
        arrays |= {f"pending/{r}": values for r, values in place.pending.items()}
        np.savez(
            content,
            allow_pickle=False,
            place=np.array([place.first, place.count]),
            compression=np.array(place.compression),
            offsets=np.array(list(place.offsets.items()), np.int64).reshape(-1, 2),
            chunked=np.array(list(place.chunks), np.int64),
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
