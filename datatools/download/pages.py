"""What a web page says that comes in place of a file: quota, login, a question to confirm, or something else."""

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Literal
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit, urlunsplit

from datatools.text import shorten

PageKind = Literal["quota", "login", "confirm", "other"]

_QUOTA = re.compile(
    r"quota exceeded|exceeded (?:its|the|your) .{0,40}(?:quota|limit)|download quota|automated queries"
    r"|too many users have viewed or downloaded|too many requests",
    re.IGNORECASE,
)
_LOGIN = re.compile(r"servicelogin|\bsign in\b|\blog ?in\b|you need access|request access|access denied", re.IGNORECASE)
_LOGIN_HOSTS = ("accounts.google.com", "login.microsoftonline.com")


@dataclass(frozen=True)
class Page:
    """A page in place of a file. title: its own; next: where to continue, for a question to confirm."""

    kind: PageKind
    title: str
    next: str = ""


def is_page(start: bytes) -> bool:
    """Return whether a file that begins so is a web page."""
    begin = start.removeprefix(b"\xef\xbb\xbf").lstrip()[:64].lower()
    return begin.startswith((b"<!doctype html", b"<html", b"<head", b"<!doctype\nhtml"))


def recognise(html: str, url: str) -> Page:
    """Return what a page says; `url` is where it was in the end, after redirections."""
    reader = _Reader()
    reader.feed(html)
    title = shorten(" ".join(reader.title) or " ".join(reader.words), 80)
    text = " ".join((*reader.title, *reader.words))
    if _QUOTA.search(text):
        return Page("quota", title)
    if urlsplit(url).hostname in _LOGIN_HOSTS or reader.has_password:
        return Page("login", title)
    following = _confirmation(reader, url)
    if following:
        return Page("confirm", title, following)
    return Page("login" if _LOGIN.search(text) else "other", title)


def _confirmation(reader: "_Reader", url: str) -> str:
    """Return where the form or link of a page leads that asks to confirm a download; "" without one."""
    address = ""
    if reader.form:
        parts = urlsplit(urljoin(url, reader.form))
        query = urlencode([*parse_qsl(parts.query), *reader.fields.items()])
        address = urlunsplit(parts._replace(query=query))
    elif reader.link:
        address = urljoin(url, reader.link)
    return address if address and _related(urlsplit(address).hostname or "", urlsplit(url).hostname or "") else ""


def _related(host: str, other: str) -> bool:
    """Return whether a page of one host may send a download on to the other."""
    google = (".google.com", ".googleusercontent.com")
    return host == other or (f".{host}".endswith(google) and f".{other}".endswith(google))


@dataclass
class _Reader(HTMLParser):
    """Collects the title, the text, and the form or link with which Google Drive asks to confirm a download."""

    title: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    form: str = ""
    fields: dict[str, str] = field(default_factory=dict)
    link: str = ""
    has_password: bool = False

    def __post_init__(self) -> None:
        super().__init__()
        self._inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag in ("title", "script", "style"):
            self._inside = tag
        elif tag == "form" and values.get("id") == "download-form":
            self.form = values.get("action", "")
        elif tag == "input":
            self.has_password |= values.get("type") == "password"
            if values.get("type") == "hidden" and values.get("name"):
                self.fields[values["name"]] = values.get("value", "")
        elif tag == "a" and "export=download" in values.get("href", "") and "confirm=" in values["href"]:
            self.link = values["href"]

    def handle_endtag(self, tag: str) -> None:
        if tag == self._inside:
            self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "title":
            self.title.append(data.strip())
        elif not self._inside and data.strip():
            self.words.append(data.strip())
