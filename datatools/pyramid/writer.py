"""Writing a pyramid file one face at a time; it is complete under its name or not there."""

import errno
import itertools
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from datatools import __version__
from datatools.errors import ArrayError, DataError, one_line
from datatools.files import as_data_error, atomic_path
from datatools.parallel import Background, uninterrupted
from datatools.pyramid.format import (
    ATTRIBUTES,
    CHECKSUMS,
    COMPRESSIONS,
    FORMAT_NAME,
    FORMAT_VERSION,
    LEVELS,
    OPTIONAL,
    PROVENANCE,
    SETTINGS,
    Provenance,
    filter_options,
    image_checksum,
    images_per_chunk,
    level_name,
    level_shape,
    provenance_checksums,
    provenance_tables,
    system_code,
)
from datatools.pyramid.levels import Scratch, chosen_levels, level_resolutions, reduced_levels, top_level
from datatools.pyramid.storage import Storage, write_at
from datatools.text import counted

Setting = str | int | float
LEVEL_ALIGNMENT = 1 << 20
THREAD_BYTES = 1 << 19  # of a top level that is worth storing while the next levels are computed
WRITEBACK_BYTES = 8 << 20
MAX_SETTING_BYTES = 60_000  # HDF5 keeps an attribute in its object's header, which holds 64 KiB


@dataclass(frozen=True)
class FileLayout:
    """Number of images, sides of the levels (largest first) and compression, which decide the layout of a file."""

    count: int
    resolutions: tuple[int, ...]
    compression: str

    def __post_init__(self) -> None:
        if self.count < 0:
            raise DataError(f"a pyramid cannot hold {self.count} images")
        if self.compression not in COMPRESSIONS:
            raise DataError(f"compression must be one of {', '.join(COMPRESSIONS)}, not {self.compression!r}")


class PyramidWriter:
    """Write a pyramid of `count` faces, in order of `append`; a context manager.

    path: the file; it appears, whole and flushed to the disk, when the block ends without an error, and otherwise
    not at all. resolution: side of the faces and top level, a power of two from 4 to 1024. min_level: smallest level,
    4 or 1. levels: their sides, where not all are to be stored; `resolution` is among them. compression: "none"
    (fastest to read), "gzip", "lzf", or "lz4" or "zstd", which need the library hdf5plugin. attribute_names: meaning of
    Provenance.attributes. optional_columns: "orientation" and "face", where the file has these columns; without, the
    rows have the defaults. settings: what made the faces, kept as attributes.

    Memory is bounded: a few images and the provenance. The bytes of the file depend on the arguments and the appended
    values alone. Raises DataError when the disk is full or cannot be written, or when the number of faces is not
    `count`.
    """

    def __init__(
        self,
        path: str | Path,
        count: int,
        *,
        resolution: int,
        min_level: int = 4,
        levels: Sequence[int] | None = None,
        compression: str = "none",
        attribute_names: Sequence[str] = (),
        optional_columns: Sequence[str] = (),
        settings: Mapping[str, Setting] | None = None,
    ) -> None:
        self.path = Path(path)
        sides = level_resolutions(resolution, min_level) if levels is None else chosen_levels(resolution, levels)
        self._layout = FileLayout(count, sides, compression)
        self._attribute_names = tuple(attribute_names)
        self._optional = tuple(optional_columns)
        self._settings = dict(settings or {})
        self._rows: list[Provenance] = []
        in_turn = compression == "none"  # elsewhere chunks wait for images that fill them up
        self._scratch = itertools.cycle([Scratch(), Scratch()] if in_turn else [None])
        self._store_meanwhile = in_turn and 3 * resolution**2 >= THREAD_BYTES
        self._background = Background()
        self._stack = ExitStack()

    def __enter__(self) -> "PyramidWriter":
        self._file = self._stack.enter_context(new_file(self.path, self._layout, self._settings))
        self._stack.enter_context(self._background)
        return self

    def append(self, face: NDArray[np.uint8], provenance: Provenance) -> None:
        """Add one face, (r, r, 3) uint8 RGB with r = resolution, and where it comes from."""
        resolutions = self._layout.resolutions
        if face.shape != (resolutions[0], resolutions[0], 3):
            raise ArrayError(f"faces of this pyramid have side {resolutions[0]}, not the shape {face.shape}")
        if provenance.attributes is not None and len(provenance.attributes) != len(self._attribute_names):
            raise ValueError(f"{len(provenance.attributes)} attributes for {len(self._attribute_names)} names")
        for name, column in OPTIONAL.items():
            if name not in self._optional and getattr(provenance, name) != column.default:
                raise ValueError(f"{name} is {getattr(provenance, name)}, and the file has no such column")
        scratch = next(self._scratch)
        top = top_level(face, scratch)
        levels = {len(face): top, **reduced_levels(top, level_resolutions(len(face), resolutions[-1])[1:], scratch)}
        store = partial(self._file.append, {r: levels[r][None] for r in resolutions})
        if self._store_meanwhile:
            self._background.start(store)
        else:
            store()
        self._rows.append(provenance)

    def __exit__(self, *exception: Any) -> None:
        if exception[0] is not None:
            self._stack.__exit__(*exception)
            return
        with self._stack:
            self._background.wait()
            tables = provenance_tables(self._rows, self._attribute_names, self._optional)
            self._file.finish(tables, self._attribute_names, provenance_checksums(tables))


