"""Standard streams of a command line that never fail: work continues, and exit codes stay true, without a console.

Nothing here acts on import: only command lines call `protect_console`, so a notebook keeps its streams as they are.
"""

import errno
import io
import os
import select
import sys
from typing import Any, TextIO

from datatools.errors import DataError, reason

GONE = (errno.EPIPE, errno.EIO, errno.EBADF, errno.ENXIO, errno.ECONNRESET)
"""Errors after which a console never comes back: the reader left, the terminal hung up."""


class _Console(io.RawIOBase):
    """Raw stream on a file descriptor whose failed writes lose their text and nothing else.

    A console that is gone is replaced by /dev/null, for libraries and child processes that write to it, too. After
    other errors, such as a full disk behind a redirection, the next write tries again.

    Attributes:
        lost: the first error that lost text, None as long as there is none; a reader that left is no error.
        gone: whether nobody will ever read what is written.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.lost: OSError | None = None
        self.gone = False

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        rest = memoryview(data).cast("B")
        size = len(rest)
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:  # the console was made non-blocking by another program that shares it
                select.select([], [self._descriptor], [])
            except OSError as error:
                if error.errno != errno.EPIPE:
                    self.lost = self.lost or error
                if error.errno in GONE:
                    self._discard()
                break
        return size

    def _discard(self) -> None:
        self.gone = True
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self._descriptor)
        os.close(null)


def protect_console() -> None:
    """Make stdout and stderr of this process streams that never fail. Only command lines call it, once.

    A stream that was closed before the start, breaks later or is full turns into silence. Characters that its encoding
    lacks, and bytes of file names that are no text, are written as escapes such as \\xe9. Lines appear when they are
    complete.
    """
    for descriptor in (0, 1, 2):  # a file opened at a free one would receive what libraries print
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
    sys.stdout = _protected(sys.stdout)
    sys.stderr = _protected(sys.stderr)


def _protected(stream: TextIO | None) -> TextIO:
    if stream is None:  # Python found the descriptor closed
        console = _Console(os.open(os.devnull, os.O_WRONLY))
        console.gone = True
        return io.TextIOWrapper(io.BufferedWriter(console), "utf-8", errors="backslashreplace")
    if not isinstance(stream, io.TextIOWrapper):
        return stream  # of a notebook or a test
    return io.TextIOWrapper(
        io.BufferedWriter(_Console(stream.fileno())), stream.encoding, errors="backslashreplace", line_buffering=True
    )


def check_printed() -> None:
    """Raise DataError when standard output lost text; for commands whose result is what they print.

    A reader that closed its end of a pipe, as `head` does, has what it wanted.
    """
    sys.stdout.flush()
    console = _console(sys.stdout)
    if console is not None and console.lost is not None:
        raise DataError(f"standard output cannot be written: {reason(console.lost)}")


def stderr_lost() -> bool:
    """Return whether something that was written to a protected stderr did not arrive."""
    console = _console(sys.stderr)
    return console is not None and (console.gone or console.lost is not None)


def _console(stream: TextIO) -> _Console | None:
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    return raw if isinstance(raw, _Console) else None


def say(line: str, stream: TextIO | None = None) -> None:
    """Print a line, to stdout by default. What the console refuses is lost, in programs of others, too."""
    stream = stream or sys.stdout
    try:
        encoding = getattr(stream, "encoding", None) or "utf-8"
        print(line.encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)
    except (OSError, ValueError, AttributeError):  # ValueError: closed by Python; AttributeError: there is no stdout
        pass
