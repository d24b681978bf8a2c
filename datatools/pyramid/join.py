"""Joining finished pyramid files into one, at the speed of copying."""

import errno
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from datatools.errors import DataError
from datatools.files import as_data_error, fsync_path
from datatools.parallel import uninterrupted
from datatools.pyramid.format import (
    ATTRIBUTES,
    COLUMNS,
    Provenance,
    images_per_chunk,
    no_progress,
    provenance_checksums,
    provenance_tables,
)
from datatools.pyramid.joined import PartTables, Place, joined_path
from datatools.pyramid.reader import OpenFile, Pyramid
from datatools.pyramid.storage import write_at
from datatools.pyramid.writer import (
    FileLayout,
    Setting,
    UnfinishedFile,
    check_free_space,
    created,
    new_file,
    start_writeback,
)

COPY_BYTES = 32 << 20
NO_KERNEL_COPY = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM)


def join(
    parts: Sequence[str | Path],
    out: str | Path,
    *,
    compression: str = "none",
    settings: Mapping[str, Setting] | None = None,
    progress: Callable[[int], object] | None = None,
    rows: Sequence[Provenance] | None = None,
    attribute_names: Sequence[str] = (),
    free_parts: bool = False,
) -> None:
    """Concatenate finished pyramids, in the order given, into `out`; same bytes as one writer of all their faces.

    The parts must have the same levels and attribute names; their settings are not carried over. `progress` is called
    with the number of images newly finished. Images and their checksums are copied as they are, so that a part damaged
    on its way shows in `verify`. Fastest where the parts have the compression asked for. Memory is bounded whatever the
    sizes. `rows`, one for each image, replace the provenance of the parts; `attribute_names` is the meaning of their
    attributes. Raises DataError for unusable parts and for a disk that cannot be written.

    free_parts: remove each part as soon as its images are on the disk in the new file, so that the disk has to hold the
    result and one part at most. A join that ended on the way, however it did, resumes with the same parts and the same
    `out`; of the parts that it has removed it keeps the tables (`joined_path`).
    """
    if not parts:
        raise DataError(f"{out}: nothing to join")
    paths, out, progress = [Path(part) for part in parts], Path(out), progress or no_progress
    images = images_path(out, paths)
    with as_data_error(out):
        if free_parts and not images.exists():
            for path in paths:
                joined_path(path).unlink(missing_ok=True)
        pyramids = [None if free_parts and joined_path(path).exists() else Pyramid(path) for path in paths]
    tables = [
        PartTables.read(joined_path(path)) if pyramid is None else PartTables.of(pyramid)
        for path, pyramid in zip(paths, pyramids, strict=True)
    ]
    for path, part in zip(paths, tables, strict=True):
        if part.kind != tables[0].kind:
            raise DataError(f"{path}: levels or attribute names differ from those of {paths[0]}")
    layout = FileLayout(sum(map(len, tables)), tables[0].levels, compression)
    if rows is not None and len(rows) != layout.count:
        raise ValueError(f"{len(rows)} rows of provenance for {layout.count} images")
    if free_parts and len(set(paths)) < len(paths):
        raise ValueError(f"{out}: a part that is to be freed can be joined once")
    left = [pyramid for pyramid in pyramids if pyramid is not None]
    first = np.cumsum([0, *map(len, tables)]).tolist()
    if any(part.place is not None and not part.place.fits(first[i], layout) for i, part in enumerate(tables)):
        raise _parts_changed(out, images, paths)
    settings = settings or {}
    new = _resumed_file(out, images, layout, settings, left) if free_parts else new_file(out, layout, settings)
    with new as target:
        for number, (path, pyramid, part) in enumerate(zip(paths, pyramids, tables, strict=True)):
            _take_checksums(target, part)
            if pyramid is not None:
                with pyramid:
                    _append_images(target, pyramid, progress)
            elif part.place is None or not part.place.take(target, len(part)):
                raise _parts_changed(out, images, paths)
            # Whether the images of a part that is gone are in place shows when it is its turn: until then, remove none.
            if free_parts and None not in pyramids[number + 1 :]:
                with target.as_data_error():
                    if pyramid is not None:
                        os.fsync(target.storage.fileno())
                        part.write(joined_path(path), Place.of(target, first[number]))
                    path.unlink(missing_ok=True)
        _finish(target, tables, rows, attribute_names)
    if free_parts:
        with as_data_error(out):
            for path in paths:
                path.unlink(missing_ok=True)
                joined_path(path).unlink(missing_ok=True)


def _parts_changed(out: Path, images: Path, parts: Sequence[Path]) -> DataError:
    """Forget an earlier try, and return the error."""
    with as_data_error(out):
        for path in (images, *map(joined_path, parts)):
            path.unlink(missing_ok=True)
    return DataError(f"{out}: parts changed while they were joined; build those again that are gone")


