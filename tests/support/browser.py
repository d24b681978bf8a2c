"""Headless Chromium, driven as a person would: real clicks and keys on a page that is opened from disk.

Messages of the DevTools protocol go through two pipes, which needs no other library.
"""

import itertools
import json
import os
import select
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.builds import HANGS

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--remote-debugging-pipe",
    "--window-size=1200,900",
)
KEYS = {" ": ("Space", 32), "ArrowRight": ("ArrowRight", 39)}


class Browser:
    """One tab. downloads: the folder where the browser saves files."""

    def __init__(self, sending: int, receiving: int, downloads: Path) -> None:
        self._sending, self._receiving = sending, receiving
        self._numbers, self._buffer, self._session = itertools.count(1), b"", ""
        self._events: list[dict[str, Any]] = []
        self.downloads = downloads
        tab = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=tab, flatten=True)["sessionId"]
        self._call("Page.enable")
        self._call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(downloads), eventsEnabled=True)

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            if not select.select([self._receiving], [], [], HANGS)[0]:
                raise TimeoutError("the browser does not answer")
            received = os.read(self._receiving, 1 << 16)
            if not received:
                raise EOFError("the browser has ended")
            self._buffer += received
        message, self._buffer = self._buffer.split(b"\0", 1)
        content: dict[str, Any] = json.loads(message)
        return content

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._sending, json.dumps(message).encode() + b"\0")
        while (answer := self._receive()).get("id") != number:
            self._events.append(answer)
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    def _wait(self, method: str, **values: Any) -> None:
        """Wait for an event with these values, which may have come already."""
        while True:
            for event in self._events:
                if event.get("method") == method and values.items() <= event["params"].items():
                    self._events.remove(event)
                    return
            self._events.append(self._receive())

    def open(self, page: Path) -> None:
        """Open a page from disk, and wait until its scripts have run and its pictures are there."""
        self._call("Page.navigate", url=page.as_uri())
        self._wait("Page.loadEventFired")

    def value(self, expression: str) -> Any:
        """Return the value of a JavaScript expression; where it is a promise, what it leads to."""
        answer = self._call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def box(self, element: str) -> dict[str, float]:
        """Scroll to an element, a JavaScript expression; return its `x`, `y`, `width` and `height` in the window."""
        return dict(
            self.value(f"(e => (e.scrollIntoView({{block: 'center'}}), e.getBoundingClientRect().toJSON()))({element})")
        )

    def click(self, element: str) -> None:
        """Click on the middle of an element."""
        box = self.box(element)
        place = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2, "button": "left", "clickCount": 1}
        for kind in ("mousePressed", "mouseReleased"):
            self._call("Input.dispatchMouseEvent", type=kind, **place)

    def press(self, key: str) -> None:
        """Press and release a key of KEYS."""
        code, number = KEYS[key]
        names = {"key": key, "code": code, "windowsVirtualKeyCode": number}
        self._call("Input.dispatchKeyEvent", type="keyDown", text=key if len(key) == 1 else "", **names)
        self._call("Input.dispatchKeyEvent", type="keyUp", **names)

    def screenshot(self, box: dict[str, float]) -> str:
        """Return what a part of the window shows, as a PNG file in base64."""
        clip = {name: box[name] for name in ("x", "y", "width", "height")} | {"scale": 1}
        clip["y"] += self.value("scrollY")
        return str(self._call("Page.captureScreenshot", clip=clip)["data"])

    def saved(self, name: str) -> Path:
        """Wait until a file is saved, and return it."""
        self._wait("Browser.downloadProgress", state="completed")
        return self.downloads / name


@contextmanager
def open_browser(folder: Path) -> Iterator[Browser]:
    """Start a browser whose files are in `folder`. The test is skipped where there is none."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip(f"none of {', '.join(NAMES)} is installed")
    (folder / "downloads").mkdir(parents=True)
    their_input, sending = os.pipe()
    receiving, their_output = os.pipe()
    # The browser's pipes have to be 3 and 4; a shell puts them there, whatever their numbers are here.
    shell = f'exec "$@" 3<&{their_input} 4>&{their_output}'
    process = subprocess.Popen(
        ["bash", "-c", shell, "bash", program, *OPTIONS, f"--user-data-dir={folder / 'profile'}"],
        pass_fds=(their_input, their_output),
        stderr=subprocess.DEVNULL,
    )
    os.close(their_input)
    os.close(their_output)
    try:
        yield Browser(sending, receiving, folder / "downloads")
    finally:
        process.kill()
        process.wait()
        os.close(sending)
        os.close(receiving)
