"""datatools.download.archives: whole or not at all, nothing outside of the folder, and which part is broken."""

import builtins
import hashlib
import io
import os
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import py7zr
import pytest

from datatools.download.archives import Parts, find_parts, unpack
from datatools.errors import DataError

FILES = {
    f"img_celeba/{number:06}.jpg": np.random.default_rng(number).bytes(4000 + 97 * number) for number in range(1, 30)
}
PART = 20_000


def make_parts(folder: Path, size: int = PART, files: dict[str, bytes] = FILES) -> list[Path]:
    """Write the files as photos.7z.001, photos.7z.002 ..."""
    folder.mkdir(exist_ok=True)
    whole = io.BytesIO()
    with py7zr.SevenZipFile(whole, "w") as archive:
        for name, data in files.items():
            archive.writestr(data, name)
    data = whole.getvalue()
    parts = [folder / f"photos.7z.{index + 1:03}" for index in range(-(-len(data) // size))]
    for index, part in enumerate(parts):
        part.write_bytes(data[index * size : (index + 1) * size])
    return parts


def make_zip(path: Path, files: dict[str, bytes] = FILES) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def make_tar(path: Path, files: dict[str, bytes] = FILES) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def make(kind: str, folder: Path, files: dict[str, bytes] = FILES) -> Path:
    folder.mkdir(exist_ok=True)
    if kind == "7z":
        return make_parts(folder, files=files)[0]
    return make_zip(folder / "photos.zip", files) if kind == "zip" else make_tar(folder / "photos.tar.gz", files)


@pytest.mark.parametrize("kind", ["7z", "zip", "tar"])
def test_an_archive_is_unpacked(kind: str, tmp_path: Path) -> None:
    archive = make(kind, tmp_path / "archive")
    read: list[int] = []
    unpack(archive, tmp_path / "out", report=read.append)
    assert contents(tmp_path / "out") == FILES
    assert sorted(os.listdir(tmp_path / "out")) == ["img_celeba"]
    assert sum(read) > 0.9 * sum(map(len, FILES.values()))
    with pytest.raises(DataError, match=r"img_celeba exists; move it away"):
        unpack(archive, tmp_path / "out")


@pytest.mark.parametrize("kind", ["7z", "zip", "tar"])
@pytest.mark.parametrize("name", ["../outside.jpg", "/tmp/outside.jpg", "a/../../outside.jpg", "C:/x.jpg", "..\\x.jpg"])
def test_a_name_that_leads_out_of_the_folder_is_refused(kind: str, name: str, tmp_path: Path) -> None:
    archive = make(kind, tmp_path / "archive", {"good.jpg": b"good", "placeholder00000": b"bad"})
    rename(archive, "placeholder00000", name)
    with pytest.raises(DataError, match="leads out of the folder; it is not unpacked"):
        unpack(archive, tmp_path / "deep" / "out")
    assert contents(tmp_path / "deep") == {}
    assert not (tmp_path / "outside.jpg").exists()


def rename(archive: Path, old: str, new: str) -> None:
    """Give an entry a name that no honest program writes."""
    if archive.suffix == ".zip":
        make_zip(archive, {"good.jpg": b"good", new: b"bad"})
    elif archive.suffix == ".gz":
        make_tar(archive, {"good.jpg": b"good", new: b"bad"})
    else:
        whole = io.BytesIO()
        with py7zr.SevenZipFile(whole, "w") as file:
            file.writestr(b"good", "good.jpg")
            file.writestr(b"bad", old)
            for info in file.header.files_info.files:
                if info["filename"] == old:
                    info["filename"] = new
        archive.write_bytes(whole.getvalue())


def test_links_are_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "links.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    member = tarfile.TarInfo("link")
    member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
    with tarfile.open(tmp_path / "links.tar.gz", "w:gz") as tar:
        tar.addfile(member)
    (tmp_path / "source").symlink_to("/etc/passwd")
    with py7zr.SevenZipFile(tmp_path / "links.7z", "w") as seven:
        seven.write(tmp_path / "source", "link")
    for name in ("links.zip", "links.tar.gz", "links.7z"):
        with pytest.raises(DataError, match="is a link or a device; it is not unpacked"):
            unpack(tmp_path / name, tmp_path / "out")
    assert contents(tmp_path / "out") == {}


def test_a_name_that_occurs_twice_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "twice.zip", "w") as archive:
        archive.writestr("a.jpg", "1")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a.jpg", "2")
    with pytest.raises(DataError, match=r"'a.jpg' occurs twice"):
        unpack(tmp_path / "twice.zip", tmp_path / "out")


def test_missing_parts_are_named(tmp_path: Path) -> None:
    parts = make_parts(tmp_path / "archive")
    assert len(parts) > 6
    assert find_parts(parts[0]) == find_parts(parts[3]) == parts
    parts[2].unlink()
    with pytest.raises(DataError, match=rf"photos.7z.003 missing of {len(parts)} parts: download it again"):
        unpack(parts[0], tmp_path / "out")
    parts[-1].unlink()
    with pytest.raises(DataError, match=r"photos.7z.003 and 1 other missing"):
        unpack(parts[0], tmp_path / "out")
    parts[0].unlink()
    with pytest.raises(DataError, match=r"photos.7z.001: is missing; the first part has to be there"):
        unpack(parts[0], tmp_path / "out")


@pytest.mark.parametrize("index", [1, -1])
def test_a_part_that_is_cut_off_is_named(index: int, tmp_path: Path) -> None:
    parts = make_parts(tmp_path / "archive")
    before = parts[index].stat().st_size
    os.truncate(parts[index], before - 1)
    with pytest.raises(DataError, match=rf"{parts[index].name}: has {before - 1:,} bytes, not {before:,}: remove it"):
        unpack(parts[0], tmp_path / "out")


@pytest.mark.parametrize("index", [1, 4])
def test_a_broken_part_is_named_by_its_checksum(index: int, tmp_path: Path) -> None:
    parts = make_parts(tmp_path / "archive")
    checksums = {part.name: "sha1:" + hashlib.sha1(part.read_bytes()).hexdigest() for part in parts}
    damage(parts[index])
    with pytest.raises(DataError, match=rf"{parts[index].name}: is broken \(has the SHA1 .*\): remove it") as caught:
        unpack(parts[0], tmp_path / "out", checksums=checksums)
    assert "\n" not in str(caught.value)
    assert contents(tmp_path / "out") == {}


def test_without_checksums_the_part_that_was_read_last_is_named(tmp_path: Path) -> None:
    parts = make_parts(tmp_path / "archive", size=120_000)
    assert len(parts) == 2
    damage(parts[0])
    with pytest.raises(DataError, match=r"the archive is damaged \(.*\), while photos.7z.00\d was read: remove it"):
        unpack(parts[0], tmp_path / "out")
    assert contents(tmp_path / "out") == {}


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (b"<!DOCTYPE html><html>quota", "it is a web page, not the file itself"),
        (b"7z\xbc\xaf\x27\x1c\0\4", "it is cut off or damaged"),
        (b"7z\xbc\xaf\x27\x1c\0\4" + bytes(range(24)), "its first bytes are damaged"),
        (b"", "it is empty"),
    ],
)
def test_a_first_part_that_is_something_else(start: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "photos.7z.001").write_bytes(start)
    with pytest.raises(DataError, match=f"photos.7z.001: .*{message}.*download it again"):
        unpack(tmp_path / "photos.7z.001", tmp_path / "out")


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_damaged_archives_are_errors_of_one_line(kind: str, tmp_path: Path) -> None:
    archive = make(kind, tmp_path / "archive")
    data = archive.read_bytes()
    archive.write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=rf"is not a whole {kind} archive \(it is cut off or damaged\)"):
        unpack(archive, tmp_path / "out")
    archive.write_bytes(b"<html>quota</html>")
    with pytest.raises(DataError, match=r"it is a web page"):
        unpack(archive, tmp_path / "out")
    with pytest.raises(DataError, match="no such file"):
        unpack(tmp_path / f"none.{kind}", tmp_path / "out")


