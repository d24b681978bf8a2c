"""Progress of long work: a bar on a terminal; elsewhere, such as in a log file, a line at least every minute."""

import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self, TypeVar

from tqdm import tqdm

from datatools.console import say
from datatools.text import duration

Item = TypeVar("Item")

FIRST = 10.0
"""Seconds until the first line: short work prints none."""
EVERY = 30.0
"""Seconds between two lines."""

START, BASE, LINE, FIELDS = 0, 1, 2, 3
"""Fields of a clock: when the work began (0: not yet), how much was done then, when the last line was printed."""


def on_terminal() -> bool:
    """Return whether progress is shown as a bar: whether stderr is a terminal."""
    try:
        return sys.stderr is not None and sys.stderr.isatty()
    except ValueError:  # closed
        return False


class Lines:
    """Prints progress to stderr from a thread, since a single step may take minutes.

    Args:
        what: name of the work.
        total: how much there is to do; None for work that cannot be counted.
        unit: what is counted, in the singular.
        done: returns how much is done.
        initial: how much was done before.
        clock: FIELDS numbers, which several processes may share; then one of them prints for all.
    """

    def __init__(
        self,
        what: str,
        total: int | None,
        unit: str,
        done: Callable[[], int],
        *,
        initial: int = 0,
        clock: Any = None,
    ) -> None:
        self._what, self._total, self._unit, self._done = what, total, unit, done
        self._clock = [0.0] * FIELDS if clock is None else clock
        if not self._clock[START]:
            self._clock[BASE] = initial
            self._clock[START] = time.monotonic()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._end.wait(min(FIRST, 1.0)):  # often, since lines of other processes count
            now = time.monotonic()
            if now - self._clock[START] >= FIRST and now - self._clock[LINE] >= EVERY:
                self._clock[LINE] = now
                say(self.line(now), sys.stderr)

    def line(self, now: float) -> str:
        """Return a line of progress, such as "score: 50 of 200 photos, 2.5 per second, 1 min 00 s left"."""
        seconds = now - self._clock[START]
        if self._total is None:
            return f"{self._what}: at work for {duration(seconds)}"
        done = self._done()
        text = f"{self._what}: {done} of {self._total}{f' {self._unit}s' if self._unit else ''}"
        rate = (done - self._clock[BASE]) / max(seconds, 1e-9)
        if rate <= 0:
            return f"{text}, at work for {duration(seconds)}"
        speed = f"{rate:.1f} per second" if rate >= 1 else f"{1 / rate:.1f} s per {self._unit or 'step'}"
        return f"{text}, {speed}, {duration(max(self._total - done, 0) / rate)} left"

    def close(self) -> None:
        """Stop printing; report the end of work if any of its lines were printed."""
        self._end.set()
        self._thread.join()
        finished = self._total is not None and self._done() >= self._total
        if self._clock[LINE] and finished:
            seconds = time.monotonic() - self._clock[START]
            say(f"{self._what}: finished in {duration(seconds)}", sys.stderr)
            self._clock[LINE] = 0


class Progress:
    """Context manager that shows progress; call it with the number of items newly done.

    Args:
        what: name of the work.
        total: how much there is to do; None for work that cannot be counted, which has no bar.
        unit: what is counted, in the singular; "" for steps of any kind.
        initial: how much is done already.
    """

    def __init__(self, what: str, total: int | None = None, unit: str = "", *, initial: int = 0) -> None:
        self._what, self._total, self._unit = what, total, unit
        self._count = initial
        self._bar: Any = None
        self._lines: Lines | None = None

    def __enter__(self) -> Self:
        if not on_terminal():
            self._lines = Lines(self._what, self._total, self._unit, lambda: self._count, initial=self._count)
        elif self._total is not None:
            self._bar = tqdm(
                desc=self._what,
                total=self._total,
                initial=self._count,
                unit=self._unit or "step",
                leave=False,
                dynamic_ncols=True,
                smoothing=0.05,
            )
        return self

    def __call__(self, count: int = 1) -> None:
        self._count += count
        if self._bar is not None:
            self._bar.update(count)

    def over(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yield the items; each counts as done when the next one is requested."""
        with self:
            for item in items:
                yield item
                self(1)

    def say(self, line: str) -> None:
        """Print a line to stdout, above the bar."""
        with tqdm.external_write_mode(sys.stdout):
            say(line)

    def __exit__(self, *_exception: object) -> None:
        if self._bar is not None:
            self._bar.close()
        if self._lines is not None:
            self._lines.close()
