"""CelebA's folder and annotation files: one record per photo that can be used, one rejection per entry that cannot.

The official tree: `Img/img_celeba/*.jpg` (the in-the-wild photos), `Anno/list_landmarks_celeba.txt`, and, all optional,
`Anno/list_attr_celeba.txt`, `Anno/identity_CelebA.txt`, `Eval/list_eval_partition.txt`; other shapes of it are found by
`datatools.sources.celeba_layout`. Liu et al., "Deep Learning Face Attributes in the Wild", ICCV 2015.
"""

import gc
import math
import os
import sys
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datatools.errors import DataError
from datatools.files import read_lines, unlike
from datatools.images import ImageError, image_size
from datatools.sources.celeba_layout import HOW_TO_GET, PhotoNames, find_annotations, find_layout
from datatools.sources.landmark_checks import ALIGNED_SIZE, NEARLY_ALL, common_fault, outside
from datatools.sources.published import celebahq_index_by_file
from datatools.sources.records import FaceRecord, Rejection, RejectionKind
from datatools.sources.regular_rows import IrregularRowsError, NamedValues, read_numbers, read_points, read_signs
from datatools.text import counted

_SIGNS = {"1": 1, "-1": -1, "+1": 1}

_COLUMNS = tuple(
    f"{point}_{axis}" for point in ("lefteye", "righteye", "nose", "leftmouth", "rightmouth") for axis in ("x", "y")
)

_OTHER_FILES = {
    4: "as in list_bbox_celeba.txt, the bounding boxes",
    40: "as in list_attr_celeba.txt, the attributes",
    1: "as in identity_CelebA.txt and list_eval_partition.txt",
}
"""Values per row -> which of CelebA's files has so many."""

_LOOKED_AT = 16
"""Photos whose size is read before the build, spread over all."""

_ENOUGH = 8
"""So many photos show whether the landmarks are of the same photos at another size."""

_HALF_SIZE_REACH = 0.45
"""Landmarks of photos at half the size reach no further, as a share of width or height. In 250 real rows the furthest
value of a row is 0.40 to 0.81, that of any eight of them at least 0.54; halved, 0.20 to 0.41."""


@dataclass(frozen=True)
class CelebATree:
    """What `read_tree` found; records in the order of the landmarks file."""

    root: Path
    image_dir: Path
    records: tuple[FaceRecord, ...]
    rejections: tuple[Rejection, ...]
    attribute_names: tuple[str, ...]
    missing: tuple[str, ...] = ()
    """Names of good rows without a photo."""
    unannotated: tuple[str, ...] = ()
    """Names of files without a row."""
    notes: tuple[str, ...] = ()
    """What else to say about the source, a line each."""

    @property
    def converted(self) -> tuple[FaceRecord, ...]:
        """Return the records whose photo has another ending than in the annotations (case aside)."""
        others = (record for record in self.records if record.photo != record.file_name)
        return tuple(record for record in others if record.photo.lower() != record.file_name.lower())

    def describe_unannotated(self) -> str:
        """Say in one line how many photos have no row; "" for less than one in a hundred."""
        if 100 * len(self.unannotated) <= len(self.records):
            return ""
        return (
            f"{counted(len(self.unannotated), 'file')} in {self.image_dir} without a row of landmarks, such as "
            f"{self.unannotated[0]}: check that list_landmarks_celeba.txt is whole and belongs to these photos"
        )

    def describe_missing(self) -> str:
        """Say in one line how many rows have no photo, and what to check; "" when all have one."""
        if not self.missing:
            return ""
        rows = len(self.records) + len(self.missing)
        there = f"; the folder has {self.unannotated[0]}, which no row names" if self.unannotated else ""
        return (
            f"{len(self.missing):,} of {rows:,} rows name files that are not there, such as {self.missing[0]}{there}: "
            f"check that {self.image_dir} is the right folder and the archive is unpacked whole "
            "(7z x img_celeba.7z.001)"
        )


def read_tree(root: Path) -> CelebATree:
    """Read a CelebA tree; no photo is opened.

    Bad entries become rejections and the rest is used: a mangled line, a row without file, a file without row (hidden
    files aside), a second row for the same file (the first is used), landmarks that are not finite, fewer rows than the
    file's first line promises, a bad line of an optional file (the photo is used without that annotation). Attributes,
    identities and the split may cover some photos only; rows of theirs for other photos are ignored. A photo may have
    another case or ending than its row says (000001.JPG, 000001.png), where it is the only one.

    Raises DataError where nothing sensible can follow: no photos, no landmarks file, one that is not in CelebA's
    format, or one whose rows show that they are not the landmarks of photos in the wild.
    """
    with _collecting_no_garbage():
        return _read_tree(Path(root))


