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
    structure_problems,
)
from datatools.pyramid.levels import Scratch, level_resolutions, reduced_levels
from datatools.pyramid.reader import StoredLevel
from datatools.text import counted

BATCH_BYTES = 4 << 20  # what one task reads; a few of them are in memory at a time
MAX_THREADS = 8
MAX_RANGES = 20


@dataclass
class _Findings:
    """Faulty images of a batch, by level."""

    images: int = 0
    changed: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    inconsistent: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    unreadable: list[str] = field(default_factory=list)

    def add(self, other: "_Findings") -> None:
        self.images += other.images
        self.unreadable += other.unreadable
        for mine, theirs in ((self.changed, other.changed), (self.inconsistent, other.inconsistent)):
            for resolution, indices in theirs.items():
                mine[resolution] += indices


def verify(path: str | Path, progress: Callable[[int], object] | None = None) -> list[str]:
    """Return every problem of a pyramid file, one line each; none when the file is whole and unchanged.

    Compares the layout with what the header says, every image and provenance row with its checksum, and every level
    with the averages of the top level. `progress` is called with the number of images newly checked. Memory is bounded
    (some ten images) whatever the size of the file; images are checked by as many threads as there are cores.
    """
    try:
        with open_pyramid(Path(path)) as file, damage_as_data_error(Path(path)):
            problems = structure_problems(file)
            if header_problems(file):
                return problems
            tables_are_sound = not any(PROVENANCE in problem for problem in problems)
            problems += _content_problems(file, progress or no_progress)
            return problems + (_provenance_problems(file) if tables_are_sound else [])
    except DataError as error:
        return [str(error)]


def _content_problems(file: h5py.File, progress: Callable[[int], object]) -> list[str]:
    count = int(file.attrs["count"])
    resolutions = level_resolutions(int(file.attrs["resolution"]), int(file.attrs["min_level"]))
    levels = {r: StoredLevel(file, file[level_name(r)]) for r in resolutions if _is_sound_level(file, r, count)}
    checksums = {r: _checksum_table(file, level_name(r), count) for r in levels}
    check = _BatchCheck(resolutions, levels, checksums)
    batch = max(1, BATCH_BYTES // sum(3 * r * r for r in resolutions))
    findings = _Findings()
    starts = range(0, count, batch)
    # Reading, checksums and sums all let go of Python's lock.
    threads = min(available_cores(), MAX_THREADS)
    for found in map_in_threads(lambda start: check(start, min(start + batch, count)), starts, threads):
        findings.add(found)
        progress(found.images)
    problems = findings.unreadable
    for resolution, indices in sorted(findings.changed.items(), reverse=True):
        problems.append(f"{level_name(resolution)}: changed since it was written (checksum): {_listed(indices)}")
    for resolution, indices in sorted(findings.inconsistent.items(), reverse=True):
        problems.append(f"{level_name(resolution)}: not the average of the top level: {_listed(indices)}")
    return problems


def _is_sound_level(file: h5py.File, resolution: int, count: int) -> bool:
    level = file.get(level_name(resolution))
    return isinstance(level, h5py.Dataset) and level.shape == level_shape(count, resolution) and level.dtype == np.uint8


def _checksum_table(file: h5py.File, name: str, count: int) -> NDArray[np.uint32] | None:
    table = file.get(f"{CHECKSUMS}/{name}")
    return table[...] if isinstance(table, h5py.Dataset) and table.shape == (count,) else None


@dataclass(frozen=True)
class _BatchCheck:
    resolutions: tuple[int, ...]
    levels: dict[int, StoredLevel]
    checksums: dict[int, NDArray[np.uint32] | None]
    threads: threading.local = field(default_factory=threading.local)

    def __call__(self, start: int, stop: int) -> _Findings:
        """Check the images start ... stop - 1 in every level."""
        findings = _Findings(images=stop - start)
        scratch = self.threads.__dict__.setdefault("scratch", Scratch())
        images: dict[int, NDArray[np.uint8]] = {}
        for resolution, level in self.levels.items():
            try:
                image = scratch.array(("images", resolution), level_shape(stop - start, resolution), np.uint8)
                level.read_into(start, image)
            except DataError as error:
                if stop - start > 1:  # one image by one, to name those at fault
                    return self._one_by_one(start, stop)
                findings.unreadable.append(str(error))
                continue
            images[resolution] = image
            self._compare_checksums(findings, resolution, start, image)
        top = self.resolutions[0]
        if top in images:
            expected = reduced_levels(images[top], self.resolutions[1:], scratch)
            for resolution in images.keys() & expected.keys():
                differs = (images[resolution] != expected[resolution]).any(axis=(1, 2, 3))
                self._blame(findings, resolution, start + np.flatnonzero(differs))
        return findings

    def _one_by_one(self, start: int, stop: int) -> _Findings:
        findings = _Findings()
        for index in range(start, stop):
            findings.add(self(index, index + 1))
        return findings

    def _compare_checksums(self, findings: _Findings, resolution: int, start: int, images: NDArray[np.uint8]) -> None:
        known = self.checksums[resolution]
        if known is not None:
            for index, image in enumerate(images, start):
                if image_checksum(image) != known[index]:
                    findings.changed[resolution].append(index)

    def _blame(self, findings: _Findings, resolution: int, indices: NDArray[np.intp]) -> None:
        """Report images that disagree with the top level, unless a checksum shows which of the two changed."""
        changed = {*findings.changed.get(self.resolutions[0], ()), *findings.changed.get(resolution, ())}
        unexplained = [index for index in indices.tolist() if index not in changed]
        if unexplained:
            findings.inconsistent[resolution] += unexplained


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
