"""A pyramid file from a folder or zip archive of pictures that are faces, or other objects, already."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from datatools.errors import DataError, SettingError
from datatools.files import alone_in, as_data_error, atomic_path
from datatools.images import ImageError
from datatools.parallel import map_in_processes
from datatools.pyramid.convert import labels_path
from datatools.pyramid.folder_labels import ClassLabels
from datatools.pyramid.folder_parts import (
    FinishedPart,
    Part,
    PartMaker,
    PartOptions,
    parts_folder,
    plan_part,
    plan_parts,
    remove_others,
    remove_parts,
    size_of_parts,
)
from datatools.pyramid.folder_source import Entry, PictureSource, Skipped, read_entry
from datatools.pyramid.format import Provenance
from datatools.pyramid.join import join
from datatools.pyramid.levels import level_resolutions
from datatools.pyramid.square import CROPS, RESIZE_FILTERS, Crop, ResizeFilter, read_square
from datatools.pyramid.writer import MAX_SETTING_BYTES, Setting
from datatools.text import byte_size, counted

PROBED = 50
"""Pictures, spread over all, that are looked at where the disk may be too small."""


class KnownPicture(Protocol):
    """What is known of a picture of CelebA-HQ; the fields of `Provenance` say what they mean."""

    @property
    def celebahq_index(self) -> int: ...
    @property
    def attributes(self) -> tuple[int, ...] | None: ...
    @property
    def identity(self) -> int | None: ...
    @property
    def split(self) -> int | None: ...


@dataclass(frozen=True)
class FolderOptions:
    """How the pictures of a folder become a pyramid.

    Attributes:
        resolution: side of the top level.
        crop, resize_filter: see `read_square`.
        compression: see `PyramidWriter`.
        max_images: use the first so many usable pictures; None: all.
        labels: classes to write next to the pyramid; pictures without one are left out.
        known, attribute_names: what is known of pictures, by their names.
        jobs: number of processes.
    """

    resolution: int
    crop: Crop = "none"
    resize_filter: ResizeFilter = "box"
    compression: str = "none"
    max_images: int | None = None
    labels: ClassLabels | None = None
    known: Mapping[str, KnownPicture] = field(default_factory=dict)
    attribute_names: tuple[str, ...] = ()
    jobs: int = 1

    def __post_init__(self) -> None:
        level_resolutions(self.resolution)  # refuses a bad one before any picture is read
        for name, value, allowed in (("crop", self.crop, CROPS), ("resize_filter", self.resize_filter, RESIZE_FILTERS)):
            if value not in allowed:
                raise SettingError(name, f"{value}: must be one of {', '.join(allowed)}")
        for name, number in (("max_images", self.max_images), ("jobs", self.jobs)):
            if number is not None and number < 1:
                raise SettingError(name, f"{number}: must be at least 1")

    @property
    def part_options(self) -> PartOptions:
        return PartOptions(self.resolution, self.crop, self.resize_filter, self.compression)


@dataclass(frozen=True)
class FolderPlan:
    """What is going to be done.

    Attributes:
        entries: the pictures to read.
        skipped: files that are left out before any is read.
        parts: the pictures in parts.
        done: pictures in parts that an interrupted run has finished.
    """

    source: PictureSource
    out: Path
    options: FolderOptions
    entries: tuple[Entry, ...]
    skipped: tuple[Skipped, ...]
    parts: tuple[Part, ...]
    done: int

    @property
    def most_images(self) -> int:
        """Return the number of images if all pictures are usable."""
        return min(len(self.entries), self.options.max_images or len(self.entries))

    @property
    def most_bytes(self) -> int:
        """Return the size of a pyramid of `most_images`, without compression."""
        return self.most_images * sum(3 * side * side for side in level_resolutions(self.options.resolution))

    @property
    def free(self) -> int:
        """Return the bytes that the disk has for parts and pyramid; finished parts count."""
        return shutil.disk_usage(self.out.absolute().parent).free + size_of_parts(parts_folder(self.out))

    @property
    def maker(self) -> PartMaker:
        return PartMaker(self.source.root, parts_folder(self.out), self.options.part_options)


def plan_folder(source: PictureSource, out: Path, options: FolderOptions) -> FolderPlan:
    """Find out what to do, and whether the disk has room for it. No picture is decoded, nothing is written.

    Raises DataError where there is no picture, none with a label, no folder for `out`, or no room on the disk.
    """
    if not source.entries:
        raise DataError(f"{source.root}: holds no pictures{source.hint}")
    entries, skipped = source.entries, source.skipped
    labels = options.labels
    if labels is not None:
        without = [
            Skipped(e.name, "no label", f"no label in {labels.source}") for e in entries if _unlabelled(e, labels)
        ]
        entries = tuple(entry for entry in entries if not _unlabelled(entry, labels))
        if not entries:
            raise DataError(
                f"{labels.source}: none of the {counted(len(source.entries), 'picture')} in {source.root} has a label "
                f"there; they have names such as {source.entries[0].name}, the labels {next(iter(labels.by_name))}"
            )
        skipped = (*skipped, *without)
    folder = out.absolute().parent
    if not folder.is_dir():
        raise DataError(f"{out}: the folder {folder} does not exist")
    parts = plan_parts(source.root, entries, options.part_options)
    maker = PartMaker(source.root, parts_folder(out), options.part_options)
    done = sum(len(part.entries) for part in parts if maker.finished(part))
    plan = FolderPlan(source, out, options, entries, skipped, tuple(parts), done)
    _check_room(plan)
    return plan


def write_from_folder(
    plan: FolderPlan,
    *,
    skipped: Callable[[Skipped], None] = lambda _: None,
    progress: Callable[[int], object] = lambda _: None,
) -> int:
    """Write the pyramid that was planned, and its labels.

    Parts of it lie in a folder next to the file (`parts_folder`) until it is complete; a later call with the same
    options uses those that an interrupted one left. The same pictures and options give the same bytes, whatever the
    number of processes and interruptions.

    Args:
        plan: see `plan_folder`.
        skipped: called with every file that is left out.
        progress: called with the number of pictures newly done.

    Returns: the number of images.
    Raises: DataError where there is none, something cannot be written, or another process writes the same file.
    """
    for one in plan.skipped:
        skipped(one)
    folder = parts_folder(plan.out)
    with alone_in(folder, plan.out):
        return _write(plan, folder, skipped, progress)


def _write(
    plan: FolderPlan, folder: Path, skipped: Callable[[Skipped], None], progress: Callable[[int], object]
) -> int:
    remove_others(folder, plan.parts)
    parts = list(_made_parts(plan, progress))
    for finished in parts:
        for one in finished.skipped:
            skipped(one)
    used = [finished.path for finished in parts if finished.path is not None]
    if not used:
        remove_parts(folder)
        kind = "a square picture" if plan.options.crop == "none" else "a picture"
        count = len(plan.entries) + len(plan.skipped) - len(plan.source.in_subfolders)
        raise DataError(
            f"{plan.source.root}: none of its {counted(count, 'file')} is {kind} of {plan.options.resolution} or more"
        )
    rows = _provenance(parts, plan.options)
    if plan.options.labels is not None:
        _write_labels(plan.out, plan.options.labels, rows)
    join(
        used,
        plan.out,
        compression=plan.options.compression,
        settings=_settings(plan.options),
        rows=rows,
        attribute_names=plan.options.attribute_names,
    )
    remove_parts(folder)
    return len(rows)


def _unlabelled(entry: Entry, labels: ClassLabels) -> bool:
    return entry.name not in labels.by_name


def _made_parts(plan: FolderPlan, progress: Callable[[int], object]) -> Iterator[FinishedPart]:
    """Yield the parts in order, made by processes; the last one cut where there are images enough."""
    maker = plan.maker
    left = plan.options.max_images
    with closing(map_in_processes(maker, plan.parts, plan.options.jobs)) as made:
        for finished in made:
            progress(len(finished.part.entries))
            count = len(finished.rows)
            if left is not None and count >= left:
                break
            yield finished
            left = None if left is None else left - count
        else:
            return
    # Made again without the pictures that are too many; only now, since the processes have ended.
    names = [entry.name for entry in finished.part.entries]
    end = names.index(finished.rows[left - 1].file_name) + 1
    part = finished.part
    yield maker(plan_part(plan.source.root, part.number, part.entries[:end], plan.options.part_options))


def _provenance(parts: Sequence[FinishedPart], options: FolderOptions) -> list[Provenance]:
    """Return the rows of all parts, ranked in order, with what is known of each picture."""
    rows: list[Provenance] = []
    for row in (row for finished in parts for row in finished.rows):
        facts: dict[str, Any] = {"rank": len(rows) + 1}
        known = options.known.get(row.file_name)
        if known is not None:
            facts |= {name: getattr(known, name) for name in ("celebahq_index", "attributes", "identity", "split")}
        rows.append(replace(row, **facts))
    return rows


def _settings(options: FolderOptions) -> dict[str, Setting]:
    settings: dict[str, Setting] = {"source": "folder", "filter": options.resize_filter}
    if options.crop != "none":
        settings["crop"] = options.crop
    if options.labels is not None:
        classes = json.dumps(options.labels.classes, ensure_ascii=False)
        if len(classes.encode("utf-8", "replace")) <= MAX_SETTING_BYTES:
            settings["classes"] = classes
    return settings


def _write_labels(out: Path, labels: ClassLabels, rows: Sequence[Provenance]) -> None:
    path = labels_path(out)
    with as_data_error(path), atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.save(stream, labels.rows(row.file_name for row in rows))


def _check_room(plan: FolderPlan) -> None:
    """Raise DataError where pyramid and parts do not fit on the disk; looks at a few pictures if that is in doubt."""
    if plan.options.compression != "none":
        return
    folder, free = plan.out.absolute().parent, plan.free
    if 2 * plan.most_bytes <= free:
        return
    looked_at = plan.entries[:: -(-len(plan.entries) // PROBED)]
    usable = sum(_is_usable(plan, entry) for entry in looked_at)
    needed = 2 * plan.most_bytes * usable / len(looked_at)
    if needed > free:
        raise DataError(
            f"{plan.out}: the disk is too full: about {byte_size(needed)} needed while building, half of that "
            f"afterwards, {byte_size(free)} free in {folder}; free some space, or use fewer pictures with --max-images"
        )


def _is_usable(plan: FolderPlan, entry: Entry) -> bool:
    options = plan.options
    try:
        read_square(read_entry(plan.source.root, entry.name), options.resolution, options.crop)
    except ImageError:
        return False
    return True
