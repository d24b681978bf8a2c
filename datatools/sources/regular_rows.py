"""Rows as CelebA's annotation files have them, read many at a time; `datatools.sources.celeba` reads all others.

Each function raises IrregularRowsError where any row is not like that, so that the slow way can say which one, and why.
Where it returns values, the slow way would return the same.
"""

import sys
from collections.abc import Collection, Iterator, Sequence
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")

_BLOCK = 2048
"""Rows that are looked at together: so few that what is made of them stays in the CPU's cache."""

_BLANK, _MINUS, _ZERO, _ONE, _NEW_LINE = b" -01\n"


class IrregularRowsError(ValueError):
    """Rows that have to be read one by one."""


class NamedValues(NamedTuple, Generic[T]):
    """A value for each file name, in the order of the rows."""

    names: Sequence[str]
    values: Sequence[T]

    def by_name(self) -> dict[str, T]:
        """Return the values by file name."""
        return dict(zip(self.names, self.values, strict=True))

    def of(self, names: Sequence[str]) -> Sequence[T | None]:
        """Return the values of these file names, None where there is none."""
        return self.values if self.names is names else list(map(self.by_name().get, names))


def read_points(rows: Sequence[str]) -> tuple[Sequence[str], NDArray[np.float64]]:
    """Return file names, and (N, 10) whole numbers of at most six digits, of rows `name x y x y ...`."""
    names, values = _split(rows, ())
    points = [_whole_numbers(text, count, 10) for text, count in _blocks(values)]
    return names, np.concatenate([np.empty((0, 10)), *points])


def read_signs(rows: Sequence[str], width: int, known: Sequence[str] = ()) -> NamedValues[tuple[int, ...]]:
    """Return `width` numbers by file name, of rows `name 1 -1 ...`. known: see `_split`."""
    names, values = _split(rows, known)
    signs: list[tuple[int, ...]] = []
    for text, count in _blocks(values):
        signs.extend(map(tuple, _signs(text, count, width).tolist()))
    return NamedValues(names, signs)


def read_numbers(rows: Sequence[str], allowed: Collection[str] | None, known: Sequence[str] = ()) -> NamedValues[int]:
    """Return whole numbers of at most nine digits by file name, of rows `name number`.

    allowed: numbers that may be there; None for all. known: see `_split`.
    """
    names, values = _split(rows, known)
    texts = list(map(str.strip, values))
    different = set(texts)
    _check(different <= set(allowed) if allowed else all(text.isdecimal() and len(text) < 10 for text in different))
    numbers = {text: int(text) for text in different}  # photos of one person share its number
    return NamedValues(names, [numbers[text] for text in texts])


def _check(regular: bool) -> None:
    if not regular:
        raise IrregularRowsError


def _split(rows: Sequence[str], known: Sequence[str]) -> tuple[Sequence[str], list[str]]:
    """Return file names, each a plain one and there once, and what follows them in their rows.

    known: names of another file that were checked; where the rows have the same, it is these that are returned.
    """
    if known and len(rows) == len(known) and all(map(str.startswith, rows, known)):
        values = list(map(str.removeprefix, rows, known))
        if {value[:1] for value in values} <= {" ", "\t"}:
            return known, values
    pairs = [row.split(None, 1) for row in rows]
    _check(set(map(len, pairs)) <= {2})
    names = [sys.intern(name) for name, _ in pairs]
    different, characters = set(names), "".join(names)
    _check(len(different) == len(names) and different.isdisjoint({".", ".."}))
    _check(not any(character in characters for character in "/\\\0"))
    return names, [value for _, value in pairs]


def _blocks(values: Sequence[str]) -> Iterator[tuple[bytes, int]]:
    """Yield the values of a number of rows, each between line ends, and that number."""
    for start in range(0, len(values), _BLOCK):
        block = values[start : start + _BLOCK]
        yield "\n".join(["", *block, ""]).encode(), len(block)


def _whole_numbers(text: bytes, count: int, width: int) -> NDArray[np.float64]:
    """Return (count, width) numbers."""
    _check(not text.translate(None, b" \t\n-0123456789"))
    characters = np.frombuffer(text, np.uint8)
    blank = characters <= _BLANK
    first = np.flatnonzero(blank[:-1] & ~blank[1:]) + 1
    last = np.flatnonzero(~blank[:-1] & blank[1:])
    negative = characters[first] == _MINUS
    digits = last - first + 1 - negative
    _check(_fill_lines(last, characters, count, width))
    _check(text.count(b"-") == np.count_nonzero(negative))
    _check(digits.min() >= 1 and digits.max() <= 6)
    values = np.zeros(len(first))
    for place in range(digits.max()):
        digit = characters[last - place] - float(_ZERO)
        values += np.where(digits > place, 10**place * digit, 0)
    np.negative(values, out=values, where=negative)
    return values.reshape(count, width)


def _signs(text: bytes, count: int, width: int) -> NDArray[np.int8]:
    """Return (count, width) numbers, each 1 or -1."""
    _check(not text.translate(None, b" \t\n-1"))
    characters = np.frombuffer(text, np.uint8)
    is_one, is_minus = characters == _ONE, characters == _MINUS
    ones = np.flatnonzero(is_one)
    negative = is_minus[ones - 1]
    _check(_fill_lines(ones, characters, count, width))
    _check(not (is_one[:-1] & (is_one | is_minus)[1:]).any())  # a number ends with its 1
    _check(np.count_nonzero(is_minus) == np.count_nonzero(negative))
    return (1 - 2 * negative.view(np.int8)).reshape(count, width)


def _fill_lines(places: NDArray[np.intp], characters: NDArray[np.uint8], count: int, width: int) -> bool:
    """Return whether each of the lines has `width` of the places."""
    line_ends = np.flatnonzero(characters == _NEW_LINE)[1:]
    return np.array_equal(np.searchsorted(places, line_ends), width * np.arange(1, count + 1))