class UnfinishedFile:
    """A pyramid under its temporary name, being filled: images level by level, then everything else at once."""

    def __init__(
        self, file: h5py.File, storage: Storage, path: Path, layout: FileLayout, settings: Mapping[str, Setting]
    ) -> None:
        self.file, self.storage, self.path, self.layout = file, storage, path, layout
        file.attrs["format"] = FORMAT_NAME
        file.attrs["format_version"] = FORMAT_VERSION
        file.attrs["datatools_version"] = __version__
        file.attrs["count"] = layout.count
        file.attrs["resolution"] = layout.resolutions[0]
        file.attrs["min_level"] = layout.resolutions[-1]
        if layout.resolutions != level_resolutions(layout.resolutions[0], layout.resolutions[-1]):
            file.attrs[LEVELS] = np.array(layout.resolutions, np.int64)
        file.attrs["compression"] = layout.compression
        file.attrs["complete"] = np.uint8(0)
        kept = file.create_group(SETTINGS)
        for name in sorted(settings):
            kept.attrs[name] = settings[name]
        self.done = 0  # images that are there in every level
        self.levels: dict[int, h5py.Dataset] = {}
        self._offsets: dict[int, int] = {}  # of uncompressed levels that have images
        self.checksums = {r: np.zeros(layout.count, dtype=np.uint32) for r in layout.resolutions}
        self.levels |= {r: self._create_level(r) for r in layout.resolutions}
        self._offsets |= {r: d.id.get_offset() for r, d in self.levels.items() if layout.count and d.chunks is None}
        self._waiting: dict[int, int] = {}  # where the images begin whose way to the disk was not begun
        self.pending: dict[int, list[NDArray[np.uint8]]] = {r: [] for r in layout.resolutions}
        """Images of compressed levels that wait for others to fill a chunk."""

    def image_offset(self, resolution: int, index: int) -> int:
        """Return where an image of an uncompressed level begins."""
        return self._offsets[resolution] + index * 3 * resolution * resolution

    def filled_chunks(self, resolution: int, images: int | None = None) -> int:
        """Return how many chunks of a compressed level that many images fill, by default those that are `done`."""
        images, size = self.done if images is None else images, self.levels[resolution].chunks[0]
        return -(-images // size) if images == self.layout.count else images // size

    def _create_level(self, resolution: int) -> h5py.Dataset:
        name, shape = level_name(resolution), level_shape(self.layout.count, resolution)
        if self.layout.compression != "none" and self.layout.count:
            chunk = level_shape(min(images_per_chunk(resolution), self.layout.count), resolution)
            # Chunks are written whole, in the order in which they fill up, past a cache that would reorder them.
            filters = {"chunks": chunk, **filter_options(self.layout.compression, self.path)}
            return self.file.create_dataset(name, shape, np.uint8, **filters, rdcc_nbytes=1, fill_time="never")
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_layout(h5py.h5d.CONTIGUOUS)
        properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)  # the place in the file is known before the first byte
        properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        properties.set_obj_track_times(False)
        return self.file.create_dataset(name, shape, np.uint8, dcpl=properties)

    def append(self, levels: Mapping[int, NDArray[np.uint8]]) -> None:
        """Add the next n images with their checksums; `levels` has every level as (n, 3, r, r), C-contiguous."""
        for resolution, images in levels.items():
            for index, image in enumerate(images, self.done):
                self.store(resolution, index, image)
        self.done += len(images)

    def store(self, resolution: int, index: int, image: NDArray[np.uint8]) -> None:
        """Write one image as `write` does, and keep its checksum."""
        self.write(resolution, index, image)
        self.checksums[resolution][index] = image_checksum(image)

    def write(self, resolution: int, index: int, image: NDArray[np.uint8]) -> None:
        """Write one image, (3, r, r) C-contiguous; the images of a level come in order."""
        if index >= self.layout.count:
            raise DataError(f"{self.path}: announced for {counted(self.layout.count, 'face')}, more were appended")
        level = self.levels[resolution]
        with self.as_data_error():
            if level.chunks is None:
                begin = self.image_offset(resolution, index)
                write_at(self.storage.fileno(), image.data.cast("B"), begin)
                waiting = self._waiting.setdefault(resolution, begin)
                if begin + image.nbytes - waiting >= WRITEBACK_BYTES:
                    start_writeback(self.storage.fileno(), waiting, begin + image.nbytes)
                    self._waiting[resolution] = begin + image.nbytes
                return
            pending = self.pending[resolution]
            pending.append(image)
            if len(pending) == level.chunks[0] or index == self.layout.count - 1:
                with uninterrupted():
                    level[index + 1 - len(pending) : index + 1] = np.stack(pending)
                pending.clear()

    def finish(
        self, tables: Mapping[str, NDArray], attribute_names: Sequence[str], row_checksums: NDArray[np.uint32]
    ) -> None:
        """Write everything but the images, the completeness mark last, and close the file."""
        if self.done != self.layout.count:
            appended = f"{self.done:,} {'was' if self.done == 1 else 'were'} appended"
            raise DataError(f"{self.path}: announced for {counted(self.layout.count, 'face')}, {appended}")
        with self.as_data_error(), uninterrupted():
            for resolution, values in self.checksums.items():
                self.file.create_dataset(f"{CHECKSUMS}/{level_name(resolution)}", data=values)
            self.file.create_dataset(f"{CHECKSUMS}/{PROVENANCE}", data=row_checksums)
            for name, values in tables.items():
                text = h5py.string_dtype("utf-8", values.dtype.itemsize) if values.dtype.kind == "S" else values.dtype
                column = self.file.create_dataset(f"{PROVENANCE}/{name}", data=values.astype(text))
                if name == ATTRIBUTES:
                    column.attrs["names"] = np.array([name.encode("utf-8") for name in attribute_names])
            self.file.flush()
            self.file.attrs["complete"] = np.uint8(1)
            self.file.close()

    @contextmanager
    def as_data_error(self) -> Iterator[None]:
        """Turn a failure of the file system inside the block into a DataError."""
        try:
            yield
            self.storage.check()
        except (OSError, RuntimeError) as error:
            done = f" after {self.done} of {counted(self.layout.count, 'image')}"
            raise _write_error(self.path, self.storage.error or error, done) from error


