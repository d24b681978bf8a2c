"""A local web server that gives files as it should, or cuts connections, lies about sizes and sends pages instead."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import urlsplit

QUOTA = (
    "<!DOCTYPE html><html><head><title>Google Drive - Quota exceeded</title></head><body><p>Sorry, you can&#39;t view "
    "or download this file at this time.</p><p>Too many users have viewed or downloaded this file recently.</p></body>"
)
LOGIN = (
    "<!doctype html><html><head><title>Sign in - Google Accounts</title></head><body><form action='/signin'>"
    "<input type='email' id='identifierId'><input type='password'></form></body></html>"
)
CONFIRM = (
    "<!DOCTYPE html><html><head><title>Google Drive - Virus scan warning</title></head><body>"
    '<form id="download-form" action="{action}" method="get"><input type="submit" value="Download anyway"/>'
    '<input type="hidden" name="id" value="abc"><input type="hidden" name="confirm" value="t"></form></body></html>'
)

Answer = Callable[["Handler", bytes, int], None]
"""Answers a request for a file's bytes from a position on."""


class Handler(BaseHTTPRequestHandler):
    """Answers with what its server has planned for the path."""

    server: "FileServer"

    def do_GET(self) -> None:
        path = urlsplit(self.path).path.lstrip("/")
        wanted = self.headers.get("Range", "")
        self.server.requests.append((self.path.lstrip("/"), wanted))
        planned = self.server.plans.get(path, [])
        answer = planned.pop(0) if planned else whole
        if path not in self.server.files and answer is whole:
            self.send_error(404)
            return
        data = self.server.files.get(path, b"")
        start = int(wanted.removeprefix("bytes=").rstrip("-") or 0) if wanted else 0
        if wanted and self.headers.get("If-Range", self.server.etag) != self.server.etag:
            start = 0
        answer(self, data, start)

    def begin(self, status: int, length: int | None, kind: str = "application/octet-stream", **headers: str) -> None:
        """Send status and headers."""
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if length is not None:
            self.send_header("Content-Length", str(length))
        if self.server.etag:
            self.send_header("ETag", self.server.etag)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def begin_part(self, data: bytes, start: int) -> None:
        """Send the headers of a file from `start` on."""
        if start:
            self.begin(206, len(data) - start, Content_Range=f"bytes {start}-{len(data) - 1}/{len(data)}")
        else:
            self.begin(200, len(data))

    def log_message(self, format: str, *args: object) -> None:
        pass


def whole(handler: Handler, data: bytes, start: int) -> None:
    """Send everything that is asked for."""
    if start >= len(data) and start:
        handler.begin(416, 0, Content_Range=f"bytes */{len(data)}")
        return
    handler.begin_part(data, start)
    handler.wfile.write(data[start:])


def cut_after(count: int) -> Answer:
    """Cut the connection after so many bytes."""

    def answer(handler: Handler, data: bytes, start: int) -> None:
        handler.begin_part(data, start)
        handler.wfile.write(data[start : start + count])

    return answer


def ignoring_range(handler: Handler, data: bytes, _start: int) -> None:
    """Send the whole file, whatever part is asked for."""
    whole(handler, data, 0)


def announcing(size: int) -> Answer:
    """Announce a file of `size` bytes, whatever it has."""

    def answer(handler: Handler, data: bytes, start: int) -> None:
        handler.begin(200, size)
        handler.wfile.write(data[start:])

    return answer


def without_length(handler: Handler, data: bytes, _start: int) -> None:
    """Send the file without saying how long it is."""
    handler.begin(200, None)
    handler.wfile.write(data)


def page(html: str, status: int = 200, kind: str = "text/html; charset=utf-8") -> Answer:
    """Send a web page in place of the file."""

    def answer(handler: Handler, _data: bytes, _start: int) -> None:
        handler.begin(status, len(html.encode()), kind)
        handler.wfile.write(html.encode())

    return answer


def status(code: int, **headers: str) -> Answer:
    """Refuse with a status."""

    def answer(handler: Handler, _data: bytes, _start: int) -> None:
        handler.begin(code, 0, **headers)

    return answer


@dataclass
class _Plans:
    files: dict[str, bytes] = field(default_factory=dict)
    plans: dict[str, list[Answer]] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    etag: str = ""


class FileServer(ThreadingHTTPServer, _Plans):
    """A server on a free port; a context manager.

    files: path -> contents. plans: path -> the answers to the next requests; afterwards the file as it is. requests:
    (path with query, Range) of what was asked. etag: what identifies the files; "": nothing.
    """

    daemon_threads = True

    def __init__(self) -> None:
        ThreadingHTTPServer.__init__(self, ("127.0.0.1", 0), Handler)
        _Plans.__init__(self)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> "FileServer":
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()
