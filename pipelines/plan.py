"""Before work starts: is everything there, will it fit, how long will it take."""

import fcntl
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from datatools.errors import DataError
from datatools.pyramid_levels import level_resolutions
from pipelines.settings import BuildSettings
from pipelines.shards import PhotoScorer, Recipe

TRIAL_PHOTOS = 6
"""Photos that `--dry-run` really makes, to estimate the time."""


@dataclass(frozen=True)
class DiskNeed:
    """Bytes that a build takes: of the finished file, and at most while it is made."""

    finished: int
    peak: int


def disk_need(settings: BuildSettings) -> DiskNeed:
    """Upper bound, for uncompressed levels."""
    levels = level_resolutions(settings.resolution, settings.min_level)
    file_bytes = settings.chosen_count * 3 * sum(level * level for level in levels)
    kept = len(settings.candidates) * 3 * settings.resolution**2 if settings.keep_faces else 0
    # Shards and the finished file lie side by side until the join is done.
    return DiskNeed(file_bytes, 2 * file_bytes + kept)


def existing_work(settings: BuildSettings) -> int:
    """Bytes of shards that an earlier run left; they are part of the peak."""
    if not settings.work_dir.is_dir():
        return 0
    return sum(entry.stat().st_size for entry in settings.work_dir.rglob("*") if entry.is_file())


def check_output(settings: BuildSettings) -> None:
    """Raise DataError when the output folder cannot be written, or the build will not fit on its disk."""
    folder = settings.output_dir
    probe = folder / ".write-test.partial"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"x")
        probe.unlink()
    except OSError as error:
        raise DataError(f"--output-dir {folder} cannot be written: {error.strerror or error}") from error
    need = max(disk_need(settings).peak - existing_work(settings), 0)
    free = shutil.disk_usage(folder).free
    if need > free:
        raise DataError(
            f"--output-dir {folder}: the build needs up to {gigabytes(need)} of free disk, "
            f"there are {gigabytes(free)}; free some, choose another folder, or lower --count or --resolution"
        )


def lock_output(settings: BuildSettings) -> IO[bytes]:
    """Keep other builds away from this output folder while the returned file is open (also after a crash: the system
    releases it). Raises DataError when another build holds it."""
    settings.work_dir.mkdir(parents=True, exist_ok=True)
    stream = (settings.work_dir / "lock").open("ab")
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        stream.close()
        raise DataError(
            f"another build is running in {settings.output_dir}; wait for it or choose another folder"
        ) from error
    return stream


def gigabytes(size: int) -> str:
    """For people: 12.3 GB."""
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"


def duration(seconds: float) -> str:
    """For people: 2 h 05 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def describe_plan(settings: BuildSettings, jobs: int) -> str:
    """What a build would do, in a few lines; makes a few faces to estimate the time."""
    candidates = settings.candidates
    step = max(len(candidates) // TRIAL_PHOTOS, 1)
    scorer = PhotoScorer(Recipe(settings.restorer, settings.final_filter, settings.resolution), keep_face=True)
    trial = candidates[::step][:TRIAL_PHOTOS]
    scorer(trial[0])  # the first call loads and warms up
    start = time.perf_counter()
    for record in trial:
        scorer(record)
    per_photo = (time.perf_counter() - start) / len(trial)
    second_pass = 0 if settings.keep_faces else settings.chosen_count
    need = disk_need(settings)
    published = sum(record.celebahq_index >= 0 for record in candidates)
    lines = [
        f"source        {settings.celeba_dir}: {len(settings.tree.records)} photos with landmarks, "
        f"{len(settings.early_rejections)} entries rejected or excluded before any photo is opened",
        f"selection     {settings.selection}: {len(candidates)} candidates ({published} of them in the published set), "
        f"{settings.chosen_count} to be chosen",
        f"recipe        restore {settings.restore}, final filter {settings.final_filter}, "
        f"{settings.resolution} x {settings.resolution} down to {settings.min_level} x {settings.min_level}",
        f"work          {settings.score_shards} score shards, {settings.build_shards} build shards of at most "
        f"{settings.shard_size} photos; faces of the first pass are {'kept' if settings.keep_faces else 'made again'}",
        f"disk          {gigabytes(need.finished)} for {settings.pyramid_path} (before compression), "
        f"{gigabytes(need.peak)} at most while building, {gigabytes(shutil.disk_usage(settings.output_dir).free)} free",
        f"time          about {duration(per_photo * (len(candidates) + second_pass) / jobs)} with {jobs} processes "
        f"({per_photo:.3f} s per photo in a trial of {len(trial)}), plus copying {gigabytes(need.finished)}",
    ]
    return "\n".join(lines)


def count_jobs(workers: int) -> int:
    """Processes per shard so that `workers` shards at a time fill the machine."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(available // max(workers, 1), 1)


def clean_up(settings: BuildSettings, keep: set[Path]) -> None:
    """Remove from the work folder what a finished build no longer needs; scores stay, so that other choices are cheap.

    Args:
        keep: files to leave although they are no scores.
    """
    for path in sorted(settings.work_dir.rglob("*"), reverse=True):
        is_score = path.parent.name == "scores" and path.suffix == ".npz"
        if path.is_dir():
            if not any(path.iterdir()):
                path.rmdir()
        elif not is_score and path not in keep:
            path.unlink()
