"""`datatools.parallel`: order, groups that follow from the items alone, bounded look-ahead, errors, dead parents."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial

import pytest
import torch

from datatools.errors import DataError
from datatools.parallel import AHEAD, Background, map_in_groups, map_in_processes, map_in_threads, uninterrupted
from tests.pipelines.test_build_kill import group_members, wait_until_gone
from tests.support.builds import HANGS, environment


def later_ones_faster(number: int) -> tuple[int, int]:
    time.sleep(0.02 if number % 4 == 0 else 0)
    return number * number, os.getpid()


@pytest.mark.parametrize("jobs", [1, 2, 3])
def test_processes_keep_the_order_of_the_items(jobs: int) -> None:
    reported: list[int] = []
    results = list(map_in_processes(later_ones_faster, range(30), jobs, reported.append))
    assert [square for square, _ in results] == [number * number for number in range(30)]
    assert reported == [1] * 30
    workers = {worker for _, worker in results}
    assert workers == {os.getpid()} if jobs == 1 else os.getpid() not in workers


@pytest.mark.parametrize("jobs", [1, 2])
def test_processes_begin_few_items_before_their_turn(jobs: int) -> None:
    begun: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            begun.append(number)
            yield number

    with closing(map_in_processes(later_ones_faster, items(), jobs)) as results:
        for taken, _ in enumerate(results, start=1):
            assert len(begun) < taken + AHEAD * jobs
            if taken == 20:
                break
    assert len(begun) < 20 + AHEAD * jobs


def test_no_items() -> None:
    assert list(map_in_processes(later_ones_faster, [], 2)) == []


def refuse_seven(number: int) -> int:
    if number == 7:
        raise DataError("seven is no good")
    return number


@pytest.mark.parametrize("jobs", [1, 2])
def test_processes_pass_on_errors_after_the_results_before_them(jobs: int) -> None:
    results = map_in_processes(refuse_seven, range(20), jobs)
    assert [next(results) for _ in range(7)] == list(range(7))
    with pytest.raises(DataError, match=r"^seven is no good$"):
        next(results)


def die_at_three(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_a_killed_worker_is_one_line() -> None:
    with pytest.raises(DataError, match=r"most likely because memory ran out.*smaller --jobs"):
        list(map_in_processes(die_at_three, range(20), 2))


PARENT = """
import ctypes, sys, threading, time
from datatools import parallel

parallel.START_METHOD, thread, sleeper = sys.argv[1:]
sleep = {"python": time.sleep, "native": ctypes.PyDLL(None).sleep}[sleeper]
work = threading.Thread(target=lambda: list(parallel.map_in_processes(sleep, [86400] * 2, 2)))
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
    results = map_in_processes(time.sleep, [0, 600, 600, 600], 2)
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
        list(map_in_processes(refuse_seven, range(3), 2))
    assert list(map_in_processes(refuse_seven, range(3), 1)) == [0, 1, 2]


def squares_in_threads(number: int) -> tuple[int, str]:
    time.sleep(0.02 if number % 4 == 0 else 0)
    return number * number, threading.current_thread().name


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_keep_the_order_of_the_items(threads: int) -> None:
    started: list[str] = []
    results = list(
        map_in_threads(
            squares_in_threads, range(30), threads, start=lambda: started.append(threading.current_thread().name)
        )
    )
    assert [square for square, _ in results] == [number * number for number in range(30)]
    assert {name for _, name in results} <= set(started)
    assert threading.current_thread().name not in started
    assert len(started) <= threads
    assert list(map_in_threads(squares_in_threads, [], threads)) == []


def test_threads_begin_few_items_before_their_turn() -> None:
    begun: list[int] = []
    threads = threading.active_count()

    def items() -> Iterator[int]:
        for number in range(100):
            begun.append(number)
            yield number

    with closing(map_in_threads(squares_in_threads, items(), 2, ahead=5)) as results:
        for taken, _ in enumerate(results, start=1):
            assert len(begun) <= taken + 5
            if taken == 20:
                break
        assert threading.active_count() == threads + 2
    assert len(begun) == 25
    assert threading.active_count() == threads  # closed: its threads are gone


