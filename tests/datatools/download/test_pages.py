"""datatools.download.pages: what a page in place of a file says."""

import pytest

from datatools.download.pages import is_page, recognise
from tests.support.file_server import CONFIRM, LOGIN, QUOTA

DRIVE = "https://drive.usercontent.google.com/download?id=1"


@pytest.mark.parametrize(
    ("html", "url", "kind"),
    [
        (QUOTA, DRIVE, "quota"),
        ("<html><body>We're sorry... your computer or network may be sending automated queries.", DRIVE, "quota"),
        (LOGIN, DRIVE, "login"),
        ("<html><body>anything</body></html>", "https://accounts.google.com/v3/signin", "login"),
        ("<html><title>Google Drive: Access Denied</title>You need access. Ask for access.", DRIVE, "login"),
        (CONFIRM.format(action="https://drive.google.com/download"), DRIVE, "confirm"),
        (CONFIRM.format(action="https://google.com.evil.example/download"), DRIVE, "other"),
        ("<html><title>It works!</title></html>", DRIVE, "other"),
        ("", DRIVE, "other"),
    ],
)
def test_kinds(html: str, url: str, kind: str) -> None:
    assert recognise(html, url).kind == kind


def test_where_a_confirmation_leads() -> None:
    form = recognise(CONFIRM.format(action="https://drive.usercontent.google.com/download?a=1"), DRIVE)
    assert form.next == "https://drive.usercontent.google.com/download?a=1&id=abc&confirm=t"
    link = '<html><a id="uc-download-link" href="/uc?export=download&amp;confirm=x1&amp;id=9">Download anyway</a>'
    assert recognise(link, "https://docs.google.com/uc?id=9").next == (
        "https://docs.google.com/uc?export=download&confirm=x1&id=9"
    )


def test_what_is_a_page() -> None:
    assert is_page(b"\xef\xbb\xbf \n<!DOCTYPE html><html>")
    assert is_page(b"<HTML>")
    assert not is_page(b"7z\xbc\xaf\x27\x1c")
    assert not is_page(b"202599\nlefteye_x")
