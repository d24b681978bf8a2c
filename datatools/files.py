"""Files that are there whole or not at all, errors about them in one line, text files, the pictures in a folder."""

import codecs
import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from datatools.errors import DataError, reason
from datatools.text import counted

PICTURE_ENDINGS = frozenset(
    {
        *(".avif", ".bmp", ".gif", ".heic", ".heif", ".jfif", ".jpe", ".jpeg", ".jpg"),
        *(".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"),
    }
)
"""Endings of the formats that `datatools.images` decodes; upper and lower case are the same."""

SYSTEM_NAMES = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "@eadir", "icon\r"})
"""Files that Windows, macOS and network disks add to a user's folders, in lower case."""


CONTENTS = (
    (b"<!doctype html", "it is a web page, not the file itself: download it again"),
    (b"<html", "it is a web page, not the file itself: download it again"),
    (b"version https://git-lfs", "it is a Git LFS pointer, not the file itself: git lfs pull gets that"),
    (b"\x89hdf", "it is an HDF5 file"),
    (b"pk\x03\x04", "it is a zip archive, as PyTorch's .pt and .pth files are"),
    (b"\x80\x02", "it is a pickle, as PyTorch's older files and the networks published in 2017 and 2018 are"),
    (b"\x80\x03", "it is a pickle, as the networks published in 2017 and 2018 are"),
    (b"\x80\x04", "it is a pickle"),
    (b"\x80\x05", "it is a pickle"),
    (b"\x1f\x8b", "it is compressed with gzip"),
    (b"7z\xbc\xaf", "it is a 7z archive"),
    (b"\x89png", "it is a picture"),
    (b"\xff\xd8\xff", "it is a picture"),
    (b"{", "it is a JSON text"),
)
"""How files begin that are taken for others, in lower case, and what to say of them."""

LOCK = "lock"
"""File in a folder of unfinished work that the process at work there has locked."""

LOCK_PATIENCE = 3.0
"""Seconds to wait for the lock of another process, which may have been killed just now: its workers end after it."""

_UTF16 = {codecs.BOM_UTF32_LE: "UTF-32", codecs.BOM_UTF32_BE: "UTF-32"}  # first: UTF-32-LE begins like UTF-16-LE
_UTF16 |= {codecs.BOM_UTF16_LE: "UTF-16", codecs.BOM_UTF16_BE: "UTF-16"}

_PROBED = 4096
"""Bytes at the beginning that show whether a file without a byte order mark is UTF-16."""


@contextmanager
def as_data_error(what: object, verb: str = "written", hint: str = "") -> Iterator[None]:
    """Turn an OSError inside the block into the DataError "<what>: cannot be <verb>: <reason>", and `hint` after it."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{what}: cannot be {verb}: {reason(error)}{hint}") from error


class FileStamp(NamedTuple):
    """What changes whenever a file's content does, as far as the file system tells."""

    size: int
    modified: int
    """Time of the last change of the content in nanoseconds, which programs may set back."""
    changed: int
    """Time of the last change of content or entry in nanoseconds, which none can."""


