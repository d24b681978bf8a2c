"""Before work starts: can the options lead to a file, will it fit on the disk, is no other build at work there."""

import os
import shutil
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import luigi.interface

from datatools.console import say
from datatools.errors import DataError
from datatools.faces.ranking import KNOWN_FLAWS_NAME, write_rejected_csv
from datatools.files import as_data_error, partial_path
from datatools.parallel import available_cores, check_processes
from datatools.pyramid import Pyramid
from datatools.pyramid.format import WITH_PLUGIN, load_plugin
from datatools.report.write import check_replaceable
from datatools.text import byte_size, counted
from pipelines.cleanup import forget
from pipelines.cluster import Cluster
from pipelines.face_search import FaceSearch
from pipelines.freshness import pyramid_is_fresh, scores_are_fresh
from pipelines.layout import BuildLayout
from pipelines.locks import Lock, lock_folder
from pipelines.options import RunOptions, check_values
from pipelines.unfinished import unfinished_path

_locks: dict[Path, Lock] = {}
"""Work folder -> its lock, kept for as long as this process lives."""

_shared: set[Path] = set()
"""Work folders that other processes may work in for the same build."""


class NoPhotosError(DataError):
    """No row, or too few, have a photo; the message says what was found."""


def check(layout: BuildLayout, run: RunOptions) -> None:
    """Raise DataError for options that cannot lead to a file. Where photos are missing, rejected.csv lists them."""
    check_values(run)
    try:
        check_options(layout)
    except NoPhotosError as error:
        raise DataError(f"{error}{'' if run.dry_run else _list_rejected(layout)}") from error
    jobs = job_count(layout, run)
    if cluster := cluster_of(run):
        cluster.check()
    elif run.workers > 1 or (jobs > 1 and layout.score_restorer.batch_size == 1):
        check_processes()


def check_search(layout: BuildLayout, search: FaceSearch, run: RunOptions) -> None:
    """Raise DataError for what cannot work, as far as it shows before faces are found."""
    check_values(run)
    check_values(layout)
    if layout.check_landmarks != "no":
        check(layout.unchecked, run)
        check_space(layout.unchecked)
    if search.source.batch_size > 1 and run.workers > 1:
        raise DataError(f"--device {layout.device} works in one process: leave --workers at 1; --jobs are threads")
    if run.workers > 1 or job_count(layout, run) > 1:
        check_processes()


def describe_search(layout: BuildLayout, search: FaceSearch) -> str:
    """Say in one line in how many photos faces are searched for, and why."""
    photos = f"{counted(len(search.undetected), 'photo')} to find faces in, by {search.source.name}"
    if layout.check_landmarks != "no":
        return f"{photos}, to check the landmarks"
    return f"{photos}; {search.found.table} will have them, to look at and correct"


def check_options(layout: BuildLayout) -> None:
    """Raise DataError for options that cannot lead to a file; of a few photos the size is read."""
    check_values(layout)
    _ = layout.levels
    if layout.compression in WITH_PLUGIN:
        load_plugin(layout.compression, layout.pyramid_path)
    _ = layout.restorer  # raises for an unknown name, a damaged file, a device that is not there
    needed, available = layout.needed_count, len(layout.usable)
    missing = layout.tree.describe_missing()
    if layout.listed is not None and layout.tree.records and not available:
        raise NoPhotosError(f"--ids {layout.ids}: none of its names is a photo of {layout.celeba_dir} to be used")
    if not layout.tree.records:
        raise NoPhotosError(missing or f"none of the rows of {layout.celeba_dir} can be used")
    if not available and (layout.selection == "all" or not needed):
        raise NoPhotosError(f"none of the rows of {layout.celeba_dir} has a photo to be used")
    if layout.selection == "official":
        if not available:
            reason = f"; {missing}" if missing else ""
            raise NoPhotosError(f"{layout.celeba_dir} has no photos of the published set to be used{reason}")
    elif available < needed:
        raise NoPhotosError(f"--count {layout.count}, but {layout.celeba_dir} has {_too_few(layout)}")
    layout.check_photos()


def _too_few(layout: BuildLayout) -> str:
    available = len(layout.usable)
    if not available:
        return f"no {layout.entries} that are not excluded"
    causes = "; ".join(filter(None, (layout.tree.describe_missing(), layout.tree.describe_unannotated())))
    rest = f"{causes}; or give" if causes else "give"
    which = " that are not excluded" if layout.excluded else ""
    return f"only {available} {layout.entries}{which}; {rest} --count {available}"


