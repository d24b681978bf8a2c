"""The second pass over one shard: chosen faces in, a small pyramid file out."""

from collections.abc import Generator, Sequence
from contextlib import closing

from datatools.errors import DataError
from datatools.parallel import Report
from datatools.pyramid import Provenance, PyramidWriter
from datatools.pyramid.joined import joined_path
from pipelines.cluster import Workers
from pipelines.finished_faces import FinishedFaces, KeptFaces
from pipelines.freshness import load_choice
from pipelines.layout import BuildLayout
from pipelines.photo_work import Face, FaceMaker, map_photos
from pipelines.unfinished import UnfinishedShard


def chosen_faces(layout: BuildLayout, index: int) -> list[tuple[int, Provenance]]:
    """Return the faces that one build shard holds by the ranking: position among the candidates, and provenance."""
    ranking, rows = load_choice(layout), slice(index * layout.shard_size, (index + 1) * layout.shard_size)
    chosen = []
    ranking = {"orientation": [1] * len(ranking["chosen"])} | ranking  # of a version without
    columns = (ranking[name][rows] for name in ("chosen", "source_md5", "score", "rank", "quad", "orientation"))
    for position, source_md5, score, rank, quad, orientation in zip(*columns, strict=True):
        record = layout.candidates[position]
        provenance = Provenance(
            file_name=record.photo_name,
            source_md5=source_md5,
            score=score,
            rank=rank,
            celebahq_index=record.celebahq_index,
            quad=quad,
            landmarks=record.landmarks,
            attributes=record.attributes,
            identity=record.identity,
            split=record.split,
            orientation=orientation,
            face=record.face,
        )
        chosen.append((position, provenance))
    return chosen


def write_build_shard(
    layout: BuildLayout,
    index: int,
    chosen: Sequence[tuple[int, Provenance]],
    workers: Workers,
    progress: Report,
    resume: Report,
) -> float:
    """Write the chosen faces of one shard as a small pyramid file.

    Faces that the first pass kept are read, and so are those that the finished file of an earlier build has; other
    photos are opened again. Faces of the finished file, and those that an interrupted run made, are not made again:
    `resume` is called for each. Returns the seconds that the interrupted run took.
    """
    path, size = layout.build_path(index), layout.shard_size
    path.parent.mkdir(parents=True, exist_ok=True)
    joined_path(path).unlink(missing_ok=True)  # of other faces
    shards = {position // size for position, _ in chosen}
    kept = {shard: KeptFaces(layout, shard) for shard in shards if layout.faces_path(shard).exists()}
    finished = FinishedFaces(layout)
    copied = {position for position, provenance in chosen if position // size not in kept and provenance in finished}
    to_make = [(position, row) for position, row in chosen if position // size not in kept and position not in copied]
    with (
        closing(finished),
        UnfinishedShard(
            path,
            path.with_suffix(".rgb"),
            [f"{layout.candidates[i].file_name} {provenance.source_md5}" for i, provenance in to_make],
            resolution=layout.resolution,
            group=layout.restorer.batch_size,
        ) as unfinished,
        closing(_faces_again(layout, to_make, unfinished, workers)) as again,
        PyramidWriter(
            path,
            len(chosen),
            resolution=layout.resolution,
            levels=layout.levels,
            compression=layout.compression,  # here, in many processes, rather than in the join
            attribute_names=layout.tree.attribute_names,
            optional_columns=layout.optional_columns,
        ) as writer,
    ):
        not_made = copied.union(position for position, _ in to_make[: len(unfinished.rows)])
        for position, provenance in chosen:
            shard, row = divmod(position, size)
            if shard in kept:
                face = kept[shard].read(row)
            else:
                face = finished.read(provenance) if position in copied else next(again)
            writer.append(face, provenance)
            (resume if position in not_made else progress)(1)
    unfinished.remove()
    return unfinished.seconds


def _faces_again(
    layout: BuildLayout, chosen: Sequence[tuple[int, Provenance]], unfinished: UnfinishedShard, workers: Workers
) -> Generator[Face, None, None]:
    """Yield faces that are found nowhere else: those of an interrupted run, then new ones, which are saved."""
    for number in range(len(unfinished.rows)):
        yield unfinished.face(number)
    rest = chosen[len(unfinished.rows) :]
    records = [layout.candidates[position] for position, _ in rest]
    make = FaceMaker(layout.restorer, layout.final_filter, layout.resolution)
    with closing(map_photos(make, records, workers)) as results:
        for record, (_, provenance), (row, face) in zip(records, rest, results, strict=True):
            if row["source_md5"] != provenance.source_md5:
                raise DataError(f"{record.path} changed since it was scored; run the same command again")
            if face is None:
                raise DataError(f"{record.path} was fine when it was scored, and now: {row['rejection'][2]}")
            unfinished.append(face)
            yield face
