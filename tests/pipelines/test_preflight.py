"""`pipelines.preflight`: disk need, the lock, cleaning up."""

import os
import shutil
import subprocess
import sys
from collections import namedtuple
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import h5py
import luigi
import pytest

from datatools.errors import DataError
from datatools.sources.records import FaceRecord
from pipelines.cleanup import clean_up
from pipelines.dry_run import describe_plan
from pipelines.layout import BuildLayout
from pipelines.preflight import (
    check_space,
    count_jobs,
    describe_replaced,
    disk_need,
    free_space,
    lock_output,
    notes,
    still_needed,
)
from pipelines.score_shard import PhotoScorer
from pipelines.tasks import BuildCelebAHQ
from pipelines.unfinished import unfinished_path
from tests.support.builds import CHOSEN, environment, file_names

IMAGE = 3 * sum(4**power for power in range(2, 9))
"""Bytes of one image at 256, 128 ... 4."""

FACE = 3 * 256 * 256


@pytest.fixture
def settings(tiny_tree: Path, tmp_path: Path) -> BuildLayout:
    return BuildLayout(tiny_tree, tmp_path / "out", count=CHOSEN, shard_size=3, resolution=256, restore="none")


def write(path: Path, size: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))


def test_disk_need(settings: BuildLayout, finished_build: Path) -> None:
    need = disk_need(settings)
    assert need.finished == CHOSEN * IMAGE
    assert need.peak == 2 * CHOSEN * IMAGE + 8 * FACE
    size = (finished_build / "celebahq.h5").stat().st_size
    assert need.finished <= size < need.finished + 100_000  # tables come on top
    few = replace(settings, count=2)  # faces are not kept
    assert disk_need(few).peak == 2 * disk_need(few).finished == 4 * IMAGE


def test_what_is_still_needed(settings: BuildLayout) -> None:
    assert still_needed(settings) == disk_need(settings).peak
    write(settings.score_path(1))
    assert still_needed(settings) == disk_need(settings).peak - 3 * FACE
    for index in (0, 2):
        write(settings.score_path(index))
    assert still_needed(settings) == 2 * CHOSEN * IMAGE
    write(settings.build_path(0))
    assert still_needed(settings) == (CHOSEN + 1) * IMAGE
    # Unfinished files are written over: their bytes are there already.
    write(settings.output_dir / ".celebahq.h5.partial", 1000)
    write(settings.work_dir / "build" / ".00001.h5.partial", 234)
    assert still_needed(settings) == (CHOSEN + 1) * IMAGE - 1234
    write(unfinished_path(settings.build_path(1).with_suffix(".rgb")), 1000)
    assert still_needed(settings) == (CHOSEN + 1) * IMAGE - 2234
    # Work for other settings helps nobody.
    write(settings.work_dir / "build" / "00000-0123456789abcdef.h5", 10_000_000)
    write(settings.work_dir / "faces" / ".00000-0123456789abcdef-256.rgb.unfinished", 10_000_000)
    assert still_needed(settings) == (CHOSEN + 1) * IMAGE - 2234


def test_nothing_is_needed_for_a_finished_file(settings: BuildLayout, finished_build: Path) -> None:
    assert still_needed(replace(settings, output_dir=finished_build)) == 0


def test_a_disk_that_is_too_small(settings: BuildLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    need = disk_need(settings).peak
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage(10**9, 0, need))
    check_space(settings)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage(10**9, 0, need - 1))
    with pytest.raises(DataError, match=r"the build needs up to 3.67 MB of free disk, there are 3.67 MB; free some"):
        check_space(settings)
    assert not settings.output_dir.exists()


def test_free_space_of_a_folder_that_does_not_exist_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert free_space(tmp_path / "a" / "b") > 0
    monkeypatch.chdir(tmp_path)
    assert free_space(Path("a/b")) > 0
    assert list(tmp_path.iterdir()) == []


def test_lock(settings: BuildLayout) -> None:
    with lock_output(settings):
        with pytest.raises(DataError, match="another build is running in"):
            lock_output(settings)
        assert file_names(settings.output_dir) == {"work/lock"}
    lock_output(settings).close()  # free again


def test_the_lock_goes_with_the_process_that_held_it(settings: BuildLayout) -> None:
    code = (
        "import os, sys, signal; from pathlib import Path; from pipelines.preflight import lock_output; "
        "from pipelines.layout import BuildLayout; "
        "kept = lock_output(BuildLayout(Path(sys.argv[1]), Path(sys.argv[2]))); os.kill(os.getpid(), signal.SIGKILL)"
    )
    words = [sys.executable, "-c", code, str(settings.celeba_dir), str(settings.output_dir)]
    assert subprocess.run(words, env=environment()).returncode < 0
    assert (settings.work_dir / "lock").exists()
    lock_output(settings).close()


