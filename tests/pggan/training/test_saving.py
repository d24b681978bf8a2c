"""A run folder that cannot be written: a full disk is waited for, other failures end in one line, nothing is lost."""

import errno
import fcntl
import os
import random
import resource
import shutil
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from datatools import files
from datatools.errors import DataError
from pggan.media.video import snapshots
from pggan.report.data import read_stats
from pggan.train import main
from pggan.training import board, saving
from pggan.training import log as runlog
from pggan.training.checkpoints import checkpoints, save_checkpoint
from pggan.training.log import RunLog
from pggan.training.loop import Result
from pggan.training.models import load_model
from pggan.training.run_config import read_saved_run
from pggan.training.saving import Saving
from pggan.training.step import Stepper
from tests.support.builds import HANGS
from tests.support.pggan_runs import assert_equal_runs, config_of, stats_of, train
from tests.support.tries import Tries

CHECKPOINT, FINAL, STATS, CONFIG = "checkpoint-000000000120", "final.safetensors", "stats.jsonl", "config.json"
GRIDS, REALS, BOARD, LOG = "fakes", "reals.png", "events.out", "log.txt"


class Disk:
    """Writes to files whose names have `part` in them fail `times` times, when they are flushed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.part, self.code, self.times, self.failed = "", 0, 0, 0
        flush, append = files.fsync_path, files.append_whole

        def failing_flush(path: Path) -> None:
            self._fail(path)
            flush(path)

        def failing_append(path: Path, data: bytes) -> None:
            self._fail(path)
            append(path, data)

        monkeypatch.setattr(files, "fsync_path", failing_flush)
        for module in (runlog, board):
            monkeypatch.setattr(module, "append_whole", failing_append)
        monkeypatch.setattr(saving, "RETRY", 0.0)

    def fail(self, part: str, code: int, times: int = 1_000_000) -> None:
        self.part, self.code, self.times = part, code, times

    def _fail(self, path: Path) -> None:
        if self.part and self.part in path.name and self.failed < self.times:
            self.failed += 1
            raise OSError(self.code, os.strerror(self.code))


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


@pytest.mark.parametrize(
    ("part", "code"),
    [(CHECKPOINT, errno.ENOSPC), (FINAL, errno.EDQUOT), (STATS, errno.ENOSPC), (CONFIG, errno.ENOSPC)],
)
def test_a_full_disk_is_waited_for(part: str, code: int, h5: Path, straight: Path, tmp_path: Path, disk: Disk) -> None:
    config = config_of(h5, tmp_path / "run")
    disk.fail(part, code, times=3)
    assert train(config) == Result(200, True)
    log = (config.out / "log.txt").read_text()
    assert disk.failed == 3
    assert log.count(f"{os.strerror(code)}; waiting up to 10 minutes for room: free some space") == 1
    assert log.count("s of waiting") == 1
    assert_equal_runs(straight, config.out)


@pytest.mark.parametrize(
    ("part", "code"),
    [
        (CHECKPOINT, errno.ENOSPC),
        (STATS, errno.EROFS),
        (FINAL, errno.EACCES),
        (CONFIG, errno.EIO),
    ],
)
def test_a_run_that_cannot_save_ends_in_a_line_and_resumes_exactly(
    part: str, code: int, h5: Path, straight: Path, tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saving, "PATIENCE", 0.0)
    config = config_of(h5, tmp_path / "run")
    disk.fail(part, code)
    with pytest.raises(
        DataError, match=rf"^{config.out}\S*: {os.strerror(code)}; [^\n]+ run the same command"
    ) as error:
        train(config)
    assert f"error: {error.value}" in (config.out / "log.txt").read_text()
    assert not list(config.out.rglob("*.partial"))
    assert not (config.out / "final.safetensors").exists()
    disk.fail("", 0)
    assert train(config).finished
    assert_equal_runs(straight, config.out)


@pytest.mark.parametrize("code", [errno.EIO, errno.EFBIG, errno.EROFS, errno.ESTALE, errno.EACCES, errno.ENOENT])
def test_what_time_does_not_heal_is_not_waited_for(code: int, tmp_path: Path) -> None:
    said: list[tuple[str, str]] = []

    def fail() -> None:
        raise OSError(code, os.strerror(code))

    with pytest.raises(DataError, match=rf"/file: {os.strerror(code)}; what was saved before is whole"):
        Saving(tmp_path, lambda *event: said.append(event), lambda: False).must(tmp_path / "file", fail)
    assert said == []


@pytest.mark.parametrize(
    ("saved", "then"),
    [
        (False, "it starts from the beginning, because no checkpoint was saved yet"),
        (True, "it resumes from the newest checkpoint, which is whole"),
    ],
)
def test_the_message_says_where_the_next_run_begins(saved: bool, then: str, tmp_path: Path) -> None:
    if saved:
        save_checkpoint(tmp_path / "checkpoints", {"images": 120}, keep=1)
    events: list[tuple[str, str]] = []

    def unwritable() -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    def stop() -> bool:
        return bool(events)

    for fail in (full, unwritable):
        saving_here = Saving(tmp_path, lambda *event: events.append(event), stop)
        with pytest.raises(DataError, match=rf"run the same command again: {then}$"):
            saving_here.must(tmp_path / "file", fail)
    assert len(events) == 1
    assert events[0][1].endswith(f"or stop with Ctrl-C and run the same command later: {then}")


def test_a_configuration_that_is_a_link_to_itself_is_named_once(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.symlink_to(path)
    with pytest.raises(DataError) as caught:
        read_saved_run(tmp_path)
    assert str(caught.value) == f"{path}: cannot be read: {os.strerror(errno.ELOOP)}"


def test_who_asks_to_stop_does_not_wait(tmp_path: Path) -> None:
    said: list[tuple[str, str]] = []
    with pytest.raises(DataError, match="No space left on device; free some space and run the same command again"):
        Saving(tmp_path, lambda *event: said.append(event), lambda: len(said) > 0).must(tmp_path / "file", full)
    assert len(said) == 1
    with pytest.raises(DataError, match="No space left"):
        Saving(tmp_path, lambda *event: said.append(event), lambda: True).must(tmp_path / "file", full)
    assert len(said) == 1


def full() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (GRIDS, "the run continues without grids of fakes"),
        (REALS, "the run continues without reals.png"),
        (BOARD, "the run continues without curves in TensorBoard"),
    ],
)
def test_what_may_be_missing_ends_no_training(
    part: str, message: str, h5: Path, straight: Path, tmp_path: Path, disk: Disk
) -> None:
    config = config_of(h5, tmp_path / "run")
    disk.fail(part, errno.EIO)
    assert train(config) == Result(200, True)
    assert disk.failed >= 1
    assert (config.out / "log.txt").read_text().count(f"Input/output error; {message}") == 1
    assert stats_of(straight) == stats_of(config.out)
    assert (straight / FINAL).read_bytes() == (config.out / FINAL).read_bytes()


def test_lines_of_the_log_wait_in_memory(
    h5: Path, straight: Path, tmp_path: Path, disk: Disk, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config_of(h5, tmp_path / "run")
    disk.fail(LOG, errno.ENOSPC, times=5)
    train(config)
    assert capsys.readouterr().out.count("its lines wait until it can be written") == 1
    lines = [line[21:] for line in (config.out / "log.txt").read_text().splitlines()]
    assert lines[0].startswith("preset test: 16 x 16")
    assert sum(line.startswith("tick ") for line in lines) == 9
    assert lines[-1].startswith("finished after 200 images")
    assert_equal_runs(straight, config.out)


def at_image(monkeypatch: pytest.MonkeyPatch, number: int, act: Callable[[], object]) -> None:
    step = Stepper.discriminator_step

    def acting_step(self: Stepper, state: Any, images: int, batch: Any) -> Any:
        if images == number:
            act()
        return step(self, state, images, batch)

    monkeypatch.setattr(Stepper, "discriminator_step", acting_step)


def test_a_folder_that_is_moved_away(
    h5: Path, straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tries: Tries
) -> None:
    count, dice = tries.count(1, 8), random.Random(1)
    for attempt in range(count):
        config, place = config_of(h5, tmp_path / f"run{attempt}"), tmp_path / f"elsewhere{attempt}"
        at_image(monkeypatch, dice.randrange(4, 200, 4), partial(config.out.rename, place))
        with pytest.raises(
            DataError, match=r"run folder .*run\d+ is gone: where it was moved, resume with --out [^\n]+$"
        ):
            train(config)
        assert not config.out.exists()
        monkeypatch.undo()
        assert train(replace(config, out=place)).finished
        assert_equal_runs(straight, place)
    tries.record(
        "a folder of a training that is moved away", count, "one line; resumed at its new place to the same bytes"
    )


@pytest.mark.parametrize("kind", ["nothing", "file"])
def test_a_folder_that_is_deleted(kind: str, h5: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of(h5, tmp_path / "run")

    def delete() -> None:
        shutil.rmtree(config.out)
        if kind == "file":
            config.out.write_text("somebody's own")

    at_image(monkeypatch, 100, delete)
    with pytest.raises(DataError, match=r"run folder .*run is gone"):
        train(config)
    assert [path.name for path in tmp_path.iterdir()] == (["run"] if kind == "file" else [])


def test_a_name_that_is_not_utf_8(h5: Path, straight: Path, tmp_path: Path) -> None:
    config = config_of(h5, tmp_path / os.fsdecode(b"gr\xfc\xdfe"))
    assert train(config) == Result(200, True)
    assert_equal_runs(straight, config.out)
    assert r"gr\udcfc\udcdfe/final.safetensors" in (config.out / "log.txt").read_text(encoding="utf-8")
    assert len(list((config.out / "tensorboard").iterdir())) == 1
    assert load_model(config.out).images == 200
    assert train(config).finished


def small_disk(monkeypatch: pytest.MonkeyPatch, total: int, free: int) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(total, total - free, free))


def test_too_small_a_disk_is_refused_before_the_start(
    h5: Path, straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(h5, tmp_path / "run")
    folder = straight / "checkpoints"
    sizes = [checkpoint.path.stat().st_size for checkpoint in checkpoints(folder)]
    needed = 4 * max(sizes) + (straight / FINAL).stat().st_size
    small_disk(monkeypatch, 10**9, needed // 3)
    with pytest.raises(
        DataError, match=r"the disk is too full for 4 checkpoints and the models: .* MB needed, .* MB free"
    ):
        train(config)
    assert sorted(path.name for path in config.out.iterdir()) == [".lock", "log.txt"]
    small_disk(monkeypatch, 10**9, needed)
    assert train(config).finished
    small_disk(monkeypatch, 10**9, max(sizes) // 2)
    with pytest.raises(DataError, match="the disk is too full for 1 checkpoint and"):
        train(config)
    small_disk(monkeypatch, 0, 0)  # a file system that does not say
    assert train(config).finished
    assert_equal_runs(straight, config.out)


def test_a_disk_that_fails_where_nobody_expects_it(h5: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    monkeypatch.setattr(shutil, "disk_usage", fail)
    flags = "--preset tiny --resolution 8 --fmap-max 8 --total-kimg 0.1 --device cpu"
    result = CliRunner().invoke(main, ["--h5", str(h5), "--out", str(tmp_path / "run"), *flags.split()])
    assert result.exit_code == 1
    assert f"\nError: [Errno 5] Input/output error: '{tmp_path / 'run'}'\n" in result.output


def test_lines_that_were_cut_off(h5: Path, straight: Path, tmp_path: Path) -> None:
    config = config_of(h5, tmp_path / "run")
    train(replace(config, preset=replace(config.preset, schedule=replace(config.preset.schedule, total_kimg=0.1))))
    for name, cut in (("log.txt", b"2026-01-01 10:00:00  tick 5"), ("stats.jsonl", b'{"images": 12\xff\x00\xc3')):
        with (config.out / name).open("ab") as stream:
            stream.write(cut)
    train(config)
    assert [line["images"] for line in stats_of(config.out)] == [24, 48, 72, 96, 104, 128, 152, 176, 200]
    assert (straight / FINAL).read_bytes() == (config.out / FINAL).read_bytes()
    assert (config.out / "log.txt").read_text().count("\n2026-01-01 10:00:00  tick 5\n") == 1
    assert read_stats(config.out / STATS).sessions[-1].end == "finished"
    seen = [0, 24, 48, 72, 96, 104, 128, 152, 176, 200]
    assert [kimg for kimg, _ in snapshots(config.out)] == [images / 1000 for images in seen]


def test_a_log_that_cannot_be_written_is_told_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "log.txt").mkdir()
    with pytest.raises(DataError, match=r"log\.txt: cannot be written: Is a directory"):
        RunLog().open(tmp_path)


def test_file_systems_without_locks(h5: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "lockf", no_locks)
    with pytest.raises(DataError, match=r"run: cannot be locked: No locks available; choose another disk"):
        train(config_of(h5, tmp_path / "run"))


@pytest.mark.parametrize("inside", [False, True])
def test_out_that_is_no_folder(inside: bool, h5: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    with pytest.raises(DataError, match="is a file, or lies in one; "):
        train(config_of(h5, tmp_path / "file" / "run" if inside else tmp_path / "file"))
    assert (tmp_path / "file").read_text() == "kept"


def test_the_command_line_ends_in_a_line(h5: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    flags = "--preset tiny --resolution 8 --fmap-base 256 --fmap-max 64 --total-kimg 0.1 --tick-kimg 0.02 --device cpu"
    command = [sys.executable, "-m", "pggan.train", "--h5", str(h5), "--out", str(out), *flags.split()]
    limit = 1_000_000  # bytes of a file: grids fit, the checkpoint of a network with Adam's moments does not

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=limited, timeout=HANGS)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"Error: {out}")
    assert "File too large; what was saved before is whole" in done.stderr
    assert "finished after" not in done.stdout
    subprocess.run(command, check=True, capture_output=True, timeout=HANGS)
    assert (out / FINAL).is_file()
