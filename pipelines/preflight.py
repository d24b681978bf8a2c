"""Before work starts: is everything there, will it fit, how long will it take."""

import fcntl
import re
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from datatools.console import say
from datatools.errors import DataError
from datatools.faces.ranking import KNOWN_FLAWS_NAME, required_count
from datatools.files import as_data_error, partial_path
from datatools.parallel import available_cores
from datatools.progress import Progress
from datatools.pyramid import Pyramid
from datatools.pyramid.levels import level_resolutions
from datatools.restore import Restorer
from datatools.text import byte_size, counted, duration
from pipelines.freshness import pyramid_is_fresh, scores_are_fresh
from pipelines.settings import BuildSettings
from pipelines.shards import PhotoScorer, Recipe, map_photos
from pipelines.unfinished import unfinished_path

SHOWN = (
    *("selection", "count", "resolution", "restore", "super_resolution", "score_on", "final_filter", "compression"),
    *("min_level", "order", "duplicates", "exclude", "excluded"),
)
"""Settings that a file carries which are worth naming where it will be replaced."""

TRIAL_PHOTOS = 6
"""Photos that `--dry-run` really makes, to estimate the time."""

LOCK_PATIENCE = 3.0
"""Seconds to wait for the lock of another build, which may have been killed just now."""

_SHARD = r"\d{5}-[0-9a-f]{16}"
LEFTOVERS = {
    "": r"(ranking|verified|reported|finished)-[0-9a-f]{16}\.json|\..*-[0-9a-f]{16}\.json\.partial",
    "scores": rf"\.{_SHARD}\.(npz|json|csv|stamps)\.partial|\.{_SHARD}\.npz\.unfinished|{_SHARD}\.csv",
    "faces": rf"{_SHARD}-\d+\.rgb|\.{_SHARD}-\d+\.rgb\.(partial|unfinished)",
    "build": rf"{_SHARD}\.h5|\.{_SHARD}\.(h5|rgb)\.(partial|unfinished)",
    "times": r"\.?[A-Za-z]+-[0-9a-f]{10}\.(json|csv)(\.partial)?",
}
"""Folder in the work folder -> names of files in it that a finished build no longer needs.

Timings were .csv files in versions before."""


@dataclass(frozen=True)
class DiskNeed:
    """Bytes that a build takes: of the finished file, and at most while it is made."""

    finished: int
    peak: int


def image_bytes(settings: BuildSettings) -> int:
    """Bytes of one image with all its levels."""
    return 3 * sum(level * level for level in level_resolutions(settings.resolution, settings.min_level))


def disk_need(settings: BuildSettings) -> DiskNeed:
    """Upper bound, for uncompressed levels."""
    file_bytes = settings.chosen_count * image_bytes(settings)
    kept = len(settings.candidates) * 3 * settings.resolution**2 if settings.keep_faces else 0
    # Shards and the finished file lie side by side until the join is done. Faces of unfinished build shards are smaller
    # than the finished file, which comes after them.
    return DiskNeed(file_bytes, 2 * file_bytes + kept)


def still_needed(settings: BuildSettings) -> int:
    """Bytes of `disk_need` that this build will yet claim, given what an earlier run has finished."""
    if pyramid_is_fresh(settings):
        return 0
    size, need = settings.shard_size, disk_need(settings).finished
    # What an earlier run left will be continued, removed, or written over.
    unfinished = [partial_path(settings.pyramid_path), *settings.work_dir.glob("*/.*.partial")]
    for index in range(settings.build_shards):
        path = settings.build_path(index)
        if not path.exists():
            need += image_bytes(settings) * min(size, settings.chosen_count - index * size)
            unfinished.append(unfinished_path(path.with_suffix(".rgb")))
    for index in range(settings.score_shards if settings.keep_faces else 0):
        if not scores_are_fresh(settings, index):
            need += 3 * settings.resolution**2 * len(settings.shard_candidates(index))
            unfinished.append(unfinished_path(settings.faces_path(index)))
    return max(need - sum(path.stat().st_size for path in unfinished if path.exists()), 0)


def free_space(folder: Path) -> int:
    """Free bytes on the disk where `folder` is, or will be."""
    with as_data_error(f"--output-dir {folder}", "used"):
        existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        usage = shutil.disk_usage(existing)
    if not usage.total:
        raise DataError(f"--output-dir {folder}: cannot be used: {existing} tells no size; choose another folder")
    return usage.free


def check_space(settings: BuildSettings) -> None:
    """Raise DataError when the build will not fit on the disk; writes nothing."""
    need, free = still_needed(settings), free_space(settings.output_dir)
    if need > free:
        raise DataError(
            f"--output-dir {settings.output_dir}: the build needs up to {byte_size(need)} of free disk, there are "
            f"{byte_size(free)}; free some, choose another folder, or lower --count or --resolution"
        )


