"""What every export has: its options, its pictures, and the interface of its layout."""

import os
import shutil
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from datatools.errors import SettingError
from datatools.files import fsync_path
from datatools.images import encode_jpeg, encode_png, encode_webp

Target = Literal["folder", "imagefolder", "stylegan-zip", "webdataset", "tfrecord", "lmdb", "huggingface"]
PictureFormat = Literal["png", "jpeg", "webp"]
Names = Literal["index", "source"]
MetadataFormat = Literal["jsonl", "csv"]

TARGETS: tuple[str, ...] = get_args(Target)
PICTURE_FORMATS: tuple[str, ...] = get_args(PictureFormat)
NAMES: tuple[str, ...] = get_args(Names)
METADATA_FORMATS: tuple[str, ...] = get_args(MetadataFormat)
ENDINGS = {"png": ".png", "jpeg": ".jpg", "webp": ".webp"}
QUALITY = 95

EPOCH = (1980, 1, 1, 0, 0, 0)
"""Time of every file in an archive, the first one that zip can store: equal exports have equal bytes."""


@dataclass(frozen=True)
class ExportOptions:
    """How pictures are exported.

    Attributes:
        to: the layout.
        resolution: side of the pictures, a level of the pyramid.
        picture_format: PNG keeps every pixel; JPEG and WebP do not.
        quality: of JPEG and WebP, 1 to 100; None: QUALITY.
        names: file names from the number in the pyramid, or from the photo's name.
        labels: "none"; "file", "identity", "split", or attribute names with commas, see `read_classes`.
        metadata: format of the table next to the pictures.
        jobs: number of processes.

    Raises: SettingError for a wrong value.
    """

    to: Target
    resolution: int
    picture_format: PictureFormat = "png"
    quality: int | None = None
    names: Names = "index"
    labels: str = "none"
    metadata: MetadataFormat = "jsonl"
    jobs: int = 1

    def __post_init__(self) -> None:
        for name, allowed in (
            ("to", TARGETS),
            ("picture_format", PICTURE_FORMATS),
            ("names", NAMES),
            ("metadata", METADATA_FORMATS),
        ):
            if getattr(self, name) not in allowed:
                raise SettingError(name, f"{getattr(self, name)}: must be one of {', '.join(allowed)}")
        if self.quality is not None and self.picture_format == "png":
            raise SettingError("quality", f"{self.quality}: PNG has none, it keeps every pixel; choose JPEG or WebP")
        if self.quality is not None and not 1 <= self.quality <= 100:
            raise SettingError("quality", f"{self.quality}: must be 1 to 100")
        if self.jobs < 1:
            raise SettingError("jobs", f"{self.jobs}: must be at least 1")

    @property
    def ending(self) -> str:
        return ENDINGS[self.picture_format]

    @property
    def used_quality(self) -> int | None:
        """Return the quality of the pictures; None for PNG."""
        return None if self.picture_format == "png" else self.quality or QUALITY

    def encode(self, image: NDArray[np.uint8]) -> bytes:
        """Return the picture file of (H, W, 3) uint8 RGB."""
        if self.picture_format == "png":
            return encode_png(image)
        encode = encode_jpeg if self.picture_format == "jpeg" else encode_webp
        return encode(image, self.quality or QUALITY)


@dataclass(frozen=True)
class Named:
    """What the name of a picture may be made of.

    Attributes:
        number: in the pyramid; digits: how many of them a number has at least.
        position: in the export.
        resolution: side of the picture.
        stem: name of its photo without ending, with / after each folder; None where numbers name the pictures.
        folder: of its class; None without classes.
        ending: of the picture's format.
    """

    number: int
    digits: int
    position: int
    resolution: int
    stem: str | None
    folder: str | None
    ending: str

    @property
    def plain(self) -> str:
        """Return the name of the picture in a folder."""
        return f"{f'{self.number:0{self.digits}}' if self.stem is None else self.stem}{self.ending}"


@dataclass(frozen=True)
class Picture:
    """An encoded picture. row: its line of the metadata; row["file_name"] is its name in the export."""

    data: bytes
    row: Mapping[str, Any]

    @property
    def name(self) -> str:
        return str(self.row["file_name"])


@dataclass(frozen=True)
class Part:
    """The pictures `start` to `stop` - 1 of an export, which one process writes; `number` of `count` parts."""

    number: int
    count: int
    start: int
    stop: int


@dataclass(frozen=True)
class Contents:
    """What is the same for all pictures of an export.

    Attributes:
        attribute_names: of the pyramid.
        classes: names of the classes, none without labels.
        weights: whether labels are weights of the classes, not numbers.
        split: the one that all pictures belong to, else "train".
        options: see there.
    """

    attribute_names: tuple[str, ...]
    classes: tuple[str, ...]
    weights: bool
    split: str
    options: ExportOptions


@dataclass(frozen=True)
class Batch:
    """A part with its pictures, which are encoded as they are read."""

    part: Part
    pictures: Iterable[Picture]
    contents: Contents


class Layout:
    """A layout of exported pictures; this one is a folder of picture files.

    Parts are written into a working folder, in any order and by several processes; `finish` makes the export of it.
    A layout whose `copies` is 2 copies the pictures then.
    """

    part_images = 250
    copies = 1
    is_file = False
    needs_classes = False
    has_dataset_json = False

    def check(self) -> None:
        """Raise DataError where a library is missing."""

    def name(self, picture: Named) -> str:
        """Return the name of a picture: a path below the export, with / after each folder."""
        return picture.plain

    def write_part(self, folder: Path, batch: Batch) -> list[str]:
        """Write the pictures of a part into the working folder; return the paths of its files in it."""
        names = []
        for picture in batch.pictures:
            path = folder / picture.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(picture.data)
            names.append(picture.name)
        return names

    def finish(self, folder: Path, out: Path, documents: Mapping[str, bytes]) -> None:
        """Make the export of the working folder, all of whose parts are there, with documents next to them."""
        publish(folder, out, documents)


def publish(folder: Path, out: Path, documents: Mapping[str, bytes]) -> None:
    """Add the documents to a complete folder, flush it and let it take the place of `out`."""
    for name, data in documents.items():
        (folder / name).write_bytes(data)
    for path in (*folder.rglob("*"), folder):
        fsync_path(path)
    if out.is_dir():
        shutil.rmtree(out)
    os.replace(folder, out)
    fsync_path(out.absolute().parent)


class InArchive(Layout):
    """A layout of one file, to which pictures are copied from archives, one for each part."""

    copies = 2

    def write_part(self, folder: Path, batch: Batch) -> list[str]:
        name = f"{batch.part.number:06}.zip"
        write_zip(folder / name, ((picture.name, picture.data) for picture in batch.pictures))
        return [name]


def write_zip(path: Path, entries: Iterable[tuple[str, bytes]]) -> None:
    """Write an archive of these files, uncompressed: pictures are compressed already."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries:
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, data)


def stored_pictures(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield name and bytes of the pictures that `InArchive` wrote, in order."""
    for path in sorted(folder.glob("*.zip")):
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                yield entry.filename, archive.read(entry)