@contextmanager
def _collecting_no_garbage() -> Iterator[None]:
    """Do without Python's garbage collector, which goes through millions of new objects again and again: a sixth."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _read_tree(root: Path) -> CelebATree:
    layout = find_layout(root)
    assert layout.landmarks is not None

    annotations = _Annotations()
    names, landmarks = annotations.landmarks(layout.landmarks)
    annotated = {*names, *(rejection.file_name for rejection in annotations.rejections)}
    image_dir, files = _fullest(layout.photos, names)
    attribute_names, attributes = annotations.attributes(layout.attributes)
    identities = annotations.numbers(layout.identities, allowed=None)
    splits = annotations.numbers(layout.partition, allowed=("0", "1", "2"))
    annotation_files = (layout.landmarks, layout.attributes, layout.identities, layout.partition)
    known = annotated | {path.name for path in annotation_files if path is not None}
    rejections = _one_each(annotations.rejections, known)
    indices = celebahq_index_by_file()

    photo_names, in_images = PhotoNames(files, annotated), os.path.join(image_dir, "")
    records, missing, used = [], [], set()
    values = landmarks, attributes.of(names), identities.of(names), splits.of(names)
    for name, points, signs, identity, split in zip(names, *values, strict=True):
        file = photo_names.find(name)
        if file is None and not os.path.lexists(image_dir / name):
            missing.append(name)
            rejections.append(Rejection(RejectionKind.NO_FILE, name, f"no such file in {image_dir.name}"))
            continue
        if file is None or not os.access(in_images + file, os.R_OK):
            rejections.append(Rejection(RejectionKind.NOT_READABLE, name, _fault(image_dir / (file or name))))
            continue
        used.add(file)
        records.append(FaceRecord(name, image_dir, file, points, indices.get(name, -1), signs, identity, split))
    unannotated = sorted(files.difference(annotated, used))
    for name in unannotated:
        rejections.append(Rejection(RejectionKind.NO_ROW, name, f"no row in {layout.landmarks.name}"))
    return CelebATree(
        root, image_dir, tuple(records), tuple(rejections), attribute_names, tuple(missing), tuple(unannotated)
    )


@dataclass(frozen=True)
class PhotoAnnotations:
    """Attributes, identities and split by the photos' file names; empty where the file is missing."""

    attribute_names: tuple[str, ...]
    attributes: Mapping[str, tuple[int, ...]]
    identities: Mapping[str, int]
    splits: Mapping[str, int]


def read_annotations(root: Path) -> PhotoAnnotations:
    """Read attributes, identities and split of a CelebA tree, or of its Anno alone; bad lines are left out.

    Raises DataError where there is none of them, and for a file that is not in CelebA's format.
    """
    layout = find_annotations(Path(root))
    annotations = _Annotations()
    names, attributes = annotations.attributes(layout.attributes)
    identities = annotations.numbers(layout.identities, allowed=None)
    splits = annotations.numbers(layout.partition, allowed=("0", "1", "2"))
    return PhotoAnnotations(names, attributes.by_name(), identities.by_name(), splits.by_name())


