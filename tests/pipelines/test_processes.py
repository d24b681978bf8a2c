"""`pipelines.processes`: order, bounded look-ahead, errors."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from datatools.errors import DataError
from pipelines.processes import AHEAD, map_in_order
from tests.pipelines.test_build_kill import group_members, wait_until_gone
from tests.support.builds import HANGS, environment


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


PARENT = """
import ctypes, sys, threading, time
from pipelines import processes

processes.START_METHOD, thread, sleeper = sys.argv[1:]
sleep = {"python": time.sleep, "native": ctypes.PyDLL(None).sleep}[sleeper]
work = threading.Thread(target=lambda: list(processes.map_in_order(sleep, [86400] * 2, 2)))
work.run() if thread == "main" else (work.start(), work.join())
"""
"""Two workers sleep for a day; "native" without letting any other thread of theirs run."""


@pytest.mark.parametrize(
    ("method", "thread", "sleeper"),
    [
        ("fork", "main", "python"),
        ("fork", "other", "python"),
        ("spawn", "main", "python"),
        ("forkserver", "main", "python"),
        pytest.param(
            *("fork", "main", "native"),
            marks=pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a thread ends the process"),
        ),
    ],
)
def test_workers_end_with_a_killed_parent(method: str, thread: str, sleeper: str) -> None:
    words = [sys.executable, "-c", PARENT, method, thread, sleeper]
    process = subprocess.Popen(words, env=environment(), start_new_session=True)
    try:
        before = 3 if method == "fork" else 4  # a resource tracker, and the server
        while len(group_members(process.pid)) < before + (method == "forkserver"):
            assert process.poll() is None
            time.sleep(0.02)
        process.kill()
        process.wait()
        assert wait_until_gone(process.pid, HANGS)
    finally:
        for left in group_members(process.pid):
            os.kill(left, signal.SIGKILL)


def test_workers_end_when_nobody_wants_their_results() -> None:
    results = map_in_order(time.sleep, [0, 600, 600, 600], 2)
    next(results)
    begin = time.monotonic()
    results.close()
    assert time.monotonic() - begin < 300


@pytest.mark.parametrize(
    "error", [FileNotFoundError(2, "No such file or directory"), OSError(38, "Function not implemented"), ImportError()]
)
def test_a_system_without_semaphores_is_named(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("multiprocessing.synchronize.SemLock.__init__", refuse)
    with pytest.raises(DataError, match=r"semaphores, and the system has none.*--jobs 1 --workers 1"):
        list(map_in_order(refuse_seven, range(3), 2))
    assert list(map_in_order(refuse_seven, range(3), 1)) == [0, 1, 2]
