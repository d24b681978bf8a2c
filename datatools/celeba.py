"""CelebA's folder and annotation files: one record per photo that can be used, one rejection per entry that cannot.

The official tree: `Img/img_celeba/*.jpg` (the in-the-wild photos), `Anno/list_landmarks_celeba.txt`, and, all optional,
`Anno/list_attr_celeba.txt`, `Anno/identity_CelebA.txt`, `Eval/list_eval_partition.txt`. Liu et al., "Deep Learning Face
Attributes in the Wild", ICCV 2015.
"""

import math
import os
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datatools.errors import DataError
from datatools.published import celebahq_index_by_file

HOW_TO_GET = (
    "CelebA (for non-commercial research only) is at https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html: get the "
    "In-The-Wild Images (Img/img_celeba.7z.001 to .014; unpack with '7z x img_celeba.7z.001') and the folder Anno; "
    "the aligned images (img_align_celeba, list_landmarks_align_celeba.txt) cannot be used"
)
_IMAGE_DIRS = ("img_celeba", "Img/img_celeba")
_LANDMARKS = ("Anno/list_landmarks_celeba.txt", "list_landmarks_celeba.txt")
_ATTRIBUTES = ("Anno/list_attr_celeba.txt", "list_attr_celeba.txt")
_IDENTITIES = ("Anno/identity_CelebA.txt", "identity_CelebA.txt")
_PARTITION = ("Eval/list_eval_partition.txt", "list_eval_partition.txt", "Anno/list_eval_partition.txt")
_SIGNS = {"1": 1, "-1": -1, "+1": 1}


@dataclass(frozen=True, slots=True)
class FaceRecord:
    """One photo with its annotations."""

    file_name: str
    path: Path
    row: int
    """Zero-based row of the landmarks file (line 1 is its count, line 2 its column names: line number less 3)."""
    landmarks: NDArray[np.float64]
    """(5, 2): left eye, right eye, nose, left and right mouth corner; (x, y) in centre coordinates of stored pixels."""
    celebahq_index: int
    """Index in the published CelebA-HQ, -1 when not in it."""
    attributes: tuple[int, ...] | None
    """+1 or -1 in the order of `CelebATree.attribute_names`; None when not given for this photo."""
    identity: int | None
    split: int | None
    """Official evaluation split: 0 training, 1 validation, 2 test."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """One entry that cannot be used, and why."""

    file_name: str
    stage: str
    """Where it was found: "annotation", "photo", "face" or "excluded"."""
    reason: str


@dataclass(frozen=True)
class CelebATree:
    """What `read_tree` found; records in the order of the landmarks file."""

    root: Path
    image_dir: Path
    records: tuple[FaceRecord, ...]
    rejections: tuple[Rejection, ...]
    attribute_names: tuple[str, ...]


def read_tree(root: Path) -> CelebATree:
    """Read a CelebA tree; no photo is opened.

    Bad entries become rejections and the rest is used: a mangled line, a row without file, a file without row (hidden
    files aside), a second row for the same file (the first is used), landmarks that are not finite, fewer rows than the
    file's first line promises, a bad line of an optional file (the photo is used without that annotation). Attributes,
    identities and the split may cover some photos only; rows of theirs for other photos are ignored.

    Raises DataError where nothing sensible can follow: no photos, no landmarks file, or one that is not in CelebA's
    format.
    """
    root = Path(root)
    image_dir = _find(root, _IMAGE_DIRS)
    landmarks_file = _find(root, _LANDMARKS)
    if image_dir is None or landmarks_file is None:
        raise DataError(_what_is_missing(root, image_dir, landmarks_file))
    files = _list_files(image_dir)
    if not files:
        raise DataError(f"no photos in {image_dir}; {HOW_TO_GET}")

    annotations = _Annotations()
    names, rows, landmarks = annotations.landmarks(landmarks_file)
    annotated = {*names, *(rejection.file_name for rejection in annotations.rejections)}
    attribute_names, attributes = annotations.attributes(_find(root, _ATTRIBUTES))
    identities = annotations.numbers(_find(root, _IDENTITIES), allowed=None)
    splits = annotations.numbers(_find(root, _PARTITION), allowed=("0", "1", "2"))
    rejections = _one_each(annotations.rejections, annotated | {path.name for path in _annotation_files(root)})
    indices = celebahq_index_by_file()

    records = []
    for name, row, points in zip(names, rows, landmarks, strict=True):
        if name not in files:
            rejections.append(Rejection(name, "photo", f"no such file in {image_dir.name}"))
            continue
        records.append(
            FaceRecord(
                file_name=name,
                path=image_dir / name,
                row=row,
                landmarks=points,
                celebahq_index=indices.get(name, -1),
                attributes=attributes.get(name),
                identity=identities.get(name),
                split=splits.get(name),
            )
        )
    for name in sorted(files - annotated):
        rejections.append(Rejection(name, "annotation", f"no row in {landmarks_file.name}"))
    return CelebATree(root, image_dir, tuple(records), tuple(rejections), attribute_names)


def _annotation_files(root: Path) -> list[Path]:
    found = (_find(root, places) for places in (_LANDMARKS, _ATTRIBUTES, _IDENTITIES, _PARTITION))
    return [path for path in found if path is not None]


def _one_each(rejections: Sequence[Rejection], known: set[str]) -> list[Rejection]:
    """One rejection per entry, with all its reasons; none for photos that only an optional file names."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for rejection in rejections:
        if rejection.file_name in known:
            reasons.setdefault((rejection.file_name, rejection.stage), []).append(rejection.reason)
    return [Rejection(name, stage, "; ".join(texts)) for (name, stage), texts in reasons.items()]


