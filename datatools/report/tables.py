"""Read ranking.csv and rejected.csv for the report: entries counted, and grouped by kind."""

import csv
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datatools.errors import DataError
from datatools.sources.records import RejectionKind
from datatools.text import shorten

EXAMPLES = 4  # file names shown for a reason

Row = dict[str, str]
"""Of a table, by its column names. kind: a `RejectionKind`'s value; tables that were written before there were kinds
have none."""


@dataclass(frozen=True)
class ReasonGroup:
    """Entries of a list, or not chosen, for the same kind of reason.

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
    """rejected.csv in short, each part with most entries first.

    Attributes:
        stages: rejected entries per stage.
        used: entries that are listed although their photos are used, per kind in words.
        groups: all entries by kind of reason.
    """

    stages: dict[str, int]
    used: dict[str, int]
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


def group_reasons(rows: Iterable[Row]) -> tuple[ReasonGroup, ...]:
    """Put entries of the same kind together, the most frequent kind first; those without a kind by their reason."""
    kinds: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        kinds.setdefault((row.get("stage", ""), row.get("kind", "") or shorten(row["reason"])), []).append(row)
    groups = []
    for (stage, kind), members in kinds.items():
        reasons = {shorten(row["reason"]) for row in members}
        words = RejectionKind(kind).text if kind in set(RejectionKind) else kind
        text = reasons.pop() if len(reasons) == 1 else words
        examples = tuple((row["file_name"], shorten(row["reason"])) for row in members[:EXAMPLES])
        groups.append(ReasonGroup(stage, text, len(members), examples))
    return tuple(sorted(groups, key=lambda group: -group.count))


def read_rejected(path: Path) -> Rejected:
    """Read rejected.csv (file_name, stage, reason, kind). Raises: DataError for missing columns, OSError."""
    rows = _rows(path, "file_name", "stage", "reason")
    words = {kind.value: kind.text for kind in RejectionKind if kind.is_used}
    stages = Counter(row["stage"] for row in rows if row.get("kind") not in words)
    used = Counter(words[row["kind"]] for row in rows if row.get("kind") in words)
    return Rejected(dict(stages.most_common()), dict(used.most_common()), group_reasons(rows))


def read_ranking(path: Path) -> RankingTable:
    """Read ranking.csv (file_name, score, chosen, reason, kind). Raises: DataError for missing columns, OSError."""
    rows = _rows(path, "file_name", "score", "chosen", "reason")
    scores = np.array([float(row["score"] or "nan") for row in rows])
    chosen = np.array([row["chosen"] in ("1", "True") for row in rows], bool)
    names, reasons = (tuple(row[column] for row in rows) for column in ("file_name", "reason"))
    left_out = np.flatnonzero(np.isfinite(scores) & ~chosen)
    return RankingTable(names, scores, chosen, reasons, group_reasons(rows[i] for i in left_out))


def _rows(path: Path, *columns: str) -> list[Row]:
    """Return every row, which has the named columns; those that a short row lacks are empty."""
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        reader = csv.DictReader(file, restval="")
        header = reader.fieldnames or []
        missing = [name for name in columns if name not in header]
        if missing:
            raise DataError(
                f"{path.name} lacks the column {missing[0]}; its first line is {shorten(','.join(header), 80)!r}"
            )
        return list(reader)
