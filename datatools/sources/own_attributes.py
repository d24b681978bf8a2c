"""Attributes of one's own photos: a table (CSV) with a file name and a column per attribute, joined by name."""

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datatools.errors import DataError
from datatools.files import read_lines
from datatools.text import counted, normal_name, shorten

IDENTITY, SPLIT = "identity", "split"
_FLAGS = {"1": 1, "+1": 1, "-1": -1, "0": -1, "": 0}
_LARGEST = 2**31 - 1


@dataclass(frozen=True)
class OwnAttributes:
    """What a table says about photos.

    Attributes:
        names: of the attributes, in the order of the columns.
        rows: file name -> identity, split, and the attributes' values: 1, -1, or 0 where the cell is empty.
        unused: columns that hold no attribute.
    """

    path: Path = Path()
    names: tuple[str, ...] = ()
    rows: Mapping[str, tuple[int | None, int | None, tuple[int, ...]]] = field(default_factory=dict)
    unused: tuple[str, ...] = ()

    def of(self, name: str) -> dict[str, Any]:
        """Return what a photo's `FaceRecord` takes."""
        row = self.rows.get(normal_name(name))
        if row is None:
            return {}
        return {"identity": row[0], "split": row[1], "attributes": row[2] if self.names else None}

    def notes(self, photos: Iterable[str]) -> tuple[str, ...]:
        """Return what to say about columns and rows that are not used, a line each."""
        known, lines = {normal_name(name) for name in photos}, []
        if self.unused:
            lines.append(f"{self.path}: not used, since they hold no attributes: {', '.join(self.unused)}")
        others = [name for name in self.rows if name not in known]
        if others:
            rows = counted(len(self.rows), "row")
            lines.append(f"{self.path}: {len(others):,} of {rows} are of no photo here, such as {others[0]}")
        return tuple(lines)


def read_attributes(path: Path) -> OwnAttributes:
    """Read a table of attributes.

    Commas, semicolons or tabs separate its columns. The first line has their names; the first column, or the one that
    is called `file` or `file_name`, has the photos' names. The columns `identity` (a whole number) and `split` (0, 1,
    2) are stored as CelebA's are. A column of 1 and -1, or 1 and 0, is an attribute; an empty cell is unknown. Columns
    without any such value are not used.

    Raises: DataError for a file that cannot be read, or has a value that fits none of these; the message has the line.
    """
    lines = read_lines(path)
    if not lines:
        raise DataError(f"{path} is empty; its first line has to name its columns: file_name, then the attributes")
    separator = max(",;\t", key=lines[0].count)
    reader = csv.reader((f"{line}\n" for line in lines), delimiter=separator)
    try:
        header = [name.strip() for name in next(reader)]
        table = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: {error}") from error
    if len(set(header)) < len(header):
        repeated = next(name for name in header if header.count(name) > 1)
        raise DataError(f"{path} has two columns {repeated!r}; remove one")
    for line, cells in table:
        if len(cells) != len(header):
            raise DataError(f"{path}, line {line}: {counted(len(cells), 'cell')} for {counted(len(header), 'column')}")
    key = next((i for i, name in enumerate(header) if name.lower() in ("file", "file_name")), 0)
    columns = {name: i for i, name in enumerate(header) if i != key}
    special = {name.lower(): i for name, i in columns.items() if name.lower() in (IDENTITY, SPLIT)}
    flags = {name: i for name, i in columns.items() if i not in special.values()}
    values = {name: {cells[i].strip() for _, cells in table} for name, i in flags.items()}
    used = {name: i for name, i in flags.items() if values[name] & (set(_FLAGS) - {""})}
    rows: dict[str, tuple[int | None, int | None, tuple[int, ...]]] = {}
    for line, cells in table:
        cell = _Cells(path, line, cells)
        name = normal_name(cells[key])
        if name in rows:
            raise DataError(f"{path}, line {line}: second row for {name}; remove one")
        rows[name] = (
            cell.number(IDENTITY, special.get(IDENTITY), _LARGEST),
            cell.number(SPLIT, special.get(SPLIT), 2),
            tuple(cell.flag(column, i) for column, i in used.items()),
        )
    return OwnAttributes(path, tuple(used), rows, tuple(name for name in flags if name not in used))


@dataclass(frozen=True)
class _Cells:
    """One row of the table."""

    path: Path
    line: int
    cells: list[str]

    def flag(self, column: str, place: int) -> int:
        text = self.cells[place].strip()
        if text not in _FLAGS:
            raise self._error(column, text, "1, -1 (or 0), or an empty cell")
        return _FLAGS[text]

    def number(self, column: str, place: int | None, largest: int) -> int | None:
        text = "" if place is None else self.cells[place].strip()
        if not text or text == "-1":
            return None
        if not (text.isascii() and text.isdigit() and int(text) <= largest):
            raise self._error(column, text, f"a whole number from 0 to {largest:,}, or an empty cell")
        return int(text)

    def _error(self, column: str, text: str, expected: str) -> DataError:
        return DataError(f"{self.path}, line {self.line}: {column} is {shorten(text, 40)!r}; expected {expected}")
