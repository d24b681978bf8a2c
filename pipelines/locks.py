"""Who may work where: a build's output folder, and single tasks of builds that several machines share.

A lock lasts at most until its process ends. `flock` gives it; where the file system has none, a lease does: a file that
its process touches every few seconds, and that others ignore once it is older than `LEASE_SECONDS`. Ages are
differences of the file system's own times, so that the machines' clocks do not matter.
"""

import atexit
import fcntl
import json
import os
import signal
import socket
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple, Protocol, Self

from datatools.console import say
from datatools.errors import DataError
from datatools.files import LOCK_PATIENCE, partial_path, take_lock

LEASE_SECONDS = 60.0
"""Age from which a lease is a dead process's."""

BEAT_SECONDS = 5.0
"""A lease is touched this often."""


class Lock(Protocol):
    """What holds a lock."""

    def close(self) -> None:
        """Release it."""


def lock_folder(path: Path, folder: Path, shared_as: str | None = None) -> Lock:
    """Lock a folder by the file `path` in it: alone, or with others that give the same `shared_as`.

    Raises DataError, which names `folder`, when another build holds it; OSError when it cannot be written.
    """
    deadline = time.monotonic() + LOCK_PATIENCE
    while (lock := _take(path, shared_as)) is None:
        if time.monotonic() > deadline:
            which = ", with other settings or a scheduler of its own," if shared_as else ""
            raise DataError(f"another build{which} is running in {folder}; wait for it or choose another folder")
        time.sleep(0.1)
    return lock


def wait_for_lock(path: Path) -> Lock:
    """Lock the file `path` alone, however long another process holds it. Raises OSError when it cannot be written."""
    while (lock := _take(path, None)) is None:
        time.sleep(0.5)
    return lock


def _take(path: Path, shared_as: str | None) -> Lock | None:
    stream = path.open("a+b")
    try:
        if _is_locked(stream, shared_as):
            return stream
    except OSError:  # some network file systems know no locks
        stream.close()
        return Lease.take(path, shared_as)
    stream.close()
    return None


def _is_locked(stream: IO[bytes], shared_as: str | None) -> bool:
    """Lock a file if possible; one that is shared contains for whom."""
    alone = take_lock(stream)
    if shared_as is None:
        return alone
    if alone:
        stream.truncate(0)
        stream.write(shared_as.encode())
        stream.flush()
    if not take_lock(stream, fcntl.LOCK_SH):
        return False
    stream.seek(0)
    return stream.read() == shared_as.encode()


class _Holder(NamedTuple):
    """Who holds a lease, as its file says."""

    shared_as: str | None
    began: int
    """When, in nanoseconds of the file system's time."""
    host: str
    pid: int

    def conflicts(self, other: Self) -> bool:
        return self.shared_as is None or self.shared_as != other.shared_as


@dataclass
class Lease:
    """A file in a folder of leases, touched while its process lives."""

    path: Path
    holder: _Holder

    def __post_init__(self) -> None:
        self._released = threading.Event()
        self._owner = os.getpid()
        threading.Thread(target=self._beat, daemon=True).start()
        atexit.register(self.close)

    @classmethod
    def take(cls, path: Path, shared_as: str | None) -> "Lease | None":
        """Return a lease in place of the lock `path`; None while another process has one that conflicts."""
        folder = path.with_name(f"{path.name}.leases")
        folder.mkdir(exist_ok=True)
        own = folder / f"{uuid.uuid4().hex}.json"
        begun = partial_path(own)
        begun.touch()
        holder = _Holder(shared_as, begun.stat().st_mtime_ns, socket.gethostname(), os.getpid())
        begun.write_text(json.dumps(holder))
        begun.rename(own)
        now = own.stat().st_mtime_ns
        for other in folder.glob("*.json"):
            if other != own and _yields(holder, own.name, other, now):
                own.unlink()
                return None
        return cls(own, holder)

    def close(self) -> None:
        """Release it."""
        if os.getpid() == self._owner and not self._released.is_set():
            self._released.set()
            self.path.unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._released.wait(BEAT_SECONDS):
            try:
                os.utime(self.path)
            except FileNotFoundError:
                if not self._released.is_set():
                    say(f"{self.path} is gone: this process stood still for so long that others took its work over")
                    os.kill(os.getpid(), signal.SIGTERM)
                return
            except OSError:
                continue  # a server that is away for a while


def _yields(holder: _Holder, name: str, other: Path, now: int) -> bool:
    """Return whether a new lease has to yield to another one; removes that of a dead process."""
    try:
        age = now - other.stat().st_mtime_ns
        found = _Holder(*json.loads(other.read_text()))
    except (OSError, ValueError, TypeError):
        return False  # just released
    if age > LEASE_SECONDS * 1e9 or (found.host == holder.host and not _lives(found.pid)):
        other.unlink(missing_ok=True)
        return False
    return holder.conflicts(found) and (found.began, other.name) < (holder.began, name)


def _lives(pid: int) -> bool:
    with suppress(PermissionError):  # another user's, who lives
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
    return True