def _find(root: Path, places: Sequence[str]) -> Path | None:
    return next((root / place for place in places if (root / place).exists()), None)


def _what_is_missing(root: Path, image_dir: Path | None, landmarks_file: Path | None) -> str:
    if not root.is_dir():
        wanted = ", ".join(str(root / place) for place in (*_IMAGE_DIRS, *_LANDMARKS))
        return f"no folder {root} (looked for {wanted}); name yours with --celeba-dir; {HOW_TO_GET}"
    missing = []
    if image_dir is None:
        missing.append("photos (looked for " + ", ".join(str(root / place) for place in _IMAGE_DIRS) + ")")
        part = next((path for folder in (root, root / "Img") for path in sorted(folder.glob("img_celeba*.7z*"))), None)
        if part is not None:
            missing[-1] += f", though {part} waits to be unpacked"
    if landmarks_file is None:
        missing.append("landmarks (looked for " + ", ".join(str(root / place) for place in _LANDMARKS) + ")")
    return f"found no {' and no '.join(missing)}; {HOW_TO_GET}"


def _list_files(folder: Path) -> set[str]:
    """Names of the files in `folder`, hidden ones aside. Their type comes with the name, without a stat per file."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if not entry.name.startswith(".") and entry.is_file()}
    except OSError as error:
        raise DataError(f"cannot list {folder}: {error.strerror or error}") from error


class _Annotations:
    """Reads annotation files and collects the rejections of their bad lines."""

    def __init__(self) -> None:
        self.rejections: list[Rejection] = []

    def landmarks(self, path: Path) -> tuple[list[str], list[int], NDArray[np.float64]]:
        """Names, zero-based rows and landmarks (N, 5, 2) of the good lines."""
        names: list[str] = []
        rows: list[int] = []
        values = array("d")
        for line, name, fields in self._rows(path, self._table(path)[1], first_line=3):
            numbers = _floats(fields)
            if numbers is None or len(numbers) != 10:
                shown = " ".join(fields)[:80]
                self._reject(path, line, name, f"expected a file name and 10 numbers, found {len(fields)}: {shown!r}")
            elif not math.isfinite(sum(numbers)):
                self._reject(path, line, name, "the landmarks are not finite")
            else:
                names.append(name)
                rows.append(line - 3)
                values.extend(numbers)
        return names, rows, np.frombuffer(values).reshape(-1, 5, 2)

    def attributes(self, path: Path | None) -> tuple[tuple[str, ...], Mapping[str, tuple[int, ...]]]:
        """Attribute names, and their values by file name."""
        if path is None:
            return (), {}
        header, lines = self._table(path)
        attribute_names = tuple(header.split())
        attributes: dict[str, tuple[int, ...]] = {}
        for line, name, fields in self._rows(path, lines, first_line=3):
            try:
                values = tuple([_SIGNS[field] for field in fields])
            except KeyError:
                values = ()
            if len(values) == len(attribute_names):
                attributes[name] = values
            else:
                reason = f"expected a file name and {len(attribute_names)} times 1 or -1; used without attributes"
                self._reject(path, line, name, reason)
        return attribute_names, attributes

    def numbers(self, path: Path | None, allowed: Sequence[str] | None) -> Mapping[str, int]:
        """Numbers by file name from a file of lines `name number` without a heading (identities, evaluation split)."""
        if path is None:
            return {}
        numbers: dict[str, int] = {}
        for line, name, fields in self._rows(path, _read_lines(path), first_line=1):
            value = fields[0] if len(fields) == 1 else ""
            if value in allowed if allowed else value.isdecimal() and len(value) < 10:
                numbers[name] = int(value)
            else:
                wanted = "a number" if allowed is None else "one of " + ", ".join(allowed)
                found = " ".join(fields)[:40]
                self._reject(path, line, name, f"expected a file name and {wanted}, found {found!r}; used without it")
        return numbers

    def _table(self, path: Path) -> tuple[str, list[str]]:
        """Column names and rows of a file that starts with its count of rows and a line of column names."""
        lines = _read_lines(path)
        count = lines[0].strip() if lines else ""
        if not (count.isascii() and count.isdigit() and len(count) < 10 and len(lines) > 1):
            raise DataError(
                f"{path} is not in CelebA's format: line 1 should be the number of rows and line 2 the column names, "
                f"line 1 is {count[:40]!r}; {HOW_TO_GET}"
            )
        rows = lines[2:]
        if len(rows) < int(count):
            reason = f"{count} rows are promised, {len(rows)} are there; the file may be cut off"
            self._reject(path, 1, path.name, reason)
        return lines[1], rows

    def _rows(self, path: Path, rows: Sequence[str], first_line: int) -> Iterator[tuple[int, str, list[str]]]:
        """(line number, file name, other fields) of every row whose file name is usable and new."""
        first_lines: dict[str, int] = {}
        for line, row in enumerate(rows, start=first_line):
            fields = row.split()
            name = fields[0] if fields else ""
            if not name or "/" in name or "\\" in name or "\0" in name or name in {".", ".."}:
                reason = f"{name[:80]!r} is no plain file name" if name else "the line is empty"
                self._reject(path, line, path.name, reason)
            elif first_lines.setdefault(name, line) != line:
                self._reject(path, line, name, f"second row for this file; line {first_lines[name]} is used")
            else:
                yield line, name, fields[1:]

    def _reject(self, path: Path, line: int, name: str, reason: str) -> None:
        self.rejections.append(Rejection(name, "annotation", f"{path.name}, line {line}: {reason}"))


def _read_lines(path: Path) -> list[str]:
    try:
        text = path.read_bytes().decode("utf-8-sig", errors="replace")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    lines = text.split("\n")  # not splitlines(), which also splits at characters that only damage puts there
    while lines and not lines[-1].strip():
        lines.pop()
    return lines


def _floats(fields: Sequence[str]) -> list[float] | None:
    try:
        numbers = list(map(float, fields))
    except ValueError:
        return None
    # Python's float() also reads 1_000, which no annotation tool writes.
    return None if "_" in "".join(fields) else numbers