def lock_output(settings: BuildSettings) -> IO[bytes]:
    """Make the output folder and keep other builds away from it while the returned file is open (the system releases
    it when the process ends, however). Raises DataError when another build holds it, or it cannot be written."""
    probe = partial_path(settings.output_dir / "write-test")
    with as_data_error(f"--output-dir {settings.output_dir}"):
        settings.work_dir.mkdir(parents=True, exist_ok=True)
        stream = (settings.work_dir / "lock").open("ab")
        if not _locked(stream):
            stream.close()
            raise DataError(f"another build is running in {settings.output_dir}; wait for it or choose another folder")
        probe.write_bytes(b"x")
        probe.unlink()
    return stream


def _locked(stream: IO[bytes]) -> bool:
    """Whether the file could be locked, within the time that the processes of a killed build may need to end."""
    deadline = time.monotonic() + LOCK_PATIENCE
    while True:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.1)
        except OSError:
            return True  # some network file systems know no locks
        else:
            return True


def describe_plan(settings: BuildSettings, jobs: int) -> str:
    """What a build would do, in a few lines; makes a few faces to estimate the time."""
    candidates = settings.candidates
    scored, made, again = _finished(settings)
    scoring, score_time = _estimate(
        "scoring", settings, settings.score_restorer, len(candidates) - scored, scored, jobs
    )
    making, make_time = (
        (0.0, "kept from scoring")
        if settings.keep_faces and not again
        else _estimate("making", settings, settings.restorer, again, made, jobs)
    )
    need = disk_need(settings)
    published = sum(record.celebahq_index >= 0 for record in candidates)
    lines = [
        f"source        {settings.celeba_dir}: {counted(len(settings.tree.records), 'photo')} with landmarks, "
        f"{counted(len(settings.early_rejections), 'entry')} rejected or excluded before any photo is opened",
        f"selection     {settings.selection}: {counted(len(candidates), 'candidate')} "
        f"({published:,} of them in the published set), {settings.chosen_count:,} to be chosen",
        *(f"note          {note}" for note in notes(settings)),
        f"recipe        restore {settings.restore}, score on {settings.score_on}, "
        f"final filter {settings.final_filter}, "
        f"{settings.resolution} x {settings.resolution} down to {settings.min_level} x {settings.min_level}",
        f"work          {counted(settings.score_shards, 'score shard')}, "
        f"{counted(settings.build_shards, 'build shard')} of at most {counted(settings.shard_size, 'photo')}; "
        f"faces of the first pass are {'kept' if settings.keep_faces else 'made again'}",
        f"finished      {scored:,} of {counted(len(candidates), 'photo')} scored, "
        f"{made:,} of {counted(settings.chosen_count, 'face')} made",
        f"disk          {byte_size(need.finished)} for {settings.pyramid_path} (before compression), "
        f"{byte_size(need.peak)} at most while building, {byte_size(free_space(settings.output_dir))} free",
        f"time          about {duration(scoring + making)}, plus copying {byte_size(need.finished)}",
        f"  scores      {score_time}",
        f"  faces       {make_time}",
    ]
    return "\n".join(lines)


def notes(settings: BuildSettings) -> list[str]:
    """What a build should say about its source: photos that are missing or have another format, exclusions."""
    lines = [settings.tree.describe_missing(), settings.tree.describe_unannotated()]
    converted = settings.tree.converted
    if converted:
        lines.append(
            f"{counted(len(converted), 'photo')} found under another ending than in the annotations, "
            f"such as {converted[0].path.name} for {converted[0].file_name}: used, but not CelebA's own files"
        )
    wanted = required_count(settings.selection, settings.count, settings.excluded)
    if settings.selection == "official" and len(settings.candidates) < wanted:
        lines.append(f"{len(settings.candidates)} of the {wanted} wanted photos of the published set are there")
    if settings.excluded:
        lines.append(describe_exclusions(settings))
    lines.append(describe_replaced(settings))
    return [line for line in lines if line]


def describe_replaced(settings: BuildSettings) -> str:
    """Say in one line that the build will replace a file that holds something else; "" where it will not."""
    path = settings.pyramid_path
    if not path.exists() or pyramid_is_fresh(settings):
        return ""
    try:
        with Pyramid(path) as pyramid:
            old = pyramid.settings
    except DataError:
        return f"{path} is no complete pyramid file and will be replaced"
    if "selection" not in old:
        return f"{path} holds a pyramid of another source and will be replaced"
    new = settings.as_attributes()
    differing = [
        f"{name.replace('_', ' ')} {old[name] or 'none'}" for name in SHOWN if name in old and old[name] != new[name]
    ]
    if not differing:
        return f"{path} holds a build of other photos, annotations, weights or versions and will be replaced"
    return f"{path} holds a build with other settings ({', '.join(differing)}) and will be replaced"


