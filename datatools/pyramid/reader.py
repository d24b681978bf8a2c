"""Reading a pyramid file: levels as NumPy arrays, provenance by name, from any number of processes and threads."""

import difflib
import hashlib
import operator
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from datatools.errors import DataError, one_line
from datatools.pyramid.format import (
    ATTRIBUTES,
    CHECKSUMS,
    COLUMNS,
    OPTIONAL,
    PROVENANCE,
    SETTINGS,
    damage_as_data_error,
    default_table,
    level_name,
    level_shape,
    open_pyramid,
    stored_item,
    stored_levels,
    structure_problems,
    system_reason,
)

MAX_READ = 1 << 30  # Linux transfers less than 2 GiB in one call

_inherited: list[object] = []


class StoredLevel:
    """A level's dataset in an open file; reads the bytes of consecutive images with as few calls as possible."""

    def __init__(self, file: h5py.File, dataset: h5py.Dataset) -> None:
        self.file = file  # keeps it open for as long as this level is in use
        self.dataset = dataset
        self.name = f"{file.filename}: {dataset.name.lstrip('/')}"
        self.image_bytes = int(np.prod(dataset.shape[1:]))
        self.offset: int | None = None if dataset.chunks else dataset.id.get_offset()
        self.descriptor: int = file.id.get_vfd_handle()

    def read_into(self, start: int, out: NDArray[np.uint8]) -> None:
        """Fill `out` (n, 3, r, r), C-contiguous, with images from `start` on. Raises DataError for unreadable ones."""
        if len(out) == 0:
            return
        try:
            if self.offset is None:
                self.dataset.read_direct(out, np.s_[start : start + len(out)])
            else:
                # Uncompressed images lie one after the other: reading by offset skips HDF5's selection machinery and
                # its global lock, and does not move a file position, so threads do not disturb each other.
                self._read_bytes(out.data.cast("B"), self.offset + start * self.image_bytes)
        except OSError as error:
            last, why = start + len(out) - 1, system_reason(error) or one_line(error)
            raise DataError(f"{self.name}: images {start} to {last} cannot be read ({why})") from error

    def _read_bytes(self, buffer: memoryview, position: int) -> None:
        while buffer:
            count = os.preadv(self.descriptor, [buffer[:MAX_READ]], position)
            if count == 0:
                raise OSError("the file ends before them")
            buffer = buffer[count:]
            position += count


class OpenFile:
    """A file opened by one process; it is closed when the last reference goes."""

    def __init__(self, path: Path, resolutions: tuple[int, ...]) -> None:
        self.process = os.getpid()
        self.file = open_pyramid(path)
        with damage_as_data_error(path):
            self.levels = {r: StoredLevel(self.file, self.file[level_name(r)]) for r in resolutions}


