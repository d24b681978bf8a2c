"""Checking a pyramid file down to the last pixel, at about the speed at which it can be read."""

import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from datatools.errors import DataError, one_line
from datatools.parallel import available_cores, map_in_threads
from datatools.pyramid.format import (
    ATTRIBUTES,
    CHECKSUMS,
    COLUMNS,
    PROVENANCE,
    damage_as_data_error,
    header_problems,
    image_checksum,
    level_name,
    level_shape,
    no_progress,
    open_pyramid,
    provenance_checksums,
    stored_item,
    stored_levels,
    structure_problems,
)
from datatools.pyramid.levels import Scratch, level_resolutions, reduced_levels
from datatools.pyramid.reader import Pyramid, StoredLevel
from datatools.text import counted

BATCH_BYTES = 9 << 20  # what one task reads, two of the largest images; a few of them are in memory at a time
MAX_THREADS = 8
MAX_RANGES = 20


Fault = tuple[str, int, int]
"""What is wrong with an image, CHANGED or INCONSISTENT; the negative side of its level, for sorting; its index."""
CHANGED, INCONSISTENT = "changed since it was written (checksum)", "not the average of the top level"


def verify(path: str | Path, progress: Callable[[int], object] | None = None) -> list[str]:
    """Return every problem of a pyramid file, one line each; none when the file is whole and unchanged.

    Compares the layout with what the header says, every image and provenance row with its checksum, and every level
    with the averages of the top level. `progress` is called with the number of images newly checked. Memory is bounded
    (some ten images) whatever the size of the file; images are checked by one thread more than there are cores.
    """
    try:
        with open_pyramid(Path(path)) as file, damage_as_data_error(Path(path)):
            problems = structure_problems(file)
            if header_problems(file):
                return problems
            tables_are_sound = not any(PROVENANCE in problem for problem in problems)
            problems += _content_problems(file, progress or no_progress)
            problems += _provenance_problems(file) if tables_are_sound else []
        if not problems:
            Pyramid(path)  # reads settings and names, too
        return problems
    except DataError as error:
        return [str(error)]


def _content_problems(file: h5py.File, progress: Callable[[int], object]) -> list[str]:
    count = int(file.attrs["count"])
    resolutions = level_resolutions(int(file.attrs["resolution"]), int(file.attrs["min_level"]))
    stored = stored_levels(file)
    levels = {r: StoredLevel(file, file[level_name(r)]) for r in stored if _is_sound_level(file, r, count)}
    checksums = {r: _checksum_table(file, level_name(r), count) for r in levels}
    check = _BatchCheck(resolutions, levels, checksums)
    size = max(1, BATCH_BYTES // sum(3 * r * r for r in resolutions))
    batches = [range(start, min(start + size, count)) for start in range(0, count, size)]
    problems: list[str] = []
    faults: defaultdict[tuple[str, int], list[int]] = defaultdict(list)
    # Reading, checksums and sums all let go of Python's lock. One thread more than cores waits for the disk.
    threads = min(available_cores() + 1, MAX_THREADS)
    for batch, (unreadable, found) in zip(batches, map_in_threads(check, batches, threads), strict=True):
        problems += unreadable
        for what, level, index in found:
            faults[what, level].append(index)
        progress(len(batch))
    return problems + [
        f"{level_name(-level)}: {what}: {_listed(indices)}" for (what, level), indices in sorted(faults.items())
    ]


def _is_sound_level(file: h5py.File, resolution: int, count: int) -> bool:
    level = stored_item(file, level_name(resolution))
    return isinstance(level, h5py.Dataset) and level.shape == level_shape(count, resolution) and level.dtype == np.uint8


def _checksum_table(file: h5py.File, name: str, count: int) -> NDArray[np.uint32] | None:
    table = stored_item(file, f"{CHECKSUMS}/{name}")
    return table[...] if isinstance(table, h5py.Dataset) and table.shape == (count,) else None


@dataclass(frozen=True)
class _BatchCheck:
    resolutions: tuple[int, ...]
    levels: dict[int, StoredLevel]
    checksums: dict[int, NDArray[np.uint32] | None]
    threads: threading.local = field(default_factory=threading.local)

    def __call__(self, batch: range) -> tuple[list[str], list[Fault]]:
        """Check those images in every level; return messages about unreadable ones, and the faults of the others."""
        unreadable: list[str] = []
        changed: dict[int, set[int]] = defaultdict(set)
        scratch = self.threads.__dict__.setdefault("scratch", Scratch())
        images: dict[int, NDArray[np.uint8]] = {}
        for resolution, level in self.levels.items():
            part = scratch.array(("images", resolution), level_shape(len(batch), resolution), np.uint8)
            try:
                level.read_into(batch.start, part)
            except DataError as error:
                if len(batch) > 1:  # one image by one, to name those at fault
                    results = [self(range(index, index + 1)) for index in batch]
                    return [line for lines, _ in results for line in lines], [f for _, found in results for f in found]
                unreadable.append(str(error))
                continue
            images[resolution] = part
            known = self.checksums[resolution]
            if known is not None:
                pairs = zip(batch, part, strict=True)
                changed[resolution] = {index for index, image in pairs if image_checksum(image) != known[index]}
        faults = [(CHANGED, -resolution, index) for resolution, indices in changed.items() for index in sorted(indices)]
        top = self.resolutions[0]
        expected = reduced_levels(images[top], self.resolutions[1:], scratch) if top in images else {}
        for resolution in images.keys() & expected.keys():
            differs = np.flatnonzero((images[resolution] != expected[resolution]).any(axis=(1, 2, 3)))
            # A checksum may show already which of the two changed.
            unexplained = {batch[i] for i in differs} - changed[top] - changed[resolution]
            faults += [(INCONSISTENT, -resolution, index) for index in sorted(unexplained)]
        return unreadable, faults


def _provenance_problems(file: h5py.File) -> list[str]:
    """Return a problem for rows that do not match their checksums, in tables whose shapes and types are sound."""
    names = [name for name in (*(column.name for column in COLUMNS), ATTRIBUTES) if name in file[PROVENANCE]]
    try:
        rows = provenance_checksums({name: file[f"{PROVENANCE}/{name}"][...] for name in names})
        changed = np.flatnonzero(rows != file[f"{CHECKSUMS}/{PROVENANCE}"][...]).tolist()
    except OSError as error:
        return [f"{PROVENANCE} cannot be read ({one_line(error)})"]
    return [f"{PROVENANCE}: changed since it was written (checksum): {_listed(changed, 'row')}"] if changed else []


def _listed(indices: Sequence[int], noun: str = "image") -> str:
    """Return a text such as "3 images: 4, 7-8": consecutive ones as ranges, the first twenty of these."""
    ranges: list[tuple[int, int]] = []
    for index in sorted(indices):
        if ranges and ranges[-1][1] == index - 1:
            ranges[-1] = (ranges[-1][0], index)
        else:
            ranges.append((index, index))
    shown = [str(first) if first == last else f"{first}-{last}" for first, last in ranges[:MAX_RANGES]]
    more = ", ..." if len(ranges) > MAX_RANGES else ""
    return f"{counted(len(indices), noun)}: {', '.join(shown)}{more}"