def _finished(settings: BuildSettings) -> tuple[int, int, int]:
    """Return how many photos are scored and faces made by an earlier run, and how many faces photos must yet give."""
    chosen, size = settings.chosen_count, settings.shard_size
    if pyramid_is_fresh(settings):
        return len(settings.candidates), chosen, 0
    made = sum(
        min(size, chosen - i * size) if (path := settings.build_path(i)).exists() else _kept_rows(path)
        for i in range(settings.build_shards)
    )
    scored = kept = 0
    for index in range(settings.score_shards):
        photos = len(settings.shard_candidates(index))
        there = scores_are_fresh(settings, index)
        made *= there or not settings.score_path(index).exists()  # of a ranking that will be another
        scored += photos if there else _kept_rows(settings.score_path(index))
        kept += photos * (settings.keep_faces and (not there or settings.faces_path(index).exists()))
    # Which photos will be chosen is not known: as many of every shard, as far as this knows.
    return scored, made, round((chosen - made) * (1 - kept / len(settings.candidates)))


def _kept_rows(path: Path) -> int:
    """Return how many photos an interrupted run has kept of a shard."""
    unfinished = unfinished_path(path)
    return unfinished.read_bytes().count(b"\n") if unfinished.exists() else 0


def _estimate(
    what: str, settings: BuildSettings, restorer: Restorer, photos: int, finished: int, jobs: int
) -> tuple[float, str]:
    """Return the seconds that a pass over `photos` photos will take, and the line that says so, after a trial."""
    if not photos:
        return 0.0, "the one is there" if finished == 1 else f"all {finished:,} are there"
    candidates = settings.candidates
    trial = candidates[:: max(len(candidates) // TRIAL_PHOTOS, 1)][:TRIAL_PHOTOS]
    scorer = PhotoScorer(Recipe(restorer, settings.final_filter, settings.resolution), keep_face=True)
    grouped = restorer.batch_size > 1
    say(f"trial: {what} {counted(len(trial), 'photo')}, to estimate the time", sys.stderr)
    with Progress("trial", len(trial) + 1, "photo") as progress:
        for _ in map_photos(scorer, trial[:1], jobs if grouped else 1):  # the first call loads and warms up
            progress(1)
        start = time.perf_counter()
        for _ in map_photos(scorer, trial, jobs if grouped else 1):
            progress(1)
    per_photo = (time.perf_counter() - start) / len(trial)
    spread, workers = (1, counted(jobs, "thread")) if grouped else (jobs, counted(jobs, "process", "processes"))
    seconds = per_photo * photos / spread
    rate = f"{per_photo:.3f} s per photo in a trial of {len(trial)}"
    return seconds, f"{photos:,} in {duration(seconds)} with {workers} ({rate})"


def describe_exclusions(settings: BuildSettings) -> str:
    """How many of the names in --exclude are photos, and examples of those that are not."""
    unknown = sorted(settings.excluded - {record.file_name for record in settings.tree.records})
    known = len(settings.excluded) - len(unknown)
    names, are = counted(len(settings.excluded), "name"), "is a photo" if known == 1 else "are photos"
    text = f"{known} of {names} in --exclude {settings.exclude} {are} of {settings.celeba_dir}"
    # not every photo of the known flaws has to be there
    if unknown and settings.exclude != KNOWN_FLAWS_NAME:
        text += f"; not so {', '.join(unknown[:3])}{' ...' if len(unknown) > 3 else ''}"
    return text


def count_jobs(workers: int) -> int:
    """Processes per shard so that `workers` shards at a time fill the machine."""
    return max(available_cores() // max(workers, 1), 1)


def leftovers(settings: BuildSettings) -> list[Path]:
    """List the files that a finished build no longer needs; scores stay, so that other choices are cheap.

    The output folder may be any, and hold a folder "work" of the user's: nothing is listed but files with our names.
    """
    needed = {settings.ranking_path, settings.marker("verified"), settings.marker("reported")}
    files = [partial_path(settings.output_dir / name) for name in ("celebahq.h5", "ranking.csv", "rejected.csv")]
    for name, pattern in LEFTOVERS.items():
        files += [path for path in (settings.work_dir / name).glob("*") if re.fullmatch(pattern, path.name)]
    return [path for path in files if path not in needed and path.exists()]


def clean_up(settings: BuildSettings) -> None:
    """Remove the leftovers of a finished build, and folders that are empty without them."""
    for path in leftovers(settings):
        path.unlink()
    for name in filter(None, LEFTOVERS):
        folder = settings.work_dir / name
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