@pytest.mark.parametrize("name", ["work", "out"])
def test_an_output_that_cannot_be_written(name: str, settings: BuildLayout) -> None:
    path = settings.work_dir if name == "work" else settings.output_dir
    write(path)
    with pytest.raises(DataError, match=r"--output-dir .*out: cannot be written: "):
        lock_output(settings)


def test_cleaning_up(settings: BuildLayout) -> None:
    other = replace(settings, count=2)
    kept = [
        settings.ranking_path,
        settings.marker("verified"),
        settings.marker("reported"),
        settings.score_path(0),
        settings.score_path(0).with_suffix(".json"),
        other.score_path(1),
        settings.work_dir / "lock",
        settings.work_dir / "faces" / "family.rgb",
        settings.work_dir / "notes-of-mine.json",
        settings.output_dir / "photo.h5",
    ]
    gone = [
        settings.build_path(0),
        other.build_path(0),
        settings.faces_path(1),
        other.ranking_path,
        other.marker("verified"),
        other.marker("finished"),
        settings.work_dir / "times" / "Rank-0123456789.json",
        settings.work_dir / "times" / "Join-0123456789.csv",  # of a version before
        settings.score_path(0).with_suffix(".csv"),
        settings.work_dir / "scores" / ".00001-0123456789abcdef.npz.partial",
        settings.work_dir / "times" / "Join-0123456789.csv",  # of a version before
        settings.score_path(0).with_suffix(".csv"),
        settings.work_dir / "scores" / ".00001-0123456789abcdef.stamps.partial",
        unfinished_path(settings.score_path(1)),
        unfinished_path(other.faces_path(1)),
        unfinished_path(other.build_path(1)),
        unfinished_path(settings.build_path(1).with_suffix(".rgb")),
        settings.work_dir / "build" / ".00001-0123456789abcdef.h5.partial",
        settings.work_dir / "faces" / ".00001-0123456789abcdef-256.rgb.partial",
        settings.work_dir / "times" / ".Rank-0123456789.json.partial",
        settings.work_dir / f".{settings.ranking_path.name}.partial",
        settings.output_dir / ".celebahq.h5.partial",
        settings.output_dir / ".ranking.csv.partial",
    ]
    for path in kept + gone:
        write(path)
    clean_up(settings)
    assert file_names(settings.output_dir) == {str(path.relative_to(settings.output_dir)) for path in kept}
    assert not (settings.work_dir / "build").exists()
    assert not (settings.work_dir / "times").exists()


