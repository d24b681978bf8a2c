"""Progress of a task: bars on the terminal, lines elsewhere, and Luigi's status message."""

import mmap
import time

import luigi
import numpy as np
from tqdm import tqdm

from datatools.progress import BASE, FIELDS, Lines, on_terminal

SHARDS = 1 << 18
"""Shards of a stage that are counted; there may be no more than photos."""


class _Stage:
    """Photos done in each shard of a stage, shared by this process and those that Luigi forks from it.

    Only a shard's own process writes its number, so no lock is needed.
    """

    def __init__(self) -> None:
        self._values = np.frombuffer(mmap.mmap(-1, 8 * (FIELDS + SHARDS)))
        self.clock, self.shards = self._values[:FIELDS], self._values[FIELDS:]

    def done(self) -> int:
        """Return the photos done, with those of shards that were finished when the stage began."""
        return round(self.clock[BASE] + self.shards.sum())

    def forget(self) -> None:
        self._values[:] = 0


_stages = {"ScoreShard": _Stage(), "BuildShard": _Stage(), "FindShard": _Stage()}


def forget_stages() -> None:
    """Count from zero, for another build in the same process."""
    for stage in _stages.values():
        stage.forget()


class ProgressBar:
    """Progress of one task, on a terminal with what is left of its stage; elsewhere of the stage alone.

    Args:
        task: the task, whose status message shows the progress, too.
        what: its name.
        total: photos of the task; None for work that cannot be counted.
        before, overall: photos of its stage that earlier shards have finished, and all of them.
    """

    def __init__(self, task: luigi.Task, what: str, total: int | None, before: int, overall: int) -> None:
        self._task, self._what, self._total = task, what, total
        self._before, self._overall = before, overall
        self._stage = _stages.get(task.task_family.removeprefix("Folder"))
        self._shard = min(getattr(task, "index", 0), SHARDS - 1)
        self._done = self._resumed = 0

    def __enter__(self) -> "ProgressBar":
        self._start = self._told = time.monotonic()
        self._bars: list[tqdm] = []
        self._lines: Lines | None = None
        if on_terminal():
            if self._total is not None:
                self._bars.append(_bar(self._what, self._total))
            if self._total is not None and self._overall > self._total:
                self._bars.append(_bar("all shards", self._overall, self._before))
        elif self._stage is not None:
            self._stage.shards[self._shard] = 0
            name, clock = self._what.split()[0], self._stage.clock
            self._lines = Lines(name, self._overall, "photo", self._stage.done, initial=self._before, clock=clock)
        else:
            self._lines = Lines(self._what, self._total, "photo", lambda: self._done)
        return self

    def resume(self, photos: int) -> None:
        """Count photos that an earlier run finished, without taking their number for the speed of this one."""
        self._resumed += photos
        if self._stage is not None:
            self._stage.clock[BASE] += photos
        for bar in self._bars:
            bar.initial += photos
            bar.update(photos)

    def __call__(self, photos: int) -> None:
        """Show that this many more photos of the task are finished."""
        self._done += photos
        if self._stage is not None:
            self._stage.shards[self._shard] = self._done
        for bar in self._bars:
            bar.update(photos)
        now = time.monotonic()
        done = self._resumed + self._done
        if self._total is not None and (now - self._told > 5 or done == self._total):
            self._told = now
            rate = self._done / max(now - self._start, 1e-9)
            self._task.set_status_message(f"{self._what}: {done} of {self._total} photos, {rate:.1f} per second")
            self._task.set_progress_percentage(round(100 * done / max(self._total, 1)))

    def __exit__(self, *_exception: object) -> None:
        for bar in self._bars:
            bar.close()
        if self._lines is not None:
            self._lines.close()


def _bar(what: str, total: int, initial: int = 0) -> tqdm:
    return tqdm(total=total, initial=initial, desc=what, unit="photo", leave=False, dynamic_ncols=True)
