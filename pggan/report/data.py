"""What a run folder tells of its training: log.txt and stats.jsonl, whole, damaged or still being written."""

import datetime
import json
import math
import re
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pggan.config.schedule import ScheduleConfig, stages

Series = tuple[NDArray[np.float64], NDArray[np.float64]]
"""kimg and values, each (n,), by rising kimg; NaN for values that were not finite."""

COUNT = "metrics_images"
_STEP, _LOADER = ("timing", "images_per_second_step"), ("timing", "images_per_second_loader")
_STAMPED = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)  (.*)")
_PLAN = re.compile(r"preset .*, (\d+ x \w+, \w+)$")
_TICK = re.compile(r"tick \d+ +kimg ([\d.]+) ")
_RESUMED = re.compile(r"resumed from (\d+) images")
_ENDED = re.compile(r"(stopped|finished) after (\d+) images")


@dataclass(frozen=True)
class Message:
    """A line of log.txt that is neither plan nor status."""

    time: datetime.datetime
    text: str


@dataclass(frozen=True)
class Session:
    """One call of `pggan.train`. `first`, `last`: images seen; `end`: "open" where the log does not tell of one.

    `device`: such as "1 x cuda, fp32". Times are those of the machine's clock.
    """

    began: datetime.datetime
    ended: datetime.datetime
    device: str
    first: int = 0
    last: int = 0
    end: Literal["stopped", "finished", "open"] = "open"

    @property
    def seconds(self) -> float:
        return max((self.ended - self.began).total_seconds(), 0.0)


@dataclass(frozen=True)
class Log:
    """log.txt, in order."""

    sessions: tuple[Session, ...]
    messages: tuple[Message, ...]

    @property
    def warnings(self) -> list[Message]:
        return [message for message in self.messages if message.text.startswith("warning")]


@dataclass(frozen=True)
class Stats:
    """The lines of stats.jsonl by rising images; `damaged` lines could not be read."""

    rows: tuple[Mapping[str, Any], ...]
    damaged: int

    @property
    def images(self) -> int:
        """Images seen as of the last line."""
        return int(self.rows[-1]["images"]) if self.rows else 0

    @property
    def seconds(self) -> float:
        """Time of the training itself, without pauses."""
        return max(self.elapsed(), default=0.0)

    def elapsed(self) -> list[float]:
        """Seconds of training as of each line, 0 where a line does not tell."""
        times = (number(row, "timing", "seconds") for row in self.rows)
        return [0.0 if math.isnan(time) else time for time in times]

    @property
    def measuring_seconds(self) -> float:
        """Time that went into metrics, on top of the training itself."""
        times = (number(row, "timing", "metrics_seconds") for row in self.rows)
        return sum(time for time in times if not math.isnan(time))

    def names(self, group: str) -> list[str]:
        """Names in that group of numbers, sorted."""
        return sorted({name for row in self.rows for name in _group(row, group)})

    def series(self, group: str, name: str) -> Series:
        """The value of that name wherever there is one."""
        rows = [row for row in self.rows if name in _group(row, group)]
        kimg = np.array([row["images"] / 1000 for row in rows])
        return kimg, np.array([number(row, group, name) for row in rows])


@dataclass(frozen=True)
class Phase:
    """A stretch of the schedule in kimg."""

    first: float
    end: float
    resolution: int
    fading: bool


@dataclass(frozen=True)
class Measured:
    """The newest sliced Wasserstein distance. `count`: images of either set, 0 where the line does not tell.

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
        """Whether anything is known of reals among themselves."""
        return any(not math.isnan(floor) for floor in (self.average[1], *(floor for _, _, floor in self.levels)))


@dataclass(frozen=True)
class PhaseSpeed:
    """What a phase took; `first` and `last` images seen as of its status lines.

    Speeds are medians in images per second, memory is the highest peak; NaN where no line tells.
    """

    phase: Phase
    first: int
    last: int
    seconds: float
    step: float
    loader: float
    process_bytes: float
    device_bytes: float


def phases_of(schedule: ScheduleConfig) -> tuple[Phase, ...]:
    """The whole schedule."""
    found = stages(schedule)
    return tuple(Phase(s.first_image / 1000, s.end_image / 1000, s.resolution, s.fading) for s in found)


def phase_at(phases: Sequence[Phase], kimg: float) -> Phase:
    """The phase after so many kimg; the last one beyond the schedule's end."""
    return next((phase for phase in phases if kimg < phase.end), phases[-1])


