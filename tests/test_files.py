"""`datatools.files`: whole or not at all, and nothing but files is replaced."""

import os
from pathlib import Path

import pytest

from datatools.files import atomic_path, check_writable


def write(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text)


def test_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write(path, "first")
    with (
        pytest.raises(UnicodeEncodeError),
        atomic_path(path) as temporary,
        temporary.open("w", encoding="ascii") as out,
    ):
        out.writelines(["second, in part", "\N{SNOWMAN}"])
    assert path.read_text() == "first"
    write(path, "second")
    assert path.read_text() == "second"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_what_is_no_file_is_never_replaced(tmp_path: Path, kind: str) -> None:
    path = tmp_path / kind
    os.mkfifo(path) if kind == "pipe" else path.mkdir()
    for begin in (check_writable, lambda path: write(path, "text")):
        with pytest.raises(OSError, match="is no regular file"):
            begin(path)
    assert not path.is_file()
    assert list(tmp_path.iterdir()) == [path]


def test_checking_leaves_everything_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "file"
    check_writable(path)
    assert list(tmp_path.iterdir()) == []
    path.write_text("kept")
    check_writable(path)
    assert path.read_text() == "kept"
    with pytest.raises(FileNotFoundError):
        check_writable(tmp_path / "nowhere" / "file")
