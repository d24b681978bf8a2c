"""`pipelines.dry_run`: the plan, and the estimate of the time."""

import shutil
from collections import namedtuple
from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from datatools.errors import DataError
from datatools.sources.records import FaceRecord
from pipelines.dry_run import describe_plan
from pipelines.layout import BuildLayout
from pipelines.photo_work import FaceMaker
from pipelines.tasks import BuildCelebAHQ
from pipelines.unfinished import unfinished_path
from tests.support.builds import CHOSEN


@pytest.fixture
def settings(tiny_tree: Path, tmp_path: Path) -> BuildLayout:
    return BuildLayout(tiny_tree, tmp_path / "out", count=CHOSEN, shard_size=3, resolution=256, restore="none")


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
        next(task.run())
    plan = capsys.readouterr().out
    for message in (
        "8 photos",
        "4 to be chosen",
        "3 score shards, 2 build shards",
        "1.05 MB",
        "3.41 MB",
        "0 bytes free",
    ):
        assert message in plan
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

    def make(work: FaceMaker, photos: Sequence[FaceRecord], _jobs: int) -> Generator[None, None, None]:
        for _ in photos:
            clock[0] += 2 if work.restorer.name == "none" else 10
            yield

    monkeypatch.setattr("pipelines.dry_run.map_photos", make)
    monkeypatch.setattr("pipelines.dry_run.time.perf_counter", lambda: clock[0])
    lines = describe_plan(replace(settings, **{"restore": "bundled", **options}), 2).splitlines()
    assert lines[-2].startswith(f"  scores      {scores}")
    assert lines[-1].startswith(f"  faces       {faces}")


@pytest.mark.parametrize(
    ("seconds", "tried", "made"),
    [(0.5, 6, 7), (9, 6, 7), (9.9, 6, 7), (11, 6, 6), (13, 5, 5), (25, 3, 3), (40, 2, 2), (500, 2, 2)],
)
def test_a_slow_trial_ends_after_a_minute_and_two_photos(
    seconds: float, tried: int, made: int, settings: BuildLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, photos_made = [0.0], []

    def make(_work: FaceMaker, photos: Sequence[FaceRecord], _jobs: int) -> Generator[None, None, None]:
        for photo in photos:
            photos_made.append(photo)
            clock[0] += seconds
            yield

    monkeypatch.setattr("pipelines.dry_run.map_photos", make)
    monkeypatch.setattr("pipelines.dry_run.time.perf_counter", lambda: clock[0])
    lines = describe_plan(replace(settings, restore="none"), 1).splitlines()
    assert lines[-2].endswith(f" with 1 process ({seconds:.3f} s per photo in a trial of {tried})")
    assert len(photos_made) == made
    assert clock[0] <= max(60 + seconds, 2 * seconds)


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

    # scores and the finished file stay after a build
    other = describe_plan(replace(settings, output_dir=finished_build, count=5), 1)
    assert "finished      8 of 8 photos scored, 0 of 5 faces made, about 4 will be copied from " in other
    assert "  scores      all 8 are there" in other
    assert "  faces       1 in " in other


def test_the_plan_counts_photos_that_an_interrupted_shard_kept(settings: BuildLayout) -> None:
    unfinished = unfinished_path(settings.score_path(1))
    unfinished.parent.mkdir(parents=True)
    unfinished.write_text("{}\n{}\n")
    plan = describe_plan(settings, 1)
    assert "finished      2 of 8 photos scored, 0 of 4 faces made" in plan
    assert "  scores      6 in " in plan
