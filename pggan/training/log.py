"""Write what a run does: log.txt and the console for people, stats.jsonl and TensorBoard for programs."""

import datetime
import json
import math
import os
import resource
import sys
import time
from collections import defaultdict, deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from datatools.console import say
from datatools.errors import reason
from datatools.files import append_whole, as_data_error, atomic_path
from datatools.text import duration
from pggan.config.schedule import ScheduleState
from pggan.training.board import Board
from pggan.training.trackers import Sink

STATS, BOARD = "stats.jsonl", "tensorboard"
EventKind = Literal[
    "started",  # the program: devices, precision
    "resumed",  # from a checkpoint, also within a session after a loss that was not finite
    "discarded",  # status lines beyond the checkpoint: how far they went, and when
    "forked",
    "growing",
    "note",
    "warning",
    "stopped",
    "finished",
    "failed",
]
PREFIXES = {"warning": "warning: ", "failed": "error: ", "forked": "forked: "}
"""What log.txt puts before the messages of some events."""
UNWRITTEN = 10_000
"""Lines that wait in memory while their file cannot be written; older ones are given up."""


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
        """Note the statistics of a step."""
        for name, value in stats.items():
            self.sums[name] += value
            self.counts[name] += 1

    def means(self) -> dict[str, float]:
        """Return the mean of every statistic; of `non_finite` the sum, since it counts."""
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
        """Return the tick that starts when this one has been reported."""
        return Tick(self.number + 1, images, elapsed=self.elapsed)


