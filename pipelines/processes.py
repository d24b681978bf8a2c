"""Photos spread over processes: results in the order of the photos, a few at a time.

docs/decisions/worker-processes.md says why this is not joblib.
"""

import ctypes
import multiprocessing
import multiprocessing.util
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, suppress
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
    check_processes()
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
    except BaseException:
        # Nobody wants what is under way, and a photo may take a minute. Python 3.14 has kill_workers() for this.
        for process in list((pool._processes or {}).values()):
            process.kill()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def check_processes() -> None:
    """Raise DataError where the system offers no semaphores, without which processes cannot work together."""
    try:
        multiprocessing.get_context(START_METHOD).Lock()
    except (OSError, ImportError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        place = "/dev/shm must exist and be writable; provide it" if sys.platform == "linux" else "provide them"
        raise DataError(
            f"several processes need semaphores, and the system has none ({reason}): {place}, "
            "or work in one process with --jobs 1 --workers 1"
        ) from error


def settle() -> None:
    """Make this process one whose parallel work is photos, not parts of one."""
    cv2.setNumThreads(1)  # photos are spread over processes already
    reuse_freed_memory()


def _start_worker(function: Callable[[Any], Any]) -> None:
    global _function
    _function = function
    end_with_parent()
    settle()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which then ends its workers
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the parent's handler, if it has one, is for the parent


def _call(item: Any) -> Any:
    return _function(item)


# --- the end of a process's parent ------------------------------------------------------------------------------------

PARENT_CHECKS = 0.5
"""Seconds between two looks at whether the parent lives."""

_PR_SET_PDEATHSIG = 1
_forked_by_main_thread = False
_watching = 0  # the process that has a thread which watches its parent


def end_with_parent(_: object = None) -> None:
    """Make this process end when its parent does, however that ends. No effect where no parent started it, or twice.

    It would wait for photos for ever otherwise, or work for minutes, and hold the output folder's lock meanwhile. Linux
    sends the signal itself, and whatever this process is doing. Elsewhere a thread watches, which has its turn when
    native code lets it.
    """
    global _watching
    parent = multiprocessing.parent_process()
    if parent is None or _watching == os.getpid():
        return
    _watching = os.getpid()
    if sys.platform == "linux" and _forked_by_main_thread:  # Linux means the end of the thread that forked
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    direct = os.getppid() == parent.pid  # else the parent has ended already, or is that of a fork server

    def watch() -> None:
        while parent.is_alive() and (not direct or os.getppid() == parent.pid):
            parent.join(PARENT_CHECKS)  # may come late: processes forked after this one hold the same pipe open
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _note_thread() -> None:
    global _forked_by_main_thread
    _forked_by_main_thread = threading.current_thread() is threading.main_thread()


# Every process that multiprocessing forks, so those of Luigi, too. A spawned one calls the function itself.
os.register_at_fork(before=_note_thread)
multiprocessing.util.register_after_fork(end_with_parent, end_with_parent)
