"""What the report page says about ranking.csv and rejected.csv: read, counted, like reasons put together."""

import csv
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datatools.errors import DataError
from datatools.report_format import shorten

EXAMPLES = 4  # file names shown for a reason

# What differs between two reasons of the same kind: quoted text, file names, numbers.
_PARTICULARS = re.compile(
    r"""'[^']*'|"[^"]*"|\S+\.(?:jpe?g|png|webp|gif|bmp|tiff?)\b|[-+]?\d+(?:[.,_]\d+)*(?:e[-+]?\d+)?""", re.I
)


@dataclass(frozen=True)
class ReasonGroup:
    """Entries that were turned away for the same kind of reason.

    Attributes:
        stage: where it happened.
        text: the reason; its particulars are replaced by … where they differ.
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
        """(n,) which entries have a score, that is: gave a face."""
        return np.isfinite(self.scores)

    def best_not_chosen(self, count: int) -> list[int]:
        """Positions of the `count` best scored entries that were not chosen, best first."""
        positions = np.flatnonzero(~self.chosen & self.scored)
        return [int(i) for i in positions[np.argsort(-self.scores[positions], kind="stable")][:count]]


@dataclass
class _Collected:
    texts: set[str] = field(default_factory=set)
    count: int = 0
    examples: list[tuple[str, str]] = field(default_factory=list)


def group_reasons(entries: Iterable[tuple[str, str, str]]) -> tuple[ReasonGroup, ...]:
    """Put (file name, stage, reason) entries of the same kind together, the most frequent kind first.

    Two reasons are of a kind when they differ only in numbers, quoted text or names of pictures.
    """
    kinds: dict[tuple[str, str], _Collected] = {}
    for name, stage, reason in entries:
        text = shorten(reason)
        collected = kinds.setdefault((stage, _PARTICULARS.sub("…", text)), _Collected())
        collected.count += 1
        if len(collected.texts) < 2:
            collected.texts.add(text)
        if len(collected.examples) < EXAMPLES:
            collected.examples.append((name, text))
    groups = []
    for (stage, kind), found in kinds.items():
        text = found.texts.pop() if len(found.texts) == 1 else kind
        groups.append(ReasonGroup(stage, text, found.count, tuple(found.examples)))
    return tuple(sorted(groups, key=lambda group: -group.count))


def read_rejected(path: Path) -> Rejected:
    """Read rejected.csv (file_name, stage, reason). Raises: DataError for missing columns, OSError."""
    rows = _rows(path, ("file_name", "stage", "reason"))
    groups = group_reasons((name, stage, reason) for name, stage, reason in rows)
    stages: dict[str, int] = {}
    for group in groups:
        stages[group.stage] = stages.get(group.stage, 0) + group.count
    return Rejected(dict(sorted(stages.items(), key=lambda item: -item[1])), groups)


def read_ranking(path: Path) -> RankingTable:
    """Read ranking.csv (file_name, score, rank, chosen, reason). Raises: DataError for missing columns, OSError."""
    names, scores, chosen, reasons = [], [], [], []
    for name, score, flag, reason in _rows(path, ("file_name", "score", "chosen", "reason")):
        names.append(name)
        scores.append(_number(score))
        chosen.append(flag.strip().lower() in ("1", "true", "yes"))
        reasons.append(reason)
    groups = group_reasons(
        (names[i], "", reasons[i]) for i, is_in in enumerate(chosen) if not is_in and math.isfinite(scores[i])
    )
    return RankingTable(tuple(names), np.array(scores, np.float64), np.array(chosen, bool), tuple(reasons), groups)


def _rows(path: Path, columns: tuple[str, ...]) -> Iterator[list[str]]:
    """The named columns of every row; columns that a short row lacks are empty."""
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        reader = csv.reader(file)
        header = next(reader, [])
        missing = [name for name in columns if name not in header]
        if missing:
            raise DataError(
                f"{path.name} lacks the column {missing[0]}; its first line is {shorten(','.join(header), 80)!r}"
            )
        places = [header.index(name) for name in columns]
        for row in reader:
            yield [row[place] if place < len(row) else "" for place in places]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")
