"""The first pass over one shard: its candidates in, their scores, hashes and, where they are kept, faces out."""

import hashlib
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from datatools.errors import DataError
from datatools.files import FileStamp, atomic_path, file_stamp
from datatools.parallel import Report
from datatools.sources.records import Rejection, RejectionKind
from pipelines.cluster import Workers
from pipelines.layout import BuildLayout
from pipelines.photo_work import FaceMaker, Row, map_photos
from pipelines.timing import stopwatch
from pipelines.unfinished import UnfinishedShard

OF_PHOTOS = ("rejected_md5", "face_checksum")
"""Columns of a score shard that do not belong to the ranking."""
DAMAGE = (OSError, ValueError, EOFError, BadZipFile)
"""What reading a damaged score shard raises."""


def damaged(path: Path, why: object) -> DataError:
    """Remove a file of the first pass that was damaged; return the error that says so."""
    path.unlink(missing_ok=True)
    return DataError(f"{path} was damaged ({why}) and is removed; run the same command again")


def stamps_path(scores: Path) -> Path:
    """Return where the stamps of a score shard's photos are, (n, 3) int64; `pipelines.freshness` reads them."""
    return scores.with_suffix(".stamps")


def write_score_shard(
    layout: BuildLayout, index: int, workers: Workers, progress: Report | None = None, resume: Report | None = None
) -> None:
    """Write one shard of the first pass: make and score every face; keep the faces where the layout says so.

    The faces are written first, then next to the scores a .json file of how long the shard took: where the score file
    exists, they do too. Photos that an interrupted run finished are not made again; `resume` is called with their
    number.
    """
    path, records = layout.score_path(index), layout.shard_candidates(index)
    excluded = layout.excluded.intersection(record.file_name for record in records)
    faces_path = layout.faces_path(index) if layout.keep_faces else None
    for file in (path, faces_path or path):
        file.parent.mkdir(parents=True, exist_ok=True)
    restorer = layout.score_restorer
    make = FaceMaker(
        restorer,
        layout.final_filter,
        layout.resolution,
        scores=True,
        keeps_faces=layout.keep_faces,
        excluded=excluded,
    )
    with (
        stopwatch(path.with_suffix(".json"), "score", len(records) - len(excluded)) as add_seconds,
        UnfinishedShard(
            path,
            faces_path,
            [record.file_name for record in records],
            resolution=layout.resolution,
            group=restorer.batch_size,
            current=lambda photo, row: records[photo].file_name in excluded or _same_photo(records[photo].path, row),
        ) as unfinished,
    ):
        add_seconds(unfinished.seconds)
        rows = [*unfinished.rows]
        if resume is not None:
            resume(len(rows))
        with closing(map_photos(make, records[len(rows) :], workers, progress)) as results:
            for row, face in results:
                unfinished.append(face, **row)
                rows.append(row)
        unfinished.keep_faces()
    good = [i for i, row in enumerate(rows) if "rejection" not in row]
    rejected = [row for row in rows if "rejection" in row]
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez(
            stream,
            position=np.array(good, dtype=np.int64),
            score=np.array([rows[i]["score"] for i in good], dtype=np.float64),
            hash=np.array([rows[i]["hash"] for i in good], dtype=np.uint64).reshape(-1, 4),
            quad=np.array([rows[i]["quad"] for i in good], dtype=np.float64).reshape(-1, 4, 2),
            source_md5=np.array([rows[i]["source_md5"] for i in good], dtype="U32"),
            orientation=np.array([rows[i].get("orientation", 1) for i in good], dtype=np.int8),
            rejections=np.array([row["rejection"] for row in rejected], dtype=np.str_).reshape(-1, 3),
            rejected_md5=np.array([row["source_md5"] for row in rejected], dtype="U32"),
            face_checksum=np.array(unfinished.checksums if layout.keep_faces else [], dtype=np.int64),
        )
    # Last: stamps of photos whose scores are not written yet would pass older scores off as theirs.
    with atomic_path(stamps_path(path)) as temporary, temporary.open("wb") as stream:
        np.save(stream, np.array([row["stamp"] for row in rows], dtype=np.int64))
    unfinished.remove()


def _same_photo(path: Path, row: Row) -> bool:
    """Return whether a photo is as it was when the row was saved. Raises OSError where it cannot be read."""
    if file_stamp(path) == FileStamp(*row["stamp"]):
        return True
    return bool(hashlib.md5(path.read_bytes()).hexdigest() == row["source_md5"])


@dataclass(frozen=True)
class ScoreTable:
    """Score shards, read back and joined; arrays over the photos that gave a face, in the order of the source.

    Excluded photos are left out, whether they were scored or not.

    Attributes:
        position: (n,) index among the candidates.
        score: (n,), hash: (n, 4), quad: (n, 4, 2), source_md5: (n,) text.
        rejections: of the photos that gave none.
    """

    position: NDArray[np.int64]
    score: NDArray[np.float64]
    hash: NDArray[np.uint64]
    quad: NDArray[np.float64]
    source_md5: NDArray[np.str_]
    orientation: NDArray[np.int8]
    rejections: tuple[Rejection, ...]


def read_score_shards(layout: BuildLayout) -> ScoreTable:
    """Read the first pass back, in the order of the candidates."""
    tables = []
    for index in range(layout.score_shards):
        path = layout.score_path(index)
        try:
            with np.load(path, allow_pickle=False) as archive:
                table = {name: archive[name] for name in archive.files if name not in OF_PHOTOS}
        except DAMAGE as error:
            raise damaged(path, error) from error
        table.setdefault("orientation", np.ones(len(table["position"]), np.int8))  # stored before there were any
        tables.append(table | {"position": table["position"] + index * layout.shard_size})
    joined = {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}
    rejections = tuple(
        Rejection(RejectionKind(kind), str(name), str(detail))
        for name, kind, detail in joined.pop("rejections")
        if name not in layout.excluded
    )
    used = np.array([layout.candidates[i].file_name not in layout.excluded for i in joined["position"]], bool)
    return ScoreTable(**{name: column[used] for name, column in joined.items()}, rejections=rejections)
