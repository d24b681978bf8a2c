"""Words for people, and the one reader for text files that people write or download."""

import codecs
from pathlib import Path

from datatools.errors import DataError

_UTF16 = {codecs.BOM_UTF32_LE: "UTF-32", codecs.BOM_UTF32_BE: "UTF-32"}  # first: UTF-32-LE begins like UTF-16-LE
_UTF16 |= {codecs.BOM_UTF16_LE: "UTF-16", codecs.BOM_UTF16_BE: "UTF-16"}

_PROBED = 4096
"""Bytes at the beginning that show whether a file without a byte order mark is UTF-16."""


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun: "1 photo", "30,000 photos", "no photos" as "0 photos".

    plural: where it is not the noun with an s, or -ies for -y.
    """
    if number == 1:
        return f"1 {noun}"
    if not plural:
        plural = f"{noun[:-1]}ies" if noun.endswith("y") and noun[-2:-1] not in "aeiou" else f"{noun}s"
    return f"{number:,} {plural}"


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
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
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
