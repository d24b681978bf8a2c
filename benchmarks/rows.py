"""What benchmarks measure: rows of a table."""

import importlib
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from datatools.errors import one_line


@dataclass(frozen=True)
class Row:
    """A figure.

    Attributes:
        name: a word.
        value: how many times as much; where nothing is compared, how much.
        what: what is compared, with the absolute figures.
    """

    name: str
    value: float
    what: str

    def __str__(self) -> str:
        return f"ratio {self.name} {self.value:.4g}  {self.what}"


def show(rows: Iterable[Row]) -> None:
    """Print rows as they are measured."""
    for row in rows:
        print(row, flush=True)


def send_rows(connection: Connection, script: str, options: Mapping[str, Any]) -> None:
    """Send the rows of a benchmark, such as "crop", as they are measured, and then why it ended early, or "".

    Here, since a new process does not find what `__main__` has.
    """
    try:
        for row in importlib.import_module(f"benchmarks.{script}").measure(**options):
            connection.send(row)
        connection.send("")
    except Exception as error:  # of any library; the other benchmarks are worth their minutes
        connection.send(f"{type(error).__name__}: {one_line(error)}")


def seconds(work: Callable[[], object]) -> float:
    """Return the time that a call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def peak_bytes() -> int:
    """Return the peak resident memory of this process: not getrusage's, which counts a large parent, too."""
    return 1024 * int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
