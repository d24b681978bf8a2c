"""Unpacking of 7z archives in parts, zip and tar archives; all of an archive appears, or nothing.

Names that lead out of the folder, links, and names that occur twice are refused before anything is written. An archive
that cannot be read is an error that names the part that is missing or broken.
"""

import io
import lzma
import os
import re
import shutil
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from datatools.download.fetch import difference
from datatools.errors import DataError, one_line
from datatools.files import as_data_error, partial_path, unlike
from datatools.text import byte_size, counted

Report = Callable[[int], object]
"""Gets the number of bytes of the archive that were read since the last call."""

_PART = re.compile(r"(?P<stem>.+\.7z)\.(?P<number>\d{3})")
_MAGIC = b"7z\xbc\xaf\x27\x1c"
_HEADER_BYTES = 32
_DRIVE = re.compile(r"[A-Za-z]:")


@dataclass(frozen=True)
class Entry:
    """An entry of an archive. is_plain: whether it is a file or a folder."""

    name: str
    size: int
    is_plain: bool = True


def unpack(
    archive: Path, target: Path, *, checksums: Mapping[str, str] | None = None, report: Report = lambda _: None
) -> None:
    """Unpack an archive into the folder `target`, which gets all entries at the top of the archive, or none.

    Args:
        archive: a .7z, .zip or .tar.gz file, or the first part (.7z.001), whose others lie in the same folder.
        target: made where it does not exist. What it has already under the name of an entry is not replaced.
        checksums: of the parts by name ("sha1:..."), to name a broken one.
        report: gets bytes of the archive.

    Raises:
        DataError: a part is missing or broken, a name is not safe, the disk is too small, py7zr is not installed.
    """
    with as_data_error(target):
        target.mkdir(parents=True, exist_ok=True)
    temporary = partial_path(target / archive.name)
    opened = _open(archive, checksums or {}, report)
    with opened as source:
        check_entries(archive, source.entries)
        tops = sorted({PurePosixPath(entry.name).parts[0] for entry in source.entries})
        there = next((target / top for top in tops if os.path.lexists(target / top)), None)
        if there is not None:
            raise DataError(f"{there} exists; move it away to unpack {archive.name} again")
        _check_space(target, sum(entry.size for entry in source.entries))
        with as_data_error(target):
            shutil.rmtree(temporary, ignore_errors=True)  # of a process that was killed
            temporary.mkdir()
            try:
                source.extract(temporary)
                for top in tops:
                    os.replace(temporary / top, target / top)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)


def check_entries(archive: Path, entries: Iterable[Entry]) -> None:
    """Raise DataError for an archive of which an entry would lie outside of the folder, is a link, or occurs twice."""
    names: set[str] = set()
    for entry in entries:
        path = PurePosixPath(entry.name)
        unsafe = (
            not path.parts
            or path.is_absolute()
            or ".." in path.parts
            or "\\" in entry.name
            or "\0" in entry.name
            or _DRIVE.match(entry.name)
        )
        if unsafe:
            raise DataError(
                f"{archive}: the name {entry.name[:80]!r} in it leads out of the folder; it is not unpacked"
            )
        if not entry.is_plain:
            raise DataError(f"{archive}: {entry.name[:80]!r} in it is a link or a device; it is not unpacked")
        if str(path) in names:
            raise DataError(f"{archive}: {entry.name[:80]!r} occurs twice in it; it is not unpacked")
        names.add(str(path))
    if not names:
        raise DataError(f"{archive}: holds no files")


def find_parts(first: Path) -> list[Path]:
    """Return the parts of a 7z archive, in order. Raises DataError for missing, cut off and superfluous ones."""
    match = _PART.fullmatch(first.name)
    if match is None:
        return [first]
    stem = match["stem"]
    first = first.with_name(f"{stem}.001")
    if not first.is_file():
        raise DataError(f"{first}: is missing; the first part has to be there")
    size = _archive_size(first)
    part_size = first.stat().st_size
    count = -(-size // part_size)
    parts = [first.with_name(f"{stem}.{number:03}") for number in range(1, count + 1)]
    missing = [part.name for part in parts if not part.is_file()]
    if missing:
        others = f" and {counted(len(missing) - 1, 'other')}" if len(missing) > 1 else ""
        raise DataError(f"{first.parent}: {missing[0]}{others} missing of {counted(count, 'part')}: download it again")
    for number, part in enumerate(parts):
        expected = part_size if number < count - 1 else size - part_size * (count - 1)
        there = part.stat().st_size
        if there != expected:
            raise DataError(f"{part}: has {there:,} bytes, not {expected:,}: remove it and download it again")
    return parts


def _archive_size(first: Path) -> int:
    """Return the size of a whole 7z archive, as its first 32 bytes tell it."""
    with as_data_error(first, "read"), first.open("rb") as file:
        header = file.read(_HEADER_BYTES)
    if len(header) < _HEADER_BYTES or not header.startswith(_MAGIC):
        other = unlike(first, (b"7z\xbc\xaf",)) or "it is cut off or damaged"
        raise DataError(f"{first}: is not the beginning of a 7z archive ({other}): remove it and download it again")
    if zlib.crc32(header[12:]) != struct.unpack("<I", header[8:12])[0]:
        raise DataError(f"{first}: its first bytes are damaged: remove it and download it again")
    offset, size = struct.unpack("<QQ", header[12:28])
    return _HEADER_BYTES + int(offset) + int(size)


class Parts(io.RawIOBase):
    """The parts of an archive as one file for reading; `current` is the part of which bytes were read last."""

    def __init__(self, parts: list[Path], report: Report) -> None:
        self._files = [part.open("rb") for part in parts]
        self._sizes = [part.stat().st_size for part in parts]
        self._parts, self._report = parts, report
        self._position = self._reported = 0
        self.current = parts[0]

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: sum(self._sizes)}[whence]
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        start = 0
        for part, file, size in zip(self._parts, self._files, self._sizes, strict=True):
            if start <= self._position < start + size:
                self.current = part
                file.seek(self._position - start)
                count = file.readinto(memoryview(buffer)[: start + size - self._position])
                self._position += count
                if self._position > self._reported:
                    self._report(self._position - self._reported)
                    self._reported = self._position
                return count
            start += size
        return 0

    def close(self) -> None:
        for file in self._files:
            file.close()
        super().close()


