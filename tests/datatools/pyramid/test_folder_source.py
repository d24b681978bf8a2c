"""datatools.pyramid.folder_source: folders and archives give the same pictures, in natural order."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datatools.errors import DataError
from datatools.images import ImageError, save_png
from datatools.pyramid.folder_source import natural_key, open_source, read_entry

NAMES = ("10.png", "2.png", "b/1.png", "b/01.PNG", "a 10/x.png", "a 9/ü.png", "1.png")
ORDER = ["1.png", "2.png", "10.png", "a 9/ü.png", "a 10/x.png", "b/01.PNG", "b/1.png"]


def write_folder(folder: Path) -> Path:
    for number, name in enumerate(NAMES):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        save_png(folder / name, np.full((4, 4, 3), number, np.uint8))
    (folder / "notes.txt").write_text("no picture")
    (folder / ".hidden.png").write_bytes(b"")
    return folder


def write_archive(folder: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder))
    return path


def test_numbers_in_names_count_as_numbers() -> None:
    assert sorted(NAMES, key=natural_key) == ORDER
    names = ["img2b", "img10a", "img2a", "img", "x" * 9 + "9" * 5000, "x" * 9 + "1" + "0" * 5000, "IMG1"]
    assert sorted(names, key=natural_key) == ["IMG1", "img", "img2a", "img2b", "img10a", names[4], names[5]]
    padded = [f"{number:05}.jpg" for number in range(30)]
    assert sorted(padded, key=natural_key) == padded
    assert sorted(["a1.png", "a.png", "a.jpg"], key=natural_key) == ["a.jpg", "a.png", "a1.png"]


@given(st.lists(st.text("ab019/._-", min_size=1), max_size=12))
def test_any_names_have_one_order(names: list[str]) -> None:
    ordered = sorted({*names}, key=natural_key)
    backwards = ordered[::-1]
    backwards.sort(key=natural_key)
    assert backwards == ordered
    assert len({natural_key(name) for name in ordered}) == len(ordered)


def test_folder_and_archive_have_the_same_pictures(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "pictures")
    archive = write_archive(folder, tmp_path / "pictures.zip")
    for root in (folder, archive):
        source = open_source(root)
        assert [entry.name for entry in source.entries] == ORDER
        assert [(one.file_name, one.kind) for one in source.skipped] == [("notes.txt", "no picture")]
    for name in NAMES:
        assert read_entry(archive, name) == read_entry(folder, name) == (folder / name).read_bytes()


def test_subfolders_may_be_left_out(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "pictures")
    for root in (folder, write_archive(folder, tmp_path / "pictures.zip")):
        source = open_source(root, recursive=False)
        assert [entry.name for entry in source.entries] == ORDER[:3]
        assert sorted(source.in_subfolders) == sorted(ORDER[3:])
        assert "4 pictures in subfolders, such as " in source.hint
        assert "--recursive" in source.hint


def test_names_that_lead_out_of_an_archive_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "bad.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("../up.png", "/root.png", "a//b.png", "__MACOSX/._a.png", "good.png"):
            archive.writestr(name, b"x")
    source = open_source(path)
    assert [entry.name for entry in source.entries] == ["good.png"]
    assert {(one.file_name, one.kind) for one in source.skipped} == {
        ("../up.png", "bad name"),
        ("/root.png", "bad name"),
        ("a//b.png", "bad name"),
    }


def test_damage_in_an_archive_is_the_fault_of_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "damaged.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.png", b"first picture")
        archive.writestr("b.png", b"second picture")
    path.write_bytes(path.read_bytes().replace(b"first", b"first"[::-1], 1))
    assert read_entry(path, "b.png") == b"second picture"
    with pytest.raises(ImageError, match="cannot be read from the archive: Bad CRC-32"):
        read_entry(path, "a.png")
    monkeypatch.setattr("datatools.pyramid.folder_source.MAX_MEMBER_BYTES", 4)
    with pytest.raises(ImageError, match="unpacked it has more than"):
        read_entry(path, "b.png")


def test_other_files_are_neither_folder_nor_archive(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(DataError, match="neither a folder nor a zip archive"):
        open_source(tmp_path / "a.txt")
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.png", b"x")
    (tmp_path / "cut.zip").write_bytes(stream.getvalue()[:30])
    with pytest.raises(DataError, match="neither a folder nor a zip archive"):
        open_source(tmp_path / "cut.zip")
    with pytest.raises(DataError, match="cannot be read as a folder"):
        open_source(tmp_path / "absent")
