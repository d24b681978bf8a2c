"""`--dry-run`: what a build would do, with disk and time, which a few photos are made to estimate."""

import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

from datatools.console import check_printed, say
from datatools.progress import Progress
from datatools.restore import Restorer
from datatools.text import byte_size, counted, duration
from pipelines.face_search import FaceSearch
from pipelines.find_faces import FaceFinder, map_finder
from pipelines.finished_faces import FinishedFaces
from pipelines.freshness import pyramid_is_fresh, scores_are_fresh
from pipelines.layout import BuildLayout
from pipelines.photo_work import FaceMaker, map_photos
from pipelines.preflight import check_space, disk_need, free_space, notes
from pipelines.unfinished import unfinished_path

Item = TypeVar("Item")
Work = Callable[[Sequence[Any], int], Generator[Any, None, None]]
"""Photos and number of processes -> a result for each."""

TRIAL_PHOTOS = 6
"""Photos that `--dry-run` really makes, to estimate the time."""

TRIAL_SECONDS = 60.0
"""A trial ends after the photo with which this is over, the second at the earliest."""


def print_plan(layout: BuildLayout, jobs: int) -> None:
    """Print the plan. Raises DataError when it could not be printed, or the build will not fit on the disk."""
    search = layout.search
    if search is None or search.is_done:
        say(describe_plan(layout, jobs))
    else:
        say(describe_find_time(search, jobs))
        if layout.check_landmarks == "no":
            say("how many faces there are to make is known once they were found: run without --dry-run")
            check_printed()
            return
        layout = layout.unchecked
        say(describe_plan(layout, jobs))
    check_printed()
    check_space(layout)


def describe_find_time(search: FaceSearch, jobs: int) -> str:
    """Return in one line how long the search for faces will take; looks at a few photos to estimate that."""
    finder, names = FaceFinder(search.source, search.own), search.undetected
    items = [(name, search.photos[name]) for name in spread(names)]
    say(f"trial: finding faces in {counted(len(items), 'photo')}, to estimate the time", sys.stderr)
    _, line = _estimated(lambda part, n: map_finder(finder, part, n), items, len(names), jobs, search.source.batch_size)
    return f"find faces    {line}"


def describe_plan(layout: BuildLayout, jobs: int) -> str:
    """Return what a build would do, in a few lines; makes a few faces to estimate the time."""
    candidates = layout.usable
    scored, made, again, copied = _finished(layout)
    scoring, score_time = _estimate("scoring", layout, layout.score_restorer, len(candidates) - scored, scored, jobs)
    making, make_time = (
        (0.0, "kept from scoring")
        if layout.keep_faces and not again + copied
        else _estimate("making", layout, layout.restorer, again, made + copied, jobs)
    )
    need = disk_need(layout)
    rejected = sum(not rejection.kind.is_used for rejection in layout.early_rejections)
    published = sum(record.celebahq_index >= 0 for record in candidates)
    lines = [
        f"source        {layout.celeba_dir}: {counted(len(layout.tree.records), 'photo')} with landmarks, "
        f"{counted(rejected, 'entry')} rejected or excluded before any photo is opened",
        f"selection     {layout.selection}: {counted(len(candidates), 'candidate')} "
        f"({published:,} of them in the published set), {layout.chosen_count:,} to be chosen",
        *(f"note          {note}" for note in notes(layout)),
        f"recipe        restore {layout.restore}, score on {layout.score_on}, "
        f"final filter {layout.final_filter}, "
        f"levels {', '.join(map(str, layout.levels))}",
        f"work          {counted(layout.score_shards, 'score shard')}, "
        f"{counted(layout.build_shards, 'build shard')} of at most {counted(layout.shard_size, 'photo')}; "
        f"faces of the first pass are {'kept' if layout.keep_faces else 'made again'}",
        f"finished      {scored:,} of {counted(len(candidates), 'photo')} scored, "
        f"{made:,} of {counted(layout.chosen_count, 'face')} made"
        + (f", about {copied:,} will be copied from {layout.pyramid_path}" if copied else ""),
        f"disk          {byte_size(need.finished)} for {layout.pyramid_path} (before compression), "
        f"{byte_size(need.peak)} at most while building, {byte_size(free_space(layout.output_dir))} free",
        f"time          about {duration(scoring + making)}, plus copying {byte_size(need.finished)}",
        f"  scores      {score_time}",
        f"  faces       {make_time}",
    ]
    return "\n".join(lines)


