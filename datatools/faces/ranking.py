"""Which faces go into the file, and in which order: pure functions on scores and names.

Paper, appendix C: all photos are scored, the best 30,000 kept. The published choice can be rebuilt instead.
"""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from datatools.errors import DataError
from datatools.faces.duplicates import DuplicatePair
from datatools.files import atomic_path, read_lines
from datatools.sources.published import KNOWN_FLAWS, published_files
from datatools.sources.records import FaceRecord, Rejection, RejectionKind

Selection = Literal["score", "official", "all"]
Order = Literal["auto", "rank", "source", "official"]


KNOWN_FLAWS_NAME = "known-flaws"
"""Stands for the entries of the published set that are known to be flawed, in place of a file."""


def read_exclusions(source: str) -> frozenset[str]:
    """Return the names of files that are not to be used.

    Args:
        source: a text file with one file name per line (the first field of a CSV line; `#` begins a comment),
            or "known-flaws" for the published set's known flawed entries.

    Raises:
        DataError: no such file, no text file, or lines that are no file names.
    """
    if source == KNOWN_FLAWS_NAME:
        published = published_files()
        return frozenset(published[index] for index in KNOWN_FLAWS)
    return read_names(Path(source), "--exclude", hint=f"; or give {KNOWN_FLAWS_NAME!r}")


def read_names(path: Path, option: str, *, hint: str = "", endings: bool = True) -> frozenset[str]:
    """Return the file names in a text file: the first field of each line; `#` begins a comment.

    Args:
        option: what messages name.
        hint: what else could be given in place of a file that cannot be read.
        endings: whether names have to have one, as those of photos do.

    Raises:
        DataError: no such file, no text file, or lines that are no file names.
    """
    try:
        lines = read_lines(path)
    except DataError as error:
        raise DataError(f"{option} {path}: cannot be read ({error}){hint}") from error
    names = [line.split("#")[0].split(",")[0].strip().strip("\"'").strip() for line in lines]
    names = [name for name in names if name and name != "file_name"]
    bad = [name for name in names if (endings and "." not in name) or "/" in name]
    if bad:
        raise DataError(f"{option} {path}: {bad[0]!r} is not a file name like 000001.jpg; write one per line")
    return frozenset(names)


def required_count(selection: Selection, count: int, excluded: frozenset[str] = frozenset()) -> int:
    """Return how many photos a build needs: `count`, but for "official" no more than the published list has left."""
    if selection == "all":
        return 1
    if selection == "official":
        return min(count, sum(name not in excluded for name in published_files()))
    return count


def select_candidates(
    records: Sequence[FaceRecord], *, selection: Selection, count: int, excluded: frozenset[str] = frozenset()
) -> tuple[FaceRecord, ...]:
    """Return the photos that a build may use, in the order of `records`, with the excluded ones at their places.

    For "official" these are the published photos up to the `count`-th that is not excluded; otherwise all of them.
    """
    if selection != "official":
        return tuple(records)
    published = sorted((record for record in records if record.celebahq_index >= 0), key=lambda r: r.celebahq_index)
    used = np.cumsum([record.file_name not in excluded for record in published])
    wanted = {record.file_name for record, number in zip(published, used, strict=True) if number <= count}
    return tuple(record for record in records if record.file_name in wanted)


@dataclass(frozen=True)
class Ranking:
    """The outcome of a ranking over n scored faces.

    Attributes:
        rank: (n,) 1 for the best score; ties in the order of file names.
        chosen: (m,) positions of the chosen faces, in the order of the file.
        rejections: for each of the n, why it was not chosen (None when it was).
    """

    rank: NDArray[np.int64]
    chosen: NDArray[np.int64]
    rejections: tuple[Rejection | None, ...]

    @property
    def reasons(self) -> tuple[str, ...]:
        """Return why each was not chosen, in words ("" when it was)."""
        return tuple(rejection.detail if rejection else "" for rejection in self.rejections)


