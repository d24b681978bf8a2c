"""The second pass over one shard: chosen faces in, a small pyramid file out."""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datatools.errors import DataError
from datatools.faces.recipe import finish_face, reduce_face
from datatools.parallel import Report
from datatools.pyramid import Provenance, PyramidWriter
from datatools.sources.records import FaceRecord
from pipelines.freshness import read_ranking
from pipelines.layout import BuildLayout
from pipelines.photo_work import OpenedPhoto, PhotoWork, Recipe, map_photos, open_photo
from pipelines.progress import ProgressBar
from pipelines.unfinished import UnfinishedShard, read_face


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
        path, photo = chosen.record.path, open_photo(chosen.record, self.recipe)
        if photo.source_md5 != chosen.provenance.source_md5:
            raise DataError(f"{path} changed since it was scored; run the same command again")
        if photo.rejection is not None:
            raise DataError(f"{path} was fine when it was scored, and now: {photo.rejection.detail}")
        return photo

    def finish(self, photo: OpenedPhoto, restored: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
        assert photo.part is not None
        assert restored is not None
        face = finish_face(photo.part, restored, final_filter=self.recipe.final_filter).face
        return reduce_face(face, self.recipe.resolution)


def chosen_faces(layout: BuildLayout, index: int) -> list[ChosenFace]:
    """Return the faces that one build shard holds by the ranking."""
    ranking, size = read_ranking(layout), layout.shard_size
    chosen = []
    for i in range(index * size, min((index + 1) * size, len(ranking["chosen"]))):
        position = ranking["chosen"][i]
        record = layout.candidates[position]
        provenance = Provenance(
            file_name=record.file_name,
            source_md5=ranking["source_md5"][i],
            score=ranking["score"][i],
            rank=ranking["rank"][i],
            celebahq_index=record.celebahq_index,
            quad=ranking["quad"][i],
            landmarks=record.landmarks,
            attributes=record.attributes,
            identity=record.identity,
            split=record.split,
        )
        chosen.append(ChosenFace(record, provenance, shard=position // size, row=position % size))
    return chosen


def make_build_shard(
    layout: BuildLayout, index: int, chosen: Sequence[ChosenFace], jobs: int, progress: ProgressBar
) -> float:
    """Make one shard of a build, see `write_build_shard`."""
    kept = {shard: layout.faces_path(shard) for shard in {face.shard for face in chosen}}
    return write_build_shard(
        layout.build_path(index),
        chosen,
        {shard: path for shard, path in kept.items() if path.exists()}.get,
        layout.recipe(layout.restorer),
        jobs,
        min_level=layout.min_level,
        compression=layout.compression,
        attribute_names=layout.tree.attribute_names,
        progress=progress,
        resume=progress.resume,
    )


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
    """Write the chosen faces of one shard as a small pyramid file.

    Photos that an interrupted run finished are not made again; `resume` is called for each, and their seconds are
    returned.

    Args:
        kept_faces: score shard -> its kept faces, None where there are none (then the photo is opened again).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
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
    """Yield the faces that the first pass did not keep: those of an interrupted run, then new ones, which are saved."""
    for index in range(len(unfinished.rows)):
        yield unfinished.face(index)
    with closing(map_photos(FaceMaker(recipe), chosen[len(unfinished.rows) :], jobs)) as faces:
        for face in faces:
            unfinished.append(face)
            yield face
