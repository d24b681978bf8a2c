"""The search for faces in a folder's photos, one shard at a time: photos in, their faces out."""

import hashlib
import json
import time
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from datatools.files import atomic_path
from datatools.images import ImageError
from datatools.landmarks.base import Face, LandmarkSource, Photo, select_faces
from datatools.parallel import Report, map_in_groups, map_in_processes
from datatools.sources.own_pictures import OwnPicture
from pipelines.folder_layout import FolderLayout
from pipelines.found_faces import Row, face_values, is_same
from pipelines.layout import digest_of
from pipelines.photo_work import read_photo
from pipelines.unfinished import UnfinishedShard

ENOUGH = 1024
"""Photos are decoded at a half, quarter or eighth while the longer side keeps at least so many pixels: detectors find
nearly the same points in a fraction of the time, and miss faces of less than a thirtieth of that side."""


@dataclass(frozen=True)
class Opened:
    """A photo that was opened. photo: as the detector sees it, None where it cannot be read; size: of the photo."""

    row: Row
    photo: Photo | None = None
    size: tuple[int, int] = (0, 0)
    reduce: int = 1


@dataclass(frozen=True)
class FaceFinder:
    """Function object, name and file of a photo -> what was found in it; in parts, for detectors that take several."""

    source: LandmarkSource

    def prepare(self, item: tuple[str, Path]) -> Opened:
        """Open and decode a photo. Raises DataError where the system cannot read it."""
        name, path = item
        data, stamp = read_photo(path)
        row: Row = {"name": name, "source_md5": hashlib.md5(data).hexdigest(), "stamp": stamp, "rejection": None}
        try:
            picture = OwnPicture(data)
            reduce = next((k for k in (8, 4, 2) if max(picture.size) >= k * ENOUGH), 1)
            return Opened(row, Photo(name, picture.decode(reduce=reduce)), picture.size, reduce)
        except ImageError as error:
            return Opened(row | {"rejection": (str(error.fault), str(error))})

    def find(self, photos: list[Opened]) -> list[list[Face]]:
        """Find the faces of photos together; none in those that cannot be read."""
        found = iter(self.source.find([opened.photo for opened in photos if opened.photo is not None]))
        return [[] if opened.photo is None else next(found) for opened in photos]

    def finish(self, opened: Opened, faces: list[Face]) -> Row:
        """Return the faces in pixels of the whole photo, the most prominent one first."""
        whole = [_enlarged(face, opened.reduce) for face in faces]
        ordered = select_faces(whole, *opened.size, all_faces=True)
        return opened.row | {"faces": [face_values(face) for face in ordered]}

    def __call__(self, item: tuple[str, Path]) -> Row:
        opened = self.prepare(item)
        return self.finish(opened, self.find([opened])[0])


def _enlarged(face: Face, factor: int) -> Face:
    left, top, width, height = (edge * factor for edge in face.box)
    return replace(face, points=(face.points + 0.5) * factor - 0.5, box=(left, top, width, height))


def _map(
    finder: FaceFinder, items: Sequence[tuple[str, Path]], jobs: int, progress: Report | None
) -> Generator[Row, None, None]:
    size = finder.source.batch_size
    if size == 1:
        return map_in_processes(finder, items, jobs, progress)
    return map_in_groups(finder.prepare, finder.find, finder.finish, items, size=size, threads=jobs, progress=progress)


def shard_path(layout: FolderLayout, index: int) -> Path:
    """Return the path of what a shard found; named by its photos and the source of the landmarks."""
    names = layout.undetected_of(index)
    return layout.work_dir / "landmarks" / f"{index:05d}-{digest_of(layout.landmark_source.digest, names)}.json"


def shard_is_fresh(layout: FolderLayout, index: int) -> bool:
    """Return whether a shard was written, for the photos as they are now."""
    try:
        rows = json.loads(shard_path(layout, index).read_text(encoding="utf-8"))["rows"]
    except (OSError, ValueError, KeyError):
        return False
    return all(is_same(layout.folder_photos.paths[row["name"]], row) for row in rows)


def write_find_shard(layout: FolderLayout, index: int, jobs: int, progress: Report, resume: Report) -> None:
    """Find the faces in the photos of one shard, and write them.

    Photos that an interrupted run finished are not looked at again; `resume` is called with their number.
    """
    path, names = shard_path(layout, index), layout.undetected_of(index)
    path.parent.mkdir(parents=True, exist_ok=True)
    items = [(name, layout.folder_photos.paths[name]) for name in names]
    finder = FaceFinder(layout.landmark_source)
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
        with closing(_map(finder, items[len(rows) :], jobs, progress)) as results:
            for row in results:
                unfinished.append(None, **row)
                rows.append(row)
        seconds = unfinished.seconds + time.perf_counter() - start
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps({"seconds": round(seconds, 3), "rows": rows}), encoding="utf-8")
    unfinished.remove()


def join_find_shards(layout: FolderLayout) -> float:
    """Write the table of landmarks from the shards, and remove them; return the seconds that they took."""
    paths = [shard_path(layout, index) for index in range(layout.find_shards)]
    shards = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    source, rows = layout.landmark_source, [row for shard in shards for row in shard["rows"]]
    layout.found.add(rows, layout.folder_photos.paths, source.name, source.digest)
    for path in paths:
        path.unlink()
    return float(sum(shard["seconds"] for shard in shards))