def file_stamp(path: str | Path) -> FileStamp:
    """Return the stamp of a file. Raises OSError where there is none."""
    status = os.stat(path)
    return FileStamp(status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def partial_path(path: Path) -> Path:
    """Return the name under which `path` is written until it is complete (in its folder, so the rename is atomic)."""
    return path.with_name(f".{path.name}.partial")


def fsync_path(path: Path) -> None:
    """Flush a file or a folder's entries to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems flush no folders; the files in it are flushed by themselves.
        if error.errno != errno.EINVAL or not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise
    finally:
        os.close(descriptor)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to `path`; on success it is flushed and renamed, on failure removed.

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
        with suppress(OSError):  # where the folder is gone, too, the first error says so
            temporary.unlink(missing_ok=True)
        raise
    fsync_path(path.parent)


def append_whole(path: Path, data: bytes) -> None:
    """Append `data` to a file, made when it is not there, and flush it; raises OSError and appends nothing on failure.

    A full disk takes a part of what is written to it; that part is cut off again.
    """
    with path.open("ab", buffering=0) as stream:
        before = stream.tell()
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[stream.write(rest) :]
            os.fsync(stream.fileno())
        except BaseException:
            with suppress(OSError):
                stream.truncate(before)
            raise


def take_lock(stream: IO[bytes], kind: int = fcntl.LOCK_EX) -> bool:
    """Lock an open file until it is closed, in processes forked meanwhile too; False where another process has it.

    Raises OSError where the file system knows no locks.
    """
    try:  # not by filelock: a killed process's workers must hold it too, and its soft lock would outlive a kill
        fcntl.flock(stream, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def alone_in(folder: Path, out: Path) -> Iterator[None]:
    """Make a folder for the unfinished work on `out`, and keep other processes out of it; it may be removed inside.

    Raises DataError where another process works there, or it cannot be made. File systems without locks keep nobody
    out.
    """
    with as_data_error(folder):
        stream = _lock_of(folder)
    if stream is None:
        raise DataError(f"{out}: another process is writing it; wait for it, or give another name")
    with stream:
        yield


def _lock_of(folder: Path) -> IO[bytes] | None:
    deadline = time.monotonic() + LOCK_PATIENCE
    while True:
        folder.mkdir(exist_ok=True)
        with suppress(FileNotFoundError):  # the process before has just finished, and removed the folder
            stream = (folder / LOCK).open("ab")
            try:
                if take_lock(stream) and os.path.samestat(os.fstat(stream.fileno()), (folder / LOCK).stat()):
                    return stream
            except FileNotFoundError:
                pass
            except OSError:
                return stream
            stream.close()
        if time.monotonic() > deadline:
            return None
        time.sleep(0.1)


@contextmanager
def utf8_path(path: Path) -> Iterator[Path]:
    """Yield a name of a readable file that is valid UTF-8, for libraries that refuse others; most often `path` itself.

    Raises OSError where the file cannot be opened.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        with path.open("rb") as stream:
            yield Path(f"/dev/fd/{stream.fileno()}")
    else:
        yield path


def check_writable(path: Path) -> None:
    """Raise OSError where `atomic_path` could not even begin, before hours of work are to be written there."""
    temporary = _begun(path)
    temporary.touch()
    temporary.unlink()


def _begun(path: Path) -> Path:
    """Return where `path` is written first. Raises OSError for a path that exists and is not a regular file."""
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "is not a regular file", str(path))  # a rename would replace /dev/null
    return partial_path(path)


@dataclass(frozen=True)
class PictureFolder:
    """What a folder holds, each part sorted by name.

    Attributes:
        pictures: files whose names end as a picture's, links to files among them; some may be damaged.
        others: all other files.
        below: pictures in subfolders, where these are not asked for.
    """

    pictures: tuple[Path, ...]
    others: tuple[Path, ...]
    below: tuple[Path, ...]

    @property
    def hint(self) -> str:
        """Return the end of a message that there are no pictures: "" or where they may be."""
        if not self.below:
            return ""
        return (
            f"; it has {counted(len(self.below), 'picture')} in subfolders, such as {self.below[0]}: name one of them"
        )


def list_pictures(folder: Path, *, recursive: bool = False) -> PictureFolder:
    """List the pictures in `folder`; with `recursive`, those in its subfolders too.

    Names decide (PICTURE_ENDINGS). The order is that of the names' code points, wherever the program runs. Hidden files
    and folders (also `._name.jpg`, which macOS adds) and those of SYSTEM_NAMES count as not there. Links are followed,
    each folder is visited once. A link that leads nowhere is listed, so that whoever reads it reports it.

    Raises: DataError for a folder that cannot be read.
    """
    walk = _walk(folder, set(), strict=recursive)
    found = {path: regular and path.suffix.lower() in PICTURE_ENDINGS for path, regular in walk}
    wanted = [path for path in found if recursive or path.parent == folder]
    return PictureFolder(
        pictures=tuple(path for path in wanted if found[path]),
        others=tuple(path for path in wanted if not found[path]),
        below=tuple(path for path in found if found[path] and not recursive and path.parent != folder),
    )


