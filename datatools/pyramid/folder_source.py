"""The pictures in a folder, its subfolders or a zip archive, in natural order of their names."""

import os
import re
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Literal

from datatools.errors import DataError, reason
from datatools.files import PICTURE_ENDINGS, SYSTEM_NAMES, as_data_error, list_pictures
from datatools.images import ImageError, not_readable, read_bytes
from datatools.text import counted

MAX_MEMBER_BYTES = 1 << 30
"""Files of an archive that would become larger are left out."""

SkippedKind = Literal[
    "unreadable", "not square", "too small", "no picture", "no regular file", "in a subfolder", "bad name", "no label"
]


@dataclass(frozen=True)
class Skipped:
    """A file that did not get into the pyramid. file_name: below the folder; reason: of this very file."""

    file_name: str
    kind: SkippedKind
    reason: str


@dataclass(frozen=True)
class Entry:
    """A file whose name ends as a picture's. name: below the folder, with / between folders; stamp: changes with it."""

    name: str
    stamp: tuple[int, ...]


@dataclass(frozen=True)
class PictureSource:
    """A folder or zip archive of pictures.

    Attributes:
        root: the folder or the archive.
        entries: the pictures, in natural order.
        skipped: all other files.
    """

    root: Path
    entries: tuple[Entry, ...]
    skipped: tuple[Skipped, ...]

    @property
    def in_subfolders(self) -> list[str]:
        """Return the names of pictures in subfolders where these were not asked for."""
        return [one.file_name for one in self.skipped if one.kind == "in a subfolder"]

    @property
    def hint(self) -> str:
        """Return the end of a message that there are no pictures: "" or where they may be."""
        below = self.in_subfolders
        if not below:
            return ""
        return (
            f"; it has {counted(len(below), 'picture')} in subfolders, such as {self.root / below[0]}: use --recursive"
        )


def natural_key(name: str) -> tuple[object, ...]:
    """Return what to sort names by so that numbers count as numbers: 2.jpg before 10.jpg, folder by folder."""
    *folders, file_name = name.split("/")
    stem, ending = os.path.splitext(file_name)
    # Texts and numbers alternate, beginning with a text, so that only like is compared with like.
    parts = [re.split("([0-9]+)", part) for part in (*folders, stem)]
    keys = [tuple(_number_key(text) if place % 2 else text for place, text in enumerate(part)) for part in parts]
    return tuple(keys), ending, name


def _number_key(digits: str) -> tuple[int, str]:
    """Return what to sort numbers of any length by."""
    significant = digits.lstrip("0")
    return len(significant), significant


def open_source(root: Path, *, recursive: bool = True) -> PictureSource:
    """List the pictures of a folder or zip archive; names decide what is a picture, as in `list_pictures`.

    Raises DataError for what is neither, and for a folder or archive that cannot be read.
    """
    if root.exists() and not root.is_dir():
        return _open_archive(root, recursive=recursive)
    files = list_pictures(root, recursive=recursive)
    entries = [Entry(path.relative_to(root).as_posix(), _stamp(path)) for path in files.pictures]
    skipped = [_not_used(path.relative_to(root).as_posix()) for path in files.others]
    skipped += [_below(path.relative_to(root).as_posix()) for path in files.below]
    return _sorted(root, entries, skipped)


def read_entry(root: Path, name: str) -> bytes:
    """Return the bytes of a picture. Raises ImageError where it cannot be read, DataError where the disk fails."""
    if root.is_dir():
        return read_bytes(root / name)
    try:
        archive = _archive(root, os.getpid())
        if archive.getinfo(name).file_size > MAX_MEMBER_BYTES:
            raise ImageError(f"unpacked it has more than {MAX_MEMBER_BYTES >> 20} MiB", "too-large")
        return archive.read(name)
    except ImageError:
        raise
    except Exception as error:  # zipfile raises what the damage leads to, and RuntimeError where a password is needed
        raise not_readable(error, root, " from the archive") from error


def describe_skipped(skipped: Iterable[Skipped]) -> list[str]:
    """Return a line for every kind of files that were left out: how many, an example and its reason."""
    kinds: dict[str, list[Skipped]] = {}
    for one in skipped:
        kinds.setdefault(one.kind, []).append(one)
    return [
        f"skipped {'' if len(alike) == 1 else f'{len(alike):,} files, such as '}{alike[0].file_name}: {alike[0].reason}"
        for alike in kinds.values()
    ]


def _sorted(root: Path, entries: Sequence[Entry], skipped: Sequence[Skipped]) -> PictureSource:
    return PictureSource(root, tuple(sorted(entries, key=lambda entry: natural_key(entry.name))), tuple(skipped))


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        status = path.stat()
    except OSError:  # reading it says why
        return ()
    return status.st_size, status.st_mtime_ns


def _not_used(name: str) -> Skipped:
    if PurePosixPath(name).suffix.lower() in PICTURE_ENDINGS:
        return Skipped(name, "no regular file", "no regular file, or a link that leads nowhere")
    return Skipped(name, "no picture", "not a picture by its name's ending")


def _below(name: str) -> Skipped:
    return Skipped(name, "in a subfolder", "lies in a subfolder, which --no-recursive leaves out")


@lru_cache(1)
def _archive(path: Path, _process: int) -> zipfile.ZipFile:
    """Open an archive, once in each process: a fork shares the position in an open file."""
    return zipfile.ZipFile(path)


def _open_archive(path: Path, *, recursive: bool) -> PictureSource:
    if not path.is_file() or not zipfile.is_zipfile(path):
        raise DataError(f"{path}: is neither a folder nor a zip archive")
    with as_data_error(path, "read"):
        try:
            members = {member.filename: member for member in zipfile.ZipFile(path).infolist() if not member.is_dir()}
        except zipfile.BadZipFile as error:
            raise DataError(f"{path}: damaged zip archive ({reason(error)})") from error
    entries, skipped = [], []
    for name, member in members.items():
        parts = name.split("/")
        if any((part.startswith(".") and part != "..") or part.lower() in SYSTEM_NAMES for part in parts):
            continue
        if "" in parts or ".." in parts:
            skipped.append(Skipped(name, "bad name", "its name in the archive leads out of the folder"))
        elif PurePosixPath(name).suffix.lower() not in PICTURE_ENDINGS:
            skipped.append(_not_used(name))
        elif len(parts) > 1 and not recursive:
            skipped.append(_below(name))
        else:
            entries.append(Entry(name, (member.file_size, member.CRC)))
    return _sorted(path, entries, skipped)
