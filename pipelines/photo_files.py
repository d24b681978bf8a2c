"""The bytes of photos: from their files, or shipped by the process that has them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from datatools.errors import DataError, reason
from datatools.files import FileStamp, file_stamp

Photo = tuple[bytes, FileStamp]
"""A file's bytes, and its stamp before they were read."""

_shipped: ContextVar[Mapping[Path, Photo]] = ContextVar("_shipped")


def read_photo(path: Path) -> Photo:
    """Return the file's bytes, and its stamp before they were read.

    What the system refuses is no fault of the photo, and must not become a finished result.
    """
    if photo := _shipped.get({}).get(path):
        return photo
    try:
        stamp = file_stamp(path)
        return path.read_bytes(), stamp
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {reason(error)}; fix that, or leave it out with --exclude, and run the "
            "same command again, finished work is kept"
        ) from error


@contextmanager
def shipped(photos: Mapping[Path, Photo]) -> Iterator[None]:
    """Let `read_photo` return these in the body, whose files this machine may not have."""
    token = _shipped.set(photos)
    try:
        yield
    finally:
        _shipped.reset(token)
