"""Progress of a task: bars on the terminal, and Luigi's status message."""

import time

import luigi
from tqdm import tqdm

from pipelines.processes import Progress


class ProgressBar:
    """Progress of one task on the terminal (with what is left of the whole stage) and as Luigi's status message."""

    def __init__(self, task: luigi.Task, what: str, total: int, before: int, overall: int) -> None:
        self._task, self._what, self._total = task, what, total
        # disable=None: no bar where the output is no terminal
        self._bar = tqdm(total=total, desc=what, unit="photo", leave=False, disable=None, dynamic_ncols=True)
        self._overall = (
            tqdm(
                total=overall,
                initial=before,
                desc="all shards",
                unit="photo",
                leave=False,
                disable=None,
                dynamic_ncols=True,
            )
            if overall > total
            else None
        )
        self._start = self._told = time.monotonic()
        self._done = 0

    def __enter__(self) -> Progress:
        return self.update

    def update(self, photos: int) -> None:
        """Show that this many more photos of the task are finished."""
        self._done += photos
        self._bar.update(photos)
        if self._overall is not None:
            self._overall.update(photos)
        now = time.monotonic()
        if now - self._told > 5 or self._done == self._total:
            self._told = now
            rate = self._done / max(now - self._start, 1e-9)
            self._task.set_status_message(f"{self._what}: {self._done} of {self._total} photos, {rate:.1f} per second")
            self._task.set_progress_percentage(round(100 * self._done / max(self._total, 1)))

    def __exit__(self, *_exception: object) -> None:
        self._bar.close()
        if self._overall is not None:
            self._overall.close()