def _list_rejected(layout: BuildLayout) -> str:
    """Write rejected.csv when there is too little to build, over nothing of an earlier build; say where it is."""
    if layout.pyramid_path.exists() or not layout.early_rejections:
        return ""
    try:
        with closing(lock_output(layout)):
            forget(layout, "ranking")
            write_rejected_csv(layout.rejected_csv, layout.early_rejections)
    except (DataError, OSError):  # another build is running there, or the folder cannot be written
        return ""
    return f"; {layout.rejected_csv} lists the rejected entries"


def claim_output(layout: BuildLayout, *, candidates_are_known: bool = True, shared: bool = False) -> bool:
    """Check the output folder, say what is notable about the source, and lock the folder until this process ends.

    candidates_are_known: else space and source are left to `check_photos_fit`, after the search for faces.
    shared: let other processes that make the same build work in the folder, too.

    Returns whether this was done; False where this process holds the lock already.
    """
    if layout.work_dir in _locks:
        return False
    check_replaceable(layout.report_dir)
    if candidates_are_known:
        check_photos_fit(layout)
    _locks[layout.work_dir] = lock_output(layout, shared=shared)
    if shared:
        _shared.add(layout.work_dir)
    return True


def is_shared(layout: BuildLayout) -> bool:
    """Return whether this process, or the one that forked it, shares the build's work with others."""
    return layout.work_dir in _shared


def check_photos_fit(layout: BuildLayout) -> None:
    """Raise DataError when the build will not fit on the disk; say what is notable about the source."""
    check_space(layout)
    for note in notes(layout):
        say(note)


@dataclass(frozen=True)
class DiskNeed:
    """Bytes that a build takes: of the finished file, and at most while it is made."""

    finished: int
    peak: int


def image_bytes(layout: BuildLayout) -> int:
    """Return the bytes of one image with all its levels."""
    return 3 * sum(level * level for level in layout.levels)


def disk_need(layout: BuildLayout) -> DiskNeed:
    """Return an upper bound of the bytes, for uncompressed levels."""
    file_bytes = layout.chosen_count * image_bytes(layout)
    kept = len(layout.candidates) * 3 * layout.resolution**2 if layout.keep_faces else 0
    return DiskNeed(file_bytes, file_bytes + bytes_besides(layout) + kept)


def bytes_besides(layout: BuildLayout) -> int:
    """Return the bytes that the work takes at most besides finished build shards.

    The join takes those of one shard, because it frees them one by one. Before, every worker has the faces of an
    unfinished shard.
    """
    shard, workers = layout.faces_of_shard(0), min(luigi.interface.core().workers, layout.build_shards)
    return max(image_bytes(layout) * shard, workers * 3 * layout.resolution**2 * shard)


def still_needed(layout: BuildLayout) -> int:
    """Return the bytes of `disk_need` that this build will yet claim, given what an earlier run has finished."""
    if pyramid_is_fresh(layout):
        return 0
    need = bytes_besides(layout)
    # What an earlier run left will be continued, removed, or written over.
    unfinished = [*layout.work_dir.glob("*/.*.partial")]
    for index in range(layout.build_shards):
        if not layout.shard_exists(index):
            need += image_bytes(layout) * layout.faces_of_shard(index)
            unfinished.append(unfinished_path(layout.build_path(index).with_suffix(".rgb")))
    for index in range(layout.score_shards if layout.keep_faces else 0):
        if not scores_are_fresh(layout, index):
            need += 3 * layout.resolution**2 * len(layout.shard_candidates(index))
            unfinished.append(unfinished_path(layout.faces_path(index)))
    return max(need - sum(path.stat().st_size for path in unfinished if path.exists()), 0)


def free_space(folder: Path) -> int:
    """Return the free bytes on the disk where `folder` is, or will be."""
    with as_data_error(f"--output-dir {folder}", "used"):
        existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        usage = shutil.disk_usage(existing)
    if not usage.total:
        raise DataError(f"--output-dir {folder}: cannot be used: {existing} reports no size; choose another folder")
    return usage.free


def check_space(layout: BuildLayout) -> None:
    """Raise DataError when the build will not fit on the disk; writes nothing."""
    need, free = still_needed(layout), free_space(layout.output_dir)
    if need > free:
        raise DataError(
            f"--output-dir {layout.output_dir}: the build needs up to {byte_size(need)} of free disk, there are "
            f"{byte_size(free)}; free some, choose another folder, or lower --count or --resolution"
        )