@contextmanager
def new_file(
    path: Path, layout: FileLayout, settings: Mapping[str, Setting], compressed_bytes: int = 0
) -> Iterator[UnfinishedFile]:
    """Create `path`, to be filled inside the block, which must end with `finish`.

    compressed_bytes: about the size of a compressed file, where it is known, to check the space on the disk.
    """
    pixel_bytes = layout.count * sum(3 * r * r for r in layout.resolutions)
    check_free_space(path, pixel_bytes if layout.compression == "none" else compressed_bytes)
    raised_inside: BaseException | None = None
    try:
        with atomic_path(path) as temporary, created(temporary, path, layout, settings) as unfinished:
            try:
                yield unfinished
            except BaseException as error:
                raised_inside = error
                raise
    except OSError as error:
        if error is raised_inside:
            raise
        raise _write_error(path, error) from error


@contextmanager
def created(
    temporary: Path, path: Path, layout: FileLayout, settings: Mapping[str, Setting], *, resumes: bool = False
) -> Iterator[UnfinishedFile]:
    """Create the file `temporary`, which is to be `path`, to be filled inside the block, which must end with `finish`.

    It takes no room for images of uncompressed levels before they are written. resumes: see `Storage`.
    """
    for name, value in settings.items():
        if isinstance(value, str) and len(value.encode("utf-8")) > MAX_SETTING_BYTES:
            raise DataError(f"{path}: the setting {name!r} is longer than {MAX_SETTING_BYTES} bytes")
    raised_inside: BaseException | None = None
    try:
        with Storage(temporary, resumes=resumes) as storage:
            with uninterrupted():
                file = _new_hdf5(storage, layout.compression)
            try:
                with uninterrupted():
                    unfinished = UnfinishedFile(file, storage, path, layout, settings)
                storage.check()
                try:
                    yield unfinished
                except BaseException as error:
                    raised_inside = error
                    raise
            except BaseException:
                storage.discard()  # closing would flush
                raise
            finally:
                with uninterrupted():
                    file.close()
    except (OSError, RuntimeError) as error:
        if error is raised_inside:
            raise
        raise _write_error(path, error) from error


