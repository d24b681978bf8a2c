"""An export from its plan to the finished file: parts made by processes, found again after an interruption."""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datatools.errors import DataError
from datatools.exports.base import Batch, Contents, ExportOptions, Layout, Part, Picture
from datatools.exports.huggingface import HuggingFace
from datatools.exports.imagefolder import ImageFolder
from datatools.exports.lmdb import LMDB
from datatools.exports.metadata import Classes, Facts, description, picture_names, read_classes, table
from datatools.exports.stylegan_zip import StyleGANZip
from datatools.exports.tfrecord import TFRecord
from datatools.exports.webdataset import WebDataset
from datatools.files import alone_in, as_data_error, atomic_path, fsync_path
from datatools.parallel import map_in_processes
from datatools.pyramid import Pyramid
from datatools.pyramid.folder_labels import DATASET_JSON
from datatools.pyramid.folder_parts import parts_folder
from datatools.pyramid.format import CHECKSUMS, PROVENANCE, no_progress
from datatools.text import byte_size

VERSION = 1
"""Raise it when the same options write other bytes: parts of another version are made again."""

LAYOUTS: dict[str, Layout] = {
    "folder": Layout(),
    "imagefolder": ImageFolder(),
    "stylegan-zip": StyleGANZip(),
    "webdataset": WebDataset(),
    "tfrecord": TFRecord(),
    "lmdb": LMDB(),
    "huggingface": HuggingFace(),
}

PART_BYTES = 512 << 20
"""Largest number of bytes of the pixels of a part."""
SAMPLES = 8
"""Pictures that are encoded to estimate the size of all."""
ROW_BYTES = 1500
"""What the metadata of a picture takes, about."""
RECORD, PLAN, CONTENT = "export.json", "plan.json", "content"