def images_path(out: Path, parts: Sequence[Path]) -> Path:
    """Return the file that a join of these parts which frees them collects their images in; it becomes `out`."""
    names = "\n".join(path.name for path in parts)
    return out.with_name(f".{out.name}.{hashlib.sha256(names.encode()).hexdigest()[:16]}.joining")


@contextmanager
def _resumed_file(
    out: Path, images: Path, layout: FileLayout, settings: Mapping[str, Setting], left: Sequence[Pyramid]
) -> Iterator[UnfinishedFile]:
    """Create `out` in the file `images`, which survives whatever ends the join; it has all parts but those `left`.

    Where HDF5 puts an image follows from the layout and the sizes of those before it. So each try writes the file anew,
    but for the images of parts that are gone: these are where HDF5 puts them. Nothing else is needed of earlier tries.
    """
    largest = max(map(len, left), default=0) * sum(3 * r * r for r in layout.resolutions)
    if layout.compression != "none":
        with as_data_error(out):
            largest = max((part.path.stat().st_size for part in left), default=0)
    check_free_space(out, largest)
    is_new = sum(map(len, left)) == layout.count
    with created(images, out, layout, settings, resumes=not is_new) as target:
        with as_data_error(out):
            fsync_path(out.parent)
        yield target
    with as_data_error(out):
        fsync_path(images)
        os.replace(images, out)
        fsync_path(out.parent)


def _finish(
    target: UnfinishedFile,
    tables: Sequence[PartTables],
    rows: Sequence[Provenance] | None,
    attribute_names: Sequence[str],
) -> None:
    """Write everything but the images: the provenance of the parts, or `rows` in its place."""
    if rows is not None:
        given = provenance_tables(rows, attribute_names)
        target.finish(given, attribute_names, provenance_checksums(given))
        return
    present = {name for part in tables for name in part.columns}
    names = [name for name in (*(column.name for column in COLUMNS), ATTRIBUTES) if name in present]
    filled = [part.with_columns(names) for part in tables]
    joined = {name: np.concatenate([columns[name] for columns, _ in filled]) for name in names}
    target.finish(joined, tables[0].attribute_names, np.concatenate([checksums for _, checksums in filled]))


def _take_checksums(target: UnfinishedFile, part: PartTables) -> None:
    for resolution, checksums in part.checksums.items():
        target.checksums[resolution][target.done : target.done + len(part)] = checksums


def _append_images(target: UnfinishedFile, part: Pyramid, progress: Callable[[int], object]) -> None:
    source = part.handles()
    if target.layout.compression == part.compression == "none":
        for resolution in reversed(part.levels):  # the top level last: its bytes are what takes the time
            _copy_level(
                target, source, resolution, len(part), progress if resolution == part.resolution else no_progress
            )
        target.done += len(part)
        return
    for index in range(len(part)):
        for resolution in part.levels:
            if target.layout.compression == part.compression and images_per_chunk(resolution) == 1:
                copy_chunk(target, source, resolution, index)
            else:
                target.write(resolution, target.done, part[resolution][index])
        target.done += 1
        progress(1)


def copy_chunk(target: UnfinishedFile, source: OpenFile, resolution: int, index: int) -> None:
    """Take an image's chunk over without decompressing it; compressing alike is what costs most otherwise."""
    filters_skipped, chunk = source.levels[resolution].dataset.id.read_direct_chunk((index, 0, 0, 0))
    with target.as_data_error(), uninterrupted():
        target.levels[resolution].id.write_direct_chunk((target.done, 0, 0, 0), chunk, filters_skipped)


def _copy_level(
    target: UnfinishedFile, source: OpenFile, resolution: int, count: int, progress: Callable[[int], object]
) -> None:
    """Copy a level's images from one uncompressed file to another."""
    level, descriptor = source.levels[resolution], target.storage.fileno()
    batch = max(1, COPY_BYTES // level.image_bytes)
    for start in range(0, count, batch):
        images = min(batch, count - start)
        read_at = (level.offset or 0) + start * level.image_bytes
        write_to = target.image_offset(resolution, target.done + start)
        with target.as_data_error():
            _copy_range(level.descriptor, descriptor, images * level.image_bytes, read_at, write_to)
        start_writeback(descriptor, write_to, write_to + images * level.image_bytes)
        progress(images)


def _copy_range(source: int, target: int, length: int, read_at: int, write_to: int) -> None:
    """Copy between open files inside the kernel where it can, which on some file systems shares the blocks instead."""
    in_kernel = hasattr(os, "copy_file_range")
    while length:
        copied = 0
        if in_kernel:
            try:
                copied = os.copy_file_range(source, target, length, read_at, write_to)
            except OSError as error:
                if error.errno not in NO_KERNEL_COPY:
                    raise
                in_kernel = False
        if not in_kernel:
            data = os.pread(source, min(length, COPY_BYTES), read_at)
            write_at(target, data, write_to)
            copied = len(data)
        if copied == 0:
            raise DataError("a part became shorter while it was copied; build it again")
        length, read_at, write_to = length - copied, read_at + copied, write_to + copied