class Level:
    """One level of a pyramid, indexed like an array of shape (N, 3, r, r), uint8 RGB.

    `level[i]` gives (3, r, r); a slice, a list of indices (any order, repeats allowed, negative ones count from the
    end) or a boolean mask of N values gives (n, 3, r, r). Always a new array that the caller may change.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, pyramid: "Pyramid", resolution: int) -> None:
        self._pyramid = pyramid
        self.resolution = resolution

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return level_shape(len(self._pyramid), self.resolution)

    def __len__(self) -> int:
        return len(self._pyramid)

    def __repr__(self) -> str:
        return f"Level(shape={self.shape}, path={str(self._pyramid.path)!r})"

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, key: Any) -> NDArray[np.uint8]:
        stored = self._pyramid.handles().levels[self.resolution]
        try:
            single = operator.index(key)
        except TypeError:
            return self._read_many(stored, self._index_array(key))
        index = single + len(self) if single < 0 else single
        if not 0 <= index < len(self):
            raise IndexError(f"image {single} of {len(self)}")
        out = np.empty((1, *self.shape[1:]), dtype=np.uint8)
        stored.read_into(index, out)
        return out[0]

    def read_into(self, start: int, out: NDArray[np.uint8]) -> None:
        """Fill `out` (n, 3, r, r), C-contiguous, with the images from `start` on; threads may read at the same time.

        Raises: IndexError for images that the level does not have; DataError where they cannot be read.
        """
        if not 0 <= start <= len(self) - len(out):
            raise IndexError(f"images {start} to {start + len(out) - 1} of {len(self)}")
        self._pyramid.handles().levels[self.resolution].read_into(start, out)

    def _index_array(self, key: Any) -> NDArray[np.intp]:
        if isinstance(key, slice):
            return np.arange(*key.indices(len(self)))
        indices = np.asarray(key)
        if indices.dtype == bool:
            if indices.shape != (len(self),):
                raise IndexError(f"a mask for {len(self)} images has shape {indices.shape}")
            return np.flatnonzero(indices)
        if isinstance(key, tuple) or indices.ndim != 1 or (indices.size and indices.dtype.kind not in "iu"):
            raise TypeError(f"index with an integer, a slice, a list of integers or a mask, not {key!r}")
        indices = indices.astype(np.intp)
        if indices.size and (indices.min() < -len(self) or indices.max() >= len(self)):
            raise IndexError(f"images {indices.min()} to {indices.max()} of {len(self)}")
        return np.where(indices < 0, indices + len(self), indices)

    def _read_many(self, stored: StoredLevel, indices: NDArray[np.intp]) -> NDArray[np.uint8]:
        out = np.empty((len(indices), *self.shape[1:]), dtype=np.uint8)
        breaks = (np.flatnonzero(np.diff(indices) != 1) + 1).tolist()
        for begin, end in zip([0, *breaks], [*breaks, len(indices)], strict=True):
            if end > begin:
                stored.read_into(int(indices[begin]), out[begin:end])
        return out


class Pyramid:
    """A finished pyramid file, open for reading.

        faces = Pyramid("celebahq.h5")
        batch = faces[256][[3, 14, 15]]  # (3, 3, 256, 256) uint8
        smiling = faces.attribute("Smiling") > 0  # (N,) bool

    The constructor checks the whole layout and raises DataError, in one line, for a file that is missing, foreign,
    truncated, unfinished or of another version. It does not look at the images: that is what `verify` does.

    Processes: a Pyramid may be passed to worker processes or inherited by a fork. Every process opens the file itself
    at its first access; a pickle carries the path and nothing else. Threads: levels of uncompressed files are read in
    parallel; HDF5 lets one thread at a time read a compressed level or a provenance column.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._handles: OpenFile | None = None
        with open_pyramid(self.path) as file, damage_as_data_error(self.path):
            problems = structure_problems(file)
            if problems:
                more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
                raise DataError(f"{self.path}: {problems[0]}{more}")
            self._count = int(file.attrs["count"])
            self.compression = str(file.attrs["compression"])
            self.levels = stored_levels(file)
            self.settings = {name: _plain(value) for name, value in sorted(file[SETTINGS].attrs.items())}
            flags = stored_item(file, f"{PROVENANCE}/{ATTRIBUTES}")
            names = () if flags is None else flags.attrs["names"]
            self.optional_columns = tuple(name for name in OPTIONAL if f"{PROVENANCE}/{name}" in file)
            self.attribute_names = tuple(name.decode("utf-8") for name in names)

    @property
    def resolution(self) -> int:
        """Return the side of the top level in pixels."""
        return self.levels[0]

    @property
    def provenance_names(self) -> tuple[str, ...]:
        """Return the names of the file's provenance columns."""
        stored = (column.name for column in COLUMNS if column.name not in set(OPTIONAL) - set(self.optional_columns))
        return (*stored, *((ATTRIBUTES,) if self.attribute_names else ()))

    def __len__(self) -> int:
        return self._count

    def __repr__(self) -> str:
        return f"Pyramid({str(self.path)!r}: {len(self)} images, levels {self.levels[0]} to {self.levels[-1]})"

    def __getitem__(self, resolution: int) -> Level:
        """Return the level of that side in pixels. Raises DataError for one that the file does not have."""
        if resolution not in self.levels:
            raise DataError(f"{self.path}: no level {resolution}; it has {', '.join(map(str, self.levels))}")
        return Level(self, resolution)

    def image(self, index: int, resolution: int | None = None) -> NDArray[np.uint8]:
        """Return one image for display, (r, r, 3) uint8 RGB, by default of the top level."""
        level = self[self.resolution if resolution is None else resolution]
        return np.ascontiguousarray(level[operator.index(index)].transpose(1, 2, 0))

    def provenance(self, name: str) -> NDArray:
        """Return a provenance column, a row per image; text as NumPy str. docs/pyramid-format.md lists the columns.

        An optional column that the file lacks has its default in every row.
        """
        if name in OPTIONAL and name not in self.optional_columns:
            return default_table(OPTIONAL[name], len(self))
        if name not in self.provenance_names:
            raise DataError(_unknown(f"{self.path}: no provenance column", name, self.provenance_names))
        values = self.table(f"{PROVENANCE}/{name}")
        return np.char.decode(values, "utf-8", "surrogateescape") if values.dtype.kind == "S" else values

    def attribute(self, name: str) -> NDArray[np.int8]:
        """Return an attribute of all images, (N,) int8: +1 and -1 as CelebA has them, 0 where it is not known."""
        if name not in self.attribute_names:
            raise DataError(_unknown(f"{self.path}: no attribute", name, self.attribute_names))
        return self.provenance(ATTRIBUTES)[:, self.attribute_names.index(name)]

    def digest(self, resolution: int, extra: bytes = b"") -> str:
        """Return 64 hexadecimal digits that depend on every pixel of a level, and on `extra`, such as labels.

        They are made from the checksums in the file: a file that was changed since is damaged, which `verify` finds.
        """
        checksums = self.table(f"{CHECKSUMS}/{level_name(self[resolution].resolution)}")
        return hashlib.sha256(checksums.tobytes() + extra).hexdigest()

    def close(self) -> None:
        """Close the file in this process; the next access opens it again."""
        self._handles = None

    def __enter__(self) -> "Pyramid":
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Path]:
        return {"path": self.path}

    def __setstate__(self, state: dict[str, Path]) -> None:
        self.__init__(state["path"])  # type: ignore[misc]

    def table(self, name: str) -> NDArray:
        """Return a table as it is stored, by its name in the file. Raises DataError where it is damaged or missing."""
        with damage_as_data_error(self.path):
            values: NDArray = self.handles().file[name][...]
        return values

    def handles(self) -> OpenFile:
        """Return the file as this process has it open, for the modules of this package."""
        handles = self._handles
        if handles is not None and handles.process != os.getpid():
            # Inherited by a fork: HDF5's state belongs to the parent. Closing it here could touch what the parent
            # holds, so it is kept, unused, for the life of this process.
            _inherited.append(handles)
            handles = None
        if handles is None:
            handles = self._handles = OpenFile(self.path, self.levels)
        return handles


def _plain(value: Any) -> str | int | float:
    return value.item() if isinstance(value, np.generic) else value


def _unknown(what: str, name: str, known: tuple[str, ...]) -> str:
    if not known:
        return f"{what} {name!r}: the file was built without any, since CelebA's list_attr_celeba.txt was not there"
    by_lower = {each.lower(): each for each in known}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1)
    hint = f", did you mean {by_lower[close[0]]!r}?" if close else ";"
    return f"{what} {name!r}{hint} known: {', '.join(known)}"
