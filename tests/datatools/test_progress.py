"""`datatools.progress` and `pipelines.progress`: lines where there is no terminal."""

import multiprocessing
import re
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from datatools import progress
from datatools.progress import Lines, Progress
from pipelines.progress import ProgressBar, forget_stages
from tests.support.builds import command, environment


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "FIRST", 0.01)
    monkeypatch.setattr(progress, "EVERY", 0.01)


def line(total: int | None, unit: str, done: int, seconds: float, initial: int = 0) -> str:
    lines = Lines("score", total, unit, lambda: done, clock=[1000.0, initial, 0.0])
    lines.close()
    return lines.line(1000 + seconds)


def test_lines() -> None:
    assert line(550, "photo", 150, 50, 50) == "score: 150 of 550 photos, 2.0 per second, 3 min 20 s left"
    assert line(10, "photo", 2, 60) == "score: 2 of 10 photos, 30.0 s per photo, 4 min 00 s left"
    assert line(10, "photo", 3, 60, 3) == "score: 3 of 10 photos, at work for 1 min 00 s"
    assert line(10, "", 1, 4) == "score: 1 of 10, 4.0 s per step, 36.0 s left"
    assert line(None, "", 0, 12) == "score: at work for 12.0 s"


@pytest.mark.usefixtures("often")
def test_a_step_that_takes_long_does_not_keep_lines_back(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("verify", 7, "image") as advance:
        advance(2)
        shown = ""
        while shown.count("\n") < 3:  # without another step
            time.sleep(0.01)
            shown += capsys.readouterr().err
        advance(5)
    assert all(re.match(r"verify: [02] of 7 images, ", text) for text in shown.splitlines())
    assert re.search(r"^verify: finished in ", capsys.readouterr().err, re.MULTILINE)


def test_short_work_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("verify", 7, "image") as advance:
        advance(7)
    assert list(Progress("verify", 3, "image").over("abc")) == ["a", "b", "c"]
    assert capsys.readouterr().err == ""


def work(shard: int, photos: int) -> None:
    task = SimpleNamespace(
        task_family="ScoreShard",
        index=shard,
        set_status_message=lambda _: None,
        set_progress_percentage=lambda _: None,
    )
    with ProgressBar(task, f"score {shard}/3", 100, 10, 210) as advance:
        for _ in range(photos):
            advance(1)


def test_shards_side_by_side_are_counted_together(capsys: pytest.CaptureFixture[str]) -> None:
    forget_stages()
    context = multiprocessing.get_context("fork")
    for shard in (1, 2):
        process = context.Process(target=work, args=(shard, 50 * shard))
        process.start()
        process.join()
        assert process.exitcode == 0
    bar = ProgressBar(SimpleNamespace(task_family="ScoreShard", index=3), "score 3/3", 50, 0, 210)
    with bar:
        assert bar._lines is not None
        text = bar._lines.line(time.monotonic())
    assert text.startswith("score: 160 of 210 photos, ")
    assert capsys.readouterr().err == ""
    forget_stages()


def test_photos_of_an_earlier_run_do_not_count_for_the_speed() -> None:
    forget_stages()
    reported: list[str] = []
    task = SimpleNamespace(
        task_family="ScoreShard",
        index=0,
        set_status_message=reported.append,
        set_progress_percentage=lambda _: None,
    )
    with ProgressBar(task, "score 1/2", 100, 0, 200) as advance:
        assert advance._lines is not None
        advance.resume(80)
        begun = advance._lines.line(advance._start + 100)
        advance(20)
        later = advance._lines.line(advance._start + 100)
    assert begun.startswith("score: 80 of 200 photos, at work for ")
    assert later.startswith("score: 100 of 200 photos, 5.0 s per photo, ")
    assert reported[0].startswith("score 1/2: 100 of 100 photos, ")
    forget_stages()


OFTEN = "import sys, datatools.progress as p; p.FIRST = p.EVERY = 0.02; sys.argv[0] = 'luigi'; "
OFTEN += "from luigi.cmdline import luigi_run; luigi_run(sys.argv[1:])"


def test_a_build_prints_lines_without_a_terminal(tiny_tree: Path, tmp_path: Path) -> None:
    words = command(tiny_tree, tmp_path / "out", "--count", 4, "--workers", 2)[1:]
    done = subprocess.run([sys.executable, "-c", OFTEN, *words], env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    counts = re.findall(r"^score: (\d+) of 8 photos", done.stderr, re.MULTILINE)
    assert counts == sorted(counts, key=int)  # of the stage, not of a shard
    assert counts
    assert not re.search(r"^score: .* of [1-7] photos", done.stderr, re.MULTILINE)
