"""CelebA's aligned images, cut to 128 x 128 pixels around x = 89, y = 121, as for the paper's table 1.

The folder `Img/img_align_celeba_png` (lossless, as the paper used it) or `Img/img_align_celeba` (JPEG). Attributes,
identities and the split are taken from CelebA's files where they are.
"""

import hashlib
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path

import numpy as np

from datatools.errors import DataError, reason
from datatools.files import PictureFolder, list_pictures
from datatools.images import ImageError, decode_rgb
from datatools.sources.celeba import PhotoAnnotations, read_annotations
from datatools.sources.celeba_layout import find_annotations
from datatools.sources.pictures import SourcePicture, Unusable, square
from datatools.sources.published import celebahq_index_by_file

RESOLUTION = 128
CENTRE = (89, 121)
SIZE = (178, 218)
FOLDERS = ("img_align_celeba_png", "img_align_celeba")
HOW_TO_GET = "get them with: python -m datatools.download celeba-aligned --out DIR"


class AlignedCelebA:
    """The aligned images below CelebA's folder. Raises DataError where there are none."""

    title = "CelebA, aligned"
    resolution = RESOLUTION
    classes: tuple[str, ...] = ()

    def __init__(self, root: Path) -> None:
        self._folder = find_folder(root)
        self._pictures = list_pictures(self._folder).pictures
        self._annotations = _read_annotations(root)

    @property
    def attribute_names(self) -> tuple[str, ...]:
        return self._annotations.attribute_names

    @property
    def count(self) -> int:
        return len(self._pictures)

    @property
    def settings(self) -> Mapping[str, str | int]:
        x, y = CENTRE
        return {"data_set": self.title, "folder": self._folder.name, "crop": f"{RESOLUTION} around ({x}, {y})"}

    @cached_property
    def digest(self) -> str:
        """Return a digest of names, sizes and annotations; the pictures are not opened."""
        files = [(path.name, path.stat().st_size if path.exists() else -1) for path in self._pictures]
        known = self._annotations
        numbers = (sorted(known.attributes.items()), sorted(known.identities.items()), sorted(known.splits.items()))
        content = repr((files, known.attribute_names, numbers))
        return hashlib.md5(content.encode(errors="surrogateescape"), usedforsecurity=False).hexdigest()

    def entries(self, start: int, stop: int) -> Iterator[SourcePicture | Unusable]:
        indices = celebahq_index_by_file()
        left, top = CENTRE[0] - RESOLUTION // 2, CENTRE[1] - RESOLUTION // 2
        for path in self._pictures[start:stop]:
            row = f"{path.stem}.jpg"  # as in the annotations
            try:
                data = path.read_bytes()
                pixels = decode_rgb(data)
            except (ImageError, OSError) as error:
                yield Unusable(path.name, reason(error))
                continue
            if pixels.shape[:2] != SIZE[::-1]:
                yield Unusable(
                    path.name, f"has {pixels.shape[1]} x {pixels.shape[0]} pixels, not {SIZE[0]} x {SIZE[1]}"
                )
                continue
            yield SourcePicture(
                file_name=path.name,
                md5=hashlib.md5(data, usedforsecurity=False).hexdigest(),
                pixels=np.ascontiguousarray(pixels[top : top + RESOLUTION, left : left + RESOLUTION]),
                quad=square(left, top, RESOLUTION),
                celebahq_index=indices.get(row, -1),
                attributes=self._annotations.attributes.get(row),
                identity=self._annotations.identities.get(row),
                split=self._annotations.splits.get(row),
            )


def find_folder(root: Path) -> Path:
    """Return the folder of the aligned images: the lossless ones where they are."""
    places = [root / parent / name for name in FOLDERS for parent in ("Img", "", name, f"Img/{name}")]
    looked_into = [place / below for place in places for below in (place.name, "")] + [root]
    for folder in looked_into:
        found = list_pictures(folder) if folder.is_dir() else PictureFolder((), (), ())
        if found.pictures and (folder != root or "align" in root.name.lower()):
            return folder
    wild = next((path for path in (root / "Img/img_celeba", root / "img_celeba") if path.is_dir()), None)
    other = f"; {wild} has the photos in the wild, which BuildCelebAHQ uses" if wild else ""
    raise DataError(f"{root}: holds no aligned images (Img/{FOLDERS[0]} or Img/{FOLDERS[1]}){other}; {HOW_TO_GET}")


def _read_annotations(root: Path) -> PhotoAnnotations:
    """Return the annotations of the tree, all of which are optional. Raises DataError for a file of another format."""
    try:
        find_annotations(root)
    except DataError:
        return PhotoAnnotations((), {}, {}, {})
    return read_annotations(root)
