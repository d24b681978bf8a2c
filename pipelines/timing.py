"""How long the stages of a build took, one small JSON file per task, for the report."""

import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from datatools.files import atomic_path
from datatools.report.summary import StageTime


@contextmanager
def stopwatch(path: Path, stage: str, images: int) -> Iterator[Callable[[float], None]]:
    """Write how long the body took, for the report; nothing when it fails.

    Yields a function that adds seconds of earlier runs.
    """
    earlier: list[float] = []
    start = time.perf_counter()
    yield earlier.append
    seconds = time.perf_counter() - start + sum(earlier)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        timing = {"stage": stage, "seconds": round(seconds, 3), "images": images}
        temporary.write_text(json.dumps(timing) + "\n", encoding="utf-8")


def read_timings(paths: Iterable[Path]) -> tuple[StageTime, ...]:
    """Return the seconds of work per stage, as far as files are there; shards that ran side by side are added up."""
    totals: dict[str, tuple[float, int]] = {}
    for path in paths:
        if path.exists():
            timing = json.loads(path.read_text(encoding="utf-8"))
            seconds, images = totals.get(timing["stage"], (0.0, 0))
            totals[timing["stage"]] = (seconds + timing["seconds"], images + timing["images"])
    return tuple(StageTime(stage, seconds, images) for stage, (seconds, images) in totals.items())
