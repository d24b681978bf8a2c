"""The search for faces in a folder's photos, one shard at a time: photos in, their faces out."""

import hashlib
import json
import time
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path

from datatools.files import atomic_path
from datatools.images import ImageError
from datatools.landmarks.base import Face, LandmarkSource, select_faces
from datatools.landmarks.views import View, find_faces, load_detectors, view_photo
from datatools.parallel import Report
from pipelines.cluster import Workers, map_photo_steps
from pipelines.face_search import FaceSearch
from pipelines.found_faces import Row, face_values, is_same
from pipelines.layout import digest_of
from pipelines.photo_files import read_photo
from pipelines.unfinished import UnfinishedShard

Opened = tuple[Row, View | None]
"""What is known of a photo, and how the detector sees it; None where it cannot be read."""


@dataclass(frozen=True)
class FaceFinder:
    """What is done with each photo, its name and file -> what was found in it.

    Attributes:
        source: the detector. own: as of `FaceSearch`.
    """

    source: LandmarkSource
    own: bool = True

    def prepare(self, item: tuple[str, Path]) -> Opened:
        """Open and decode a photo. Raises DataError where the system cannot read it."""
        name, path = item
        data, stamp = read_photo(path)
        row: Row = {"name": name, "source_md5": hashlib.md5(data).hexdigest(), "stamp": stamp}
        try:
            view = view_photo(name, data, own=self.own)
            return row | {"size": view.size, "rejection": None}, view
        except ImageError as error:
            return row | {"size": (0, 0), "rejection": (str(error.fault), str(error))}, None

    def find(self, photos: list[Opened]) -> list[list[Face]]:
        """Find the faces of photos together; none in those that cannot be read."""
        return find_faces(self.source, [view for _, view in photos])

    def finish(self, photo: Opened, faces: list[Face]) -> Row:
        """Return what is known of a photo, with its faces, the most prominent one first."""
        row, _ = photo
        ordered = select_faces(faces, *row["size"], all_faces=True)
        return row | {"faces": [face_values(face) for face in ordered]}


def map_finder(
    finder: FaceFinder, items: Sequence[tuple[str, Path]], workers: Workers, progress: Report | None = None
) -> Generator[Row, None, None]:
    """Yield what was found in photos, in their order, by threads, if the source takes several together."""
    if isinstance(workers, int) and workers > 1:
        load_detectors(finder.source)
    size = finder.source.batch_size
    return map_photo_steps(
        finder.prepare, finder.find, finder.finish, items, itemgetter(1), workers, size=size, progress=progress
    )


def shard_path(search: FaceSearch, index: int) -> Path:
    """Return the path of what a shard found; named by its photos and the source of the landmarks."""
    return search.found.folder / f"{index:05d}-{digest_of(search.source.digest, search.names_of(index))}.json"


def shard_is_fresh(search: FaceSearch, index: int) -> bool:
    """Return whether a shard was written, for the photos as they are now."""
    try:
        rows = json.loads(shard_path(search, index).read_text(encoding="utf-8"))["rows"]
    except (OSError, ValueError, KeyError):
        return False
    return all(is_same(search.photos[row["name"]], row) for row in rows)


def write_find_shard(search: FaceSearch, index: int, workers: Workers, progress: Report, resume: Report) -> None:
    """Find the faces in the photos of one shard, and write them.

    Photos that an interrupted run finished are not looked at again; `resume` is called with their number.
    """
    path, names = shard_path(search, index), search.names_of(index)
    path.parent.mkdir(parents=True, exist_ok=True)
    items = [(name, search.photos[name]) for name in names]
    finder = FaceFinder(search.source, search.own)
    with UnfinishedShard(
        path,
        None,
        names,
        resolution=0,
        group=finder.source.batch_size,
        current=lambda photo, row: is_same(items[photo][1], row),
    ) as unfinished:
        rows, start = unfinished.rows, time.perf_counter()
        resume(len(rows))
        with closing(map_finder(finder, items[len(rows) :], workers, progress)) as results:
            for row in results:
                unfinished.append(None, **row)
                rows.append(row)
        seconds = unfinished.seconds + time.perf_counter() - start
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps({"seconds": round(seconds, 3), "rows": rows}), encoding="utf-8")
    unfinished.remove()


def join_find_shards(search: FaceSearch) -> float:
    """Write the table of landmarks from the shards, and remove them; return the seconds that they took."""
    paths = [shard_path(search, index) for index in range(search.shards)]
    shards = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    rows = [row for shard in shards for row in shard["rows"]]
    search.found.add(rows, search.photos, search.source.name, search.source.digest)
    for path in paths:
        path.unlink()
    return float(sum(shard["seconds"] for shard in shards))
