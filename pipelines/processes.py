"""Photos spread over processes: results in the order of the photos, a few at a time.

docs/decisions/worker-processes.md says why this is not joblib.
"""

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from typing import Any, TypeVar

import cv2

from datatools.errors import DataError
from datatools.memory import reuse_freed_memory

Item = TypeVar("Item")
Result = TypeVar("Result")
Progress = Callable[[int], None]
"""Called with the number of photos newly done."""

AHEAD = 4
"""Photos per process that may be begun or finished before their turn: bounds the memory that results take."""

START_METHOD = "fork" if sys.platform == "linux" else "spawn"
"""Forked workers share semaphores that have no name in /dev/shm, where a killed process would leave them behind."""

_function: Callable[[Any], Any]


def map_in_order(
    function: Callable[[Item], Result], items: Iterable[Item], jobs: int, progress: Progress | None = None
) -> Generator[Result, None, None]:
    """Results of `function` in the order of `items`, computed by `jobs` processes (1: by this one).

    `items` is read as needed, and results that nobody has taken yet are few. Raises what `function` raises, and
    DataError when the system kills a process.
    """
    settle()  # before the fork: OpenCV's threads do not survive it, and a worker would wait for them
    if jobs == 1:
        for item in items:
            yield function(item)
            if progress is not None:
                progress(1)
        return
    with closing(_spread(function, items, jobs)) as results:
        for result in results:
            yield result
            if progress is not None:
                progress(1)


def _spread(function: Callable[[Item], Result], items: Iterable[Item], jobs: int) -> Generator[Result, None, None]:
    waiting: deque[Future[Result]] = deque()
    pool = ProcessPoolExecutor(jobs, multiprocessing.get_context(START_METHOD), _start_worker, (function,))
    try:
        for item in items:
            waiting.append(pool.submit(_call, item))
            if len(waiting) == AHEAD * jobs:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise DataError(
            "a worker process was killed, most likely because memory ran out; "
            "run the same command again with a smaller --jobs or --workers, finished work is kept"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def settle() -> None:
    """Make this process one whose parallel work is photos, not parts of one."""
    cv2.setNumThreads(1)  # photos are spread over processes already
    reuse_freed_memory()


def _start_worker(function: Callable[[Any], Any]) -> None:
    global _function
    _function = function
    settle()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which then ends its workers
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Workers of a parent that was killed would wait for photos, and hold the output folder's lock, for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _call(item: Any) -> Any:
    return _function(item)
