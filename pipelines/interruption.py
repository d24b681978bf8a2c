"""Signals that end a build: one line at once, finished photos kept, nothing left running after a few seconds.

Python runs signal handlers between two steps of the main thread, which may be inside a network for a while. So a thread
of its own reads the signals from a pipe, prints the line and enforces the deadline. The handler only breaks off the
main thread's work, so that unfinished files are removed.
"""

import multiprocessing
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

DEADLINE = 6.0
"""Seconds from the signal until whatever is still at work is killed."""

SAME_KEYSTROKE = 0.2
"""Seconds in which a second SIGINT is the first one, delivered twice (by `timeout`, or to a process being forked)."""

_line_is_out = threading.Event()


class Interrupted(KeyboardInterrupt):
    """A signal asked this process to end. Luigi passes a KeyboardInterrupt on; other exceptions are a failed task."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def is_luigi_command() -> bool:
    """Return whether this is the process of the `luigi` command: not a notebook that imports us, nor a child."""
    main_thread = threading.current_thread() is threading.main_thread()
    return "luigi.cmdline" in sys.modules and multiprocessing.parent_process() is None and main_thread


def end_on_signals() -> None:
    """Make SIGINT, SIGTERM and SIGHUP end this program in order, with exit code 128 + the signal's number.

    Call it once, from the main thread of a command line. A signal that is ignored, as by `nohup`, stays ignored. Forked
    processes leave SIGINT and SIGHUP, which a terminal sends to them as well, to this one.
    """
    numbers = [n for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is not signal.SIG_IGN]
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    handler = _raise_once()
    for number in numbers:
        signal.signal(number, handler)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    os.register_at_fork(after_in_child=_leave_to_parent)
    threading.Thread(target=_watch, args=(reader, frozenset(numbers)), daemon=True).start()
    _catch_at_the_top()


@contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGTERM break off the body, and with it the process, where Luigi forked one for a task.

    In the main process this is a null context: `end_on_signals` rules there.
    """
    if multiprocessing.parent_process() is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    _leave_to_parent()
    signal.signal(signal.SIGTERM, _raise_once())
    try:
        yield
    except Interrupted as error:
        os._exit(128 + error.number)  # Luigi and multiprocessing would print a traceback
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _leave_to_parent() -> None:
    """Set up the signals of a child process: the parent ends it with SIGTERM or SIGKILL, or by its own end."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _raise_once() -> Callable[[int, FrameType | None], None]:
    """Return a handler that raises Interrupted in this process, the first time only."""
    owner = os.getpid()
    raised = False

    def handle(number: int, _frame: FrameType | None) -> None:
        nonlocal raised
        if os.getpid() == owner and not raised:  # not in a child that is just being forked
            raised = True
            raise Interrupted(number)

    return handle


def _watch(reader: int, numbers: frozenset[int]) -> None:
    """Print a line at the first signal; kill everything at the deadline, or at a second Ctrl-C."""
    first = None
    while first is None:
        first = next((number for number in os.read(reader, 64) if number in numbers), None)
    begin = time.monotonic()
    line = f"interrupted ({signal.Signals(first).name}): finished photos are kept, run the same command again to resume"
    with suppress(OSError):  # a terminal that was closed
        os.write(2, f"{chr(10) if os.isatty(2) else ''}{line}\n".encode())  # "^C" and progress stand in that line
    _line_is_out.set()
    while (left := begin + DEADLINE - time.monotonic()) > 0:
        again = select.select([reader], [], [], left)[0] and signal.SIGINT in os.read(reader, 64)
        if again and time.monotonic() - begin > SAME_KEYSTROKE:
            break
    _end(first)


def _end(number: int) -> NoReturn:
    """End this process and its children; theirs end with them (`datatools.parallel`)."""
    for process in multiprocessing.active_children():
        process.kill()
    _line_is_out.wait(1)
    os._exit(128 + number)


def _catch_at_the_top() -> None:
    """Replace the traceback of Interrupted by waiting for the children, whom `_watch` gives until its deadline."""
    other_hook, other_unraisable_hook = sys.excepthook, sys.unraisablehook

    def hook(kind: type[BaseException], error: BaseException, trace: object) -> None:
        if not isinstance(error, Interrupted):
            other_hook(kind, error, trace)  # type: ignore[arg-type]
            return
        for process in multiprocessing.active_children():
            process.terminate()
        for process in multiprocessing.active_children():
            process.join()
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError, AttributeError):
                stream.flush()
        _end(error.number)

    def unraisable_hook(unraisable: "sys.UnraisableHookArgs") -> None:
        if isinstance(unraisable.exc_value, Interrupted):  # raised where nothing may be, such as in a destructor
            _end(unraisable.exc_value.number)
        other_unraisable_hook(unraisable)

    sys.excepthook, sys.unraisablehook = hook, unraisable_hook