class _Source:
    """An opened archive: what it has, and how to write all of it into an empty folder."""

    def __init__(self, entries: list[Entry], extract: Callable[[Path], None]) -> None:
        self.entries, self.extract = entries, extract


def _open(archive: Path, checksums: Mapping[str, str], report: Report) -> Any:
    """Return the archive as a context manager that gives a `_Source`."""
    if not archive.is_file() and not _PART.fullmatch(archive.name):
        raise DataError(f"{archive}: no such file")
    if ".7z" in archive.name:
        return _open_7z(archive, checksums, report)
    return _open_zip(archive, report) if archive.suffix == ".zip" else _open_tar(archive, report)


@contextmanager
def _open_7z(archive: Path, checksums: Mapping[str, str], report: Report) -> Iterator[_Source]:
    parts = find_parts(archive)
    try:
        import py7zr
        from py7zr.exceptions import ArchiveError
    except ImportError as error:
        raise DataError(
            f"{parts[0]}: py7zr is needed to unpack it: pip install 'celebahq[download]', or unpack it yourself: "
            f"7z x {parts[0].name}"
        ) from error
    with as_data_error(archive, "read"):
        stream = Parts(parts, report)
    damage = (ArchiveError, lzma.LZMAError, zlib.error, EOFError, ValueError, struct.error, KeyError, IndexError)
    with stream:
        try:
            with py7zr.SevenZipFile(io.BufferedReader(stream, 1 << 20), "r") as file:
                entries = [
                    Entry(each.filename, each.uncompressed or 0, each.is_file or each.is_directory)
                    for each in file.files
                ]
                yield _Source(entries, lambda folder: file.extractall(folder))
        except py7zr.exceptions.PasswordRequired as error:
            raise DataError(f"{archive}: is encrypted; unpack it yourself") from error
        except damage as error:
            raise DataError(_broken(parts, stream.current, checksums, error)) from error


def _broken(parts: list[Path], current: Path, checksums: Mapping[str, str], error: BaseException) -> str:
    """Say which part of an archive is broken: by the checksums where they are known, else the one read last."""
    again = "remove it and download it again"
    for part in parts:
        problem = difference(part, None, checksums.get(part.name, ""))
        if problem:
            return f"{part}: is broken ({problem}): {again}"
    known = all(part.name in checksums for part in parts)
    where = "though all parts have the right checksums" if known else f"while {current.name} was read: {again}"
    return f"{current}: the archive is damaged ({one_line(error, 80)}), {where}"


@contextmanager
def _open_zip(archive: Path, report: Report) -> Iterator[_Source]:
    try:
        with zipfile.ZipFile(archive) as file:
            infos = file.infolist()

            def extract(folder: Path) -> None:
                for info in infos:
                    try:
                        file.extract(info, folder)
                    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError) as error:
                        raise DataError(
                            f"{archive}: {info.filename} in it is damaged ({one_line(error, 80)}): remove the archive "
                            "and download it again"
                        ) from error
                    report(info.compress_size)

            kinds = [(info.external_attr >> 16) & 0o170000 for info in infos]
            plain = (0, 0o100000, 0o040000)
            entries = [
                Entry(info.filename, info.file_size, kind in plain) for info, kind in zip(infos, kinds, strict=True)
            ]
            yield _Source(entries, extract)
    except zipfile.BadZipFile as error:
        other = unlike(archive, (b"pk\x03\x04",)) or "it is cut off or damaged"
        raise DataError(f"{archive}: is not a whole zip archive ({other}): remove it and download it again") from error


@contextmanager
def _open_tar(archive: Path, report: Report) -> Iterator[_Source]:
    try:
        with tarfile.open(archive) as file:
            members = [member for member in file.getmembers() if PurePosixPath(member.name).parts]  # not "./"

            def extract(folder: Path) -> None:
                for member in members:
                    file.extract(member, folder, filter="data")
                    report(member.size)

            entries = [Entry(member.name, member.size, member.isfile() or member.isdir()) for member in members]
            yield _Source(entries, extract)
    except (tarfile.TarError, zlib.error, lzma.LZMAError, EOFError) as error:
        other = unlike(archive, (b"\x1f\x8b",)) or "it is cut off or damaged"
        raise DataError(f"{archive}: is not a whole tar archive ({other}): remove it and download it again") from error


def _check_space(target: Path, size: int) -> None:
    free = shutil.disk_usage(target).free
    if size > free:
        raise DataError(
            f"{target}: unpacking takes {byte_size(size)}, {byte_size(free)} of disk are free; free some or choose "
            "another folder"
        )
