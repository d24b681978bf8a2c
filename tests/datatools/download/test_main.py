"""python -m datatools.download: what it lists, downloads and checks."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from datatools.download import __main__ as command
from datatools.download.catalogue import Archive, DataSet, RemoteFile
from tests.datatools.download.test_archives import FILES, contents, make_parts
from tests.faults.trees import write_tree
from tests.support.file_server import QUOTA, FileServer, cut_after, page


def run(*arguments: object) -> Result:
    return CliRunner().invoke(command.main, [str(argument) for argument in arguments])


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """A server of a small data set in parts, which the command knows as "celeba"."""
    parts = make_parts(tmp_path / "published")
    with FileServer() as server:
        files = []
        for part in parts:
            data = part.read_bytes()
            path = f"Img/photos.7z/{part.name}"
            server.files[path] = data
            checksum = "sha1:" + hashlib.sha1(data).hexdigest()
            files.append(RemoteFile(path, f"{server.url}/{path}", len(data), checksum))
        archive = Archive(files[0].path, "Img", "img_celeba")
        small = DataSet(
            "celeba", "t", "1 MB", "http://page", "http://by.hand", "for tests", True, tuple(files), (archive,), "u"
        )
        monkeypatch.setattr(command, "data_set", lambda _name, _category: small)
        yield server


def test_without_a_name_everything_is_listed() -> None:
    done = run()
    assert done.exit_code == 0
    for words in ("celeba:", "celeba-aligned:", "cifar10:", "lsun --category bedroom:", "non-commercial research"):
        assert words in done.output
    assert "get it   python -m datatools.download celeba --out DIR --accept-terms" in done.output
    assert "get it   python -m datatools.download cifar10 --out DIR\n" in done.output


def test_terms_have_to_be_accepted(photos: FileServer, tmp_path: Path) -> None:
    done = run("celeba", "--out", tmp_path / "out")
    assert done.exit_code == 1
    assert done.output == "Error: celeba: for tests (http://page); --accept-terms agrees to them\n"
    assert photos.requests == []


def test_a_data_set_is_downloaded_and_unpacked(photos: FileServer, tmp_path: Path) -> None:
    out = tmp_path / "out"
    photos.plans["Img/photos.7z/photos.7z.002"] = [cut_after(1000), cut_after(1000)]
    done = run("celeba", "--out", out, "--accept-terms")
    assert done.exit_code == 0, done.output
    assert contents(out / "Img" / "img_celeba") == {name.partition("/")[2]: data for name, data in FILES.items()}
    assert "photos.7z.002: 20 kB, downloaded, SHA1 as published" in done.output
    assert f"{out}/Img/img_celeba: unpacked; the archive can be deleted" in done.output
    asked = len(photos.requests)
    again = run("celeba", "--out", out, "--accept-terms")
    assert again.exit_code == 0
    assert "photos.7z.002: 20 kB, there already, SHA1 as published" in again.output
    assert "img_celeba: unpacked already" in again.output
    assert len(photos.requests) == asked


def test_a_quota_ends_in_one_line_and_the_next_day_resumes(photos: FileServer, tmp_path: Path) -> None:
    photos.plans["Img/photos.7z/photos.7z.003"] = [page(QUOTA)]
    done = run("celeba", "--out", tmp_path / "out", "--accept-terms")
    assert done.exit_code == 1
    assert done.output.splitlines()[-1] == (
        "Error: photos.7z.003: too many people downloaded it today: wait a day (page 'Google Drive - Quota exceeded'), "
        "or get the file with a browser from http://by.hand"
    )
    assert run("celeba", "--out", tmp_path / "out", "--accept-terms").exit_code == 0
    assert len(contents(tmp_path / "out" / "Img" / "img_celeba")) == len(FILES)


def test_a_mirror_has_the_same_paths(photos: FileServer, tmp_path: Path) -> None:
    mirrored = {f"copy/{path}": data for path, data in photos.files.items()}
    photos.files = mirrored
    done = run("celeba", "--out", tmp_path, "--accept-terms", "--no-unpack", "--mirror", f"{photos.url}/copy/")
    assert done.exit_code == 0, done.output
    assert not (tmp_path / "Img" / "img_celeba").exists()
    assert (tmp_path / "Img/photos.7z/photos.7z.001").read_bytes() == mirrored["copy/Img/photos.7z/photos.7z.001"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("mnist", "--out", "x"), "mnist: no such data set"),
        (("cifar10",), "--out is missing: name the folder of the data set"),
        (("lsun", "--out", "x", "--category", "attic"), "LSUN has no category 'attic'"),
        (("--check", "/nowhere"), "/nowhere: cannot be read"),
    ],
)
def test_mistakes_end_in_one_line(arguments: tuple[str, ...], message: str) -> None:
    done = run(*arguments)
    assert done.exit_code == 1
    assert done.output.startswith(f"Error: {message}")
    assert done.output.count("\n") == 1


def test_check_prints_what_is_there(tmp_path: Path) -> None:
    done = run("--check", tmp_path)
    assert done.exit_code == 1
    assert done.output.startswith("missing    the photos in the wild")
    good = run("--check", write_tree(tmp_path / "tree", {"000001.jpg": b"x"}))
    assert good.exit_code == 0
    assert good.output.splitlines()[-1].startswith("complete   ")
