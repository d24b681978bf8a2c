"""`datatools.text`: numbers with their nouns; text files as people's editors and downloads leave them."""

from pathlib import Path

import pytest

from datatools.errors import DataError
from datatools.text import counted, read_lines

LINES = ["000001.jpg", "", "000002.jpg é"]


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [
        (0, "photo", "0 photos"),
        (1, "photo", "1 photo"),
        (2, "entry", "2 entries"),
        (1, "entry", "1 entry"),
        (3, "day", "3 days"),
        (30_000, "image", "30,000 images"),
    ],
)
def test_counted(number: int, noun: str, text: str) -> None:
    assert counted(number, noun) == text


def test_nouns_with_a_plural_of_their_own() -> None:
    assert [counted(number, "box of", "boxes of") for number in (1, 2)] == ["1 box of", "2 boxes of"]


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
    with pytest.raises(DataError, match=r"cannot read .*: Is a directory"):
        read_lines(tmp_path)
    with pytest.raises(DataError, match=r"cannot read .*: No such file"):
        read_lines(path)
    path.write_bytes(b"000001.jpg\n\x00\x00\x01\n")
    with pytest.raises(DataError, match="is not a text file"):
        read_lines(path)
    path.write_bytes("000001.jpg\n000002.jpg # müde\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"is not UTF-8 \(line 2\); save it as UTF-8"):
        read_lines(path)
    assert read_lines(path, tolerant=True) == ["000001.jpg", "000002.jpg # m\ufffdde"]
