"""Read stats.jsonl of a run folder: numbers and events. The file may be damaged, or still growing."""

import datetime
import math
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pggan.config.schedule import Stage
from pggan.training.log import number, parse

Series = tuple[NDArray[np.float64], NDArray[np.float64]]
"""kimg and values, each (n,), by rising kimg; NaN for values that were not finite."""

COUNT = "metrics_images"
_STEP, _LOADER = ("timing", "images_per_second_step"), ("timing", "images_per_second_loader")
ENDS = ("stopped", "finished", "failed")
"""Events that end a session."""


@dataclass(frozen=True)
class Message:
    """An event in words. `kind`: of the event, see `pggan.training.log.EventKind`."""

    time: datetime.datetime
    kind: str
    text: str


@dataclass(frozen=True)
class Session:
    """One call of `pggan.train`. `first`, `last`: images seen; `end`: one of ENDS, or "open" without such an event.

    `device`: such as "1 x cuda, fp32". Times are those of the machine's clock.
    """

    began: datetime.datetime
    ended: datetime.datetime
    device: str
    first: int = 0
    last: int = 0
    end: str = "open"

    @property
    def seconds(self) -> float:
        return max((self.ended - self.began).total_seconds(), 0.0)


@dataclass(frozen=True)
class Stats:
    """The lines of stats.jsonl. `rows`: numbers by rising images; `damaged`: how many lines could not be read.

    Sessions and messages are in the order in which they happened.
    """

    rows: tuple[Mapping[str, Any], ...]
    damaged: int
    sessions: tuple[Session, ...] = ()
    messages: tuple[Message, ...] = ()

    @property
    def images(self) -> int:
        """Return the images seen as of the last line."""
        return int(self.rows[-1]["images"]) if self.rows else 0

    @property
    def seconds(self) -> float:
        """Return the seconds of training, without pauses."""
        return max(self.elapsed(), default=0.0)

    def elapsed(self) -> list[float]:
        """Return the seconds of training as of each line, 0 where a line has none."""
        return [next(iter(_finite([row], "timing", "seconds")), 0.0) for row in self.rows]

    @property
    def measuring_seconds(self) -> float:
        """Return the seconds that metrics took in addition to training."""
        return sum(_finite(self.rows, "timing", "metrics_seconds"))

    def names(self, group: str) -> list[str]:
        """Return the names in that group of numbers, sorted."""
        return sorted({name for row in self.rows for name in _group(row, group)})

    def series(self, group: str, name: str) -> Series:
        """Return the values of that name, of all lines that have one."""
        rows = [row for row in self.rows if name in _group(row, group)]
        kimg = np.array([row["images"] / 1000 for row in rows])
        return kimg, np.array([number(row, group, name) for row in rows])


@dataclass(frozen=True)
class NewestSwd:
    """The newest sliced Wasserstein distance. `count`: images of either set, 0 where the line has no such number.

    `levels`: (pixels, distance, the reals' among themselves or NaN), `average`: the last two of them alike. `best`:
    images and average of the line with the lowest one, of those that can be compared with the newest.
    """

    images: int
    count: int
    levels: tuple[tuple[int, float, float], ...]
    average: tuple[float, float]
    best: tuple[int, float]

    @property
    def floor_known(self) -> bool:
        """Return whether there is any distance of reals among themselves."""
        return any(not math.isnan(floor) for floor in (self.average[1], *(floor for _, _, floor in self.levels)))


@dataclass(frozen=True)
class PhaseSpeed:
    """Time, speed and memory of a phase; `first` and `last`: images seen as of its status lines.

    Speeds are medians in images per second, memory is the highest peak; NaN where no line has a number.
    """

    phase: Stage
    first: int
    last: int
    seconds: float
    step: float
    loader: float
    process_bytes: float
    device_bytes: float


def phase_at(phases: Sequence[Stage], kimg: float) -> Stage:
    """Return the phase after so many kimg; the last one beyond the schedule's end."""
    return next((phase for phase in phases if kimg < phase.end_image / 1000), phases[-1])


