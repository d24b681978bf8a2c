"""`pipelines.processes`: order, bounded look-ahead, errors."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from datatools.errors import DataError
from pipelines.processes import AHEAD, map_in_order


def later_ones_faster(number: int) -> tuple[int, int]:
    time.sleep(0.02 if number % 4 == 0 else 0)
    return number * number, os.getpid()


@pytest.mark.parametrize("jobs", [1, 2, 3])
def test_results_come_in_the_order_of_the_items(jobs: int) -> None:
    told: list[int] = []
    results = list(map_in_order(later_ones_faster, range(30), jobs, told.append))
    assert [square for square, _ in results] == [number * number for number in range(30)]
    assert told == [1] * 30
    workers = {worker for _, worker in results}
    assert workers == {os.getpid()} if jobs == 1 else os.getpid() not in workers


@pytest.mark.parametrize("jobs", [1, 2])
def test_only_a_few_items_are_begun_before_their_turn(jobs: int) -> None:
    begun: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            begun.append(number)
            yield number

    with closing(map_in_order(later_ones_faster, items(), jobs)) as results:
        for taken, _ in enumerate(results, start=1):
            assert len(begun) < taken + AHEAD * jobs
            if taken == 20:
                break
    assert len(begun) < 20 + AHEAD * jobs


def test_no_items() -> None:
    assert list(map_in_order(later_ones_faster, [], 2)) == []


def refuse_seven(number: int) -> int:
    if number == 7:
        raise DataError("seven is no good")
    return number


@pytest.mark.parametrize("jobs", [1, 2])
def test_errors_come_through_after_the_results_before_them(jobs: int) -> None:
    results = map_in_order(refuse_seven, range(20), jobs)
    assert [next(results) for _ in range(7)] == list(range(7))
    with pytest.raises(DataError, match=r"^seven is no good$"):
        next(results)


def die_at_three(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_a_killed_worker_is_told_in_one_line() -> None:
    with pytest.raises(DataError, match=r"most likely because memory ran out.*smaller --jobs"):
        list(map_in_order(die_at_three, range(20), 2))
