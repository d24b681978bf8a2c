"""`datatools.sources.regular_rows` gives what reading row by row gives, or leaves the rows to that."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datatools.errors import DataError
from datatools.sources import celeba
from datatools.sources.celeba import read_tree
from datatools.sources.regular_rows import IrregularRowsError, read_numbers, read_points, read_signs
from tests.faults.trees import landmark_row, write_tree

NAMES = [f"{number:06d}.jpg" for number in range(1, 7)]
FILES = ("Anno/list_landmarks_celeba.txt", "Anno/list_attr_celeba.txt", "Eval/list_eval_partition.txt")


def test_rows_as_celeba_has_them() -> None:
    rows = [f"{name} {number}  -3 4   5 6 7 8 9 10 123456 " for number, name in enumerate(NAMES)]
    names, points = read_points(rows)
    assert names == NAMES
    assert points.dtype == np.float64
    assert points.tolist() == [[number, -3, 4, 5, 6, 7, 8, 9, 10, 123456] for number in range(6)]
    signs = read_signs([f"{name} -1  1\t1 -1" for name in NAMES], 4, names)
    assert signs.by_name() == dict.fromkeys(NAMES, (-1, 1, 1, -1))
    assert signs.of(names) is signs.values
    numbers = read_numbers([f"{name} {i}" for i, name in enumerate(NAMES)], None)
    assert numbers.by_name() == {name: i for i, name in enumerate(NAMES)}
    assert read_points([])[1].shape == (0, 10)
    assert read_signs([], 3) == read_numbers([], None) == ([], [])


@pytest.mark.parametrize("rows", [5000, 4096])
def test_more_rows_than_are_looked_at_together(rows: int) -> None:
    numbers = np.random.default_rng(0).integers(-999, 999, (rows, 10)).tolist()
    names, points = read_points([landmark_row(f"{i}.jpg", row) for i, row in enumerate(numbers)])
    assert names == [f"{i}.jpg" for i in range(rows)]
    assert points.tolist() == numbers
    signs = np.where(np.array(numbers) < 0, -1, 1).tolist()
    found = read_signs([landmark_row(f"{i}.jpg", row) for i, row in enumerate(signs)], 10)
    assert found.values == list(map(tuple, signs))


@pytest.mark.parametrize("known", [[], NAMES, NAMES[:4], [*NAMES[1:], NAMES[0]], [name[:3] for name in NAMES]])
def test_values_belong_to_their_names_whatever_names_are_known(known: list[str]) -> None:
    found = read_numbers([f"{name}\t{i} " for i, name in enumerate(NAMES)], None, known)
    assert found.names == NAMES
    assert found.of(["other.jpg", *reversed(NAMES)]) == [None, 5, 4, 3, 2, 1, 0]
    found_signs = read_signs([f"{name} {'-1' if i % 2 else '1'}" for i, name in enumerate(NAMES)], 1, known)
    assert found_signs == (NAMES, [(1,), (-1,)] * 3)


def test_a_name_that_begins_like_a_known_one() -> None:
    assert read_numbers(["a.jpgx 1"], None, ["a.jpg"]) == (["a.jpgx"], [1])
    for row in (" 1", "a.jpg1", "a.jpg"):
        with pytest.raises(IrregularRowsError):
            read_numbers([row], None, ["a.jpg"])


def test_a_coordinate_of_minus_zero_keeps_its_sign() -> None:
    _, points = read_points([landmark_row("a.jpg", ["-0", *range(9)])])
    assert struct.pack("d", points[0, 0]) == struct.pack("d", -0.0)


POINTS = list(range(10))
SIGNS = [1, -1, 1]


@pytest.mark.parametrize(
    "read",
    [
        pytest.param(lambda name, extra="": read_points([landmark_row(name, POINTS) + extra] * 2), id="points"),
        pytest.param(lambda name, extra="": read_signs([landmark_row(name, SIGNS) + extra] * 2, 3), id="signs"),
        pytest.param(lambda name, extra="": read_numbers([f"{name} 7{extra}"] * 2, None), id="numbers"),
    ],
)
def test_names_that_are_left_to_the_slow_way(read: Callable[..., Any]) -> None:
    for name in ("a.jpg", "", ".", "..", "a/b", "a\\b", "a\0"):  # the first one for being there twice
        with pytest.raises(IrregularRowsError):
            read(name)
    with pytest.raises(IrregularRowsError):
        read("a.jpg", " 1")


@pytest.mark.parametrize(
    "value", ["1.5", "+1", "1-", "--1", "-", "1234567", "1_0", "x", "nan", "\u0661", "\x1c", "\r", "1-1"]
)
def test_numbers_that_are_left_to_the_slow_way(value: str) -> None:
    with pytest.raises(IrregularRowsError):
        read_points([landmark_row("a.jpg", [*range(9), value])])
    with pytest.raises(IrregularRowsError):
        read_signs([landmark_row("a.jpg", [1, -1, value])], 3)


@pytest.mark.parametrize("values", [["11", "-1"], ["1-1", "1"], ["-", "1"], ["0", "1"], ["1"], [1, 1, 1]])
def test_signs_that_are_left_to_the_slow_way(values: list[str]) -> None:
    with pytest.raises(IrregularRowsError):
        read_signs([landmark_row("a.jpg", values)], 2)


def test_values_that_move_to_the_next_row_are_left_to_the_slow_way() -> None:
    with pytest.raises(IrregularRowsError):
        read_points([landmark_row("a.jpg", range(9)), landmark_row("b.jpg", range(11))])
    with pytest.raises(IrregularRowsError):
        read_signs([landmark_row("a.jpg", [1]), landmark_row("b.jpg", [1, 1, 1])], 2)


def outcome(root: Path) -> object:
    try:
        tree = read_tree(root)
    except DataError as error:
        return str(error)
    fields = [
        (r.file_name, r.photo, r.landmarks.tolist(), r.attributes, r.identity, r.split, r.celebahq_index)
        for r in tree.records
    ]
    return fields, tree.rejections, tree.missing, tree.unannotated


def irregular(*_arguments: object) -> NoReturn:
    raise IrregularRowsError


@settings(max_examples=40)
@given(
    file=st.sampled_from(FILES),
    place=st.integers(0, 500),
    junk=st.one_of(
        st.text(" \t\r\n-+1.0/a_", min_size=1, max_size=3).map(str.encode), st.binary(min_size=1, max_size=3)
    ),
    removed=st.integers(0, 3),
)
def test_damaged_files_are_read_as_row_by_row(
    tmp_path_factory: pytest.TempPathFactory, file: str, place: int, junk: bytes, removed: int
) -> None:
    root = write_tree(tmp_path_factory.mktemp("tree"), dict.fromkeys(NAMES, b""))
    data = (root / file).read_bytes()
    place %= len(data)
    (root / file).write_bytes(data[:place] + junk + data[place + removed :])
    found = outcome(root)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("read_points", "read_signs", "read_numbers"):
            patch.setattr(celeba, name, irregular)
        assert outcome(root) == found
