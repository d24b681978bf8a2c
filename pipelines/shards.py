"""The work inside a shard: photos spread over processes, or in groups for a GPU; files whole or not at all.

Nothing here depends on where it runs: a shard is a list of records and settings in, a file out.
"""

import hashlib
import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from datatools.errors import DataError, reason
from datatools.faces.duplicates import perceptual_hash
from datatools.faces.geometry import FrameError
from datatools.faces.quality import quality_score
from datatools.faces.recipe import FacePart, finish_face, prepare_face, reduce_face
from datatools.faces.resample import FinalFilter
from datatools.files import FileStamp, atomic_path, file_stamp
from datatools.images import ImageError
from datatools.parallel import Report, map_in_groups, map_in_processes
from datatools.pyramid import Provenance, Pyramid, PyramidWriter
from datatools.restore import Restorer
from datatools.sources.records import FaceRecord, Rejection, RejectionKind
from pipelines.unfinished import UnfinishedShard, read_face


@contextmanager
def one_line_errors(what: str) -> Iterator[None]:
    """Turn what the system refuses (full disk, read-only folder) into one line for the user."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{what}: {reason(error)}{f' ({error.filename})' if error.filename else ''}; "
            "mend that and run the same command again, finished work is kept"
        ) from error


@dataclass(frozen=True)
class Recipe:
    """What turns a photo into a face; picklable, so that it reaches worker processes."""

    restorer: Restorer
    final_filter: FinalFilter
    resolution: int


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
    """Where the stamps of a score shard's photos are, (n, 3) int64; `pipelines.freshness` reads them."""
    return scores.with_suffix(".stamps")


def read_photo(path: Path) -> tuple[bytes, FileStamp]:
    """The file's bytes, and its stamp before they were read.

    What the system refuses is no fault of the photo, and must not become a finished result.
    """
    try:
        stamp = file_stamp(path)
        return path.read_bytes(), stamp
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {reason(error)}; mend that, or leave it out with --exclude, and run the "
            "same command again, finished work is kept"
        ) from error


@dataclass(frozen=True)
class OpenedPhoto:
    """A photo before its restoration: what is to be restored, or why there is no face."""

    source_md5: str
    stamp: FileStamp
    part: FacePart | None = None
    rejection: Rejection | None = None


Item = TypeVar("Item")
Result = TypeVar("Result")


class PhotoWork(ABC, Generic[Item, Result]):
    """Function object, a photo -> its result, in parts: between them several photos may be restored at once.

    Picklable, so that it reaches worker processes.
    """

    recipe: Recipe

    @abstractmethod
    def prepare(self, item: Item) -> OpenedPhoto:
        """Everything before the restoration."""

    @abstractmethod
    def finish(self, photo: OpenedPhoto, restored: NDArray[np.uint8] | None) -> Result:
        """Everything after it. `restored`: None where the photo gives no face."""

    def __call__(self, item: Item) -> Result:
        photo = self.prepare(item)
        return self.finish(photo, self.recipe.restorer.run([photo.part.crop])[0] if photo.part is not None else None)


def map_photos(
    work: PhotoWork[Item, Result], items: Iterable[Item], jobs: int, progress: Report | None = None
) -> Generator[Result, None, None]:
    """Results in the order of `items`, by `jobs` processes; threads, if the restorer takes photos together."""
    restorer = work.recipe.restorer
    if restorer.batch_size == 1:
        return map_in_processes(work, items, jobs, progress)

    def restore(photos: list[OpenedPhoto]) -> list[NDArray[np.uint8] | None]:
        restored = iter(restorer.run([photo.part.crop for photo in photos if photo.part is not None]))
        return [next(restored) if photo.part is not None else None for photo in photos]

    return map_in_groups(
        work.prepare, restore, work.finish, items, size=restorer.batch_size, threads=jobs, progress=progress
    )


@dataclass(frozen=True)
class PhotoScorer(PhotoWork[FaceRecord, ScoredPhoto]):
    """One record -> ScoredPhoto, with the face (r, r, 3) when asked for."""

    recipe: Recipe
    keep_face: bool

    def prepare(self, record: FaceRecord) -> OpenedPhoto:
        data, stamp = read_photo(record.path)
        digest = hashlib.md5(data).hexdigest()
        try:
            return OpenedPhoto(digest, stamp, prepare_face(data, record.landmarks, self.recipe.restorer))
        except (ImageError, FrameError) as error:
            rejection = Rejection(RejectionKind(error.fault), record.file_name, str(error))
            return OpenedPhoto(digest, stamp, rejection=rejection)

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
    """First pass over one shard: make and score every face; keep the faces when `faces_path` is given.

    The faces are written first, then beside `path` a .json file of how long the shard took: where the score file
    exists, they do too. Photos that an interrupted run finished are not made again; `resume` is called with their
    number.
    """
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
    """Everything but the face, as values for JSON, which keeps all digits."""
    source = {"source_md5": photo.source_md5, "stamp": photo.stamp}
    if photo.rejection is not None:
        return {**source, "rejection": _row_of_rejection(photo.rejection)}
    assert photo.hash is not None
    assert photo.quad is not None
    return {**source, "score": photo.score, "hash": photo.hash.tolist(), "quad": photo.quad.tolist()}


