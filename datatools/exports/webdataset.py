"""Shards of WebDataset: tar archives in which the files of a picture follow each other."""

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

from datatools.exports.base import Batch, Layout, Named, Picture


class WebDataset(Layout):
    """Archives 000000.tar, 000001.tar ...: `key.png`, `key.json` (metadata) and, with class numbers, `key.cls`.

    A key ends at its first dot, so dots of photos' names become underscores.
    """

    part_images = 1000

    def name(self, picture: Named) -> str:
        return picture.plain.removesuffix(picture.ending).replace(".", "_") + picture.ending

    def write_part(self, folder: Path, batch: Batch) -> list[str]:
        name = f"{batch.part.number:06}.tar"
        with tarfile.open(folder / name, "w") as archive:
            for file_name, data in (entry for picture in batch.pictures for entry in _files(picture)):
                entry = tarfile.TarInfo(file_name)
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
        return [name]


def _files(picture: Picture) -> Iterator[tuple[str, bytes]]:
    key = picture.name.rpartition(".")[0]
    yield picture.name, picture.data
    yield f"{key}.json", json.dumps(picture.row).encode()
    label = picture.row.get("label")
    if isinstance(label, int):
        yield f"{key}.cls", str(label).encode()