def _walk(folder: Path, visited: set[tuple[int, int]], *, strict: bool) -> Iterator[tuple[Path, bool]]:
    """Yield (file, whether it may be opened) below `folder`, by name; without `strict`, skip unreadable subfolders."""
    try:
        status = folder.stat()
        names = sorted(os.listdir(folder))
    except OSError as error:
        if strict or not visited:
            raise DataError(f"{folder}: cannot be read as a folder: {reason(error)}") from error
        return
    if (status.st_dev, status.st_ino) in visited:  # a link to a folder above it, or two links to one
        return
    visited.add((status.st_dev, status.st_ino))
    for name in names:
        if name.startswith(".") or name.lower() in SYSTEM_NAMES:
            continue
        path = folder / name
        try:
            mode = path.stat().st_mode
        except OSError:
            mode = stat.S_IFREG  # a link that leads nowhere: reading it says so
        if stat.S_ISDIR(mode):
            yield from _walk(path, visited, strict=strict)
        else:
            yield path, stat.S_ISREG(mode)  # opening a pipe would wait for ever


def check_readable(path: Path, what: str, name: str) -> None:
    """Raise DataError unless `path` is a regular file that this user may read.

    `what` it should be, such as "weight file"; `name`: what to give instead of a folder.
    """
    with as_data_error(path, "read"):
        if path.is_dir():
            raise DataError(f"{path} is a folder; name {name}")
        if not path.exists():
            raise DataError(f"{path}: no such {what}")
        if not path.is_file():
            raise DataError(f"{path} is not a file")  # a pipe, which would be waited for
        with path.open("rb"):
            pass


def unlike(path: Path, expected: tuple[bytes, ...] = ()) -> str | None:
    """Return what a file is that cannot be read as what it should be, in words; None when its bytes do not show it.

    `expected`: how the right files begin, as far as `CONTENTS` has it.
    """
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except OSError as error:
        return reason(error)
    if not start:
        return "it is empty"
    if not start.strip(b"\0"):
        return "it begins with zeros, as unfinished downloads do"
    begin = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    kinds = ((magic, words) for magic, words in CONTENTS if not magic.startswith(expected))
    return next((words for magic, words in kinds if begin.startswith(magic)), None)


def open_array(path: Path) -> NDArray[Any]:
    """Return the array of an .npy file on the disk; its values are not read yet, and pickled objects never are.

    Raises OSError, or ValueError with the reason in words, for a file that is damaged or holds objects.
    """
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError:
        raise
    except Exception as error:  # NumPy raises what the damage leads to, in words about its own functions
        if "Python objects" in str(error) or "pickled" in str(error).lower():
            raise ValueError("it holds Python objects, not numbers") from error
        raise ValueError("it is cut off or damaged") from error
    return array


def read_lines(path: Path, *, tolerant: bool = False) -> list[str]:
    """Read a UTF-8 text file as lines, without line ends, byte order marks and blank lines at the end.

    Lines end with LF, CR LF, or CR in a file that has no LF. Other characters that Python's `splitlines` splits at
    (form feed, U+2028 ...) end no line: damage puts them there.

    Args:
        path: the file.
        tolerant: replace bytes that are not UTF-8 by U+FFFD, so that damage costs the lines it hit alone.

    Raises:
        DataError: a file that cannot be read, or is UTF-16; without `tolerant`, one that is not text either.
    """
    if os.path.islink(path) and not os.path.exists(path):
        raise DataError(f"{path} is a link that leads nowhere, or to itself")
    with as_data_error(path, "read"):
        data = Path(path).read_bytes()
    encoding = next((name for mark, name in _UTF16.items() if data.startswith(mark)), None)
    if encoding or _alternates_with_zeros(data[:_PROBED]):
        raise DataError(f"{path} is {encoding or 'UTF-16'}; save it as UTF-8")
    text = data.decode("utf-8", errors="replace") if tolerant else _decode(path, data)
    text = text.replace("\ufeff", "").replace("\r\n", "\n")  # marks in the middle come from joined files
    if "\n" not in text:
        text = text.replace("\r", "\n")
    lines = text.split("\n")
    while lines and not lines[-1].strip():
        lines.pop()
    return lines


def _alternates_with_zeros(data: bytes) -> bool:
    """Return whether ASCII stands here as UTF-16: nearly every other byte is zero, and none of the others."""
    for zeros, others in ((data[1::2], data[::2]), (data[::2], data[1::2])):
        if len(others) > 3 and zeros.count(0) >= 0.9 * len(zeros) and not others.count(0):
            return True
    return False


def _decode(path: Path, data: bytes) -> str:
    if b"\0" in data:
        raise DataError(f"{path} is not a text file")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path} is not UTF-8 (line {line}); save it as UTF-8") from error
