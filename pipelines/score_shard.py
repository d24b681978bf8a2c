"""The first pass over one shard: a list of records in, their scores, hashes and, where they are kept, faces out."""

import hashlib
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from datatools.errors import DataError
from datatools.faces.duplicates import perceptual_hash
from datatools.faces.quality import quality_score
from datatools.faces.recipe import finish_face, reduce_face
from datatools.files import FileStamp, atomic_path, file_stamp
from datatools.parallel import Report
from datatools.sources.records import FaceRecord, Rejection, RejectionKind
from pipelines.photo_work import OpenedPhoto, PhotoWork, Recipe, map_photos, open_photo
from pipelines.timing import stopwatch
from pipelines.unfinished import UnfinishedShard


@dataclass(frozen=True)
class ScoredPhoto:
    """What the first pass finds out about one photo: a rejection, or everything else."""

    source_md5: str
    stamp: FileStamp
    """Of the file, before it was read."""
    rejection: Rejection | None = None
    score: float = float("nan")
    hash: NDArray[np.uint64] | None = None
    quad: NDArray[np.float64] | None = None
    face: NDArray[np.uint8] | None = None


def stamps_path(scores: Path) -> Path:
    """Return where the stamps of a score shard's photos are, (n, 3) int64; `pipelines.freshness` reads them."""
    return scores.with_suffix(".stamps")


@dataclass(frozen=True)
class PhotoScorer(PhotoWork[FaceRecord, ScoredPhoto]):
    """One record -> ScoredPhoto, with the face (r, r, 3) when asked for."""

    recipe: Recipe
    keep_face: bool

    def prepare(self, record: FaceRecord) -> OpenedPhoto:
        return open_photo(record, self.recipe)

    def finish(self, photo: OpenedPhoto, restored: NDArray[np.uint8] | None) -> ScoredPhoto:
        if photo.part is None or restored is None:
            return ScoredPhoto(photo.source_md5, photo.stamp, rejection=photo.rejection)
        result = finish_face(photo.part, restored, final_filter=self.recipe.final_filter)
        return ScoredPhoto(
            photo.source_md5,
            photo.stamp,
            score=quality_score(result.face),
            hash=perceptual_hash(result.face),
            quad=result.frame.quad,
            face=reduce_face(result.face, self.recipe.resolution) if self.keep_face else None,
        )


@dataclass(frozen=True)
class ScoreTable:
    """Score shards, read back and joined; arrays over the photos that gave a face, in the order of the source.

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
    rejections: tuple[Rejection, ...]


def write_score_shard(
    path: Path,
    faces_path: Path | None,
    records: Sequence[FaceRecord],
    recipe: Recipe,
    jobs: int,
    progress: Report | None = None,
    resume: Report | None = None,
) -> None:
    """Write one shard of the first pass: make and score every face; keep the faces when `faces_path` is given.

    The faces are written first, then beside `path` a .json file of how long the shard took: where the score file
    exists, they do too. Photos that an interrupted run finished are not made again; `resume` is called with their
    number.
    """
    for file in (path, faces_path or path):
        file.parent.mkdir(parents=True, exist_ok=True)
    scorer = PhotoScorer(recipe, keep_face=faces_path is not None)
    names, group = [record.file_name for record in records], recipe.restorer.batch_size

    def current(index: int, row: dict[str, Any]) -> bool:
        return _same_photo(records[index].path, row)

    with (
        stopwatch(path.with_suffix(".json"), "score", len(records)) as add_seconds,
        UnfinishedShard(
            path, faces_path, names, resolution=recipe.resolution, group=group, current=current
        ) as unfinished,
    ):
        add_seconds(unfinished.seconds)
        scored = [_scored_from_row(row) for row in unfinished.rows]
        if resume is not None:
            resume(len(scored))
        with closing(map_photos(scorer, records[len(scored) :], jobs, progress)) as results:
            for photo in results:
                unfinished.append(photo.face, **_row_of_scored(photo))
                scored.append(replace(photo, face=None))
        unfinished.keep_faces()
    good = [i for i, s in enumerate(scored) if s.rejection is None]
    rejected = [s for s in scored if s.rejection is not None]
    rejections = [s.rejection for s in rejected if s.rejection is not None]
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez(
            stream,
            position=np.array(good, dtype=np.int64),
            score=np.array([scored[i].score for i in good], dtype=np.float64),
            hash=np.array([scored[i].hash for i in good], dtype=np.uint64).reshape(-1, 4),
            quad=np.array([scored[i].quad for i in good], dtype=np.float64).reshape(-1, 4, 2),
            source_md5=np.array([scored[i].source_md5 for i in good], dtype="U32"),
            rejections=np.array([_row_of_rejection(r) for r in rejections], dtype=np.str_).reshape(-1, 3),
            rejected_md5=np.array([s.source_md5 for s in rejected], dtype="U32"),
        )
    # Last: stamps of photos whose scores are not written yet would pass older scores off as theirs.
    with atomic_path(stamps_path(path)) as temporary, temporary.open("wb") as stream:
        np.save(stream, np.array([s.stamp for s in scored], dtype=np.int64))
    unfinished.remove()


def _row_of_scored(photo: ScoredPhoto) -> dict[str, Any]:
    """Return everything but the face, as values for JSON, which keeps all digits."""
    source = {"source_md5": photo.source_md5, "stamp": photo.stamp}
    if photo.rejection is not None:
        return {**source, "rejection": _row_of_rejection(photo.rejection)}
    assert photo.hash is not None
    assert photo.quad is not None
    return {**source, "score": photo.score, "hash": photo.hash.tolist(), "quad": photo.quad.tolist()}


def _row_of_rejection(rejection: Rejection) -> tuple[str, str, str]:
    """Return its fields in the order that score shards have always had."""
    return rejection.file_name, str(rejection.kind), rejection.detail


def _rejection_from_row(row: Sequence[str]) -> Rejection:
    name, kind, detail = map(str, row)
    return Rejection(RejectionKind(kind), name, detail)


def _same_photo(path: Path, row: dict[str, Any]) -> bool:
    """Return whether a photo is as it was when the row was saved. Raises OSError where it cannot be read."""
    if file_stamp(path) == FileStamp(*row["stamp"]):
        return True
    return bool(hashlib.md5(path.read_bytes()).hexdigest() == row["source_md5"])


def _scored_from_row(row: dict[str, Any]) -> ScoredPhoto:
    source = row["source_md5"], FileStamp(*row["stamp"])
    if "rejection" in row:
        return ScoredPhoto(*source, rejection=_rejection_from_row(row["rejection"]))
    return ScoredPhoto(
        *source,
        score=row["score"],
        hash=np.array(row["hash"], dtype=np.uint64),
        quad=np.array(row["quad"], dtype=np.float64),
    )


def read_score_shards(paths: Sequence[Path], shard_size: int) -> ScoreTable:
    """Read the first pass back, in the order of the candidates."""
    tables = []
    for path in paths:
        try:
            with np.load(path, allow_pickle=False) as archive:
                tables.append({name: archive[name] for name in archive.files})
        except (OSError, ValueError, EOFError, BadZipFile) as error:
            path.unlink(missing_ok=True)
            raise DataError(f"{path} was damaged ({error}) and is removed; run the same command again") from error
    for table in tables:
        del table["rejected_md5"]
    joined = {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}
    joined["position"] = np.concatenate([table["position"] + i * shard_size for i, table in enumerate(tables)])
    rejections = tuple(_rejection_from_row(row) for row in joined.pop("rejections"))
    return ScoreTable(**joined, rejections=rejections)
