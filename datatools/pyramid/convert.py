"""A pyramid from a file of the 2017 layout, which has the same levels but neither provenance nor checksums."""

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from datatools.errors import DataError, reason
from datatools.files import as_data_error, atomic_path, open_array
from datatools.pyramid.format import (
    FORMAT_NAME,
    UNKNOWN_ORIGIN,
    damage_as_data_error,
    level_name,
    level_shape,
    no_progress,
    open_pyramid,
    provenance_checksums,
    provenance_tables,
    stored_item,
)
from datatools.pyramid.levels import level_resolutions, reduced_levels
from datatools.pyramid.reader import StoredLevel
from datatools.pyramid.writer import FileLayout, new_file

BATCH_BYTES = 16 << 20
SETTINGS = {"source": "2017 layout"}


@dataclass
class LevelDifference:
    """How a stored level differed from the mean of the largest one.

    Attributes:
        images: number of images that differed at all.
        contradicting: number of those that differed by more than rounding does.
        largest: largest difference of two bytes.
    """

    images: int = 0
    contradicting: int = 0
    largest: int = 0


@dataclass
class Conversion:
    """What a file of the 2017 layout held.

    Attributes:
        count: number of images.
        resolutions: sides of the pyramid's levels, largest first.
        missing: those that were not stored.
        differences: of the stored levels below the largest, by side.
    """

    count: int
    resolutions: tuple[int, ...]
    missing: tuple[int, ...]
    differences: dict[int, LevelDifference] = field(default_factory=dict)


def convert(
    old: str | Path,
    new: str | Path,
    *,
    compression: str = "none",
    rebuild_levels: bool = False,
    progress: Callable[[int], object] | None = None,
) -> Conversion:
    """Write the images of `old`, a file of the 2017 layout, as the pyramid `new`, with provenance of unknown origin.

    The largest level is copied, the others are made from it, down to 4 x 4 or the smallest that is stored. Each stored
    level is compared with what was made: rounding may differ, by 1 at each halving. Images that differ by more are an
    error, unless `rebuild_levels` says to trust the largest level. Labels next to `old` (`<stem>-labels.npy`) are
    copied.

    `new` appears whole or not at all. Memory is bounded. `progress` is called with the number of images newly done.

    Raises: DataError for a file of another layout, damaged or contradictory levels, and a disk that cannot be written.
    """
    old, new = Path(old), Path(new)
    with open_pyramid(old) as file, damage_as_data_error(old):
        stored = _stored_levels(file, old)
        top = max(stored)
        count = int(stored[top].dataset.shape[0])
        resolutions = level_resolutions(top, min(4, *stored))
        labels = _labels(old, count)
        missing = tuple(r for r in resolutions if r not in stored)
        result = Conversion(count, resolutions, missing, {r: LevelDifference() for r in resolutions[1:] if r in stored})
        layout = FileLayout(count, resolutions, compression)
        stored_bytes = sum(level.dataset.id.get_storage_size() for level in stored.values())
        batch = max(1, BATCH_BYTES // (3 * top * top))
        with new_file(new, layout, SETTINGS, stored_bytes) as target:
            for start in range(0, count, batch):
                images = np.empty(level_shape(min(batch, count - start), top), np.uint8)
                stored[top].read_into(start, images)
                levels = {top: images, **reduced_levels(images, resolutions[1:])}
                for resolution, difference in result.differences.items():
                    before = np.empty_like(levels[resolution])
                    stored[resolution].read_into(start, before)
                    halvings = top.bit_length() - resolution.bit_length()
                    wrong = _compare(difference, before, levels[resolution], halvings)
                    if len(wrong) and not rebuild_levels:
                        raise DataError(
                            f"{old}: image {start + wrong[0]} of {level_name(resolution)} differs from the mean of "
                            f"{level_name(top)} by up to {difference.largest}, more than rounding does: one of them is "
                            "damaged; with --rebuild-levels all levels are made from the largest one"
                        )
                target.append(levels)
                (progress or no_progress)(len(images))
            tables = provenance_tables([UNKNOWN_ORIGIN] * count, ())
            target.finish(tables, (), provenance_checksums(tables))
    if labels is not None:
        with as_data_error(labels_path(new), "copied"), atomic_path(labels_path(new)) as temporary:
            shutil.copyfile(labels, temporary)
    return result


def count_images(old: Path) -> int:
    """Return the number of images in a file of the 2017 layout. Raises DataError as `convert`."""
    with open_pyramid(old) as file, damage_as_data_error(old):
        stored = _stored_levels(file, old)
        return int(stored[max(stored)].dataset.shape[0])


def labels_path(h5: Path) -> Path:
    """Return the path of a file's labels, `<stem>-labels.npy` in the same folder, which may not exist."""
    return h5.with_name(f"{h5.stem}-labels.npy")


def _stored_levels(file: h5py.File, path: Path) -> dict[int, StoredLevel]:
    """Return the levels by their side, seen to have the right shape and type."""
    if stored_item(file.attrs, "format") == FORMAT_NAME:
        raise DataError(f"{path}: is a pyramid already; copy it")
    sides = sorted(int(found[1]) for found in (re.fullmatch(r"data(\d+)x\1", name) for name in file) if found)
    if not sides:
        raise DataError(f"{path}: has no levels called data4x4, data8x8 ...: not the 2017 layout")
    try:
        level_resolutions(sides[-1])
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    counts = {}
    for side in sides:
        level = file[level_name(side)]
        shape = level.shape if isinstance(level, h5py.Dataset) else None
        if side & (side - 1) or shape is None or len(shape) != 4 or shape[1:] != (3, side, side):
            raise DataError(f"{path}: {level_name(side)} has the shape {shape} instead of (N, 3, {side}, {side})")
        if level.dtype != np.uint8:
            raise DataError(f"{path}: {level_name(side)} has the type {level.dtype} instead of uint8")
        counts[side] = shape[0]
    if len({*counts.values()}) > 1:
        listed = ", ".join(f"{level_name(side)} {count}" for side, count in counts.items())
        raise DataError(f"{path}: the levels have different numbers of images, so it was not finished: {listed}")
    if not counts[sides[-1]]:
        raise DataError(f"{path}: holds no images")
    return {side: StoredLevel(file, file[level_name(side)]) for side in sides}


def _compare(
    difference: LevelDifference, stored: NDArray[np.uint8], made: NDArray[np.uint8], allowed: int
) -> NDArray[np.intp]:
    """Add what differs in a batch; return which images of it differ by more than `allowed`."""
    if np.array_equal(stored, made):
        return np.empty(0, np.intp)
    largest = np.abs(stored.astype(np.int16) - made).max(axis=(1, 2, 3))
    wrong = np.flatnonzero(largest > allowed)
    difference.images += int(np.count_nonzero(largest))
    difference.contradicting += len(wrong)
    difference.largest = max(difference.largest, int(largest.max()))
    return wrong


def _labels(old: Path, count: int) -> Path | None:
    """Return the labels next to `old`, one row for each image, or None."""
    path = labels_path(old)
    if not path.is_file():
        return None
    try:
        rows = len(open_array(path))
    except (OSError, ValueError, TypeError) as error:
        raise DataError(
            f"{path}: the labels cannot be read ({reason(error)}); move the file away to continue without it"
        ) from error
    if rows != count:
        raise DataError(f"{path}: {rows} labels for {count} images; move the file away to continue without it")
    return path