def memory_bytes(device: torch.device) -> dict[str, int]:
    """Return the peak memory of this process, and of the device where it has its own."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    on_device = device_peak(device)
    return {"process_peak": peak} | ({} if on_device is None else {"device_peak": on_device})


def device_peak(device: torch.device) -> int | None:
    """Return the most memory of a CUDA device that PyTorch has held, used or not; None for other devices."""
    return torch.cuda.max_memory_reserved(device) if device.type == "cuda" else None


def status_line(
    state: ScheduleState, tick: Tick, images: int, memory: Mapping[str, int], eta: float, more: str = ""
) -> str:
    """Return a line for the console that ends with `more`, such as metrics."""
    per_kimg = tick.seconds / max(tick.images, 1) * 1000
    used = memory.get("device_peak", memory["process_peak"])
    return (
        f"tick {tick.number:<4} kimg {images / 1000:<9.2f} res {state.resolution:<4} alpha {state.alpha:.2f} "
        f"batch {state.minibatch:<3} time {duration(tick.elapsed):<11} sec/kimg {per_kimg:<8.2f} "
        f"mem {used / 2**30:.2f}G  ETA {duration(eta)}{'  ' if more else ''}{more}"
    )


class RunLog:
    """The log files of a run folder; without one, as on all processes but the first, nothing is written or shown.

    Raises DataError for a log.txt that cannot be written at the start. Later its lines wait in memory until it can be.
    Events wait until `resume_from` has cut stats.jsonl back, so that a run that cannot begin leaves the file alone.
    """

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.sinks: dict[str, Sink] = {}
        """Where curves and pictures go besides the run folder's own files, by the name that warnings use."""
        self.shown_at = time.monotonic()  # the last line
        self._has_resumed = False
        self._unwritten: deque[str] = deque(maxlen=UNWRITTEN)
        self._events: deque[str] = deque(maxlen=UNWRITTEN)
        self._has_warned = False

    def open(self, folder: Path) -> None:
        """Write into that run folder from now on."""
        if _is_cut(folder / "log.txt"):
            self._unwritten.append("\n")
        self.folder = folder

    def log(self, line: str) -> None:
        """Write a line on the console and into log.txt."""
        if self.folder is not None:
            self.show(line)
            self._note(line)

    def show(self, line: str) -> None:
        """Write a line on the console only."""
        if self.folder is not None:
            say(line)
            self.shown_at = time.monotonic()

    def _note(self, line: str) -> None:
        assert self.folder is not None
        stamp = time.strftime("%Y-%m-%d %H:%M:%S")
        self._unwritten.append(f"{stamp}  {line}\n")
        try:
            # names on disk need not be valid Unicode
            append_whole(self.folder / "log.txt", "".join(self._unwritten).encode("utf-8", "backslashreplace"))
        except OSError as error:
            if not self._has_warned:
                message = f"warning: {self.folder / 'log.txt'}: {reason(error)}; its lines wait until it can be written"
                say(message)
            self._has_warned = True
        else:
            self._unwritten.clear()
            self._has_warned = False

    def event(self, kind: EventKind, message: str = "", **data: Any) -> None:
        """Log an event: a line of stats.jsonl with `data`, and the message for people on the console and in log.txt.

        Where stats.jsonl cannot be written the line waits in memory, like those of log.txt.
        """
        if self.folder is None:
            return
        if message:
            line = PREFIXES.get(kind, "") + message
            if kind == "failed":  # the command line prints the error
                self._note(line)
            else:
                self.log(line)
            data["message"] = message
        self._events.append(_json_line({"event": kind, **data}))
        if self._has_resumed:
            with suppress(OSError):
                self._append("")

    def stats(self, values: Mapping[str, Any]) -> None:
        """Write one line of stats.jsonl, whole or not at all; raises OSError."""
        if self.folder is not None:
            self._append(_json_line(values))

    def _append(self, line: str) -> None:
        assert self.folder is not None
        append_whole(self.folder / STATS, "".join([*self._events, line]).encode())
        self._events.clear()

    def resume_from(self, images: int) -> list[dict[str, Any]]:
        """Remove from stats.jsonl and TensorBoard the numbers of more than `images` images; return the lines kept.

        Events stay: they did happen. Raises OSError.
        """
        if self.folder is None:
            return []
        path = self.folder / STATS
        text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        lines = [(line, parse(line)) for line in text.splitlines()]
        kept = [(line, values) for line, values in lines if "event" in values or number(values, "images") <= images]
        rest = "".join(f"{line}\n" for line, _ in kept)
        if rest != text:
            beyond = [values for _, values in lines if "event" not in values and images < number(values, "images")]
            if beyond:  # only they say how far the session before came, and when it ended
                event = {name: value for name, value in beyond[-1].items() if name in ("time", "images")}
                rest += _json_line({**event, "event": "discarded"})
            with atomic_path(path) as temporary:
                temporary.write_text(rest, encoding="utf-8")
        self._has_resumed = True
        self.sinks["TensorBoard"] = Board(self.folder / BOARD, images + 1)
        return [values for _, values in kept]


def scalars(values: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a line of stats.jsonl by names such as `loss/d_loss`."""
    groups = {name: value if isinstance(value, dict) else {"": value} for name, value in values.items()}
    return {f"{name}/{inner}".rstrip("/"): n for name, group in groups.items() for inner, n in group.items()}


def _is_cut(path: Path) -> bool:
    """Return whether the last line of a file has no end, since the program or the machine was killed."""
    with as_data_error(path), path.open("ab+") as stream:
        if not stream.tell():
            return False
        stream.seek(-1, os.SEEK_END)
        return stream.read(1) != b"\n"


def _json_line(values: Mapping[str, Any]) -> str:
    """Return a line of stats.jsonl that says when it was made."""
    return json.dumps({"time": datetime.datetime.now().astimezone().isoformat(timespec="seconds"), **values}) + "\n"


def parse(line: str) -> dict[str, Any]:
    """Return the values of a line of stats.jsonl, none for one that is damaged."""
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def number(row: Mapping[str, Any], *names: str) -> float:
    """Return the number under these nested names, NaN where there is none or where it is not finite."""
    value: Any = row
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    try:
        found = float(value)
    except OverflowError:
        return math.nan
    return found if math.isfinite(found) else math.nan
