"""What a run tells: log.txt, stats.jsonl, TensorBoard and the status line all show the same numbers."""

import json
import os
import resource
import sys
import time
from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import torch

from datatools.console import say
from datatools.errors import DataError
from datatools.files import append_whole, atomic_path
from pggan.config.schedule import ScheduleState
from pggan.training.board import Board
from pggan.training.saving import reason

STATS, BOARD = "stats.jsonl", "tensorboard"
UNWRITTEN = 10_000
"""Lines of log.txt that wait in memory while it cannot be written; older ones are given up."""


@dataclass
class Tick:
    """Numbers gathered since the last status line; a checkpoint holds them, so that lines do not depend on stops.

    `seconds` and what follows it is timing: it belongs to this process and to no checkpoint, but for `elapsed`.
    """

    number: int = 0
    start: int = 0
    sums: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    elapsed: float = 0.0
    images: int = 0
    seconds: float = 0.0
    reading: float = 0.0
    waiting: float = 0.0

    def add(self, stats: Mapping[str, float]) -> None:
        """Notes the statistics of a step."""
        for name, value in stats.items():
            self.sums[name] += value
            self.counts[name] += 1

    def means(self) -> dict[str, float]:
        """Of every statistic; of `non_finite` the sum, since it counts."""
        return {
            name: total if name == "non_finite" else total / self.counts[name]
            for name, total in sorted(self.sums.items())
        }

    def state(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "start": self.start,
            "sums": dict(self.sums),
            "counts": dict(self.counts),
            "elapsed": self.elapsed,
        }

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> "Tick":
        tick = cls(int(state["number"]), int(state["start"]), elapsed=float(state["elapsed"]))
        tick.sums.update(state["sums"])
        tick.counts.update(state["counts"])
        return tick

    def next(self, images: int) -> "Tick":
        """The one that starts when this one has been reported."""
        return Tick(self.number + 1, images, elapsed=self.elapsed)


def memory_bytes(device: torch.device) -> dict[str, int]:
    """Peak memory of this process, and of the device where it has its own."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    found = {"process_peak": peak}
    if device.type == "cuda":
        found["device_peak"] = torch.cuda.max_memory_allocated(device)
    return found


def duration(seconds: float) -> str:
    """Such as 45s, 12m05s, 3h07m, 2d04h or 1.4y."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    if whole < 365 * 86400:
        return f"{whole // 86400}d{whole % 86400 // 3600:02}h"
    return f"{whole / (365 * 86400):.1f}y"


def status_line(
    state: ScheduleState, tick: Tick, images: int, memory: Mapping[str, int], eta: float, metrics: str = ""
) -> str:
    """One line for the console; `metrics` as text."""
    per_kimg = tick.seconds / max(tick.images, 1) * 1000
    used = memory.get("device_peak", memory["process_peak"])
    return (
        f"tick {tick.number:<4} kimg {images / 1000:<9.2f} res {state.resolution:<4} alpha {state.alpha:.2f} "
        f"batch {state.minibatch:<3} time {duration(tick.elapsed):<7} sec/kimg {per_kimg:<8.2f} "
        f"mem {used / 2**30:.2f}G  ETA {duration(eta)}{'  ' if metrics else ''}{metrics}"
    )


class RunLog:
    """The log files of a run folder; on a process that does not lead it only keeps silent.

    Raises DataError for a log.txt that cannot be written at the start. Later its lines wait in memory until it can be.
    """

    def __init__(self, folder: Path | None, console: TextIO | None = None) -> None:
        self.folder = folder
        self.console = console
        self.shown_at = time.monotonic()  # the last line
        self._board: Board | None = None
        self._unwritten: deque[str] = deque(maxlen=UNWRITTEN)
        self._told = False
        if folder is not None and _is_cut(folder / "log.txt"):
            self._unwritten.append("\n")

    def say(self, line: str) -> None:
        """A line for console and log.txt."""
        if self.folder is not None:
            self.show(line)
            self.note(line)

    def show(self, line: str) -> None:
        """A line for the console alone."""
        if self.folder is not None:
            say(line, self.console)
            self.shown_at = time.monotonic()

    def note(self, line: str) -> None:
        """A line for log.txt alone."""
        if self.folder is None:
            return
        stamp = time.strftime("%Y-%m-%d %H:%M:%S")
        self._unwritten.append(f"{stamp}  {line}\n")
        try:
            # names on disk need not be valid Unicode
            append_whole(self.folder / "log.txt", "".join(self._unwritten).encode("utf-8", "backslashreplace"))
        except OSError as error:
            if not self._told:
                told = f"warning: {self.folder / 'log.txt'}: {reason(error)}; its lines wait until it can be written"
                say(told, self.console)
            self._told = True
        else:
            self._unwritten.clear()
            self._told = False

    def resume_from(self, images: int) -> list[str]:
        """Takes back what stats.jsonl and TensorBoard have of images beyond `images`; the lines that are left.

        Raises OSError.
        """
        if self.folder is None:
            return []
        path = self.folder / STATS
        text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        kept = [line for line in text.splitlines() if _images_of(line) <= images]
        rest = "".join(f"{line}\n" for line in kept)
        if rest != text:
            with atomic_path(path) as temporary:
                temporary.write_text(rest, encoding="utf-8")
        self._board = Board(self.folder / BOARD, images + 1)
        return kept

    def stats(self, values: Mapping[str, Any]) -> None:
        """One line of stats.jsonl, whole or not at all; raises OSError."""
        if self.folder is not None:
            append_whole(self.folder / STATS, (json.dumps(values) + "\n").encode())

    def points(self, images: int, values: Mapping[str, Any]) -> None:
        """The plain numbers of `values` for TensorBoard, `images` being the step; raises OSError."""
        if self._board is not None:
            groups = {name: value if isinstance(value, dict) else {"": value} for name, value in values.items()}
            scalars = {f"{name}/{inner}".rstrip("/"): n for name, group in groups.items() for inner, n in group.items()}
            self._board.add(images, scalars)


def _is_cut(path: Path) -> bool:
    """Whether the last line of a file has no end, since the program or the machine was killed."""
    try:
        with path.open("ab+") as stream:
            if not stream.tell():
                return False
            stream.seek(-1, os.SEEK_END)
            return stream.read(1) != b"\n"
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {reason(error)}") from error


def _images_of(line: str) -> float:
    """Images seen as of a line of stats.jsonl; infinite for a line that was cut off."""
    try:
        return float(json.loads(line)["images"])
    except (ValueError, KeyError, TypeError):
        return float("inf")
