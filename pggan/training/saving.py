"""What a run does when its folder cannot be written: wait for a full disk, end in one line, or continue without."""

import errno
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeVar

from datatools.errors import DataError, reason
from pggan.model.files import CHECKPOINTS
from pggan.training.checkpoints import checkpoints

T = TypeVar("T")
Kind = Literal["warning", "note"]
"""Of an event, see log.EventKind."""
FULL = (errno.ENOSPC, errno.EDQUOT)
PATIENCE = 600.0
"""Seconds that a run waits for room on a full disk. The other processes of a run wait longer (distributed.PATIENCE)."""
RETRY = 10.0
"""Seconds between two tries."""


class Saving:
    """Write into the run folder `folder`, whatever its disk does.

    Args:
        event: gets events for the log.
        stopping: whether the run was asked to stop; then nothing is waited for.
    """

    def __init__(self, folder: Path, event: Callable[[Kind, str], None], stopping: Callable[[], bool]) -> None:
        self.folder, self.event, self.stopping = folder, event, stopping
        self._missing: set[str] = set()

    def must(self, path: Path, write: Callable[[], T]) -> T:
        """Call `write`, which writes `path` whole or not at all, until it succeeds; returns what it returns.

        A full disk is waited for, for up to PATIENCE seconds. Raises DataError when that is over, when the run is
        asked to stop, and for other failures at once.
        """
        begin, waiting = time.monotonic(), False
        while True:
            try:
                value = write()
            except OSError as error:
                left = begin + PATIENCE - time.monotonic()
                if error.errno not in FULL or left <= 0 or self.stopping():
                    raise DataError(f"{path}: {reason(error)}; {self._advice(error)}") from error
                if not waiting:
                    self.event(
                        "warning",
                        f"{path}: {reason(error)}; waiting up to {PATIENCE / 60:g} minutes for room: free "
                        f"some space, or stop with Ctrl-C and run the same command later: {self._then()}",
                    )
                waiting = True
                self._sleep(min(RETRY, left))
            else:
                if waiting:
                    self.event("note", f"{path}: written after {time.monotonic() - begin:.0f} s of waiting")
                return value

    def may(self, kind: str, place: Path | str, write: Callable[[], object]) -> None:
        """Call `write` once; where it fails, warn, once for things of that kind until one of them can be written."""
        try:
            write()
        except OSError as error:
            if kind not in self._missing:
                self.event("warning", f"{place}: {reason(error)}; the run continues without {kind}")
            self._missing.add(kind)
        else:
            self._missing.discard(kind)

    def _sleep(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self.stopping():
            time.sleep(min(0.2, seconds))

    def _advice(self, error: OSError) -> str:
        if error.errno in FULL:
            return f"free some space and run the same command again: {self._then()}"
        if not self.folder.is_dir():
            return f"the run folder {self.folder} is gone: where it was moved, resume with --out and its new place"
        return (
            f"what was saved before is whole: make the folder writable and run the same command again: {self._then()}"
        )

    def _then(self) -> str:
        """Say where the same command will begin."""
        if checkpoints(self.folder / CHECKPOINTS):
            return "it resumes from the newest checkpoint, which is whole"
        return "it starts from the beginning, because no checkpoint was saved yet"
