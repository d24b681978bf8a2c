"""Parallel work whose results come in the order of its items, a few ahead of their turn: in threads or in processes.

docs/decisions/worker-processes.md says why this is not joblib. Importing this module changes nothing in the process.
"""

import ctypes
import multiprocessing
import multiprocessing.util
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from itertools import islice
from types import FrameType
from typing import Any, TypeVar

from datatools.errors import DataError, reason

Item = TypeVar("Item")
Prepared = TypeVar("Prepared")
Middle = TypeVar("Middle")
Result = TypeVar("Result")
Report = Callable[[int], object]
"""Called with the number of items newly done."""

AHEAD = 4
"""Items per process that may be begun or finished before their turn: bounds the memory that results take."""

START_METHOD = "fork" if sys.platform == "linux" else "spawn"
"""Forked workers share semaphores that have no name in /dev/shm, where a killed process would leave them behind."""

_function: Callable[[Any], Any]


def map_ordered(
    executor: Executor,
    function: Callable[[Item], Result],
    items: Iterable[Item],
    ahead: int,
    progress: Report | None = None,
) -> Generator[Result, None, None]:
    """Yield the results of `function` in the order of `items`, with at most `ahead` items begun before their turn.

    `items` is read in the caller's thread, when a result is requested. Raises what `function` raises, in place of the
    result. Does not shut the executor down.
    """
    source = iter(items)
    waiting: deque[Future[Result]] = deque()
    while True:
        for item in source:
            waiting.append(executor.submit(function, item))
            if len(waiting) > ahead:
                break
        if not waiting:
            return
        yield waiting.popleft().result()  # not kept any longer than until it is taken
        if progress is not None:
            progress(1)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Let Ctrl-C and other signals raise at the end of the block: some libraries cannot go back from the middle."""
    handlers: dict[int, Callable[[int, FrameType | None], object]] = {}
    signals: list[tuple[int, FrameType | None]] = []
    try:
        if threading.current_thread() is threading.main_thread():  # Python runs handlers in no other one
            for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                before = signal.getsignal(ending)
                if callable(before):
                    handlers[ending] = before
                    signal.signal(ending, lambda *found: signals.append(found))
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if signals:
            handlers[signals[0][0]](*signals[0])


class Background:
    """A thread that does one piece of work at a time; a context manager, whose end waits for it.

    Ctrl-C does not end the waiting: the caller may close what the work uses.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "background")
        self._running: Future[object] | None = None

    def __enter__(self) -> "Background":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self.wait()
        finally:
            with uninterrupted():
                self._pool.shutdown()

    def start(self, work: Callable[[], object]) -> None:
        """Let the thread do `work` after what it does now; see `wait`."""
        self.wait()
        with uninterrupted():
            self._running = self._pool.submit(work)

    def wait(self) -> None:
        """Wait for the end of the work, and raise what it raised."""
        running, self._running = self._running, None
        if running is not None:
            with uninterrupted():
                wait([running])
            running.result()


def map_in_threads(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    threads: int,
    *,
    ahead: int | None = None,
    start: Callable[[], object] | None = None,
) -> Generator[Result, None, None]:
    """Yield the results of `function` in the order of `items`, computed by threads.

    At most `ahead` items, by default two per thread, are begun before their turn. Each thread first calls `start`.
    Closing the generator waits for what is being computed. Otherwise as `map_ordered`.
    """
    pool = ThreadPoolExecutor(threads, "reader", start)
    try:
        yield from map_ordered(pool, function, items, 2 * threads if ahead is None else ahead)
    finally:
        pool.shutdown(cancel_futures=True)


def map_in_groups(
    prepare: Callable[[Item], Prepared],
    compute: Callable[[list[Prepared]], list[Middle]],
    finish: Callable[[Prepared, Middle], Result],
    items: Iterable[Item],
    *,
    size: int,
    threads: int,
    progress: Report | None = None,
) -> Generator[Result, None, None]:
    """Yield results in the order of `items`: each is prepared, computed on with `size` - 1 others, and finished.

    For a GPU: one process holds it, since its memory has room for few copies of the networks and a forked process
    cannot use it. Threads run `prepare` and `finish`; the caller's thread runs `compute`. Three groups exist at a time:
    one is prepared, one computed on, one finished. Groups follow from the order of the items alone, never from timing,
    so that the same items give the same bytes. Raises what the functions raise.
    """
    limit_threads()
    pool = ThreadPoolExecutor(threads)
    prepared = map_ordered(pool, prepare, items, size)

    def computed() -> Iterator[tuple[Prepared, Middle]]:
        while group := list(islice(prepared, size)):
            yield from zip(group, compute(group), strict=True)

    try:
        yield from map_ordered(pool, lambda pair: finish(*pair), computed(), size, progress)
    finally:
        pool.shutdown(cancel_futures=True)


