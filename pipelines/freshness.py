"""Return whether results of earlier runs are those of the photos as they are now.

The names of finished work hold the sizes of the photos. A photo can also change at its size: a download that reserves
its space before it fills it, `rsync --inplace`, a disk that lost blocks. So every score shard has its photos' stamps
(size and times of the last changes) next to it. A photo with the same stamp is the same. Where the stamp differs, the
MD5 of the photo decides, so that a copy of the tree, or a mere touch, costs one look and no work.

The ranking is removed before scores are made again: where it exists, it is that of the scores. Build shards and the
finished file hold the MD5 of each photo, and are compared with it.
"""

import hashlib
import json
import sys
from contextlib import nullcontext
from functools import cache, lru_cache
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from datatools.console import say
from datatools.errors import DataError
from datatools.files import atomic_path
from datatools.pyramid import Pyramid
from datatools.pyramid.joined import PartTables, joined_path
from pipelines.layout import NO_STAMP, BuildLayout
from pipelines.score_shard import stamps_path


def scores_are_fresh(layout: BuildLayout, index: int) -> bool:
    """Return whether a score shard is that of the photos as they are; reads those whose stamps have changed."""
    path = layout.score_path(index)
    try:
        status = path.stat()
    except OSError:
        return False
    return _photos_are_those_of(layout, index, path, status.st_ino, status.st_mtime_ns)


def ranking_is_fresh(layout: BuildLayout) -> bool:
    """Return whether the ranking and its tables exist, and their scores are those of the photos as they are."""
    files = (layout.ranking_path, layout.ranking_csv, layout.rejected_csv)
    return all(file.exists() for file in files) and all(
        scores_are_fresh(layout, index) for index in range(layout.score_shards)
    )


def load_choice(layout: BuildLayout) -> dict[str, Any]:
    """Return the content of the ranking, a list for each of its columns."""
    status = layout.ranking_path.stat()
    return _read_json(layout.ranking_path, status.st_ino, status.st_mtime_ns)


def build_shard_is_fresh(layout: BuildLayout, index: int) -> bool:
    """Return whether a build shard is complete, and holds the faces that the ranking has there; it has to be fresh.

    A shard whose images went into the file that is being joined counts, too.
    """
    path, size = layout.build_path(index), layout.shard_size
    rows = slice(index * size, (index + 1) * size)
    return _holds(layout, path, rows) or (layout.joining_path.exists() and _holds(layout, joined_path(path), rows))


def pyramid_is_fresh(layout: BuildLayout) -> bool:
    """Return whether the finished file is of this build and, as far as scores are there, of today's photos."""
    try:
        with Pyramid(layout.pyramid_path) as pyramid:
            if pyramid.settings.get("build_digest") != layout.build_digest:
                return False
    except (DataError, OSError):
        return False
    scored = (index for index in range(layout.score_shards) if layout.score_path(index).exists())
    if not all(scores_are_fresh(layout, index) for index in scored):
        return False
    return not layout.ranking_path.exists() or _holds(layout, layout.pyramid_path, slice(None))


@cache  # photos are looked at once per process, as long as the scores are the same file
def _photos_are_those_of(layout: BuildLayout, index: int, path: Path, _inode: int, _time: int) -> bool:
    records, stamps = layout.shard_candidates(index), layout.shard_stamps(index)
    scored = _read_stamps(stamps_path(path), stamps.shape)
    if scored is None:
        scored = np.full_like(stamps, NO_STAMP)
    used = np.array([record.file_name not in layout.excluded for record in records])
    changed = np.flatnonzero((stamps != scored).any(axis=1) & used).tolist()
    if not changed:
        return True
    try:
        digests = _scored_md5(path, len(records))
    except (OSError, ValueError, EOFError, BadZipFile):
        return True  # a damaged file is reported where its scores are needed
    _announce()
    for i in changed:
        try:
            with records[i].path.open("rb") as stream:
                digest = hashlib.file_digest(stream, "md5").hexdigest()
        except OSError:
            return False  # scoring says what is wrong with it
        if digest != digests[i]:
            return False
    try:
        with atomic_path(stamps_path(path)) as temporary, temporary.open("wb") as stream:
            np.save(stream, np.where(used[:, None], stamps, scored))
    except OSError:
        pass  # only saves the next run this look
    return True


@cache
def _announce() -> None:
    say("photos have other time stamps than when they were scored; comparing their contents", sys.stderr)


def _read_stamps(path: Path, shape: tuple[int, ...]) -> NDArray[np.int64] | None:
    try:
        stamps = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return stamps if isinstance(stamps, np.ndarray) and stamps.shape == shape else None


def _scored_md5(path: Path, photos: int) -> NDArray[np.str_]:
    """Return the MD5 of every photo of a score shard when it was scored."""
    with np.load(path, allow_pickle=False) as archive:
        position, digests = archive["position"], np.empty(photos, dtype="U32")
        digests[position] = archive["source_md5"]
        digests[np.setdiff1d(np.arange(photos), position)] = archive["rejected_md5"]
    return digests


def _holds(layout: BuildLayout, path: Path, rows: slice) -> bool:
    """Return whether a complete pyramid, or what is kept of a joined one, consists of these rows of the ranking."""
    ranking = load_choice(layout)
    wanted = {
        "file_name": [layout.candidates[position].photo_name for position in ranking["chosen"][rows]],
        **{name: ranking[name][rows] for name in ("source_md5", "score", "rank")},
    }
    try:
        source = PartTables.read(path) if path.suffix == ".joined" else Pyramid(path)
        with source if isinstance(source, Pyramid) else nullcontext():
            return all(source.provenance(name).tolist() == values for name, values in wanted.items())
    except (DataError, OSError):
        return False


@lru_cache(maxsize=1)
def _read_json(path: Path, _inode: int, _time: int) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
