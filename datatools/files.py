"""Files that are there whole or not at all."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def partial_path(path: Path) -> Path:
    """Name under which `path` is written before it is complete (same folder, so that the rename is atomic)."""
    return path.with_name(f".{path.name}.partial")


def fsync_path(path: Path) -> None:
    """Flush a file or a folder's entries to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is flushed and renamed, on failure removed.

    The temporary name is a function of `path` alone: what a killed process left is overwritten by the next try.
    Raises OSError for a path that is there and no regular file.
    """
    path = Path(path)
    temporary = _begun(path)
    try:
        yield temporary
        fsync_path(temporary)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    fsync_path(path.parent)


def check_writable(path: Path) -> None:
    """Raises OSError where `atomic_path` could not even begin, before hours of work are to be written there."""
    temporary = _begun(path)
    temporary.touch()
    temporary.unlink()


def _begun(path: Path) -> Path:
    """Where `path` is written first. Raises OSError for what is no regular file: a rename would replace /dev/null."""
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "is no regular file", str(path))
    return partial_path(path)
