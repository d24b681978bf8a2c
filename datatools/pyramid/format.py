"""What a pyramid file consists of: names, shapes and types; docs/pyramid-format.md says the same for readers.

Everything that writes, reads or checks such a file takes its knowledge of the layout from here.
"""

import errno
import importlib
import os
import re
import shlex
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray
from zlib_ng import zlib_ng

from datatools.errors import ArrayError, DataError, one_line
from datatools.files import as_data_error
from datatools.pyramid.heap import is_endless
from datatools.pyramid.levels import chosen_levels, level_resolutions
from datatools.text import counted

FORMAT_NAME = "celebahq-pyramid"
FORMAT_VERSION = 1
COMPRESSIONS = ("none", "gzip", "lzf", "lz4", "zstd")
WITH_PLUGIN = ("lz4", "zstd")  # of Blosc2, which HDF5 has from the library hdf5plugin
CHUNK_BYTES = 1 << 16
GZIP_LEVEL = 4
BLOSC_LEVEL = 5
PROVENANCE, CHECKSUMS, SETTINGS = "provenance", "checksums", "settings"
LEVELS = "levels"  # attribute of a file that leaves levels out: the sides of those that it has
UNKNOWN = -1  # identity, split, CelebA-HQ index


def level_name(resolution: int) -> str:
    """Return the name of a level's dataset."""
    return f"data{resolution}x{resolution}"


def level_shape(count: int, resolution: int) -> tuple[int, int, int, int]:
    return (count, 3, resolution, resolution)


