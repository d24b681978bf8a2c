"""The file that HDF5 writes into: a failure of the disk is kept for us, and HDF5 never learns of it."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

WRITE_BYTES = 1 << 18  # at once: for more, Linux takes huge pages, which a virtual machine may first have to get


class Storage:
    """A new file, as h5py takes it in place of a name; a context manager, which closes it.

    resumes: keep the bytes of a file of that name until they are overwritten. HDF5 takes it to be empty.

    After a failed write HDF5 can neither close the file nor, at times, let the process end without a crash. So writes
    seem to succeed: the first one that fails is kept as `error`, and all later ones do nothing. Ctrl-C would be such a
    failure in the main thread: HDF5 is called inside `datatools.parallel.uninterrupted`.
    """

    def __init__(self, path: Path, *, resumes: bool = False) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | (0 if resumes else os.O_TRUNC), 0o666)
        self._position = self._end = 0
        self._is_discarded = self._keeps_zeros = False
        self.error: OSError | None = None

    def __enter__(self) -> "Storage":
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()
        os.close(self._descriptor)

    def discard(self) -> None:
        """Write nothing any more."""
        self._is_discarded = True

    def check(self) -> None:
        """Raise OSError where a write failed."""
        if self.error is not None:
            raise self.error

    def fileno(self) -> int:
        return self._descriptor

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set the position; HDF5 asks for the end of what it has written itself."""
        self._position = offset + (self._end if whence == os.SEEK_END else 0)
        return self._position

    def tell(self) -> int:
        return self._position

    def read(self, size: int) -> bytes:
        """Return `size` bytes, zeros where the file has ended."""
        return os.pread(self._descriptor, size, self._position).ljust(size, b"\0")

    def write(self, data: memoryview) -> int:
        """Write all of `data`."""
        self._end = max(self._end, self._position + len(data))
        if not self._keeps_zeros or np.frombuffer(data, np.uint8).any():
            self._attempt(write_at, data, self._position)
        return len(data)

    @contextmanager
    def zeros_stand_for_kept_bytes(self) -> Iterator[None]:
        """Leave in the file what is there, wherever zeros are written inside the block.

        These are chunks of zeros that HDF5 is given. Its own tables begin with signatures.
        """
        self._keeps_zeros = True
        try:
            yield
        finally:
            self._keeps_zeros = False

    def truncate(self, size: int) -> int:
        """Cut or extend the file."""
        self._end = size
        self._attempt(os.ftruncate, size)
        return size

    def flush(self) -> None:
        """Do nothing: there is no buffer."""

    def _attempt(self, change: Callable[..., object], *arguments: object) -> None:
        if self.error is None and not self._is_discarded:
            try:
                change(self._descriptor, *arguments)
            except OSError as error:
                self.error = error


def write_at(descriptor: int, data: bytes | memoryview, position: int) -> None:
    """Write all of `data` at an offset of an open file."""
    rest = memoryview(data)
    while rest:
        written = os.pwrite(descriptor, rest[:WRITE_BYTES], position)
        rest = rest[written:]
        position += written
