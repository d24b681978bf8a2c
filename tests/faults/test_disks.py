"""Disks of a random size, files that may not grow, and disks that turn read-only: one line, and nothing lost."""

import errno
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.works import BUILD, Trial, results
from tests.support.builds import HANGS
from tests.support.failing_storage import Commands, Ended
from tests.support.tries import FULL, Tries

LONG = pytest.mark.skipif(not FULL, reason="other tests have its like: `make faults` tries it")
MANY = {
    "a build": 10,
    "a training": 15,
    "from-folder": 20,
    "an export (folder)": 15,
    "an export (stylegan-zip)": 15,
    "an export (lmdb)": 15,
    "pyramids are joined": 20,
}
"""What is done on such disks, and how often in `make faults`."""

works = pytest.mark.parametrize("name", [pytest.param(name, marks=() if "export" in name else LONG) for name in MANY])

ROOM = """
import collections, shutil
usage = collections.namedtuple("usage", "total used free")(1 << 50, 0, 1 << 50)
shutil.disk_usage = lambda _: usage
"""
"""Room enough when a command looks: another program fills the disk afterwards."""


@contextmanager
def disk(folder: Path) -> Iterator[Callable[[str], None]]:
    """Mount a file system of its own; yields a function that changes its mount options."""
    folder.mkdir()

    def mount(options: str) -> bool:
        words = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        try:
            return subprocess.run(words, capture_output=True, timeout=HANGS).returncode == 0
        except OSError:
            return False

    if not mount("size=256m"):
        pytest.skip("this user cannot mount a small file system")
    try:
        yield lambda options: subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True, timeout=HANGS)
    finally:
        subprocess.run(["umount", folder], check=True, timeout=HANGS)


def used(folder: Path) -> int:
    """Bytes that the files in a folder take on a disk."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def check_line(done: Ended, trial: Trial, code: int, fault: object) -> None:
    """What failed is said in one line, and nothing of it is left."""
    assert done.returncode > 0, fault
    assert "Traceback" not in done.error, fault
    assert "Exception ignored" not in done.error, fault
    reasons = (os.strerror(code), os.strerror(errno.ENOSPC), "LMDB says so of a full disk, too")
    assert any(reason in done.output + done.error for reason in reasons), fault
    assert trial.work.code == BUILD or len(done.error.splitlines()) == 1, fault


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name.endswith(".partial")]


@works
def test_a_full_disk(name: str, running: Callable[[str], Commands], inputs: Path, tmp_path: Path, tries: Tries) -> None:
    trial = Trial(name, running, inputs, tmp_path)
    growth = used(tmp_path / "undisturbed") - used(trial.new_folder("inputs"))
    count, ended = tries.count(1, MANY[name]), 0
    for attempt in range(count):
        with disk(tmp_path / str(attempt)) as remount:
            folder = trial.new_folder(str(attempt))
            size = used(folder) + 4096 * int(trial.random.integers(1, growth // 4096))
            remount(f"size={size}")
            done = trial.run(folder, prefix=ROOM)
            fault = (size, growth, done.returncode, done.error[-3000:])
            if done.returncode:
                ended += 1
                check_line(done, trial, errno.ENOSPC, fault)
                assert not leftovers(folder), fault
            remount("size=256m")
            trial.check_again(folder, fault)
    assert ended or not FULL
    outcome = f"{ended} ended in a line, {count - ended} finished; the same bytes in the end"
    tries.record(f"disk full at a random size: {name}", count, outcome)


@works
def test_files_that_may_not_grow(
    name: str, running: Callable[[str], Commands], inputs: Path, tmp_path: Path, tries: Tries
) -> None:
    trial = Trial(name, running, inputs, tmp_path)
    made = [path for path in (tmp_path / "undisturbed").rglob("*") if path.is_file()]
    sizes = [path.stat().st_size for path in made if not (inputs / path.relative_to(tmp_path / "undisturbed")).exists()]
    count, ended = tries.count(1, MANY[name]), 0
    for attempt in range(count):
        folder = trial.new_folder(str(attempt))
        limit = int(trial.random.integers(1, max(sizes)))
        prefix = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
        done = trial.run(folder, prefix=prefix)
        fault = (limit, done.returncode, done.error[-3000:])
        if done.returncode:
            ended += 1
            check_line(done, trial, errno.EFBIG, fault)
            assert not leftovers(folder), fault
        trial.check_again(folder, fault)
        shutil.rmtree(folder)
    assert ended or not FULL
    outcome = f"{ended} ended in a line, {count - ended} finished; the same bytes in the end"
    tries.record(f"files that may not grow beyond a random size: {name}", count, outcome)


@works
def test_a_disk_that_turns_read_only(
    name: str, running: Callable[[str], Commands], inputs: Path, tmp_path: Path, tries: Tries
) -> None:
    """After a kill at a random call."""
    trial = Trial(name, running, inputs, tmp_path)
    count = tries.count(1, MANY[name])
    for attempt in range(count):
        with disk(tmp_path / str(attempt)) as remount:
            folder = trial.new_folder(str(attempt))
            first = trial.any_call()
            trial.run(folder, first, 1, -signal.SIGKILL)
            before = results(folder)
            remount("ro")
            done = trial.run(folder)
            fault = (first, done.returncode, done.error[-3000:])
            if done.returncode:
                check_line(done, trial, errno.EROFS, fault)
            else:
                assert before == trial.expected, fault
            remount("rw")
            assert results(folder) == before, fault
            trial.check_again(folder, fault)
    outcome = "a line, unless all was done; the same bytes in the end"
    tries.record(f"output that turns read-only after a kill: {name}", count, outcome)