def rank_faces(
    records: Sequence[FaceRecord],
    scores: NDArray[np.float64],
    *,
    selection: Selection,
    count: int,
    order: Order = "auto",
    drop: Sequence[DuplicatePair] = (),
    min_score: float = -math.inf,
) -> Ranking:
    """Rank scored faces and choose.

    Args:
        records: (n) in the order of the source.
        scores: (n,) quality scores, higher is better.
        selection: "score" keeps the best `count`; "official" and "all" keep every one of `records`.
        order: of the chosen faces; "auto" is "official" for that selection, else "rank". In "official" order faces
            that were never published come last, by rank.
        drop: pairs of positions that show the same photo: the one with the lower score is not chosen.
        min_score: least score of a face that is chosen.
    """
    by_score = sorted(range(len(records)), key=lambda i: (-scores[i], records[i].file_name))
    rank = np.empty(len(records), dtype=np.int64)
    rank[by_score] = np.arange(1, len(records) + 1)

    rejections: list[Rejection | None] = [None] * len(records)
    # The worse ones first lose against the best of their group, in the order of rank: a face that was dropped
    # does not drop others.
    for pair in sorted(drop, key=lambda p: min(rank[p.first], rank[p.second])):
        better, worse = sorted((pair.first, pair.second), key=lambda i: rank[i])
        if not rejections[better] and not rejections[worse]:
            detail = f"duplicate of {records[better].file_name}"
            rejections[worse] = Rejection(RejectionKind.DUPLICATE, records[worse].file_name, detail)

    for i in by_score:
        if scores[i] < min_score and not rejections[i]:
            detail = f"score below {min_score:g}"
            rejections[i] = Rejection(RejectionKind.LOW_SCORE, records[i].file_name, detail)
    eligible = [i for i in by_score if not rejections[i]]
    if selection == "score":
        for i in eligible[count:]:
            detail = f"score below the best {count}"
            rejections[i] = Rejection(RejectionKind.LOW_SCORE, records[i].file_name, detail)
        eligible = eligible[:count]

    if order == "auto":
        order = "official" if selection == "official" else "rank"
    if order == "source":
        eligible.sort()
    elif order == "official":
        eligible.sort(key=lambda i: (records[i].celebahq_index < 0, records[i].celebahq_index, rank[i]))
    return Ranking(rank, np.array(eligible, dtype=np.int64), tuple(rejections))


def write_ranking_csv(
    path: Path,
    records: Sequence[FaceRecord],
    scores: NDArray[np.float64],
    ranking: Ranking,
    rejections: Sequence[Rejection],
) -> None:
    """Write `file_name,score,rank,chosen,reason,kind`: scored faces by rank, then entries that never got a score."""
    rows: list[tuple[object, ...]] = []
    for i in np.argsort(ranking.rank):
        lost = ranking.rejections[i]
        score, rank = f"{scores[i]:.6f}", str(ranking.rank[i])
        rows.append(
            (records[i].file_name, score, rank, int(not lost), *((lost.detail, lost.kind) if lost else ("", "")))
        )
    scored = {record.file_name for record in records}  # some lost no more than their attributes
    for r in rejections:
        if r.file_name not in scored:
            reason = r.detail if r.stage == "choice" else f"{r.stage}: {r.detail}"
            rows.append((r.file_name, "", "", 0, reason, r.kind))
    _write_csv(path, ("file_name", "score", "rank", "chosen", "reason", "kind"), rows)


def write_rejected_csv(path: Path, rejections: Sequence[Rejection]) -> None:
    """Write `file_name,stage,reason,kind`: one row per entry that cannot be used."""
    rows = [(r.file_name, r.stage, r.detail, r.kind) for r in rejections]
    _write_csv(path, ("file_name", "stage", "reason", "kind"), rows)


def _write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    with (
        atomic_path(path) as temporary,
        # File names may hold bytes that are not UTF-8: they are written as they are.
        temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as stream,
    ):
        csv.writer(stream, lineterminator="\n").writerows([header, *rows])
