"""`datatools.files`: whole or not at all, nothing but files is replaced; which files of a folder are pictures; text
files as people's editors and downloads leave them."""

import errno
import os
import resource
import shutil
import stat
from pathlib import Path

import pytest
from PIL import Image

from datatools.errors import DataError
from datatools.files import (
    PICTURE_ENDINGS,
    alone_in,
    append_whole,
    as_data_error,
    atomic_path,
    check_writable,
    list_pictures,
    read_lines,
    utf8_path,
)
from datatools.images import read_rgb

LINES = ["000001.jpg", "", "000002.jpg é"]


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
        with pytest.raises(OSError, match="is not a regular file"):
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


def make_files(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("text")


def listed(folder: Path, paths: tuple[Path, ...]) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in paths]


def test_pictures_are_listed_by_name(tmp_path: Path) -> None:
    wanted = ["1.TIFF", "10.png", "B.jpg", "a.JPEG", "a.jpe", "b.WebP", "z.bmp", "\u00e9.gif"]
    make_files(tmp_path, *reversed(wanted), "notes.txt", "noending", "photo.jpg.part")
    make_files(
        tmp_path, ".hidden.png", "._000001.jpg", "Thumbs.db", "Desktop.ini", ".DS_Store", "Icon\r", "__MACOSX/a.png"
    )
    make_files(tmp_path, ".git/a.png", "sub/c.png", "sub/deeper/d.png", "sub/e.txt", "sub/._c.png", "sub-2/f.png")
    found = list_pictures(tmp_path)
    assert listed(tmp_path, found.pictures) == wanted
    assert listed(tmp_path, found.others) == ["noending", "notes.txt", "photo.jpg.part"]
    assert listed(tmp_path, found.below) == ["sub/c.png", "sub/deeper/d.png", "sub-2/f.png"]
    everything = list_pictures(tmp_path, recursive=True)
    at = wanted.index("z.bmp")
    assert listed(tmp_path, everything.pictures) == [*wanted[:at], *listed(tmp_path, found.below), *wanted[at:]]
    assert listed(tmp_path, everything.others) == ["noending", "notes.txt", "photo.jpg.part", "sub/e.txt"]
    assert everything.below == ()


def test_links_to_pictures_and_folders(tmp_path: Path) -> None:
    make_files(tmp_path, "there/a.png", "here/b.png", "here/folder.png/c.png")
    (tmp_path / "here" / "file.png").symlink_to(tmp_path / "there" / "a.png")
    (tmp_path / "here" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "here" / "itself.png").symlink_to(tmp_path / "here" / "itself.png")
    (tmp_path / "here" / "more").symlink_to(tmp_path / "there")
    (tmp_path / "here" / "same").symlink_to(tmp_path / "there")
    (tmp_path / "here" / "up").symlink_to(tmp_path / "here")
    os.mkfifo(tmp_path / "here" / "pipe.png")  # opening it would wait for ever
    here = tmp_path / "here"
    found = list_pictures(here)
    assert listed(here, found.pictures) == ["b.png", "file.png", "gone.png", "itself.png"]
    assert listed(here, found.others) == ["pipe.png"]
    assert listed(here, found.below) == ["folder.png/c.png", "more/a.png"]


def test_folders_that_cannot_be_listed(tmp_path: Path) -> None:
    make_files(tmp_path, "file")
    for path in (tmp_path / "absent", tmp_path / "file"):
        with pytest.raises(DataError, match=f"{path.name}: cannot be read as a folder"):
            list_pictures(path)


@pytest.mark.parametrize("ending", sorted(PICTURE_ENDINGS))
def test_endings_are_those_of_formats_that_are_decoded(ending: str, tmp_path: Path) -> None:
    if ending in {".heic", ".heif"}:
        pytest.importorskip("pillow_heif", reason="the extra heic is not installed").register_heif_opener()
    formats = {"JPEG", "PNG", "WEBP", "AVIF", "HEIF", "BMP", "TIFF", "GIF", "PPM"}
    assert Image.registered_extensions()[ending] in formats
    Image.new("RGB", (3, 2)).save(tmp_path / f"a{ending}")
    assert read_rgb(tmp_path / f"a{ending}").shape == (2, 3, 3)


