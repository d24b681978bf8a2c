"""Joining finished pyramid files into one, at the speed of copying."""

import errno
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datatools.errors import DataError
from datatools.pyramid.format import (
    ATTRIBUTES,
    CHECKSUMS,
    COLUMNS,
    OPTIONAL,
    PROVENANCE,
    Provenance,
    default_table,
    images_per_chunk,
    level_name,
    no_progress,
    provenance_checksums,
    provenance_tables,
)
from datatools.pyramid.reader import OpenFile, Pyramid
from datatools.pyramid.writer import FileLayout, Setting, UnfinishedFile, new_file, write_at

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
) -> None:
    """Concatenate finished pyramids, in the order given, into `out`; same bytes as one writer of all their faces.

    The parts must have the same levels and attribute names; their settings are not carried over. `progress` is called
    with the number of images newly finished. Images and their checksums are copied as they are, so that a part damaged
    on its way shows in `verify`. Fastest where the parts have the compression asked for. Memory is bounded whatever the
    sizes. `rows`, one for each image, replace the provenance of the parts; `attribute_names` is the meaning of their
    attributes. Raises DataError for unusable parts and for a disk that cannot be written.
    """
    if not parts:
        raise DataError(f"{out}: nothing to join")
    pyramids = [Pyramid(part) for part in parts]
    first = pyramids[0]
    for pyramid in pyramids[1:]:
        if (pyramid.levels, pyramid.attribute_names) != (first.levels, first.attribute_names):
            raise DataError(f"{pyramid.path}: levels or attribute names differ from those of {first.path}")
    layout = FileLayout(sum(map(len, pyramids)), first.levels, compression)
    if rows is not None and len(rows) != layout.count:
        raise ValueError(f"{len(rows)} rows of provenance for {layout.count} images")
    present = {name for pyramid in pyramids for name in pyramid.provenance_names}
    names = [name for name in (*(column.name for column in COLUMNS), ATTRIBUTES) if name in present]
    tables: dict[str, list[NDArray]] = {name: [] for name in names}
    row_checksums: list[NDArray[np.uint32]] = []
    with new_file(Path(out), layout, settings or {}) as target:
        for pyramid in pyramids:
            with pyramid:
                _append_images(target, pyramid, progress or no_progress)
                if rows is not None:
                    continue
                columns, checksums = _provenance(pyramid, names)
                row_checksums.append(checksums)
                for name, column in columns.items():
                    tables[name].append(column)
        if rows is None:
            joined = {name: np.concatenate(columns) for name, columns in tables.items()}
            target.finish(joined, first.attribute_names, np.concatenate(row_checksums))
        else:
            joined = provenance_tables(rows, attribute_names)
            target.finish(joined, attribute_names, provenance_checksums(joined))


def _provenance(part: Pyramid, names: Sequence[str]) -> tuple[dict[str, NDArray], NDArray[np.uint32]]:
    """Return a part's columns of these names and its rows' checksums; the defaults of columns that it lacks."""
    stored = part.handles().file
    columns = {name: stored[f"{PROVENANCE}/{name}"][...] for name in part.provenance_names}
    checksums = stored[f"{CHECKSUMS}/{PROVENANCE}"][...]
    missing = [name for name in names if name not in columns]
    if missing:
        sound = checksums == provenance_checksums(columns)
        columns |= {name: default_table(OPTIONAL[name], len(part)) for name in missing}
        checksums = np.where(sound, provenance_checksums(columns), checksums)  # damage has to show in `verify`
    return columns, checksums


def _append_images(target: UnfinishedFile, part: Pyramid, progress: Callable[[int], object]) -> None:
    source = part.handles()
    for resolution, checksums in target.checksums.items():
        checksums[target.done : target.done + len(part)] = source.file[f"{CHECKSUMS}/{level_name(resolution)}"][...]
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
    with target.as_data_error():
        target.reserve(len(chunk))
        target.levels[resolution].id.write_direct_chunk((target.done, 0, 0, 0), chunk, filters_skipped)


def _copy_level(
    target: UnfinishedFile, source: OpenFile, resolution: int, count: int, progress: Callable[[int], object]
) -> None:
    """Copy a level's images from one uncompressed file to another."""
    level = source.levels[resolution]
    batch = max(1, COPY_BYTES // level.image_bytes)
    for start in range(0, count, batch):
        images = min(batch, count - start)
        read_at = (level.offset or 0) + start * level.image_bytes
        write_to = target.levels[resolution].id.get_offset() + (target.done + start) * level.image_bytes
        with target.as_data_error():
            _copy_range(level.descriptor, target.descriptor, images * level.image_bytes, read_at, write_to)
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