def read_stats(path: Path) -> Stats:
    """Read the lines that can be read; none where the file does not exist yet. Raises OSError."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        lines = []
    whole = [line for line in map(parse, lines) if "event" in line or number(line, "images") >= 0]
    rows = sorted((line for line in whole if "event" not in line), key=lambda row: row["images"])
    return Stats(tuple(rows), len(lines) - len(whole), *sessions_of(whole))


def sessions_of(lines: Iterable[Mapping[str, Any]]) -> tuple[tuple[Session, ...], tuple[Message, ...]]:
    """Return the sessions and messages of the lines of stats.jsonl, in the order in which they were written.

    Lines without a time, as older versions wrote them, belong to no session.
    """
    sessions: list[Session] = []
    messages = []
    for line in lines:
        kind, time, images = line.get("event"), _time_of(line), number(line, "images")
        if time is None:
            continue
        if "message" in line:
            messages.append(Message(time, str(kind), str(line["message"])))
        if kind == "started":
            device = f"{line.get('devices')} x {line.get('device')}, {line.get('precision')}"
            sessions.append(Session(time, time, device))
        elif sessions:
            session = sessions[-1]
            if kind == "resumed" and not session.last:  # later it is within a session: back at a checkpoint
                session = replace(session, first=0 if math.isnan(images) else int(images))
            last = session.last if math.isnan(images) else int(images)
            end = str(kind) if kind in ENDS else session.end
            sessions[-1] = replace(session, ended=max(time, session.ended), last=last, end=end)
    return tuple(sessions), tuple(messages)


def speeds(stats: Stats, phases: Sequence[Stage]) -> list[PhaseSpeed]:
    """Return what each phase took, in order. A status line counts for the phase at the middle of its images."""
    status = Stats(tuple(row for row in stats.rows if _finite([row], *_STEP)), 0)
    seconds, images = [0.0, *status.elapsed()], [0, *(int(row["images"]) for row in status.rows)]
    lines = range(len(status.rows))
    found = []
    for phase, group in groupby(lines, lambda line: phase_at(phases, (images[line] + images[line + 1]) / 2000)):
        own = list(group)
        rows = [status.rows[line] for line in own]
        found.append(
            PhaseSpeed(
                phase=phase,
                first=images[own[0]],
                last=images[own[-1] + 1],
                seconds=max(seconds[own[-1] + 1] - seconds[own[0]], 0.0),
                step=_median(_finite(rows, *_STEP)),
                loader=_median(_finite(rows, *_LOADER)),
                process_bytes=max(_finite(rows, "memory", "process_peak"), default=math.nan),
                device_bytes=max(_finite(rows, "memory", "device_peak"), default=math.nan),
            )
        )
    return found


def levels_of(names: Iterable[str], metric: str) -> list[int]:
    """Return the levels in pixels, the largest first, that have values: 32 for swd_32."""
    matches = (re.fullmatch(rf"{metric}_(\d{{1,5}})", name, re.ASCII) for name in names)
    return sorted({int(match[1]) for match in matches if match}, reverse=True)


def newest_swd(stats: Stats) -> NewestSwd | None:
    """Return the SWD of the newest line that has one, None where no line has one."""
    rows = [row for row in stats.rows if _finite([row], "metrics", "swd")]
    if not rows:
        return None
    last = rows[-1]
    alike = [row for row in rows if all(row.get(name) == last.get(name) for name in ("resolution", "alpha", COUNT))]
    best = min(alike, key=lambda row: number(row, "metrics", "swd"))
    levels = levels_of(_group(last, "metrics"), "swd")
    return NewestSwd(
        images=int(last["images"]),
        count=int(last[COUNT]) if number(last, COUNT) >= 1 else 0,
        levels=tuple(
            (level, number(last, "metrics", f"swd_{level}"), number(last, "metrics", f"swd_floor_{level}"))
            for level in levels
        ),
        average=(number(last, "metrics", "swd"), number(last, "metrics", "swd_floor")),
        best=(int(best["images"]), number(best, "metrics", "swd")),
    )


def _group(row: Mapping[str, Any], group: str) -> Mapping[str, Any]:
    values = row.get(group)
    return values if isinstance(values, dict) else {}


def _finite(rows: Iterable[Mapping[str, Any]], *names: str) -> list[float]:
    """Return the finite numbers under these nested names."""
    return [value for row in rows if not math.isnan(value := number(row, *names))]


def _median(values: Sequence[float]) -> float:
    return statistics.median(values) if values else math.nan


def _time_of(line: Mapping[str, Any]) -> datetime.datetime | None:
    try:
        return datetime.datetime.fromisoformat(line["time"]).astimezone()
    except (LookupError, TypeError, ValueError, OSError, ArithmeticError):
        return None
