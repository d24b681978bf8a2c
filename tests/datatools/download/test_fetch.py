"""datatools.download.fetch: downloads from a server that cuts connections, lies about sizes and sends pages."""

import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from datatools.download.fetch import Patience, fetch
from datatools.errors import DataError
from datatools.files import partial_path
from tests.support.builds import HANGS, environment
from tests.support.file_server import (
    CONFIRM,
    LOGIN,
    QUOTA,
    Answer,
    FileServer,
    Handler,
    announcing,
    cut_after,
    ignoring_range,
    page,
    status,
    whole,
    without_length,
)

DATA = bytes(range(256)) * 4000  # about 1 MB
MD5 = "md5:" + hashlib.md5(DATA).hexdigest()
QUICK = Patience(tries=3, pause=0.0, timeout=HANGS)


@pytest.fixture
def server() -> Iterator[FileServer]:
    with FileServer() as server:
        server.files["file"] = DATA
        yield server


def get(server: FileServer, target: Path, **options: object) -> bool:
    settings: dict[str, object] = {"size": len(DATA), "checksum": MD5, "patience": QUICK, **options}
    return fetch(f"{server.url}/file", target, **settings)  # type: ignore[arg-type]


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def test_a_file_arrives_once(server: FileServer, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    assert get(server, tmp_path / "new" / "it", watch=lambda done, total: seen.append((done, total)))
    assert (tmp_path / "new" / "it").read_bytes() == DATA
    assert names(tmp_path / "new") == ["it"]
    assert seen[-1] == (len(DATA), len(DATA))
    assert not get(server, tmp_path / "new" / "it")
    assert len(server.requests) == 1


def test_a_cut_connection_is_resumed_where_it_was(server: FileServer, tmp_path: Path) -> None:
    server.plans["file"] = [cut_after(300_000), cut_after(300_000), cut_after(0), cut_after(300_000)]
    get(server, tmp_path / "it")
    assert (tmp_path / "it").read_bytes() == DATA
    starts = [wanted for _, wanted in server.requests]
    assert starts == ["", "bytes=300000-", "bytes=600000-", "bytes=600000-", "bytes=900000-"]


def test_a_server_that_gives_nothing_any_more_ends_the_download(server: FileServer, tmp_path: Path) -> None:
    server.plans["file"] = [cut_after(300_000)] + [cut_after(0)] * 20
    with pytest.raises(DataError, match=r"it: the connection was cut at 300,000 .*3 times in a row; 300 kB .*resume"):
        get(server, tmp_path / "it", manual="http://by.hand")
    assert len(server.requests) == 4
    server.plans["file"] = []
    assert get(server, tmp_path / "it")  # the same command again
    assert server.requests[-1][1] == "bytes=300000-"
    assert (tmp_path / "it").read_bytes() == DATA


def test_a_killed_download_is_resumed(server: FileServer, tmp_path: Path) -> None:
    stopped = threading.Event()

    def stop_after_a_third(handler: Handler, data: bytes, start: int) -> None:
        handler.begin_part(data, start)
        handler.wfile.write(data[:300_000])
        handler.wfile.flush()
        stopped.wait(HANGS)

    server.plans["file"] = [stop_after_a_third]
    code = f"from pathlib import Path; from datatools.download.fetch import fetch; fetch({server.url + '/file'!r}, "
    process = subprocess.Popen([sys.executable, "-c", f"{code}Path({str(tmp_path / 'it')!r}))"], env=environment())
    partial, deadline = partial_path(tmp_path / "it"), time.monotonic() + HANGS
    while not (partial.exists() and partial.stat().st_size > 200_000) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.wait()
    stopped.set()
    kept = partial.stat().st_size
    assert names(tmp_path) == [partial.name, f"{partial.name}.json"]
    get(server, tmp_path / "it")
    assert server.requests[-1][1] == f"bytes={kept}-"
    assert (tmp_path / "it").read_bytes() == DATA
    assert names(tmp_path) == ["it"]


def test_a_server_that_cannot_resume_starts_again(server: FileServer, tmp_path: Path) -> None:
    server.plans["file"] = [cut_after(300_000), ignoring_range]
    get(server, tmp_path / "it")
    assert (tmp_path / "it").read_bytes() == DATA


def test_a_file_that_changed_meanwhile_is_not_joined_with_its_old_part(server: FileServer, tmp_path: Path) -> None:
    server.etag = '"old"'
    server.plans["file"] = [cut_after(300_000)] + [status(503)] * 3
    with pytest.raises(DataError, match="503"):
        get(server, tmp_path / "it", checksum="", size=None)
    server.etag, server.files["file"] = '"new"', DATA[::-1]
    get(server, tmp_path / "it", checksum="", size=None)
    assert (tmp_path / "it").read_bytes() == DATA[::-1]


def test_a_part_that_is_whole_already_needs_no_byte(server: FileServer, tmp_path: Path) -> None:
    partial_path(tmp_path / "it").write_bytes(DATA)
    get(server, tmp_path / "it", size=None)  # the server answers 416
    assert (tmp_path / "it").read_bytes() == DATA
    partial_path(tmp_path / "second").write_bytes(DATA + b"more")
    get(server, tmp_path / "second")
    assert (tmp_path / "second").read_bytes() == DATA


def test_a_file_without_known_size_arrives(server: FileServer, tmp_path: Path) -> None:
    server.plans["file"] = [without_length]
    seen: list[int | None] = []
    get(server, tmp_path / "it", size=None, watch=lambda _, total: seen.append(total))
    assert (tmp_path / "it").read_bytes() == DATA
    assert set(seen) == {None}


@pytest.mark.parametrize(
    ("answers", "size", "message"),
    [
        ([announcing(len(DATA) + 5)], len(DATA), "announces 1,024,005 bytes, the file should have 1,024,000"),
        ([announcing(700)], len(DATA), "announces 700 bytes, the file should have 1,024,000"),
        ([announcing(len(DATA) + 5), whole], None, "the server has no byte"),  # a lie, and then the truth
        ([without_length], 1000, "sent more than 1,000 bytes"),
        ([announcing(700)], None, "has the MD5 .* not"),
    ],
    ids=["longer", "shorter", "contradiction", "without length", "unknown"],
)
def test_a_lie_about_the_size_never_makes_a_file(
    server: FileServer, tmp_path: Path, answers: list[Answer], size: int | None, message: str
) -> None:
    server.plans["file"] = answers * 9
    with pytest.raises(DataError, match=message) as caught:
        get(server, tmp_path / "it", size=size, manual="http://by.hand", patience=Patience(1, 0.0, 20.0))
    assert "\n" not in str(caught.value)
    assert "http://by.hand" in str(caught.value)
    assert names(tmp_path) == []


def test_a_wrong_file_is_removed(server: FileServer, tmp_path: Path) -> None:
    server.files["file"] = DATA[:-1] + b"x"
    with pytest.raises(DataError, match=f"has the MD5 {hashlib.md5(DATA[:-1] + b'x').hexdigest()}, not {MD5[4:]}"):
        get(server, tmp_path / "it")
    assert names(tmp_path) == []


def test_a_file_that_is_there_with_other_contents_is_kept(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "it").write_bytes(b"mine")
    with pytest.raises(DataError, match="has 4 bytes, not 1,024,000; move it away"):
        get(server, tmp_path / "it")
    assert (tmp_path / "it").read_bytes() == b"mine"
    assert server.requests == []


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (page(QUOTA), r"too many people downloaded it today: wait a day \(page 'Google Drive - Quota exceeded'\)"),
        (page(QUOTA, kind="application/octet-stream"), "too many people downloaded it today"),
        (page(QUOTA, status=403), "too many people downloaded it today"),
        (page(QUOTA, status=429), "too many people downloaded it today"),
        (page(LOGIN), r"asks to log in \(page 'Sign in - Google Accounts'\)"),
        (page("<html><title>Maintenance</title>soon</html>"), "a web page in place of the file .page 'Maintenance'"),
        (page(CONFIRM.format(action="http://elsewhere.example/x")), "a web page in place of the file"),
        (status(404), "the server answered 404"),
        (status(403), "the server answered 403"),
    ],
    ids=["quota", "disguised", "403", "429", "login", "other", "foreign form", "no file", "forbidden"],
)
def test_pages_in_place_of_the_file_are_recognised(
    server: FileServer, tmp_path: Path, answer: Answer, message: str
) -> None:
    server.plans["file"] = [answer] * 5
    with pytest.raises(DataError, match=message) as caught:
        get(server, tmp_path / "it", manual="http://by.hand")
    assert str(caught.value).endswith("or get the file with a browser from http://by.hand")
    assert len(server.requests) == 1  # asking again would not help
    assert not (tmp_path / "it").exists()