def check_sizes(records: Sequence[FaceRecord]) -> None:
    """Raise DataError where photos and landmarks do not belong together; opens a few photos, spread over all.

    Photos that cannot be read are left to the build, which rejects them one by one.
    """
    looked_at = []
    for record in records[:: max(-(-len(records) // _LOOKED_AT), 1)]:
        try:
            looked_at.append((record, image_size(record.path.read_bytes())))
        except (OSError, ImageError):
            continue
    if len(looked_at) > 2 and all(size == ALIGNED_SIZE for _, size in looked_at):
        raise DataError(
            f"the photos in {records[0].path.parent} are the aligned pictures: {len(looked_at)} of {len(looked_at)} "
            f"looked at have {ALIGNED_SIZE[0]} x {ALIGNED_SIZE[1]} pixels; {HOW_TO_GET}"
        )
    # In 250 real rows no point is outside at all; of a few photos, only points far outside count.
    misfit = _any_outside if len(looked_at) >= _ENOUGH else outside
    misfits = [(record, size) for record, size in looked_at if misfit(record.landmarks, *size)]
    how_to = f"use the original photos with list_landmarks_celeba.txt; {HOW_TO_GET}"
    if 2 * len(misfits) > len(looked_at) or 2 * len(misfits) == len(looked_at) >= _ENOUGH:
        record, (width, height) = misfits[0]
        x, y = record.landmarks.max(axis=0)
        raise DataError(
            f"landmarks and photos do not belong together: those of {record.file_name} reach to ({x:g}, {y:g}), "
            f"{record.path} has {width} x {height} pixels, and so for {len(misfits)} of {len(looked_at)} looked at; "
            f"{how_to}"
        )
    reach = max((float((record.landmarks / size).max()) for record, size in looked_at), default=1.0)
    if len(looked_at) >= _ENOUGH and reach < _HALF_SIZE_REACH:
        raise DataError(
            f"landmarks and photos do not belong together: those of all {len(looked_at)} photos looked at lie in the "
            f"first {reach:.0%} of width and height, as landmarks of smaller photos do; {how_to}"
        )


def _any_outside(points: NDArray[np.float64], width: int, height: int) -> bool:
    """Return whether any point lies outside of a photo."""
    return bool(((points < 0) | (points > (width, height))).any())


def _fullest(folders: Mapping[Path, frozenset[str]], names: Sequence[str]) -> tuple[Path, frozenset[str]]:
    """Return the folder with most of the annotated photos, and its file names; of equal ones that of the name."""
    if len(folders) == 1:
        return next(iter(folders.items()))
    stems = {os.path.splitext(name)[0].lower() for name in names}
    return max(
        folders.items(),
        key=lambda folder: (
            sum(os.path.splitext(file)[0].lower() in stems for file in folder[1]),
            folder[0].name.lower() == "img_celeba",
        ),
    )


def _one_each(rejections: Sequence[Rejection], known: set[str]) -> list[Rejection]:
    """Join the rejections of an entry: first kind, all details; none for photos that only an optional file names."""
    same: dict[tuple[str, str], list[Rejection]] = {}
    for rejection in rejections:
        if rejection.file_name in known:
            same.setdefault((rejection.file_name, rejection.stage), []).append(rejection)
    return [Rejection(group[0].kind, name, "; ".join(r.detail for r in group)) for (name, _), group in same.items()]


def _fault(path: Path) -> str:
    """Return why an entry of the photo folder is no file that can be read."""
    if path.is_dir():
        return "a folder, no photo"
    if not os.path.exists(path):  # pathlib's raises for a link that leads to itself
        return "a link that leads nowhere, or to itself"
    return "may not be read: permission denied" if path.is_file() else "no regular file"


class _Annotations:
    """Reads annotation files and collects the rejections of their bad lines."""

    def __init__(self) -> None:
        self.rejections: list[Rejection] = []
        self._names: Sequence[str] = ()

    def landmarks(self, path: Path) -> tuple[Sequence[str], NDArray[np.float64]]:
        """Return names and landmarks (N, 5, 2) of the good lines."""
        header, lines = self._table(path)
        columns = [column.lower() for column in header.split()][-len(_COLUMNS) :]
        if columns != list(_COLUMNS) and sorted(columns) == sorted(_COLUMNS):
            raise DataError(f"{path} has its columns in the order {' '.join(columns)}; expected {' '.join(_COLUMNS)}")
        try:
            names, values = read_points(lines)
            self._names = names
        except IrregularRowsError:
            names, values = self._points(path, lines)
        landmarks = values.reshape(-1, 5, 2)
        fault = common_fault(landmarks)
        if fault:
            raise DataError(f"{path} {fault}; {HOW_TO_GET}")
        return names, landmarks

    def _points(self, path: Path, lines: Sequence[str]) -> tuple[Sequence[str], NDArray[np.float64]]:
        """Return names and landmarks (N, 10) of the good lines, one by one."""
        names: list[str] = []
        values = array("d")
        lengths: Counter[int] = Counter()
        for line, name, fields in self._rows(path, lines, first_line=3):
            numbers = _floats(fields)
            lengths[len(fields)] += 1
            if numbers is None or len(numbers) != 10:
                shown = " ".join(fields)[:80]
                detail = f"expected a file name and 10 numbers, found {len(fields)}: {shown!r}"
                self._reject(RejectionKind.MANGLED_ROW, path, line, name, detail)
            elif not math.isfinite(sum(numbers)):
                self._reject(RejectionKind.NOT_FINITE, path, line, name, "the landmarks are not finite")
            else:
                names.append(name)
                values.extend(numbers)
        length, count = max(lengths.items(), key=lambda item: item[1], default=(10, 0))
        if length != 10 and count >= NEARLY_ALL * lengths.total():
            meaning = f" ({_OTHER_FILES[length]})" if length in _OTHER_FILES else ""
            raise DataError(
                f"{path} is not in CelebA's format: its rows have {counted(length, 'value')}{meaning}, five landmarks "
                f"have 10; {HOW_TO_GET}"
            )
        return names, np.frombuffer(values).reshape(-1, 10)

    def attributes(self, path: Path | None) -> tuple[tuple[str, ...], NamedValues[tuple[int, ...]]]:
        """Return attribute names, and their values by file name."""
        if path is None:
            return (), NamedValues((), ())
        header, lines = self._table(path)
        attribute_names = tuple(header.split())
        with suppress(IrregularRowsError):
            return attribute_names, read_signs(lines, len(attribute_names), self._names)
        attributes: dict[str, tuple[int, ...]] = {}
        for line, name, fields in self._rows(path, lines, first_line=3):
            try:
                values = tuple([_SIGNS[field] for field in fields])
            except KeyError:
                values = ()
            if len(values) == len(attribute_names):
                attributes[name] = values
            else:
                detail = f"expected a file name and {len(attribute_names)} times 1 or -1; used without attributes"
                self._reject(RejectionKind.UNUSED_ANNOTATION, path, line, name, detail)
        return attribute_names, NamedValues([*attributes], [*attributes.values()])

    def numbers(self, path: Path | None, allowed: Sequence[str] | None) -> NamedValues[int]:
        """Return numbers by file name from a file of lines `name number` without a heading (identities, split)."""
        if path is None:
            return NamedValues((), ())
        lines = read_lines(path, tolerant=True)
        with suppress(IrregularRowsError):
            return read_numbers(lines, allowed, self._names)
        numbers: dict[str, int] = {}
        for line, name, fields in self._rows(path, lines, first_line=1):
            value = fields[0] if len(fields) == 1 else ""
            if value in allowed if allowed else value.isdecimal() and len(value) < 10:
                numbers[name] = int(value)
            else:
                wanted = "a number" if allowed is None else "one of " + ", ".join(allowed)
                found = " ".join(fields)[:40]
                detail = f"expected a file name and {wanted}, found {found!r}; used without it"
                self._reject(RejectionKind.UNUSED_ANNOTATION, path, line, name, detail)
        return NamedValues([*numbers], [*numbers.values()])

    def _table(self, path: Path) -> tuple[str, list[str]]:
        """Return column names and rows of a file that starts with its count of rows and a line of column names."""
        lines = read_lines(path, tolerant=True)
        count = lines[0].strip() if lines else ""
        if not (count.isascii() and count.isdigit() and len(count) < 10 and len(lines) > 1):
            other = unlike(path) or ("it is a comma-separated table, as of the aligned images" if "," in count else "")
            raise DataError(
                f"{path} is not in CelebA's format: line 1 should be the number of rows and line 2 the column names, "
                f"line 1 is {count[:40]!r}{f' ({other})' if other else ''}; {HOW_TO_GET}"
            )
        rows = lines[2:]
        if len(rows) < int(count):
            detail = f"{count} rows are promised, {len(rows)} are there; the file may be cut off"
            self._reject(RejectionKind.MISSING_ROWS, path, 1, path.name, detail)
        return lines[1], rows

    def _rows(self, path: Path, rows: Sequence[str], first_line: int) -> Iterator[tuple[int, str, list[str]]]:
        """Yield (line number, file name, other fields) of every row whose file name is usable and new."""
        first_lines: dict[str, int] = {}
        for line, row in enumerate(rows, start=first_line):
            fields = row.split()
            name = fields[0] if fields else ""
            if not name or "/" in name or "\\" in name or "\0" in name or name in {".", ".."}:
                detail = f"{name[:80]!r} is not a plain file name" if name else "the line is empty"
                self._reject(RejectionKind.BAD_FILE_NAME, path, line, path.name, detail)
            elif first_lines.setdefault(name, line) != line:
                detail = f"second row for this file; line {first_lines[name]} is used"
                self._reject(RejectionKind.REPEATED_ROW, path, line, name, detail)
            else:
                yield line, sys.intern(name), fields[1:]  # one text for all the files that have it

    def _reject(self, kind: RejectionKind, path: Path, line: int, name: str, detail: str) -> None:
        self.rejections.append(Rejection(kind, name, f"{path.name}, line {line}: {detail}"))


def _floats(fields: Sequence[str]) -> list[float] | None:
    try:
        numbers = list(map(float, fields))
    except ValueError:
        return None
    # Python's float() also reads 1_000, which no annotation tool writes.
    return None if "_" in "".join(fields) else numbers