def _new_hdf5(storage: Storage, compression: str) -> h5py.File:
    # Format 1.8 is what every HDF5 library since 2008 reads, and nothing in it depends on the time of day. Uncompressed
    # levels start at a multiple of 1 MiB where the operating system can keep, and copy, the images in large pieces;
    # this makes reading up to twice as fast.
    return h5py.File(
        storage,
        "w",
        libver=("v108", "v108"),
        alignment_threshold=LEVEL_ALIGNMENT,
        alignment_interval=LEVEL_ALIGNMENT if compression == "none" else 1,
    )


def check_free_space(path: Path, needed: int) -> None:
    """Raise DataError where the disk is too small, before an hour of work rather than after it."""
    folder = path.absolute().parent
    with as_data_error(path):
        if not folder.is_dir():
            raise DataError(f"{path}: the folder {folder} does not exist")
        free = shutil.disk_usage(folder).free
    if free < needed:
        raise DataError(
            f"{path}: the disk is too full: {needed / 1e6:,.0f} MB needed, {free / 1e6:,.0f} MB free in {folder}; "
            "free some space or choose another folder"
        )


def _write_error(path: Path, error: OSError | RuntimeError, when: str = "") -> DataError:
    code = system_code(error)
    reason = os.strerror(code) if code else one_line(error)
    if code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        reason += "; free some space or choose another folder"
    return DataError(f"{path}: cannot be written{when}: {reason}")


def start_writeback(descriptor: int, begin: int, end: int) -> None:
    """Let the system write those bytes to the disk now, so that less is left for fsync; a hint, which never fails."""
    if hasattr(os, "posix_fadvise"):
        with suppress(OSError):
            os.posix_fadvise(descriptor, begin, end - begin, os.POSIX_FADV_DONTNEED)  # what is not written yet stays