def lock_output(layout: BuildLayout, *, shared: bool = False) -> Lock:
    """Make the output folder, and lock it until the returned lock is closed: at most until the process ends.

    Raises DataError when another build holds it, or it cannot be written.
    """
    probe = partial_path(layout.output_dir / f"write-test-{os.getpid()}")
    with as_data_error(f"--output-dir {layout.output_dir}"):
        layout.work_dir.mkdir(parents=True, exist_ok=True)
        lock = lock_folder(layout.work_dir / "lock", layout.output_dir, layout.identity if shared else None)
        probe.write_bytes(b"x")
        probe.unlink()
    return lock


def notes(layout: BuildLayout) -> list[str]:
    """Return what a build should say about its source: photos that are missing or have another format, exclusions."""
    lines = [layout.tree.describe_missing(), layout.tree.describe_unannotated()]
    converted = layout.tree.converted
    if converted:
        lines.append(
            f"{counted(len(converted), 'photo')} found under another ending than in the annotations, "
            f"such as {converted[0].path.name} for {converted[0].file_name}: used, but not CelebA's own files"
        )
    lines += layout.tree.notes
    there, wanted = len(layout.usable), layout.needed_count
    if layout.selection == "official" and there < wanted:
        lines.append(f"{there} of the {wanted} wanted photos of the published set are there")
    if layout.excluded:
        lines.append(describe_names(layout, layout.excluded, "--exclude", layout.exclude))
    if layout.listed is not None:
        lines.append(describe_names(layout, layout.listed, "--ids", layout.ids))
    lines.append(describe_replaced(layout))
    return [line for line in lines if line]


def describe_replaced(layout: BuildLayout) -> str:
    """Say in one line that the build will replace a file that holds something else; "" where it will not."""
    path = layout.pyramid_path
    if not path.exists() or pyramid_is_fresh(layout):
        return ""
    try:
        with Pyramid(path) as pyramid:
            old = pyramid.settings
    except DataError:
        return f"{path} is not a complete pyramid file and will be replaced"
    if "selection" not in old:
        return f"{path} holds a pyramid of another source and will be replaced"
    new, shown = layout.as_attributes(), [*layout.stored(), "excluded"]
    differing = [
        f"{name.replace('_', ' ')} {old[name] or 'none'}" for name in shown if name in old and old[name] != new[name]
    ]
    if not differing:
        return f"{path} holds a build of other photos, annotations, weights or versions and will be replaced"
    return f"{path} holds a build with other settings ({', '.join(differing)}) and will be replaced"


def describe_names(layout: BuildLayout, names: frozenset[str], option: str, source: str) -> str:
    """Say how many of the names in --exclude or --ids are photos, with examples of those that are not."""
    unknown = sorted(names - {record.file_name for record in layout.tree.records})
    known = len(names) - len(unknown)
    count, are = counted(len(names), "name"), "is a photo" if known == 1 else "are photos"
    text = f"{known} of {count} in {option} {source} {are} of {layout.celeba_dir}"
    # not every photo of the known flaws has to be there
    if unknown and source != KNOWN_FLAWS_NAME:
        text += f"; not so {', '.join(unknown[:3])}{' ...' if len(unknown) > 3 else ''}"
    return text


def cluster_of(run: RunOptions) -> Cluster | None:
    """Return the cluster that works on photos; None where this machine does. Raises DataError for half an address."""
    if run.engine == "dask":
        if not run.dask_scheduler:
            raise DataError("--engine dask: give the address of its scheduler, --dask-scheduler tcp://host:8786")
        return Cluster(run.dask_scheduler, run.ship_bytes)
    if run.dask_scheduler or run.ship_bytes:
        raise DataError(f"{'--dask-scheduler' if run.dask_scheduler else '--ship-bytes'} is for --engine dask")
    return None


def job_count(layout: BuildLayout, run: RunOptions) -> int:
    """Return the processes per shard, by default so many that the shards side by side fill the machine.

    With a GPU that restores photos together, return the threads of its one process.
    """
    if layout.restorer.batch_size > 1 and run.workers > 1:
        raise DataError(f"--device {layout.device} works in one process: leave --workers at 1; --jobs are threads")
    return run.jobs or max(available_cores() // run.workers, 1)