def _row_of_rejection(rejection: Rejection) -> tuple[str, str, str]:
    """In the order that score shards have always had; "photo" and "face" in place of a kind are kinds, too."""
    return rejection.file_name, str(rejection.kind), rejection.detail


def _rejection_from_row(row: Sequence[str]) -> Rejection:
    name, kind, detail = map(str, row)
    return Rejection(RejectionKind(kind), name, detail)


def _same_photo(path: Path, row: dict[str, Any]) -> bool:
    """Whether a photo is as it was when the row was saved. Raises OSError where it cannot be read."""
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


@dataclass(frozen=True)
class ChosenFace:
    """One row of the finished file, before its pixels exist."""

    record: FaceRecord
    provenance: Provenance
    shard: int
    row: int
    """Where the first pass had it: shard and row in it."""


@dataclass(frozen=True)
class FaceMaker(PhotoWork[ChosenFace, NDArray[np.uint8]]):
    """A chosen face -> its pixels (r, r, 3). The photo was fine in the first pass."""

    recipe: Recipe

    def prepare(self, chosen: ChosenFace) -> OpenedPhoto:
        record = chosen.record
        data, stamp = read_photo(record.path)
        digest = hashlib.md5(data).hexdigest()
        if digest != chosen.provenance.source_md5:
            raise DataError(f"{record.path} changed since it was scored; run the same command again")
        try:
            return OpenedPhoto(digest, stamp, prepare_face(data, record.landmarks, self.recipe.restorer))
        except (ImageError, FrameError) as error:
            raise DataError(f"{record.path} was fine when it was scored, and now: {error}") from error

    def finish(self, photo: OpenedPhoto, restored: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
        assert photo.part is not None
        assert restored is not None
        face = finish_face(photo.part, restored, final_filter=self.recipe.final_filter).face
        return reduce_face(face, self.recipe.resolution)


def write_build_shard(
    path: Path,
    chosen: Sequence[ChosenFace],
    kept_faces: Callable[[int], Path | None],
    recipe: Recipe,
    jobs: int,
    *,
    min_level: int,
    compression: str,
    attribute_names: Sequence[str],
    progress: Report | None = None,
    resume: Report | None = None,
) -> float:
    """Second pass: the chosen faces of one shard as a small pyramid file.

    Photos that an interrupted run finished are not made again; `resume` is called for each, and their seconds are
    returned.

    Args:
        kept_faces: score shard -> its kept faces, None where there are none (then the photo is opened again).
    """
    kept = {shard: kept_faces(shard) for shard in {face.shard for face in chosen}}
    not_kept = [one for one in chosen if kept[one.shard] is None]
    photos = [f"{one.record.file_name} {one.provenance.source_md5}" for one in not_kept]
    with (
        UnfinishedShard(
            path,
            path.with_suffix(".rgb"),
            photos,
            resolution=recipe.resolution,
            group=recipe.restorer.batch_size,
        ) as unfinished,
        closing(_faces_again(unfinished, not_kept, recipe, jobs)) as again,
        PyramidWriter(
            path,
            len(chosen),
            resolution=recipe.resolution,
            min_level=min_level,
            compression=compression,  # here, in many processes, rather than in the join
            attribute_names=attribute_names,
        ) as writer,
    ):
        stored = set(map(id, not_kept[: len(unfinished.rows)]))
        for one in chosen:
            store = kept[one.shard]
            face = read_face(store, one.row, recipe.resolution) if store is not None else next(again)
            writer.append(face, one.provenance)
            if (report := resume if id(one) in stored else progress) is not None:
                report(1)
    unfinished.remove()
    return unfinished.seconds


def _faces_again(
    unfinished: UnfinishedShard, chosen: Sequence[ChosenFace], recipe: Recipe, jobs: int
) -> Generator[NDArray[np.uint8], None, None]:
    """Faces that the first pass did not keep, in order: those of an interrupted run, then new ones, which are saved."""
    for index in range(len(unfinished.rows)):
        yield unfinished.face(index)
    with closing(map_photos(FaceMaker(recipe), chosen[len(unfinished.rows) :], jobs)) as faces:
        for face in faces:
            unfinished.append(face)
            yield face


@contextmanager
def stopwatch(path: Path, stage: str, images: int | Callable[[], int]) -> Iterator[Callable[[float], None]]:
    """Write how long the body took, for the report; nothing when it fails. `images` may be known only after it.

    Yields a function that adds seconds of earlier runs.
    """
    earlier: list[float] = []
    start = time.perf_counter()
    yield earlier.append
    seconds = time.perf_counter() - start + sum(earlier)
    count = images if isinstance(images, int) else images()
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        timing = {"stage": stage, "seconds": round(seconds, 3), "images": count}
        temporary.write_text(json.dumps(timing) + "\n", encoding="utf-8")


def pyramid_length(path: Path) -> int:
    """Images of a complete pyramid."""
    with Pyramid(path) as pyramid:
        return len(pyramid)


def pyramid_is(path: Path, build_digest: str | None = None) -> bool:
    """Whether `path` is a complete pyramid, and of that build."""
    try:
        with Pyramid(path) as pyramid:
            return build_digest is None or bool(pyramid.settings.get("build_digest") == build_digest)
    except (DataError, OSError):
        return False