def images_per_chunk(resolution: int) -> int:
    """Return the images in a chunk of a compressed level: one of a large level, at least 64 KiB of a small one."""
    return -(-CHUNK_BYTES // (3 * resolution * resolution))


def filter_options(compression: str, path: Path) -> dict[str, Any]:
    """Return h5py's options for a data set of that compression, other than "none".

    Raises DataError for one that needs a library that is not installed; `path` is the file it is for.
    """
    if compression in WITH_PLUGIN:
        plugin = load_plugin(compression, path)
        return dict(plugin.Blosc2(cname=compression, clevel=BLOSC_LEVEL, filters=plugin.Blosc2.BITSHUFFLE))
    return {"compression": compression, "compression_opts": GZIP_LEVEL if compression == "gzip" else None}


def load_plugin(compression: str, path: Path) -> Any:
    """Let HDF5 read and write a compression of WITH_PLUGIN; return the library.

    Raises DataError where it is not installed; `path` is the file that needs it.
    """
    try:
        return importlib.import_module("hdf5plugin")
    except ImportError as error:
        raise DataError(
            f"{path}: compression {compression} needs the library hdf5plugin ({one_line(error)}): "
            'pip install "celebahq[compression]"'
        ) from error


def stored_levels(file: h5py.File) -> tuple[int, ...]:
    """Return the sides of the levels that a file names, largest first: all, unless it has the attribute `levels`.

    Raises DataError for impossible ones.
    """
    resolution, smallest = int(file.attrs["resolution"]), int(file.attrs["min_level"])
    if LEVELS not in file.attrs:
        return level_resolutions(resolution, smallest)
    return chosen_levels(resolution, [int(side) for side in file.attrs[LEVELS]])


@dataclass(frozen=True)
class Column:
    """A provenance table: one row per image, of NumPy type `kind` ("S": UTF-8 of fixed length) and of `shape`.

    default: None for a column that every file has; else what images of files without this column have in it.
    """

    name: str
    kind: str
    shape: tuple[int, ...] = ()
    default: int | None = None


COLUMNS = (
    Column("file_name", "S"),
    Column("source_md5", "S"),
    Column("score", "<f8"),
    Column("rank", "<i4"),
    Column("celebahq_index", "<i4"),
    Column("quad", "<f8", (4, 2)),
    Column("landmarks", "<f8", (5, 2)),
    Column("identity", "<i4"),
    Column("split", "|i1"),
    Column("orientation", "|i1", default=1),
    Column("face", "<i4", default=0),
)
OPTIONAL = {column.name: column for column in COLUMNS if column.default is not None}
"""Columns that were added later, or that few sources fill: files may lack them, and readers take the default."""
ATTRIBUTES = "attributes"  # int8 (N, K), with the K names in its attribute "names"; absent when K = 0


@dataclass(frozen=True)
class Provenance:
    """Where one image of the pyramid comes from.

    file_name: name of the photo, with / after each folder that it lies in. source_md5: 32 hexadecimal digits, of the
    photo's bytes. score: quality score. rank: place in the ranking, 1 the best. celebahq_index: index in the published
    CelebA-HQ, -1 when not in it.
    quad: (4, 2) corners of the face rectangle, upper-left, lower-left, lower-right, upper-right; landmarks: (5, 2);
    both as (x, y) in pixels of the photo, turned by `orientation`. file_name and source_md5 are both empty, rank is -1
    and the rest not-a-number where nothing is known (UNKNOWN_ORIGIN).
    attributes: +1 or -1 in the order of the file's attribute names;
    identity: CelebA's number of the person; split: 0 train, 1 validation, 2 test; None where unknown.
    orientation: EXIF's number, 1 to 8, by which the photo was turned before its face was cut out; 1: as stored.
    face: number of the face in its photo, 0 the only or most prominent one.
    """

    file_name: str
    source_md5: str
    score: float
    rank: int
    celebahq_index: int
    quad: ArrayLike
    landmarks: ArrayLike
    attributes: tuple[int, ...] | None = None
    identity: int | None = None
    split: int | None = None
    orientation: int = 1
    face: int = 0

    def __post_init__(self) -> None:
        if np.shape(self.quad) != (4, 2) or np.shape(self.landmarks) != (5, 2):
            raise ArrayError(f"quad is (4, 2), landmarks (5, 2), not {np.shape(self.quad)}, {np.shape(self.landmarks)}")
        if self.file_name == self.source_md5 == "":
            return  # of unknown origin
        if {*self.file_name.split("/")} & {"", ".", ".."} or "\0" in self.file_name:
            raise ValueError(f"file_name must be a base name or a path below a folder, not {self.file_name!r}")
        if not re.fullmatch("[0-9a-f]{32}", self.source_md5):
            raise ValueError(f"source_md5 must be 32 hexadecimal digits, not {self.source_md5!r}")


UNKNOWN_ORIGIN = Provenance("", "", float("nan"), UNKNOWN, UNKNOWN, np.full((4, 2), np.nan), np.full((5, 2), np.nan))
"""Provenance of an image whose source is unknown."""


def provenance_tables(
    rows: Sequence[Provenance], attribute_names: Sequence[str], optional: Sequence[str] = ()
) -> dict[str, NDArray]:
    """Return the columns of `rows` as arrays of N rows, text as UTF-8 bytes padded with NUL to the longest one.

    optional: names of the columns of OPTIONAL that are among them.
    """
    tables: dict[str, NDArray] = {}
    for column in (column for column in COLUMNS if column.name not in OPTIONAL or column.name in optional):
        values = [getattr(row, column.name) for row in rows]
        if column.kind == "S":
            encoded = [value.encode("utf-8", "surrogateescape") for value in values]
            tables[column.name] = np.array(encoded, dtype=f"S{max([1, *map(len, encoded)])}")
        else:
            known = [UNKNOWN if value is None else value for value in values]
            tables[column.name] = np.array(known, dtype=column.kind).reshape(len(rows), *column.shape)
    if attribute_names:
        unknown = (0,) * len(attribute_names)
        flags = [unknown if row.attributes is None else row.attributes for row in rows]
        tables[ATTRIBUTES] = np.array(flags, dtype=np.int8).reshape(len(rows), len(attribute_names))
    return tables


def default_table(column: Column, count: int) -> NDArray:
    """Return the rows of an optional column for `count` images of a file that lacks it."""
    return np.full((count, *column.shape), column.default, column.kind)


def provenance_checksums(tables: dict[str, NDArray]) -> NDArray[np.uint32]:
    """Return every row's CRC-32, (N,) uint32: of its columns' bytes in alphabetical order, text without padding."""
    columns = [tables[name] for name in sorted(tables)]
    checksums = np.empty(len(tables["file_name"]), dtype=np.uint32)
    for index in range(len(checksums)):
        checksums[index] = zlib.crc32(
            b"".join(
                column[index].tobytes().rstrip(b"\0") if column.dtype.kind == "S" else column[index].tobytes()
                for column in columns
            )
        )
    return checksums


def image_checksum(image: NDArray[np.uint8]) -> int:
    """Return the CRC-32 of an image's bytes in file order: channel, row, column."""
    return zlib_ng.crc32(np.ascontiguousarray(image).data)


def no_progress(images: int) -> None:
    """Do nothing: the default progress callback."""


def _open_unlocked_if_need_be(path: Path) -> h5py.File:
    """Open a file, without a lock where the file system has none: a pyramid never changes under its name."""
    try:
        return h5py.File(path, "r")
    except OSError as error:
        if "lock" not in str(error):
            raise
        return h5py.File(path, "r", locking=False)


def open_pyramid(path: Path) -> h5py.File:
    """Open an HDF5 file for reading. Raises DataError for a missing, truncated, foreign or unreadable file."""
    with as_data_error(path, "read"):
        if not path.exists():
            raise DataError(f"{path}: no such file")
        if path.is_dir():
            hint = "python -m datatools.h5tool from-folder makes a pyramid of its pictures"
            raise DataError(f"{path}: is a folder; {hint}")
    try:
        if is_endless(path):
            raise DataError(f"{path}: damaged HDF5 file (a global heap)")
        file = _open_unlocked_if_need_be(path)
    except OSError as error:
        if "truncated" in str(error):
            found = re.search(r"eof = (\d+).*stored_eof = (\d+)", str(error))
            sizes = f" ({found[1]} of {found[2]} bytes are there)" if found else ""
            raise DataError(f"{path}: the file is truncated{sizes}; copy or build it again") from error
        if isinstance(error, PermissionError):
            raise DataError(f"{path}: no permission to read it") from error
        if system_reason(error) is None and not h5py.is_hdf5(path):
            raise DataError(f"{path}: not an HDF5 file") from error
        raise _unreadable(path, error) from error
    with damage_as_data_error(path):
        compression = str(stored_item(file.attrs, "compression"))
    if compression in WITH_PLUGIN:
        load_plugin(compression, path)
    return file


@contextmanager
def damage_as_data_error(path: Path) -> Iterator[None]:
    """Turn what h5py raises for overwritten bytes, and where they cannot be read, into a DataError of one line."""
    try:
        yield
    except (KeyError, OSError, RuntimeError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> DataError:
    refused = system_reason(error)
    return DataError(
        f"{path}: cannot be read: {refused}" if refused else f"{path}: damaged HDF5 file ({one_line(error)})"
    )


def system_code(error: Exception) -> int | None:
    """Return the error number of the system in an exception of h5py, which may be in its message alone."""
    found = re.search(r"errno = (\d+)", str(error))
    code = error.errno if isinstance(error, OSError) and error.errno else int(found[1]) if found else None
    return code or None


def system_reason(error: Exception) -> str | None:
    """Return why the system could not read a file; None where the file is damaged."""
    code = system_code(error)
    # Damaged bytes lead HDF5 to places that no file has.
    return None if code in (None, errno.EINVAL, errno.EOVERFLOW, errno.EFBIG) else os.strerror(code)


def stored_item(items: Mapping[str, Any], name: str) -> Any:
    """Return the object or attribute of that name, None where there is none. Raises KeyError where it cannot be read.

    `get` of h5py returns None for that, too.
    """
    try:
        return items[name]
    except KeyError as error:
        if system_reason(error) is not None:
            raise
        return None


def header_problems(file: h5py.File) -> list[str]:
    """Return what is wrong with the root's attributes; where there is something, nothing else can be trusted."""
    attrs = file.attrs
    if stored_item(attrs, "format") != FORMAT_NAME:
        levels = any(re.fullmatch(r"data(\d+)x\1", name) for name in file)
        command = f"python -m datatools.h5tool convert {shlex.quote(file.filename)} NEW.h5"
        hint = "; its levels look like the 2017 layout, which lacks provenance and checksums; " if levels else ""
        hint += f"make a pyramid of it: {command}" if levels else ""
        return [f"not a pyramid of this program: the attribute 'format' is not '{FORMAT_NAME}'{hint}"]
    if (version := stored_item(attrs, "format_version")) != FORMAT_VERSION:
        return [
            f"format version {version} is not {FORMAT_VERSION}, which this program reads; "
            "use the version of datatools that wrote it, or build the file again"
        ]
    missing = [name for name in ("count", "resolution", "min_level", "compression") if name not in attrs]
    missing += [] if SETTINGS in file else [SETTINGS]
    if missing:
        return [f"missing at the root: {', '.join(missing)}"]
    try:
        stored_levels(file)
    except (DataError, ValueError, TypeError) as error:
        return [f"unusable level sizes: {error}"]
    return []


def structure_problems(file: h5py.File) -> list[str]:
    """Return everything that is wrong with the layout, contents aside; nothing for a sound file."""
    problems = header_problems(file)
    if problems:
        return problems
    if not stored_item(file.attrs, "complete"):
        problems.append("the completeness mark is missing: whatever wrote the file did not finish; build it again")
    count = int(file.attrs["count"])
    resolutions = stored_levels(file)
    expected = [level_name(resolution) for resolution in resolutions]
    for resolution, name in zip(resolutions, expected, strict=True):
        problems += _table_problems(file, name, level_shape(count, resolution), "|u1")
        problems += _table_problems(file, f"{CHECKSUMS}/{name}", (count,), "<u4")
    problems += [
        f"{name} is not among the levels {_span(resolutions)} that the file names"
        for name in file
        if re.fullmatch(r"data\d+x\d+", name) and name not in expected
    ]
    problems += _table_problems(file, f"{CHECKSUMS}/{PROVENANCE}", (count,), "<u4")
    for column in COLUMNS:
        name = f"{PROVENANCE}/{column.name}"
        if name in file or column.name not in OPTIONAL:
            problems += _table_problems(file, name, (count, *column.shape), column.kind)
    flags = stored_item(file, f"{PROVENANCE}/{ATTRIBUTES}")
    if flags is not None:
        names = stored_item(flags.attrs, "names")
        names = () if names is None else names
        problems += _table_problems(file, f"{PROVENANCE}/{ATTRIBUTES}", (count, len(names)), "|i1")
    return problems


def _span(resolutions: tuple[int, ...]) -> str:
    """Return the first and the last of all levels, or each of some."""
    if resolutions == level_resolutions(resolutions[0], resolutions[-1]):
        return f"{resolutions[0]} ... {resolutions[-1]}"
    return ", ".join(map(str, resolutions))


def _table_problems(file: h5py.File, name: str, shape: tuple[int, ...], kind: str) -> list[str]:
    table = stored_item(file, name)
    if not isinstance(table, h5py.Dataset):
        return [f"{name} is missing"]
    if len(table.shape or ()) != len(shape) or table.shape[1:] != shape[1:]:
        return [f"{name} has the wrong shape {table.shape} instead of {shape}"]
    if table.shape[0] != shape[0]:
        return [f"{name} has {counted(table.shape[0], 'row')} instead of {shape[0]:,}"]
    if table.dtype.kind != "S" if kind == "S" else table.dtype != np.dtype(kind):
        return [f"{name} has the type {table.dtype} instead of {'fixed-length text' if kind == 'S' else kind}"]
    return []