def test_threads_pass_on_errors_in_place_of_the_result() -> None:
    results = map_in_threads(refuse_seven, range(20), 2, ahead=6)
    assert [next(results) for _ in range(7)] == list(range(7))
    with pytest.raises(DataError, match="seven is no good"):
        next(results)


def double(number: int) -> int:
    time.sleep(0.005 if number % 4 == 0 else 0)  # later ones are ready earlier
    return 2 * number


def add(number: int, other: int) -> int:
    time.sleep(0.005 if number % 3 == 0 else 0)
    return number + other


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("count", [0, 1, 4, 5, 23])
def test_groups_follow_from_the_order_of_the_items(count: int, threads: int) -> None:
    groups: list[list[int]] = []
    reported: list[int] = []

    def compute(numbers: list[int]) -> list[int]:
        groups.append(numbers)
        return [100 * number for number in numbers]

    results = list(map_in_groups(double, compute, add, range(count), size=4, threads=threads, progress=reported.append))
    assert results == [202 * number for number in range(count)]
    assert reported == [1] * count
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


def test_groups_begin_few_items_before_their_turn() -> None:
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
def test_groups_pass_on_errors(where: str) -> None:
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


def _torch_threads(_: int) -> int:
    return torch.get_num_threads()


def _sum_of_large(value: float) -> float:
    return float(torch.full((1 << 20,), value).half().float().sum())


def _in_this_process() -> None:
    assert list(map_in_processes(_sum_of_large, [1.0], 1)) == [1 << 20]


def test_workers_use_torch_after_the_parent_computed_with_several_threads() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert _sum_of_large(1.0) == 1 << 20
        assert list(map_in_processes(_torch_threads, [0, 1], 2)) == [1, 1]
        assert list(map_in_processes(_sum_of_large, [1.0, 0.5], 2)) == [1 << 20, 1 << 19]
        task = multiprocessing.get_context("fork").Process(target=_in_this_process)  # as Luigi forks its tasks
        task.start()
        task.join(HANGS)
        task.kill()
        assert task.exitcode == 0
    finally:
        torch.set_num_threads(threads)


def test_background_work_is_done_by_another_thread_one_piece_after_the_other() -> None:
    places, block_began = [], threading.Event()

    def work(number: int) -> None:
        assert block_began.wait(HANGS)
        places.append((number, threading.get_ident()))

    with Background() as background:
        background.start(partial(work, 0))
        block_began.set()
        background.start(partial(work, 1))
    assert [number for number, _ in places] == [0, 1]
    assert threading.get_ident() not in {thread for _, thread in places}


@pytest.mark.usefixtures("ctrl_c")
def test_background_work_that_fails() -> None:
    def fail() -> None:
        raise DataError("the disk is full")

    def fail_and_then(ends: Callable[[], object]) -> None:
        with Background() as background:
            background.start(fail)
            ends()

    with pytest.raises(DataError, match="full"):
        fail_and_then(list)
    with pytest.raises(KeyboardInterrupt):
        fail_and_then(lambda: signal.raise_signal(signal.SIGINT))
    with Background() as background:
        background.start(fail)
        with pytest.raises(DataError, match="full"):
            background.start(fail)
        background.wait()


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Let SIGINT raise KeyboardInterrupt, as in a program that was started by hand."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_waits_for_the_end_of_the_block() -> None:
    done = []

    def work() -> None:
        with uninterrupted():
            signal.raise_signal(signal.SIGINT)
            done.append("all of it")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with pytest.raises(DataError, match="full"), uninterrupted():
        raise DataError("the disk is full")


@pytest.mark.usefixtures("ctrl_c")
def test_background_work_is_waited_for_in_spite_of_ctrl_c() -> None:
    waiting, done = threading.Event(), []

    def work() -> None:
        assert waiting.wait(HANGS)
        signal.raise_signal(signal.SIGINT)
        time.sleep(0.05)
        done.append("all of it")

    def begin() -> None:
        with Background() as background:
            background.start(work)
            waiting.set()

    with pytest.raises(KeyboardInterrupt):
        begin()
    assert done