def _finished(layout: BuildLayout) -> tuple[int, int, int, int]:
    """Return how many photos are scored, faces made, faces yet to be made of photos, and faces that can be copied."""
    chosen = layout.chosen_count
    if pyramid_is_fresh(layout):
        return len(layout.usable), chosen, 0, 0
    made = sum(
        layout.faces_of_shard(i) if layout.shard_exists(i) else _kept_rows(layout.build_path(i))
        for i in range(layout.build_shards)
    )
    scored = kept = 0
    for index in range(layout.score_shards):
        photos = sum(record.file_name not in layout.excluded for record in layout.shard_candidates(index))
        there = scores_are_fresh(layout, index)
        made *= there or not layout.score_path(index).exists()  # of a ranking that will be another
        scored += photos if there else min(_kept_rows(layout.score_path(index)), photos)
        kept += photos * (layout.keep_faces and (not there or layout.faces_path(index).exists()))
    # Which photos will be chosen is not known: as many of every shard, as far as this knows.
    again = round((chosen - made) * (1 - kept / len(layout.usable)))
    with closing(FinishedFaces(layout)) as finished:
        copied = min(again, len(finished.faces & {(record.photo_name, record.face) for record in layout.usable}))
    return scored, made, again - copied, copied


def _kept_rows(path: Path) -> int:
    """Return how many photos an interrupted run has kept of a shard."""
    unfinished = unfinished_path(path)
    return unfinished.read_bytes().count(b"\n") if unfinished.exists() else 0


def _estimate(
    what: str, layout: BuildLayout, restorer: Restorer, photos: int, finished: int, jobs: int
) -> tuple[float, str]:
    """Return the seconds that a pass over `photos` photos will take, and the line that says so, after a trial."""
    if not photos:
        return 0.0, "the one is there" if finished == 1 else f"all {finished:,} are there"
    make = FaceMaker(restorer, layout.final_filter, layout.resolution, scores=True)
    trial = spread(layout.usable)
    say(f"trial: {what} {counted(len(trial), 'photo')}, to estimate the time", sys.stderr)
    return _estimated(lambda part, n: map_photos(make, part, n), trial, photos, jobs, restorer.batch_size)


def spread(photos: Sequence[Item]) -> Sequence[Item]:
    """Return a few of the photos, spread over all."""
    return photos[:: max(len(photos) // TRIAL_PHOTOS, 1)][:TRIAL_PHOTOS]


def _estimated(work: Work, trial: Sequence[Any], photos: int, jobs: int, batch_size: int) -> tuple[float, str]:
    """Return the seconds that work on so many photos will take, and the line that says so; does it on a few."""
    grouped = batch_size > 1
    per_photo, tried = _time_photos(work, trial, jobs if grouped else 1)
    spread_over, workers = (1, counted(jobs, "thread")) if grouped else (jobs, counted(jobs, "process", "processes"))
    seconds = per_photo * photos / spread_over
    rate = f"{per_photo:.3f} s per photo in a trial of {tried}"
    return seconds, f"{photos:,} in {duration(seconds)} with {workers} ({rate})"


def _time_photos(work: Work, trial: Sequence[Any], jobs: int) -> tuple[float, int]:
    """Return the seconds per photo, and how many photos were made to find out."""
    with Progress("trial", len(trial) + 1, "photo") as progress:
        begin = time.perf_counter()
        for _ in work(trial[:1], jobs):
            progress(1)
        start, done = time.perf_counter(), 0
        if start - begin >= TRIAL_SECONDS / TRIAL_PHOTOS:  # then the photo took the time, not loading and warming up
            start, done = begin, 1
        with closing(work(trial[done:], jobs)) as results:
            for _ in results:
                progress(1)
                done += 1
                if done > 1 and time.perf_counter() - begin >= TRIAL_SECONDS:
                    break
        return (time.perf_counter() - start) / done, done
