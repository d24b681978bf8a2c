"""`pipelines.groups`: order, groups that follow from the items alone, bounded look-ahead, errors, threads."""

import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from datatools.errors import DataError
from pipelines.groups import map_in_groups
from tests.support.builds import HANGS


def double(number: int) -> int:
    time.sleep(0.005 if number % 4 == 0 else 0)  # later ones are ready earlier
    return 2 * number


def add(number: int, other: int) -> int:
    time.sleep(0.005 if number % 3 == 0 else 0)
    return number + other


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("count", [0, 1, 4, 5, 23])
def test_order_and_groups(count: int, threads: int) -> None:
    groups: list[list[int]] = []
    told: list[int] = []

    def compute(numbers: list[int]) -> list[int]:
        groups.append(numbers)
        return [100 * number for number in numbers]

    results = list(map_in_groups(double, compute, add, range(count), size=4, threads=threads, progress=told.append))
    assert results == [202 * number for number in range(count)]
    assert told == [1] * count
    assert groups == [[2 * n for n in range(first, min(first + 4, count))] for first in range(0, count, 4)]


def test_threads_work_while_a_group_is_computed_on() -> None:
    """Two items are prepared at once, the second group prepared and the first finished, or this waits in vain."""
    caller, prepared, finished = threading.get_ident(), threading.Event(), threading.Event()
    both = threading.Barrier(2)
    workers = set()

    def prepare(number: int) -> int:
        workers.add(threading.get_ident())
        if number < 2:
            both.wait(HANGS)
        if number == 5:
            prepared.set()
        return number

    def compute(numbers: list[int]) -> list[int]:
        assert threading.get_ident() == caller
        assert prepared.wait(HANGS)
        assert 3 not in numbers or finished.wait(HANGS)
        return numbers

    def finish(number: int, _computed: int) -> int:
        workers.add(threading.get_ident())
        if number == 2:
            finished.set()
        return number

    assert list(map_in_groups(prepare, compute, finish, range(6), size=3, threads=2)) == list(range(6))
    assert caller not in workers
    assert len(workers) == 2


def test_only_a_few_items_are_begun_before_their_turn() -> None:
    begun: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            begun.append(number)
            yield number

    with closing(map_in_groups(double, lambda numbers: numbers, add, items(), size=3, threads=2)) as results:
        for taken, _ in enumerate(results, start=1):
            assert len(begun) < taken + 4 * 3
            if taken == 20:
                break
    assert len(begun) < 20 + 4 * 3


@pytest.mark.parametrize("where", ["prepare", "compute", "finish"])
def test_errors_come_through(where: str) -> None:
    def refuse(number: int, at: str) -> int:
        if number == 7 and where == at:
            raise DataError("seven is no good")
        return number

    results = map_in_groups(
        lambda number: refuse(number, "prepare"),
        lambda numbers: [refuse(number, "compute") for number in numbers],
        lambda number, _computed: refuse(number, "finish"),
        range(20),
        size=2,
        threads=2,
    )
    with pytest.raises(DataError, match=r"^seven is no good$"):
        list(results)
