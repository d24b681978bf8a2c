"""A file from a server: resumed after every cut, compared with the size and checksum that it should have."""

import hashlib
import http.client
import json
import os
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any

from datatools.download.pages import is_page, recognise
from datatools.errors import DataError, one_line, reason
from datatools.files import as_data_error, fsync_path, partial_path
from datatools.text import byte_size, counted

CHUNK = 1 << 18
PAGE_BYTES = 1 << 20
MAX_PAUSE = 60.0

Watch = Callable[[int, int | None], object]
"""Gets the bytes that are there, and the bytes that there will be, where that is known."""


@dataclass(frozen=True)
class Patience:
    """How long to try. tries: in a row without a new byte; pause: seconds before the second, doubled each time."""

    tries: int = 6
    pause: float = 2.0
    timeout: float = 60.0


class _CutError(Exception):
    """The connection failed; another try may succeed. wait: seconds that the server asks for."""

    def __init__(self, message: str, wait: float = 0.0) -> None:
        super().__init__(message)
        self.wait = wait


def fetch(
    url: str,
    target: Path,
    *,
    size: int | None = None,
    checksum: str = "",
    manual: str = "",
    watch: Watch = lambda _done, _total: None,
    patience: Patience = Patience(),
) -> bool:
    """Download `url` as `target`, and return whether that was necessary.

    What an interrupted download left (`.<name>.partial`) is continued. `target` appears when it is whole: with `size`
    bytes and `checksum` ("md5:..." or "sha1:..."), as far as these are known.

    Args:
        manual: page where a browser can get the file; error messages name it.

    Raises:
        DataError: the file is there with other contents; the server refuses, has another file or a page in its place,
            or gives nothing any more; the disk is full or cannot be written.
    """
    if target.exists():
        problem = difference(target, size, checksum)
        if problem:
            raise DataError(f"{target}: {problem}; move it away to download it again")
        return False
    with as_data_error(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
    download = _Download(url, target, size, manual, watch, patience)
    with as_data_error(target):
        download.run()
        problem = difference(download.partial, size, checksum)
        if problem:
            download.forget()
            raise DataError(
                f"{target.name}: {problem}; it was removed: run the same command again{download.or_browser}"
            )
        fsync_path(download.partial)
        os.replace(download.partial, target)
        download.forget()
    return True


def difference(path: Path, size: int | None, checksum: str) -> str:
    """Return how a file differs from the size and checksum that it should have, in words; "" where it does not."""
    there = path.stat().st_size
    if size is not None and there != size:
        return f"has {counted(there, 'byte')}, not {size:,}"
    if not checksum:
        return ""
    kind, _, digest = checksum.partition(":")
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, lambda: hashlib.new(kind, usedforsecurity=False)).hexdigest()
    return "" if found == digest else f"has the {kind.upper()} {found}, not {digest}"