@dataclass(frozen=True)
class ExportPlan:
    """What is going to be done.

    Attributes:
        chosen: indices of the images in the pyramid, in the order of the export.
        overwrite: whether an export at `out` may be replaced.
        facts: rows of the metadata.
        about: what export.json says.
        estimated_bytes: size of the export.
    """

    pyramid: Pyramid
    out: Path
    options: ExportOptions
    chosen: NDArray[np.intp]
    overwrite: bool
    facts: Facts
    classes: Classes | None
    about: Mapping[str, Any]
    estimated_bytes: int

    @property
    def layout(self) -> Layout:
        return LAYOUTS[self.options.to]

    @property
    def work(self) -> Path:
        """The folder of an unfinished export."""
        return parts_folder(self.out)

    @cached_property
    def parts(self) -> list[Part]:
        size = max(1, min(self.layout.part_images, PART_BYTES // (3 * self.options.resolution**2)))
        starts = range(0, len(self.chosen), size)
        ends = (*starts[1:], len(self.chosen))
        return [Part(n, len(starts), start, end) for n, (start, end) in enumerate(zip(starts, ends, strict=True))]

    @cached_property
    def digest(self) -> str:
        """Return what identifies the plan: parts of another one are of no use."""
        with self.pyramid:
            rows = self.pyramid.table(f"{CHECKSUMS}/{PROVENANCE}")
        options = {**asdict(self.options), "jobs": None}
        content = json.dumps([VERSION, options, self.about, self.facts.names, self.facts.labels], default=str)
        numbers = self.chosen.astype("<i8").tobytes() + rows.tobytes()
        return hashlib.sha256(content.encode() + numbers).hexdigest()

    @property
    def contents(self) -> Contents:
        splits = {*self.facts.columns["split"].tolist()}
        split = {1: "validation", 2: "test"}.get(splits.pop(), "train") if len(splits) == 1 else "train"
        names = () if self.classes is None else self.classes.names
        weights = self.classes is not None and self.classes.weights
        return Contents(self.pyramid.attribute_names, names, weights, split, self.options)

    @property
    def maker(self) -> "PartMaker":
        return PartMaker(self.pyramid, self.work, self.layout, self.contents, self.facts)

    @property
    def done(self) -> int:
        """Return the number of pictures that an interrupted run has finished."""
        if _stored(self.work).get("digest") != self.digest:
            return 0
        maker = self.maker
        return sum(part.stop - part.start for part in self.parts if maker.finished(part))

    @property
    def is_published(self) -> bool:
        """Return whether an interrupted run of this plan has put the export in its place, and only left its parts."""
        stored = _stored(self.work)
        if "replaces" not in stored or stored.get("digest") != self.digest:
            return False
        found = _identity(self.out)
        return any(found) and all(new != old for new, old in zip(found, stored["replaces"], strict=True))

    @property
    def free(self) -> int:
        """Return the bytes that the disk has for the export; finished parts count."""
        free = shutil.disk_usage(self.out.absolute().parent).free
        return free + sum(path.stat().st_size for path in self.work.rglob("*") if path.is_file())


def plan_export(
    pyramid: Pyramid,
    out: Path,
    chosen: Sequence[int] | NDArray[np.intp],
    options: ExportOptions,
    *,
    selection: str = "",
    overwrite: bool = False,
) -> ExportPlan:
    """Find out what to do, and whether the disk has room for it. Nothing is written.

    Args:
        chosen: indices of the images to export.
        selection: how they were chosen, in words, for export.json.
        overwrite: whether an export at `out` may be replaced.

    Raises: DataError for no image, a level or labels that are not there, a file in the way, a missing library.
    """
    rows = np.asarray(chosen, dtype=np.intp)
    layout = LAYOUTS[options.to]
    layout.check()
    level = pyramid[options.resolution]
    if not len(rows):
        raise DataError(f"{out}: no image of {pyramid.path} is chosen")
    if rows.min() < 0 or rows.max() >= len(pyramid):
        raise DataError(f"{pyramid.path}: holds images 0 to {len(pyramid) - 1}, not {rows.min()} to {rows.max()}")
    begun = "replaces" in _stored(parts_folder(out))  # whether it is the same export shows when there is a plan
    _check_place(out, layout, overwrite=overwrite or begun)
    classes = read_classes(pyramid, options.labels, rows)
    names = picture_names(pyramid, rows, layout, options, classes)
    samples = np.unique(np.linspace(0, len(rows) - 1, SAMPLES).round().astype(int))
    sizes = [len(options.encode(pyramid.image(int(rows[place]), level.resolution))) for place in samples]
    estimate = round(len(rows) * (np.mean(sizes) + ROW_BYTES))
    about = description(pyramid, options, len(rows), classes, selection)
    facts = Facts(pyramid, rows, options.resolution, names, classes)
    plan = ExportPlan(pyramid, out, options, rows, overwrite, facts, classes, about, estimate)
    if plan.is_published:
        return plan
    _check_place(out, layout, overwrite=overwrite)
    needed = layout.copies * estimate
    if needed > plan.free:
        while_done = " while exporting, half of that afterwards" if layout.copies == 2 else ""
        raise DataError(
            f"{out}: the disk is too full: about {byte_size(needed)} needed{while_done}, {byte_size(plan.free)} free; "
            "free some space, or choose fewer pictures, a smaller level or JPEG"
        )
    return plan


def _check_place(out: Path, layout: Layout, *, overwrite: bool) -> None:
    folder = out.absolute().parent
    if not folder.is_dir():
        raise DataError(f"{out}: the folder {folder} does not exist")
    if layout.is_file and out.suffix.lower() != ".zip":
        raise DataError(f"{out}: the export is an archive, give a name that ends in .zip")
    if out.exists() and out.is_file() != layout.is_file:
        raise DataError(f"{out}: is a {'folder' if layout.is_file else 'file'}, give another name")
    if out.is_dir() and any(out.iterdir()) and not (out / RECORD).is_file():
        raise DataError(f"{out}: is a folder of other files, give another name")
    if (out.is_file() or (out / RECORD).is_file()) and not overwrite:
        raise DataError(f"{out}: exists; --overwrite replaces it")


def write_export(plan: ExportPlan, *, progress: Callable[[int], object] = no_progress) -> None:
    """Write the export that was planned.

    Until it is complete, its parts lie in a hidden folder next to it; a later call with the same plan uses those that
    an interrupted one left. The same plan gives the same pictures, whatever the number of processes and interruptions.
    `progress` is called with the number of pictures newly done.

    Raises: DataError where something cannot be read or written, or another process writes the same export.
    """
    maker = plan.maker
    with as_data_error(plan.out), alone_in(plan.work, plan.out):
        if plan.is_published:
            fsync_path(plan.out.absolute().parent)
            progress(len(plan.chosen))
            _remove(plan.work)
            return
        _check_place(plan.out, plan.layout, overwrite=plan.overwrite)  # another process may just have finished
        if _stored(plan.work).get("digest") != plan.digest:
            shutil.rmtree(maker.folder, ignore_errors=True)
            for record in plan.work.glob("*.json"):
                record.unlink()
        maker.folder.mkdir(exist_ok=True)
        _store(plan.work, digest=plan.digest)
        with closing(map_in_processes(maker, plan.parts, plan.options.jobs)) as made:
            for part in made:
                progress(part.stop - part.start)
        suffix = plan.options.metadata
        documents = {
            f"metadata.{suffix}": table(plan.facts.rows(), suffix),
            RECORD: json.dumps(plan.about, indent=1, ensure_ascii=False).encode("utf-8", "replace"),
        }
        if plan.layout.has_dataset_json:
            labels = plan.facts.labels
            pairs = None if labels is None else list(zip(plan.facts.names, labels, strict=True))
            documents[DATASET_JSON] = json.dumps({"labels": pairs}).encode()
        _store(plan.work, digest=plan.digest, replaces=_identity(plan.out))
        plan.layout.finish(maker.folder, plan.out, documents)
        _remove(plan.work)


def _store(work: Path, **values: Any) -> None:
    """Keep the digest of the plan, and, from when all parts are there, the identity of what is to be replaced."""
    with atomic_path(work / PLAN) as temporary:
        temporary.write_text(json.dumps(values))


def _stored(work: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((work / PLAN).read_bytes()))
    except (OSError, ValueError, TypeError):
        return {}


def _identity(out: Path) -> tuple[int, int]:
    """Return two numbers that differ between a file or folder and the next one of its name; zeros where there is none.

    One is not enough: some file systems number files anew when they are mounted, and what changes gets another time.
    """
    try:
        status = out.stat()
    except FileNotFoundError:
        return 0, 0
    return status.st_ino, status.st_mtime_ns


def _remove(work: Path) -> None:
    """Remove the parts of a finished export as far as possible, the plan after the others."""
    shutil.rmtree(work / CONTENT, ignore_errors=True)
    shutil.rmtree(work, ignore_errors=True)


class PartMaker:
    """Makes parts, in any process: calling it with a part writes that, unless it is there, and returns it."""

    def __init__(self, pyramid: Pyramid, work: Path, layout: Layout, contents: Contents, facts: Facts) -> None:
        self.pyramid, self.work, self.layout, self.contents, self.facts = pyramid, work, layout, contents, facts

    @property
    def folder(self) -> Path:
        """The folder of finished files."""
        return self.work / CONTENT

    def finished(self, part: Part) -> bool:
        """Return whether a part was made before, and its files still have their sizes."""
        try:
            sizes = json.loads(self._record(part).read_bytes())
            return all((self.folder / name).stat().st_size == size for name, size in sizes.items())
        except (OSError, ValueError):
            return False

    def __call__(self, part: Part) -> Part:
        if self.finished(part):
            return part
        pictures = map(self._picture, range(part.start, part.stop))
        names = self.layout.write_part(self.folder, Batch(part, pictures, self.contents))
        sizes = {name: (self.folder / name).stat().st_size for name in names}
        with atomic_path(self._record(part)) as temporary:
            temporary.write_text(json.dumps(sizes))
        return part

    def _record(self, part: Part) -> Path:
        return self.work / f"{part.number:06}.json"

    def _picture(self, position: int) -> Picture:
        options = self.contents.options
        image = self.pyramid.image(int(self.facts.chosen[position]), options.resolution)
        return Picture(options.encode(image), self.facts.row(position))
