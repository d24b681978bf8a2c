"""Files of landmarks: tables (CSV) that people can read, correct by hand and give back; see docs/landmarks.md."""

import csv
import hashlib
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datatools.errors import DataError
from datatools.files import as_data_error, atomic_path, read_lines, unlike
from datatools.landmarks.base import Face, Photo, face_of_points
from datatools.text import normal_name, shorten

FILE = "file"
POINT_COLUMNS = tuple(
    f"{point}_{axis}" for point in ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth") for axis in "xy"
)
SCORE, NUMBER, SOURCE = "score", "face", "source"
BOX_COLUMNS = ("box_x", "box_y", "box_width", "box_height")
COLUMNS = (FILE, *POINT_COLUMNS, SCORE, NUMBER, *BOX_COLUMNS, SOURCE)
"""What is written. A file that is read needs the first eleven, in any order; it may have others."""
SEPARATORS = ",;\t"
LARGEST = 1_000_000.0
"""No position or length is larger."""

FacesByName = Mapping[str, Sequence[Face]]
"""File name, relative to the folder of photos with / between folders -> its faces; an empty list for none."""


def write_table(path: Path, faces: FacesByName, sources: Mapping[str, str]) -> None:
    """Write a file of landmarks, whole or not at all; a photo without a face has a row without numbers.

    Args:
        path: of the file.
        faces: by file name, in the order of the rows.
        sources: what found them, by file name; stored in each row.

    Raises:
        DataError: a file that cannot be written, or a name that is not valid Unicode.
    """
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(COLUMNS)
    for name, found in faces.items():
        check_name(name)
        if not found:
            rows.writerow([name, *[""] * (len(COLUMNS) - 2), sources[name]])
        for number, face in enumerate(found):
            points = [_decimal(value) for value in face.points.ravel()]
            box = [_decimal(value) for value in face.box]
            rows.writerow([name, *points, f"{face.score:.4g}", number, *box, sources[name]])
    with as_data_error(path), atomic_path(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8", newline="")


def check_name(name: str) -> None:
    """Raise DataError for a file name that a table cannot hold."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise DataError(f"{name!r}: the file's name is not valid UTF-8; rename the file") from None


def _decimal(value: float) -> str:
    return f"{round(float(value), 2) + 0.0:.2f}".rstrip("0").rstrip(".")  # + 0.0: no "-0"


def read_table(path: Path) -> dict[str, list[Face]]:
    """Read a file of landmarks: the faces by file name, those of a photo by number.

    Commas, semicolons or tabs separate the columns, whichever the header has; with semicolons or tabs, numbers may have
    a decimal comma. A row without any of the ten numbers says that its photo has no face.

    Raises:
        DataError: a file that cannot be read, or has a row with a mistake; the message names the line.
    """
    lines = read_lines(path)
    if not lines:
        raise DataError(f"{path} is empty; its first line has to be {','.join(COLUMNS[:11])}")
    separator = max(SEPARATORS, key=lines[0].count)
    reader = csv.reader((f"{line}\n" for line in lines), delimiter=separator)
    try:
        columns = _columns(path, next(reader))
        found: dict[str, dict[int, Face | None]] = {}
        for cells in reader:
            if any(cell.strip() for cell in cells):
                row = _Row(path, reader.line_num, columns, cells, decimal_comma=separator != ",")
                _add(found.setdefault(row.text(FILE), {}), row)
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: {error}") from error
    return {name: [face for _, face in sorted(faces.items()) if face is not None] for name, faces in found.items()}


def _columns(path: Path, header: Sequence[str]) -> dict[str, int]:
    """Return where each column stands."""
    names = [name.strip().lower() for name in header]
    missing = [name for name in COLUMNS[:11] if name not in names]
    if missing:
        other = unlike(path)
        hint = f" ({other})" if other else ""
        raise DataError(
            f"{path} has no column {missing[0]}{hint}: its first line is {shorten(','.join(header), 60)!r}, "
            f"expected {','.join(COLUMNS[:11])}"
        )
    repeated = [name for name in COLUMNS if names.count(name) > 1]
    if repeated:
        raise DataError(f"{path} has two columns {repeated[0]}; remove one")
    return {name: names.index(name) for name in COLUMNS if name in names}


def _add(faces: dict[int, Face | None], row: "_Row") -> None:
    """Add a row's face to those of its photo."""
    points = [row.number(column) for column in POINT_COLUMNS]
    number = row.number(NUMBER)
    number = float(len(faces)) if number is None else number
    if number != int(number) or number < 0:
        raise row.error(f"{NUMBER} is {number:g}; expected 0, 1, 2 ...")
    if int(number) in faces:
        raise row.error(f"second row for face {int(number)} of {row.text(FILE)}; number the faces 0, 1, 2 ...")
    given = [point for point in points if point is not None]
    if not given:
        faces[int(number)] = None
        return
    if len(given) < 10:
        raise row.error(f"{POINT_COLUMNS[points.index(None)]} is empty; a face has all ten numbers, no face has none")
    score = row.number(SCORE)
    face = face_of_points(np.array(given).reshape(5, 2), 1.0 if score is None else score)
    if not 0 <= face.score <= 1:
        raise row.error(f"{SCORE} is {face.score:g}; expected 0 to 1")
    x, y, width, height = (row.number(column) for column in BOX_COLUMNS)
    if x is not None and y is not None and width is not None and height is not None:
        if width < 0 or height < 0:
            raise row.error(f"the box is {width:g} x {height:g} pixels; leave its four columns empty")
        face = Face(face.points, (x, y, width, height), face.score)
    faces[int(number)] = face


@dataclass(frozen=True)
class _Row:
    """One row of a file, and where it stands."""

    path: Path
    line: int
    columns: Mapping[str, int]
    cells: Sequence[str]
    decimal_comma: bool

    def error(self, what: str) -> DataError:
        return DataError(f"{self.path}, line {self.line}: {what}")

    def text(self, column: str) -> str:
        """Return a cell; file names keep their blanks."""
        place = self.columns.get(column, len(self.cells))
        cell = self.cells[place] if place < len(self.cells) else ""
        if column != FILE:
            return cell.strip()
        if not cell:
            raise self.error("the file name is empty")
        return cell

    def number(self, column: str) -> float | None:
        """Return a number; None for an empty cell."""
        text = self.text(column)
        if not text:
            return None
        try:
            value = float(text.replace(",", ".") if self.decimal_comma else text)
        except ValueError:
            value = math.nan
        if not abs(value) <= LARGEST or "_" in text:
            raise self.error(f"{column} is {shorten(text, 40)!r}; expected a number of pixels")
        return value


@dataclass(frozen=True)
class FileLandmarks:
    """Landmarks by file name, from a table or from annotations; see `datatools.landmarks.base.LandmarkSource`."""

    name: str
    digest: str
    faces: FacesByName
    reads_pixels: bool = False
    batch_size: int = 1

    def find(self, photos: Sequence[Photo], /) -> list[list[Face]]:
        """Return the faces of each photo; none for a photo that the file does not name."""
        return [list(self.faces.get(photo.name) or self.faces.get(normal_name(photo.name)) or ()) for photo in photos]

    def unknown(self, names: Iterable[str]) -> list[str]:
        """Return the names that the file does not have."""
        return [name for name in names if name not in self.faces and normal_name(name) not in self.faces]


def read_file_landmarks(path: Path) -> FileLandmarks:
    """Return the landmarks of a table. Raise DataError as `read_table`."""
    faces = read_table(path)
    with as_data_error(path, "read"):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    for name in [name for name in faces if normal_name(name) not in faces]:
        faces[normal_name(name)] = faces[name]
    return FileLandmarks(path.name, digest, faces)