def map_steps(
    prepare: Callable[[Item], Prepared],
    compute: Callable[[list[Prepared]], list[Middle]],
    finish: Callable[[Prepared, Middle], Result],
    items: Iterable[Item],
    jobs: int,
    *,
    size: int,
    progress: Report | None = None,
) -> Generator[Result, None, None]:
    """Yield results in the order of `items`: each is prepared, computed on, and finished.

    size: number of items that are computed on together, by one process with `jobs` threads as in `map_in_groups`. With
    1, `jobs` processes do all steps of an item in turn, as in `map_in_processes`.
    """
    if size > 1:
        return map_in_groups(prepare, compute, finish, items, size=size, threads=jobs, progress=progress)
    return map_in_processes(_Steps(prepare, compute, finish), items, jobs, progress)


@dataclass(frozen=True)
class _Steps:
    """Function object, an item -> its result; picklable where the steps are."""

    prepare: Callable[[Any], Any]
    compute: Callable[[list[Any]], list[Any]]
    finish: Callable[[Any, Any], Any]

    def __call__(self, item: Any) -> Any:
        prepared = self.prepare(item)
        return self.finish(prepared, self.compute([prepared])[0])


def map_in_processes(
    function: Callable[[Item], Result], items: Iterable[Item], jobs: int, progress: Report | None = None
) -> Generator[Result, None, None]:
    """Yield the results of `function` in the order of `items`, computed by `jobs` processes (1: by this one).

    `items` is read as needed, and few results wait to be taken (`AHEAD`). Closing the generator kills the processes.
    Raises what `function` raises, and DataError when the system kills a process or has no semaphores.
    """
    limit_threads()  # before the fork: OpenCV's threads do not survive it, and a worker would wait for them
    if jobs == 1:
        for item in items:
            yield function(item)
            if progress is not None:
                progress(1)
        return
    check_processes()
    end_children_with_parent()
    pool = ProcessPoolExecutor(jobs, multiprocessing.get_context(START_METHOD), _start_worker, (function,))
    try:
        yield from map_ordered(pool, _call, items, AHEAD * jobs - 1, progress)
    except BrokenProcessPool as error:
        raise DataError(
            "a worker process was killed, most likely because memory ran out; "
            "run the same command again with a smaller --jobs or --workers, finished work is kept"
        ) from error
    except BaseException:
        # Nobody wants what is under way, and an item may take a minute. Python 3.14 has kill_workers() for this.
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
        place = "/dev/shm must exist and be writable; provide it" if sys.platform == "linux" else "provide them"
        raise DataError(
            f"several processes need semaphores, and the system has none ({reason(error)}): {place}, "
            "or work in one process with --jobs 1 --workers 1"
        ) from error


def available_cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def limit_threads() -> None:
    """Let this process work on whole items in parallel, not on the parts of one: OpenCV gets a single thread.

    So does torch in a forked process, a worker's or a task's of Luigi: OpenMP's threads do not survive a fork, and the
    first parallel operation would wait for them forever.
    """
    import cv2  # here: callers that only use threads need not load it

    cv2.setNumThreads(1)
    if multiprocessing.parent_process() is not None and "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    reuse_freed_memory()


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT = 512 << 20


def reuse_freed_memory() -> bool:
    """Let this process keep freed memory, up to half a gigabyte, for its next pictures; return whether it is possible.

    Without it every large array is new memory from the system, which is cleared page by page: a quarter of the time of
    a padded face (`python benchmarks/crop.py`). glibc only; elsewhere nothing changes.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, 32 << 20) and mallopt(_M_TRIM_THRESHOLD, _KEPT))


def _start_worker(function: Callable[[Any], Any]) -> None:
    global _function
    _function = function
    end_with_parent()
    limit_threads()
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

    It would wait for items for ever otherwise, or work for minutes, and hold locks meanwhile. Linux sends the signal
    itself, whatever this process is doing. Elsewhere a thread watches, which has its turn when native code lets it.
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


@cache
def end_children_with_parent() -> None:
    """Make every process that multiprocessing forks from now on end with its parent, Luigi's too.

    Spawned processes call `end_with_parent` themselves.
    """

    def note_thread() -> None:
        global _forked_by_main_thread
        _forked_by_main_thread = threading.current_thread() is threading.main_thread()

    os.register_at_fork(before=note_thread)
    multiprocessing.util.register_after_fork(end_with_parent, end_with_parent)
