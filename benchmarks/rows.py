"""What benchmarks give: rows of a table."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """A figure.

    Attributes:
        name: a word.
        value: how many times as much; or, where there is nothing to compare, how much.
        what: what is compared, with the absolute figures.
    """

    name: str
    value: float
    what: str

    def __str__(self) -> str:
        return f"ratio {self.name} {self.value:.3g}  {self.what}"


def show(rows: Iterable[Row]) -> None:
    """Print rows as they are measured."""
    for row in rows:
        print(row, flush=True)


def seconds(work: Callable[[], object]) -> float:
    """Return the time that a call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
