"""The work behind `pipelines.datasets`: shards of a data set as small pyramids, then one file of them."""

import csv
import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

import datatools
from datatools.console import say
from datatools.errors import DataError
from datatools.files import atomic_path
from datatools.progress import Progress
from datatools.pyramid import Provenance, Pyramid, PyramidWriter, join, verify
from datatools.pyramid.convert import labels_path
from datatools.pyramid.levels import level_resolutions
from datatools.sources.pictures import PictureSource, SourcePicture, Unusable
from datatools.text import byte_size, counted
from pipelines.layout import digest_of
from pipelines.locks import Lock, lock_folder
from pipelines.preflight import free_space

NO_LANDMARKS = np.full((5, 2), np.nan)


@dataclass(frozen=True)
class DataSetLayout:
    """What is built, and where.

    Attributes:
        name: of the finished file, without its ending.
        source: the data set.
        output_dir: the folder of the results.
        count: number of entries that are used, from the first on.
        shard_size: entries per shard.
        compression: of the finished file.
    """

    name: str
    source: PictureSource
    output_dir: Path
    count: int
    shard_size: int
    compression: str

    @property
    def path(self) -> Path:
        return self.output_dir / f"{self.name}.h5"

    @property
    def unusable_csv(self) -> Path:
        return self.output_dir / f"{self.name}-unusable.csv"

    @property
    def work_dir(self) -> Path:
        return self.output_dir / f"work-{self.name}"

    @property
    def shards(self) -> int:
        return -(-self.count // self.shard_size)

    @cached_property
    def digest(self) -> str:
        """Return the name of the finished file's content."""
        made = (self.source.digest, dict(self.source.settings), datatools.__version__)
        return digest_of(made, self.count, self.compression)

    def shard_path(self, index: int) -> Path:
        return self.work_dir / f"{index:05d}-{digest_of(self.digest, self.shard_size)}.h5"

    def shard_notes(self, index: int) -> Path:
        """Return the path of the labels and the unusable entries of a shard, written before the shard."""
        return self.shard_path(index).with_suffix(".json")

    def shard_range(self, index: int) -> tuple[int, int]:
        return index * self.shard_size, min((index + 1) * self.shard_size, self.count)

    def is_finished(self) -> bool:
        """Return whether the finished file is there."""
        try:
            with Pyramid(self.path) as pyramid:
                return bool(pyramid.settings.get("build_digest") == self.digest)
        except (DataError, OSError):
            return False

    def settings(self) -> dict[str, str | int | float]:
        """Return what the finished file says about itself."""
        classes = {"classes": " ".join(self.source.classes)} if self.source.classes else {}
        digests = {"source_digest": self.source.digest, "build_digest": self.digest}
        return {**self.source.settings, **classes, "entries": self.count, **digests}

    def image_bytes(self) -> int:
        """Return the bytes of one image with all its levels."""
        return 3 * sum(level * level for level in level_resolutions(self.source.resolution))

    def bytes_needed(self) -> int:
        """Return an upper bound of the bytes that the build will yet claim, for uncompressed levels."""
        done = sum(self.shard_path(index).exists() for index in range(self.shards))
        entries = self.count + max(self.count - done * self.shard_size, 0)
        return self.image_bytes() * entries

    def plan(self) -> list[str]:
        """Return the lines of --dry-run."""
        done = sum(self.shard_path(index).exists() for index in range(self.shards))
        side = self.source.resolution
        shards = "all" if self.is_finished() else f"{done} of {counted(self.shards, 'shard')}"
        return [
            f"data set  {self.source.title}: {counted(self.count, 'picture')} of {side} x {side} pixels",
            f"done      {shards}",
            f"disk      {byte_size(self.image_bytes() * self.count)} for {self.path}, {byte_size(self.bytes_needed())} "
            f"needed, {byte_size(free_space(self.output_dir))} free",
        ]

    def results(self) -> str:
        """Say where the results are."""
        lines = [f"pyramid   {self.path}"]
        lines += [f"labels    {labels_path(self.path)}"] if self.source.classes else []
        lines += [f"unusable  {self.unusable_csv}"] if self.unusable_csv.exists() else []
        return "\n".join(lines)


def lock(layout: DataSetLayout) -> Lock:
    """Lock the work folder until the returned lock is closed. Raises DataError where another build holds it."""
    return lock_folder(layout.work_dir / "lock", layout.work_dir)


def write_shard(layout: DataSetLayout, index: int) -> None:
    """Write one shard of a data set, and what is known of it apart from pictures."""
    start, stop = layout.shard_range(index)
    path = layout.shard_path(index)
    path.parent.mkdir(parents=True, exist_ok=True)
    rows: list[Provenance] = []
    labels: list[int] = []
    unusable: list[Unusable] = []
    # How many entries are good is known only when all have been decoded, and the pyramid wants the number first. The
    # pictures wait in a file without a name, which goes away with the process whatever happens.
    with tempfile.TemporaryFile(dir=layout.work_dir) as spool:
        with Progress(f"shard {index + 1} of {layout.shards}", stop - start, "picture") as advance:
            for entry in layout.source.entries(start, stop):
                if isinstance(entry, Unusable):
                    unusable.append(entry)
                else:
                    spool.write(entry.pixels.tobytes())
                    rows.append(_provenance(entry, start + len(rows) + 1))
                    labels.append(-1 if entry.label is None else entry.label)
                advance(1)
        notes = {"labels": labels, "unusable": [(each.file_name, each.reason) for each in unusable]}
        with atomic_path(layout.shard_notes(index)) as temporary:
            temporary.write_text(json.dumps(notes), encoding="utf-8")
        with PyramidWriter(
            path,
            len(rows),
            resolution=layout.source.resolution,
            compression=layout.compression,
            attribute_names=layout.source.attribute_names,
        ) as writer:
            for row, pixels in zip(rows, _pictures(spool, layout.source.resolution, len(rows)), strict=True):
                writer.append(pixels, row)


def _pictures(spool: BinaryIO, side: int, count: int) -> Iterator[NDArray[np.uint8]]:
    spool.seek(0)
    for _ in range(count):
        yield np.frombuffer(spool.read(3 * side * side), np.uint8).reshape(side, side, 3)


def _provenance(picture: SourcePicture, rank: int) -> Provenance:
    return Provenance(
        file_name=picture.file_name,
        source_md5=picture.md5,
        score=float("nan"),
        rank=rank,
        celebahq_index=picture.celebahq_index,
        quad=picture.quad,
        landmarks=NO_LANDMARKS,
        attributes=picture.attributes,
        identity=picture.identity,
        split=picture.split,
    )


def finish(layout: DataSetLayout) -> None:
    """Make the finished file of the shards, read it back, and remove them. Raises DataError where nothing is usable."""
    shards = [layout.shard_path(index) for index in range(layout.shards)]
    notes = [json.loads(layout.shard_notes(index).read_text(encoding="utf-8")) for index in range(layout.shards)]
    labels = [label for note in notes for label in note["labels"]]
    unusable = [entry for note in notes for entry in note["unusable"]]
    write_unusable(layout, unusable)
    if not labels:
        raise DataError(
            f"none of the {counted(layout.count, 'entry')} of {layout.source.title} gives a picture; "
            f"{layout.unusable_csv} lists the reasons"
        )
    if layout.source.classes:
        with atomic_path(labels_path(layout.path)) as temporary, temporary.open("wb") as stream:
            np.save(stream, np.eye(len(layout.source.classes), dtype=np.float32)[labels])
    with Progress("join", len(labels), "picture") as advance:
        join(shards, layout.path, compression=layout.compression, settings=layout.settings(), progress=advance)
    with Progress("verify", len(labels), "picture") as advance:
        problems = verify(layout.path, advance)
    if problems:
        layout.path.unlink()
        raise DataError(
            f"{layout.path} did not read back as written ({problems[0]}), so it was removed; check the disk and run "
            "the same command again, finished work is kept"
        )
    shutil.rmtree(layout.work_dir, ignore_errors=True)


def write_unusable(layout: DataSetLayout, unusable: list[tuple[str, str]]) -> None:
    """List the entries that give no picture, and say how many there are; no file where there are none."""
    if not unusable:
        layout.unusable_csv.unlink(missing_ok=True)
        return
    with atomic_path(layout.unusable_csv) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([("name", "reason"), *unusable])
    name, reason = unusable[0]
    say(f"{counted(len(unusable), 'entry')} cannot be used, such as {name}: {reason}")