def test_whether_a_build_is_complete_may_be_asked_at_any_time(
    settings: BuildLayout, finished_build: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It prints, locks and makes nothing."""
    options = {"count": CHOSEN, "shard_size": 3, "resolution": "256", "restore": "none"}
    folders = [str(settings.output_dir), str(finished_build)]
    before = file_names(finished_build)
    answers = [
        BuildCelebAHQ(celeba_dir=str(settings.celeba_dir), output_dir=folder, **options).complete()
        for folder in folders
    ]
    assert answers == [False, True]
    assert capsys.readouterr().out == ""
    assert not settings.output_dir.exists()
    assert file_names(finished_build) == before
    lock_output(replace(settings, output_dir=finished_build)).close()  # nobody holds it


def test_luigi_lets_the_build_look_for_mistakes_first(
    settings: BuildLayout, capsys: pytest.CaptureFixture[str]
) -> None:
    task = BuildCelebAHQ(celeba_dir=str(settings.celeba_dir), output_dir=str(settings.output_dir), count=9)
    with pytest.raises(SystemExit, match=r"^error: --count 9, but .* has only 8 rows with a photo; give --count 8$"):
        luigi.build([task], local_scheduler=True, workers=1)
    assert not settings.output_dir.exists()
    assert "Traceback" not in capsys.readouterr().err


def test_jobs_fill_the_machine() -> None:
    available = len(os.sched_getaffinity(0))
    assert count_jobs(1) == available
    assert count_jobs(2) == max(available // 2, 1)
    assert count_jobs(10 * available) == 1


def test_the_plan_is_told_even_if_the_build_will_not_fit(
    settings: BuildLayout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage(10**9, 10**9, 0))
    folders = {"celeba_dir": str(settings.celeba_dir), "output_dir": str(settings.output_dir)}
    options = {"count": CHOSEN, "shard_size": 3, "resolution": "256", "restore": "none", "jobs": 2}
    task = BuildCelebAHQ(**folders, **options, dry_run=True)
    assert not task.complete()
    assert task.requires() == []
    with pytest.raises(DataError, match="needs up to"):
        task.run()
    plan = capsys.readouterr().out
    for told in ("8 photos", "4 to be chosen", "3 score shards, 2 build shards", "1.05 MB", "3.67 MB", "0 bytes free"):
        assert told in plan
    assert not settings.output_dir.exists()


@pytest.mark.parametrize(
    ("options", "scores", "faces"),
    [
        ({}, "8 in 8.00 s with 2 processes (2.000 s ", "4 in 20.0 s with 2 processes (10.000 s "),
        ({"score_on": "restored", "count": 2}, "8 in 40.0 s with 2 processes (10.000 s ", "2 in 10.0 s "),
        ({"score_on": "restored"}, "8 in 40.0 s with 2 processes (10.000 s ", "kept from scoring"),
        ({"restore": "none"}, "8 in 8.00 s with 2 processes (2.000 s ", "kept from scoring"),
        ({"restore": "none", "count": 2}, "8 in 8.00 s with 2 processes ", "2 in 2.00 s with 2 processes (2.000 s "),
    ],
)
def test_the_estimate_is_of_both_passes(
    options: dict[str, object], scores: str, faces: str, settings: BuildLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With two seconds for a photo without networks, and ten with them."""
    clock = [0.0]

    def make(work: PhotoScorer, photos: Sequence[FaceRecord], _jobs: int) -> Iterator[None]:
        for _ in photos:
            clock[0] += 2 if work.recipe.restorer.name == "none" else 10
            yield

    monkeypatch.setattr("pipelines.dry_run.map_photos", make)
    monkeypatch.setattr("pipelines.dry_run.time.perf_counter", lambda: clock[0])
    lines = describe_plan(replace(settings, **{"restore": "bundled", **options}), 2).splitlines()
    assert lines[-2].startswith(f"  scores      {scores}")
    assert lines[-1].startswith(f"  faces       {faces}")


def test_an_output_folder_that_is_on_no_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage(0, 0, 0))
    with pytest.raises(DataError, match=r"cannot be used: .* tells no size; choose another folder"):
        free_space(tmp_path / "out")


def test_the_plan_counts_what_is_finished(
    settings: BuildLayout, finished_build: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = describe_plan(settings, 1)
    assert "finished      0 of 8 photos scored, 0 of 4 faces made" in first
    assert "  scores      8 in " in first
    assert capsys.readouterr().err.startswith("trial: scoring 6 photos, to estimate the time\n")

    whole = describe_plan(replace(settings, output_dir=finished_build), 1)
    assert "finished      8 of 8 photos scored, 4 of 4 faces made" in whole
    assert "time          about 0.00 s" in whole
    assert capsys.readouterr().err == ""

    # scores stay after a build, its faces do not
    other = describe_plan(replace(settings, output_dir=finished_build, count=5), 1)
    assert "finished      8 of 8 photos scored, 0 of 5 faces made" in other
    assert "  scores      all 8 are there" in other
    assert "  faces       5 in " in other


def test_a_file_that_will_be_replaced_is_named(settings: BuildLayout, finished_build: Path) -> None:
    there = replace(settings, output_dir=finished_build)
    path = there.pyramid_path
    assert describe_replaced(settings) == describe_replaced(there) == ""
    other = replace(there, selection="all", count=7)
    assert describe_replaced(other) == (
        f"{path} holds a build with other settings (selection score, count 4) and will be replaced"
    )
    assert describe_replaced(other) in notes(other)
    assert describe_replaced(other) in describe_plan(other, 1)
    write(settings.pyramid_path)
    assert describe_replaced(settings) == f"{settings.pyramid_path} is no complete pyramid file and will be replaced"
    copy = settings.output_dir / "celebahq.h5"
    shutil.copy(path, copy)
    with h5py.File(copy, "r+") as file:
        file["settings"].attrs["build_digest"] = "another"
    assert "of other photos, annotations, weights or versions" in describe_replaced(settings)


def test_the_plan_counts_photos_that_an_interrupted_shard_kept(settings: BuildLayout) -> None:
    unfinished = unfinished_path(settings.score_path(1))
    unfinished.parent.mkdir(parents=True)
    unfinished.write_text("{}\n{}\n")
    plan = describe_plan(settings, 1)
    assert "finished      2 of 8 photos scored, 0 of 4 faces made" in plan
    assert "  scores      6 in " in plan
