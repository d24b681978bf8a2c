"""Rows as CelebA's annotation files have them, read many at a time; `datatools.sources.celeba` reads all others.

Each function raises IrregularRowsError where any row is not like that, so that the slow way can say which one, and why.
Where it returns values, the slow way would return the same.
"""

import sys
from collections.abc import Collection, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

_BLOCK = 2048
"""Rows that are looked at together: so few that what is made of them stays in the CPU's cache."""

_BLANK, _MINUS, _ZERO, _ONE, _NEW_LINE = b" -01\n"


class IrregularRowsError(ValueError):
    """Rows that have to be read one by one."""


def read_points(rows: Sequence[str]) -> tuple[Sequence[str], NDArray[np.float64]]:
    """Return file names, and (N, 10) whole numbers of at most six digits, of rows `name x y x y ...`."""
    names: list[str] = []
    points = [np.empty((0, 10))]
    for block, text in _blocks(rows):
        names += block
        points.append(_whole_numbers(text, len(block), 10))
    return _checked_names(names), np.concatenate(points)


def read_signs(rows: Sequence[str], width: int, known: Sequence[str] = ()) -> dict[str, tuple[int, ...]]:
    """Return `width` numbers by file name, of rows `name 1 -1 ...`. known: see `_checked_names`."""
    names: list[str] = []
    signs: list[tuple[int, ...]] = []
    for block, text in _blocks(rows):
        names += block
        signs.extend(map(tuple, _signs(text, len(block), width).tolist()))
    return dict(zip(_checked_names(names, known), signs, strict=True))


def read_numbers(rows: Sequence[str], allowed: Collection[str] | None, known: Sequence[str] = ()) -> dict[str, int]:
    """Return whole numbers of at most nine digits by file name, of rows `name number`.

    allowed: numbers that may be there; None for all. known: see `_checked_names`.
    """
    pairs = list(map(str.split, rows))
    _check(set(map(len, pairs)) <= {2})
    names = _checked_names([name for name, _ in pairs], known)
    numbers = {number for _, number in pairs}
    _check(numbers <= set(allowed) if allowed else all(text.isdecimal() and len(text) < 10 for text in numbers))
    values = {text: int(text) for text in numbers}  # photos of one person share its number
    return {name: values[text] for name, (_, text) in zip(names, pairs, strict=True)}


def _check(regular: bool) -> None:
    if not regular:
        raise IrregularRowsError


def _checked_names(names: Sequence[str], known: Sequence[str] = ()) -> Sequence[str]:
    """Return these names, interned, if they are plain file names, each once.

    known: names of another file that were checked; where these are the same, there is nothing to do.
    """
    if names == known:
        return known
    different, characters = set(names), "".join(names)
    _check(len(different) == len(names) and different.isdisjoint({".", ".."}))
    _check(not any(character in characters for character in "/\\\0"))
    return [sys.intern(name) for name in names]


def _blocks(rows: Sequence[str]) -> Iterator[tuple[list[str], bytes]]:
    """Yield names, and what follows them in their rows, each between line ends."""
    for start in range(0, len(rows), _BLOCK):
        pairs = [row.split(None, 1) for row in rows[start : start + _BLOCK]]
        _check(min(map(len, pairs)) == 2)
        yield [name for name, _ in pairs], "\n".join(["", *(rest for _, rest in pairs), ""]).encode()


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
