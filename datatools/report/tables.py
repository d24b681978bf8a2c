"""Read ranking.csv and rejected.csv for the report: entries counted, and grouped by kind."""

import csv
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datatools.errors import DataError
from datatools.sources.records import RejectionKind
from datatools.text import shorten

EXAMPLES = 4  # file names shown for a reason


@dataclass(frozen=True)
class ReasonGroup:
    """Entries that were rejected, or not chosen, for the same kind of reason.

    Attributes:
        stage: where it happened.
        text: the reason where all have the same one, else the kind in words.
        count: entries. examples: (file name, its own reason) of the first few.
    """

    stage: str
    text: str
    count: int
    examples: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Rejected:
    """rejected.csv in short: entries per stage (most first), and by kind of reason (most first)."""

    stages: dict[str, int]
    groups: tuple[ReasonGroup, ...]

    @property
    def total(self) -> int:
        return sum(self.stages.values())


@dataclass(frozen=True)
class RankingTable:
    """ranking.csv: scored faces, and entries that never got a score, in the file's order.

    Attributes:
        names: file names. scores: (n,) float64, NaN where the file has none. chosen: (n,) bool.
        reasons: why an entry was not chosen. groups: by kind, the reasons why scored ones were not.
    """

    names: tuple[str, ...]
    scores: NDArray[np.float64]
    chosen: NDArray[np.bool_]
    reasons: tuple[str, ...]
    groups: tuple[ReasonGroup, ...]

    @property
    def scored(self) -> NDArray[np.bool_]:
        """Return (n,) bool: which entries have a score, because they gave a face."""
        return np.isfinite(self.scores)

    def best_not_chosen(self, count: int) -> list[int]:
        """Return positions of the `count` best scored entries that were not chosen, best first."""
        positions = np.flatnonzero(~self.chosen & self.scored)
        return [int(i) for i in positions[np.argsort(-self.scores[positions], kind="stable")][:count]]


@dataclass(frozen=True)
class Entry:
    """One row of a table. kind: a `RejectionKind`'s value; "" in tables that were written before there were kinds."""

    file_name: str
    kind: str
    stage: str
    reason: str


def group_reasons(entries: Iterable[Entry]) -> tuple[ReasonGroup, ...]:
    """Put entries of the same kind together, the most frequent kind first; those without a kind by their reason."""
    kinds: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        kinds.setdefault((entry.stage, entry.kind or shorten(entry.reason)), []).append(entry)
    groups = []
    for (stage, kind), members in kinds.items():
        reasons = {shorten(entry.reason) for entry in members}
        text = reasons.pop() if len(reasons) == 1 else _words(kind)
        examples = tuple((entry.file_name, shorten(entry.reason)) for entry in members[:EXAMPLES])
        groups.append(ReasonGroup(stage, text, len(members), examples))
    return tuple(sorted(groups, key=lambda group: -group.count))


def _words(kind: str) -> str:
    return RejectionKind(kind).text if kind in set(RejectionKind) else kind


def read_rejected(path: Path) -> Rejected:
    """Read rejected.csv (file_name, stage, reason, kind). Raises: DataError for missing columns, OSError."""
    rows = _rows(path, ("file_name", "stage", "reason"), ("kind",))
    groups = group_reasons(Entry(name, kind, stage, reason) for name, stage, reason, kind in rows)
    stages: dict[str, int] = {}
    for group in groups:
        stages[group.stage] = stages.get(group.stage, 0) + group.count
    return Rejected(dict(sorted(stages.items(), key=lambda item: -item[1])), groups)


def read_ranking(path: Path) -> RankingTable:
    """Read ranking.csv (file_name, score, chosen, reason, kind). Raises: DataError for missing columns, OSError."""
    entries, scores, chosen = [], [], []
    for name, score, flag, reason, kind in _rows(path, ("file_name", "score", "chosen", "reason"), ("kind",)):
        entries.append(Entry(name, kind, "", reason))
        scores.append(_number(score))
        chosen.append(flag.strip().lower() in ("1", "true", "yes"))
    groups = group_reasons(
        e for e, score, is_in in zip(entries, scores, chosen, strict=True) if not is_in and math.isfinite(score)
    )
    names, reasons = tuple(e.file_name for e in entries), tuple(e.reason for e in entries)
    return RankingTable(names, np.array(scores, np.float64), np.array(chosen, bool), reasons, groups)


def _rows(path: Path, columns: tuple[str, ...], optional: tuple[str, ...] = ()) -> Iterator[list[str]]:
    """Yield the named columns of every row; columns that the file or a short row lacks are empty."""
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        reader = csv.reader(file)
        header = next(reader, [])
        missing = [name for name in columns if name not in header]
        if missing:
            raise DataError(
                f"{path.name} lacks the column {missing[0]}; its first line is {shorten(','.join(header), 80)!r}"
            )
        places = [header.index(name) if name in header else None for name in (*columns, *optional)]
        for row in reader:
            yield [row[place] if place is not None and place < len(row) else "" for place in places]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")