def test_a_quota_page_keeps_what_was_there(server: FileServer, tmp_path: Path) -> None:
    server.plans["file"] = [cut_after(300_000), page(QUOTA)]
    with pytest.raises(DataError, match="wait a day"):
        get(server, tmp_path / "it")
    get(server, tmp_path / "it")
    assert server.requests[-1][1] == "bytes=300000-"
    assert (tmp_path / "it").read_bytes() == DATA


def test_the_warning_about_viruses_is_confirmed_once(server: FileServer, tmp_path: Path) -> None:
    server.files["confirmed"] = DATA
    server.plans["file"] = [page(CONFIRM.format(action=f"{server.url}/confirmed?export=download"))]
    get(server, tmp_path / "it")
    assert [path for path, _ in server.requests] == ["file", "confirmed?export=download&id=abc&confirm=t"]
    assert (tmp_path / "it").read_bytes() == DATA
    server.plans["file"] = [page(CONFIRM.format(action="/file"))] * 9
    with pytest.raises(DataError, match="web page in place"):
        get(server, tmp_path / "again")
    assert len(server.requests) == 4


def test_a_busy_server_is_asked_again(server: FileServer, tmp_path: Path) -> None:
    server.plans["file"] = [status(503, Retry_After="0"), status(429), cut_after(10), status(500), status(502)]
    get(server, tmp_path / "it")
    assert (tmp_path / "it").read_bytes() == DATA
    assert len(server.requests) == 6


def test_no_server_at_all(tmp_path: Path) -> None:
    with FileServer() as gone:
        url = gone.url
    with pytest.raises(DataError, match=r"it: the server cannot be reached \(Connection refused\), 2 times in a row"):
        fetch(f"{url}/file", tmp_path / "it", patience=Patience(2, 0.0, 5.0))


def test_a_folder_that_cannot_be_written(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="cannot be written"):
        get(server, tmp_path / "file" / "it")


def test_too_little_disk_is_found_before_the_first_byte(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datatools.download.fetch.shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with pytest.raises(DataError, match=r"1.02 MB are needed, 1 kB of disk are free"):
        get(server, tmp_path / "it")
    assert partial_path(tmp_path / "it").exists() is False
