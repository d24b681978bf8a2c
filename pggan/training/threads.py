"""How many threads compute on a CPU: as many as make steps fastest, measured where nobody has said.

Threads wait for each other several times in a step, and spin while they wait. Where other programs hold a core, two
threads can be fifty times slower than one.
"""

import math
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import click
import torch

from datatools.parallel import available_cores

MOST_THREADS = 1024
ROUNDS = 5
ENOUGH_SECONDS = 1.0
"""Measured time after which no further round begins, once there were two."""
HOPELESS = 3.0
"""A number of threads that is so many times slower than the fastest is measured no more."""
SETTING_UP = 0.5
"""Seconds that the first turn of a number of threads may take for setting things up."""
CLEARLY_FASTER = 0.9
"""Share of the time with fewer threads below which more threads are worth it: other programs may want the cores."""

_fixed = False  # whether the user has set the number of this process


def fastest(seconds: Callable[[int], float], candidates: Sequence[int]) -> int:
    """Return the number of threads that work takes the least time with.

    Args:
        seconds: takes a number of threads, does the work once, and returns the time.
        candidates: numbers of threads, ascending, at least one.

    They take turns, so that a disturbance hits all of them, and medians are compared. Fewer threads win a near tie.
    """
    if len(candidates) == 1:
        return candidates[0]
    times: dict[int, list[float]] = {number: [] for number in candidates}
    spent = 0.0
    for done in range(ROUNDS):
        if done >= 2 and spent >= ENOUGH_SECONDS:
            break
        for number in times:
            times[number].append(seconds(number))
            spent += times[number][-1]
        least = min(map(statistics.median, times.values()))
        limit = max(HOPELESS * least, 0.0 if done else SETTING_UP)
        times = {number: own for number, own in times.items() if min(own) <= limit}
        if len(times) == 1:
            break
    medians = {number: statistics.median(own) for number, own in times.items()}
    chosen = next(iter(medians))
    for number, median in medians.items():
        if median < CLEARLY_FASTER * medians[chosen]:
            chosen = number
    return chosen


def promising(seconds: Callable[[int], float], candidates: Sequence[int]) -> list[int]:
    """Return the candidates that do not crawl at a small part of the work, so that no time goes into those that do.

    Args:
        seconds: takes a number of threads, does a part of the work once, and returns the time.
        candidates: numbers of threads, at least one; the fastest is always kept.
    """
    if len(candidates) == 1:
        return list(candidates)
    turns = {number: [seconds(number) for _ in range(3)] for number in candidates}
    times = {number: sum(own[1:]) for number, own in turns.items()}  # the first turn sets things up
    return [number for number in candidates if times[number] <= HOPELESS * min(times.values())]


def candidates(processes: int = 1) -> tuple[int, ...]:
    """Return the numbers of threads to try, ascending: one, half and all cores of each of `processes` processes.

    `OMP_NUM_THREADS` or `threads_option`, where one is set, gives the only one: torch has it already.
    """
    if _fixed or os.environ.get("OMP_NUM_THREADS"):
        return (torch.get_num_threads(),)
    share = max(1, cores() // processes)
    return tuple(sorted({1, math.ceil(share / 2), share}))


def cores() -> int:
    """Return how many cores this process may use: torch's own number, its affinity and its cgroup's quota decide."""
    affinity = available_cores()
    return max(1, min(torch.get_num_threads(), affinity, math.ceil(min(cgroup_quota(), affinity))))


def cgroup_quota(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> float:
    """Return the CPU time per time that this process's cgroup (version 1 or 2) grants, infinity without a limit."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return math.inf
    unified = next((line.removeprefix("0::/") for line in lines if line.startswith("0::/")), "")
    folders = [root / unified, *(parent for parent in (root / unified).parents if parent.is_relative_to(root))]
    quota = min(_quota(folder, "cpu.max") for folder in folders)
    return min(quota, _quota(root / "cpu", "cpu.cfs_quota_us", "cpu.cfs_period_us"))


def _quota(folder: Path, *names: str) -> float:
    """Return the quota of "quota period" in these files, infinity where they are not there or set no limit."""
    try:
        quota, period = " ".join((folder / name).read_text() for name in names).split()
        return int(quota) / int(period) if int(quota) > 0 else math.inf
    except (OSError, ValueError):  # "max": no limit
        return math.inf


def use_fastest(work: Callable[[], object], processes: int = 1, part: Callable[[], object] | None = None) -> int:
    """Let torch compute with the number of threads that `work` takes the least time with; return it.

    Args:
        work: is done a few times. processes: share the cores. part: a small part of `work`, tried before it.
    """
    numbers: Sequence[int] = candidates(processes)
    if part is not None:
        numbers = promising(partial(_seconds, part), numbers)
    chosen = fastest(partial(_seconds, work), numbers)
    torch.set_num_threads(chosen)
    return chosen


def _seconds(work: Callable[[], object], number: int) -> float:
    torch.set_num_threads(number)
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


@contextmanager
def using(number: int | None) -> Iterator[None]:
    """Let torch compute with that many threads (None: as before) within the context, and as before afterwards."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(number or before)
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def fixed(number: int) -> Iterator[None]:
    """Let torch compute with that many threads within the context; no other numbers are tried."""
    global _fixed
    before = _fixed
    try:
        _fixed = True
        with using(number):
            yield
    finally:
        _fixed = before


def _fix(context: click.Context, _: click.Parameter, number: int | None) -> None:
    if number is not None:
        context.with_resource(fixed(number))


threads_option = click.option(
    "--threads",
    type=click.IntRange(1, MOST_THREADS),
    expose_value=False,
    callback=_fix,
    help="Threads for arithmetic on a CPU.  [default: torch's own number; for much work the fastest]",
)
"""The option of all commands that compute, but for training, whose runs keep their number."""