class _Download:
    """One file on its way."""

    def __init__(self, url: str, target: Path, size: int | None, manual: str, watch: Watch, patience: Patience) -> None:
        self.url, self.target, self.size, self.watch, self.patience = url, target, size, watch, patience
        self.partial = partial_path(target)
        self._state = self.partial.with_name(f"{self.partial.name}.json")
        self.or_browser = f", or get the file with a browser from {manual}" if manual else ""
        self._announced: int | None = None
        self._confirmed = False

    @property
    def have(self) -> int:
        """Return the bytes that are there."""
        return self.partial.stat().st_size if self.partial.exists() else 0

    def forget(self) -> None:
        """Remove what there is of an unfinished download."""
        self.partial.unlink(missing_ok=True)
        self._state.unlink(missing_ok=True)

    def run(self) -> None:
        """Ask the server until the file is whole."""
        failures = 0
        while True:
            before = self.have
            try:
                self._continue()
                return
            except _CutError as cut:
                failures = 0 if self.have > before else failures + 1
                if failures >= self.patience.tries:
                    raise DataError(
                        f"{self.target.name}: {cut}, {failures} times in a row; {byte_size(self.have)} are there: run "
                        f"the same command again to resume{self.or_browser}"
                    ) from cut
                time.sleep(min(max(cut.wait, self.patience.pause * 2 ** max(failures - 1, 0)), MAX_PAUSE))

    def _continue(self) -> None:
        """Ask for the rest of the file. Raises _CutError where another try may get more of it."""
        start = self.have
        if self.size is not None and start > self.size:
            self.forget()
            start = 0
        if start and start == self.size:
            return
        try:
            with urllib.request.urlopen(self._request(start), timeout=self.patience.timeout) as response:
                self._receive(response, start)
        except urllib.error.HTTPError as error:
            self._refused(error, start)
        except urllib.error.URLError as error:
            if isinstance(error.reason, ssl.SSLCertVerificationError):
                raise DataError(f"{self.url}: its certificate is not valid: {one_line(error.reason)}") from error
            why = reason(error.reason) if isinstance(error.reason, Exception) else str(error.reason)
            raise _CutError(f"the server cannot be reached ({why})") from error
        except (http.client.HTTPException, TimeoutError, ConnectionError) as error:
            raise _CutError(f"the connection failed ({reason(error)})") from error

    def _request(self, start: int) -> urllib.request.Request:
        headers = {"User-Agent": "celebahq-download", "Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
            validator = self._read_validator()
            if validator:
                headers["If-Range"] = validator
        return urllib.request.Request(self.url, headers=headers)

    def _receive(self, response: Any, start: int) -> None:
        headers, total = response.headers, _length(response.headers)
        if response.status == http.HTTPStatus.PARTIAL_CONTENT:
            first, total = _content_range(headers)
            if first != start:
                self.forget()
                raise _CutError("the server sent another part of the file than asked for")
        else:
            start = 0  # it cannot resume, or the file has changed
        if headers.get_content_type() in ("text/html", "application/xhtml+xml"):
            self._page(self._read(response, PAGE_BYTES), response.url)
            return
        chunk = self._read(response, CHUNK)
        if start == 0 and is_page(chunk):
            self._page(chunk + self._read(response, PAGE_BYTES), response.url)
            return
        self._check_total(total, start)
        self._write_validator(headers)
        with self.partial.open("r+b" if start else "wb") as file:
            file.seek(start)
            while chunk:
                file.write(chunk)
                start += len(chunk)
                if self.size is not None and start > self.size:
                    break
                self.watch(start, total if self.size is None else self.size)
                chunk = self._read(response, CHUNK)
        if self.size is not None and start > self.size:
            self.forget()
            raise DataError(f"{self.target.name}: the server sent more than {self.size:,} bytes{self.or_browser}")
        if total is not None and start < total:
            raise _CutError(f"the connection was cut at {start:,} of {total:,} bytes")

    def _read(self, response: Any, size: int) -> bytes:
        try:
            data: bytes = response.read(size)
        except (http.client.HTTPException, OSError) as error:
            raise _CutError(f"the connection failed ({reason(error)})") from error
        return data

    def _check_total(self, total: int | None, start: int) -> None:
        """Raise DataError where the server announces another size than the file has, or the disk is too small."""
        expected = self.size if self.size is not None else self._announced
        if total is not None and expected is not None and total != expected:
            self.forget()
            before = "the file should have" if self.size is not None else "before it was"
            raise DataError(
                f"{self.target.name}: the server announces {total:,} bytes, {before} {expected:,}; it has another "
                f"file, or a wrong size: try again later{self.or_browser}"
            )
        self._announced = total
        needed = (total or expected or 0) - start
        free = shutil.disk_usage(self.target.parent).free
        if needed > free:
            raise DataError(
                f"{self.target}: {byte_size(needed)} are needed, {byte_size(free)} of disk are free; free some or "
                "choose another folder"
            )

    def _refused(self, error: urllib.error.HTTPError, start: int) -> None:
        """Handle an answer that is an error: return where the file is whole, else raise what follows."""
        code = error.code
        if code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            total = error.headers.get("Content-Range", "").rpartition("/")[2]
            if total == str(start) and self._announced in (None, start):
                return  # nothing is missing
            self.forget()
            raise _CutError(f"the server has no byte {start:,}")
        body = self._read(error, PAGE_BYTES)
        if is_page(body):
            page = recognise(body.decode("utf-8", "replace"), error.url or self.url)
            if page.kind in ("quota", "login"):
                raise DataError(self._explain(page.kind, page.title))
        if code == http.HTTPStatus.TOO_MANY_REQUESTS or code >= http.HTTPStatus.INTERNAL_SERVER_ERROR:
            wait = error.headers.get("Retry-After", "")
            raise _CutError(f"the server answered {code} {error.reason}", float(wait) if wait.isdecimal() else 0.0)
        raise DataError(f"{self.url}: the server answered {code} {error.reason}{self.or_browser}")

    def _page(self, body: bytes, url: str) -> None:
        """Confirm a download where a page asks for it. Raises DataError for every other page."""
        page = recognise(body.decode("utf-8", "replace"), url)
        if page.kind == "confirm" and not self._confirmed:
            self._confirmed, self.url = True, page.next
            self._continue()
            return
        raise DataError(self._explain(page.kind, page.title))

    def _explain(self, kind: str, title: str) -> str:
        texts = {
            "quota": "too many people downloaded it today: wait a day",
            "login": "the server asks to log in",
        }
        text = texts.get(kind, "the server sent a web page in place of the file")
        return f"{self.target.name}: {text} (page {title!r}){self.or_browser}"

    def _read_validator(self) -> str:
        """Return what the server said identifies the file of which a part is here; "" where it said nothing."""
        with suppress(OSError, ValueError):
            return str(json.loads(self._state.read_text(encoding="utf-8")))
        return ""

    def _write_validator(self, headers: Message) -> None:
        etag = headers.get("ETag", "")
        validator = etag if etag and not etag.startswith("W/") else headers.get("Last-Modified", "")
        self._state.write_text(json.dumps(validator), encoding="utf-8")


def _length(headers: Message) -> int | None:
    """Return what Content-Length says."""
    text = headers.get("Content-Length", "")
    return int(text) if text.isdecimal() else None


def _content_range(headers: Message) -> tuple[int, int | None]:
    """Return the first byte of a part, -1 if unknown, and the size of the whole."""
    span, _, total = headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
    first = span.partition("-")[0]
    return int(first) if first.isdecimal() else -1, int(total) if total.isdecimal() else None