def test_appending_takes_all_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    append_whole(path, b"one\n")
    append_whole(path, b"two\n")
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (12, limit[1]))
        with pytest.raises(OSError, match="File too large"):  # after four bytes of it
            append_whole(path, b"three\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert path.read_bytes() == b"one\ntwo\n"
    if Path("/dev/full").exists():
        with pytest.raises(OSError, match="No space left"):
            append_whole(Path("/dev/full"), b"four\n")


def test_the_first_error_is_told_when_the_folder_is_gone(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()

    def fail() -> None:
        with atomic_path(folder / "file"):
            folder.rename(tmp_path / "moved")
            folder.write_text("in its place")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match="No space left"):
        fail()


def test_a_name_in_utf_8_for_every_file(tmp_path: Path) -> None:
    for name in (b"plain", "gr\xfc\xdfe".encode(), b"gr\xfc\xdfe"):
        path = tmp_path / os.fsdecode(name)
        path.write_bytes(name)
        with utf8_path(path) as readable:
            assert str(readable).encode()
            assert readable.read_bytes() == name


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "b"), "--out a: cannot be written: No space left on device"),
        (OSError("two\nlines"), "--out a: cannot be written: two lines"),
        (OSError(), "--out a: cannot be written: OSError"),
    ],
)
def test_refusals_of_the_system_are_one_line(error: OSError, message: str) -> None:
    with pytest.raises(DataError) as raised, as_data_error("--out a"):
        raise error
    assert str(raised.value) == message
    with pytest.raises(DataError, match=r"^a: cannot be read: gone; try b$"), as_data_error("a", "read", "; try b"):
        raise OSError(errno.ENOENT, "gone")
    with pytest.raises(ValueError, match="other"), as_data_error("a"):
        raise ValueError("other")


@pytest.mark.parametrize(
    "data",
    [
        "\n".join(LINES).encode(),
        "\n".join(LINES).encode("utf-8-sig"),
        "\r\n".join(LINES).encode(),
        "\r".join(LINES).encode(),
        ("\n".join(LINES) + "\n \n\n").encode(),
        "\n\ufeff".join(LINES).encode("utf-8-sig"),
    ],
    ids=["LF", "byte order mark", "CR LF", "CR", "blank lines at the end", "joined files"],
)
@pytest.mark.parametrize("tolerant", [False, True])
def test_lines(data: bytes, tolerant: bool, tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(data)
    assert read_lines(path, tolerant=tolerant) == LINES


def test_only_line_ends_end_lines(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes("a\x0cb\rc\u2028d\x85e\nf".encode())
    assert read_lines(path) == ["a\x0cb\rc\u2028d\x85e", "f"]


def test_empty_files(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    for data in (b"", b"\n\n", b"\xef\xbb\xbf"):
        path.write_bytes(data)
        assert read_lines(path) == []


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [("utf-16", "UTF-16"), ("utf-16-le", "UTF-16"), ("utf-16-be", "UTF-16"), ("utf-32", "UTF-32")],
)
@pytest.mark.parametrize("tolerant", [False, True])
def test_other_encodings_are_named(encoding: str, shown: str, tolerant: bool, tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes("\r\n".join(LINES).encode(encoding))
    with pytest.raises(DataError) as caught:
        read_lines(path, tolerant=tolerant)
    assert str(caught.value) == f"{path} is {shown}; save it as UTF-8"


def test_what_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    with pytest.raises(DataError, match=r": cannot be read: Is a directory"):
        read_lines(tmp_path)
    with pytest.raises(DataError, match=r": cannot be read: No such file"):
        read_lines(path)
    path.write_bytes(b"000001.jpg\n\x00\x00\x01\n")
    with pytest.raises(DataError, match="is not a text file"):
        read_lines(path)
    path.write_bytes("000001.jpg\n000002.jpg # müde\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"is not UTF-8 \(line 2\); save it as UTF-8"):
        read_lines(path)
    assert read_lines(path, tolerant=True) == ["000001.jpg", "000002.jpg # m\ufffdde"]


def test_a_file_system_that_flushes_no_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_folders(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", no_folders)
    with atomic_path(tmp_path / "file") as temporary:
        temporary.write_text("whole")
    assert (tmp_path / "file").read_text() == "whole"

    def nothing(_descriptor: int) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", nothing)
    with pytest.raises(OSError, match="Invalid argument"), atomic_path(tmp_path / "file") as temporary:
        temporary.write_text("other")
    assert (tmp_path / "file").read_text() == "whole"


def test_one_process_at_a_time_works_in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datatools.files.LOCK_PATIENCE", 0.0)
    work, out = tmp_path / "work", tmp_path / "out"
    with alone_in(work, out):
        with pytest.raises(DataError, match=r"out: another process is writing it"), alone_in(work, out):
            pass
        shutil.rmtree(work)  # as those do that finish
    with alone_in(work, out):
        assert work.is_dir()


def test_a_file_system_without_locks_keeps_nobody_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    with alone_in(tmp_path / "work", tmp_path / "out"), alone_in(tmp_path / "work", tmp_path / "out"):
        assert (tmp_path / "work").is_dir()