def read_stats(path: Path) -> Stats:
    """The lines that can be read; none where the file is not there yet. OSError where it cannot be read."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        lines = []
    rows = []
    for line in lines:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict) and number(row, "images") >= 0:
            rows.append(row)
    rows.sort(key=lambda row: row["images"])
    return Stats(tuple(rows), len(lines) - len(rows))


def read_log(path: Path) -> Log:
    """Sessions and messages; none where the file is not there yet. OSError where it cannot be read."""
    sessions: list[Session] = []
    messages = []
    for time, text in _stamped_lines(path):
        plan, tick, resumed, ended = (form.match(text) for form in (_PLAN, _TICK, _RESUMED, _ENDED))
        if plan:
            sessions.append(Session(time, time, plan[1]))
            continue
        if not tick:
            messages.append(Message(time, text))
        if not sessions:
            continue
        session = replace(sessions[-1], ended=time)
        if tick:
            session = replace(session, last=round(float(tick[1]) * 1000))
        elif resumed:  # within a session: after going back to a checkpoint
            first = session.first if session.last else int(resumed[1])
            session = replace(session, first=first, last=int(resumed[1]))
        elif ended:
            session = replace(session, last=int(ended[2]), end="stopped" if ended[1] == "stopped" else "finished")
        sessions[-1] = session
    return Log(tuple(sessions), tuple(messages))


def speeds(stats: Stats, phases: Sequence[Phase]) -> list[PhaseSpeed]:
    """What each phase took, in order. A status line counts for the phase that lies in the middle of its images."""
    status = Stats(tuple(row for row in stats.rows if not math.isnan(number(row, *_STEP))), 0)
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
                step=_median(rows, *_STEP),
                loader=_median(rows, *_LOADER),
                process_bytes=_peak(rows, "process_peak"),
                device_bytes=_peak(rows, "device_peak"),
            )
        )
    return found


def levels_of(names: Iterable[str], metric: str) -> list[int]:
    """Levels in pixels, the largest first, that there are values of: 32 for swd_32."""
    matches = (re.fullmatch(rf"{metric}_(\d{{1,5}})", name, re.ASCII) for name in names)
    return sorted({int(match[1]) for match in matches if match}, reverse=True)


def measured(stats: Stats) -> Measured | None:
    """What the newest line with an SWD tells, None where there is none."""
    rows = [row for row in stats.rows if not math.isnan(number(row, "metrics", "swd"))]
    if not rows:
        return None
    last = rows[-1]
    alike = [row for row in rows if all(row.get(name) == last.get(name) for name in ("resolution", "alpha", COUNT))]
    best = min(alike, key=lambda row: number(row, "metrics", "swd"))
    levels = levels_of(_group(last, "metrics"), "swd")
    return Measured(
        images=int(last["images"]),
        count=int(last[COUNT]) if number(last, COUNT) >= 1 else 0,
        levels=tuple(
            (level, number(last, "metrics", f"swd_{level}"), number(last, "metrics", f"swd_floor_{level}"))
            for level in levels
        ),
        average=(number(last, "metrics", "swd"), number(last, "metrics", "swd_floor")),
        best=(int(best["images"]), number(best, "metrics", "swd")),
    )


def number(row: Mapping[str, Any], *names: str) -> float:
    """The number that lies there, NaN where there is none or where it is not finite."""
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


def _group(row: Mapping[str, Any], group: str) -> Mapping[str, Any]:
    values = row.get(group)
    return values if isinstance(values, dict) else {}


def _median(rows: Sequence[Mapping[str, Any]], *names: str) -> float:
    known = [value for row in rows if not math.isnan(value := number(row, *names))]
    return statistics.median(known) if known else math.nan


def _peak(rows: Sequence[Mapping[str, Any]], name: str) -> float:
    return max((value for row in rows if not math.isnan(value := number(row, "memory", name))), default=math.nan)


def _stamped_lines(path: Path) -> Iterator[tuple[datetime.datetime, str]]:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return
    for line in lines:
        match = _STAMPED.fullmatch(line)
        if not match:
            continue
        try:
            yield datetime.datetime.strptime(match[1], "%Y-%m-%d %H:%M:%S"), match[2]
        except ValueError:
            continue