def test_a_damaged_file_of_a_zip_is_named(tmp_path: Path) -> None:
    archive = make("zip", tmp_path / "archive")
    data = archive.read_bytes()
    archive.write_bytes(data.replace(FILES["img_celeba/000007.jpg"][:50], bytes(50)))
    with pytest.raises(DataError, match=r"img_celeba/000007.jpg in it is damaged"):
        unpack(archive, tmp_path / "out")
    assert contents(tmp_path / "out") == {}


def test_what_a_killed_process_left_is_replaced(tmp_path: Path) -> None:
    archive = make("zip", tmp_path / "archive")
    left = tmp_path / "out" / ".photos.zip.partial"
    left.mkdir(parents=True)
    (left / "junk").write_bytes(b"junk")
    unpack(archive, tmp_path / "out")
    assert contents(tmp_path / "out") == FILES


def test_too_little_disk_is_found_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = make("zip", tmp_path / "archive")
    monkeypatch.setattr("datatools.download.archives.shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with pytest.raises(DataError, match=r"unpacking takes .* kB, 1 kB of disk are free"):
        unpack(archive, tmp_path / "out")


def test_py7zr_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = make_parts(tmp_path / "archive")
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("py7zr"):
            raise ModuleNotFoundError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(DataError, match=r"pip install 'celebahq\[download\]', or unpack it yourself: 7z x photos.7z"):
        unpack(parts[0], tmp_path / "out")


def test_parts_read_like_one_file(tmp_path: Path) -> None:
    parts = make_parts(tmp_path / "archive")
    data = b"".join(part.read_bytes() for part in parts)
    with Parts(parts, lambda _: None) as joined:
        assert joined.read() == data
        assert joined.seek(-1, os.SEEK_END) == len(data) - 1
        buffered = io.BufferedReader(joined)
        for start, count in ((0, 5), (PART - 2, 4), (3 * PART, 1), (len(data) - 3, 10), (len(data), 1)):
            buffered.seek(start)
            assert buffered.read(count) == data[start : start + count]
