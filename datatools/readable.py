"""Files that are not what they should be: what they are instead, in words."""

from pathlib import Path

from datatools.errors import DataError

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


def check_readable(path: Path, what: str, name: str) -> None:
    """Raise DataError unless `path` is a regular file that this user may read.

    `what` it should be, such as "weight file"; `name`: what to give instead of a folder.
    """
    try:
        if path.is_dir():
            raise DataError(f"{path} is a folder; name {name}")
        if not path.exists():
            raise DataError(f"{path}: no such {what}")
        if not path.is_file():
            raise DataError(f"{path} is no file")  # a pipe, which would be waited for
        with path.open("rb"):
            pass
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def unlike(path: Path, expected: tuple[bytes, ...] = ()) -> str | None:
    """Return what a file is that cannot be read as what it should be, in words; None when its bytes do not show it.

    `expected`: how the right files begin, as far as `CONTENTS` has it.
    """
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except OSError as error:
        return error.strerror or str(error)
    if not start:
        return "it is empty"
    if not start.strip(b"\0"):
        return "it begins with zeros, as unfinished downloads do"
    begin = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    kinds = ((magic, words) for magic, words in CONTENTS if not magic.startswith(expected))
    return next((words for magic, words in kinds if begin.startswith(magic)), None)
