"""Locks of folders and tasks, with `flock` and where the file system has none."""

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from datatools.errors import DataError
from pipelines import locks
from pipelines.locks import LEASE_SECONDS, Lease, lock_folder, wait_for_lock


@pytest.fixture(params=["flock", "leases"])
def path(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file to lock."""
    monkeypatch.setattr(locks, "LOCK_PATIENCE", 0.0)
    if request.param == "leases":
        without_flock(monkeypatch)
    return tmp_path / "lock"


def without_flock(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)


def test_alone(path: Path) -> None:
    lock = lock_folder(path, Path("out"))
    for shared_as in (None, "a"):
        with pytest.raises(DataError, match=r"^another build.* is running in out; wait for it or choose another"):
            lock_folder(path, Path("out"), shared_as)
    lock.close()
    lock_folder(path, Path("out")).close()


def test_shared_by_equal_builds(path: Path) -> None:
    first, second = lock_folder(path, Path("out"), "a"), lock_folder(path, Path("out"), "a")
    first.close()
    for shared_as in (None, "b"):
        with pytest.raises(DataError, match="another build"):
            lock_folder(path, Path("out"), shared_as)
    second.close()
    lock_folder(path, Path("out"), "b").close()


def test_waiting(path: Path) -> None:
    code = f"import sys, time; from pathlib import Path; from pipelines import locks\n{_REFUSE}\n" + (
        "lock = locks.wait_for_lock(Path(sys.argv[1])); print('held', flush=True); time.sleep(0.5); lock.close(); "
        "print('released', flush=True); time.sleep(600)"
    )
    leases = str(fcntl.flock.__module__ != "fcntl")
    with subprocess.Popen([sys.executable, "-c", code, str(path), leases], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        wait_for_lock(path).close()
        assert other.stdout.readline() == "released\n"
        other.kill()


_REFUSE = """
def refuse(*_):
    raise OSError(37, "No locks available")
if sys.argv[2] == "True":
    locks.fcntl.flock = refuse
"""


class TestLeases:
    @pytest.fixture(autouse=True)
    def _leases(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(locks, "LOCK_PATIENCE", 0.0)
        without_flock(monkeypatch)

    @pytest.fixture
    def foreign(self, tmp_path: Path) -> Path:
        """The lease of a process on another machine, a moment old."""
        folder = tmp_path / "lock.leases"
        folder.mkdir()
        lease = folder / "0.json"
        lease.write_text(json.dumps([None, 0, "elsewhere", 1]))
        return lease

    def test_another_machine_holds_it(self, foreign: Path, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="another build is running"):
            lock_folder(tmp_path / "lock", tmp_path)
        assert list(foreign.parent.iterdir()) == [foreign]

    def test_a_lease_that_nobody_touches_ends(self, foreign: Path, tmp_path: Path) -> None:
        past = time.time() - LEASE_SECONDS - 5
        os.utime(foreign, (past, past))
        lock_folder(tmp_path / "lock", tmp_path).close()
        assert not foreign.exists()

    def test_clocks_do_not_matter(self, foreign: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(time, "time", lambda: 0.0)
        with pytest.raises(DataError, match="another build is running"):
            lock_folder(tmp_path / "lock", tmp_path)
        assert foreign.exists()

    def test_of_a_killed_process(self, foreign: Path, tmp_path: Path) -> None:
        with subprocess.Popen([sys.executable, "-c", ""]) as ended:
            pass
        foreign.write_text(json.dumps([None, 0, os.uname().nodename, ended.pid]))
        lock_folder(tmp_path / "lock", tmp_path).close()
        assert not foreign.exists()

    def test_the_earlier_one_stays(self, foreign: Path, tmp_path: Path) -> None:
        foreign.write_text(json.dumps([None, 2**62, "elsewhere", 1]))  # it began later, and will see ours
        lock_folder(tmp_path / "lock", tmp_path).close()

    def test_it_is_touched(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(locks, "BEAT_SECONDS", 0.01)
        lease = Lease.take(tmp_path / "lock", None)
        assert lease is not None
        os.utime(lease.path, (0, 0))
        while not lease.path.stat().st_mtime:
            time.sleep(0.01)
        lease.close()
        assert not lease.path.exists()

    def test_a_process_that_lost_its_lease_ends(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        sent: list[tuple[int, int]] = []
        monkeypatch.setattr(locks, "BEAT_SECONDS", 0.01)
        monkeypatch.setattr(os, "kill", lambda *signal: sent.append(signal))
        lease = Lease.take(tmp_path / "lock", None)
        assert lease is not None
        lease.path.unlink()
        while not sent:
            time.sleep(0.01)
        assert sent == [(os.getpid(), signal.SIGTERM)]
