"""CelebA's aligned images, cut to 128 x 128 pixels around x = 89, y = 121, as for the paper's table 1.

The folder `Img/img_align_celeba_png` (lossless, as the paper used it) or `Img/img_align_celeba` (JPEG). Attributes,
identities and the split are taken from CelebA's files where they are.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from datatools.errors import DataError, reason
from datatools.files import PictureFolder, list_pictures, read_lines
from datatools.images import ImageError, decode_rgb
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
        places = [root, *(root / name for name in ("Anno", "Eval"))]
        self.attribute_names, self._attributes = _read_attributes(_find(places, "list_attr_celeba.txt"))
        self._identities = _read_numbers(_find(places, "identity_CelebA.txt"))
        self._splits = _read_numbers(_find(places, "list_eval_partition.txt"))

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
        known = (self.attribute_names, sorted(self._attributes.items()))
        numbers = (sorted(self._identities.items()), sorted(self._splits.items()))
        return hashlib.md5(repr((files, known, numbers)).encode(), usedforsecurity=False).hexdigest()

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
                attributes=self._attributes.get(row),
                identity=self._identities.get(row),
                split=self._splits.get(row),
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


def _find(places: Sequence[Path], name: str) -> Path | None:
    return next((place / name for place in places if (place / name).is_file()), None)


def _read_attributes(path: Path | None) -> tuple[tuple[str, ...], Mapping[str, tuple[int, ...]]]:
    """Return attribute names, and the values by file name; rows that are not whole are left out."""
    lines = read_lines(path, tolerant=True) if path is not None else []
    names = tuple(lines[1].split()) if len(lines) > 1 else ()
    signs = {"1": 1, "-1": -1}
    attributes = {}
    for line in lines[2:]:
        fields = line.split()
        if len(fields) == 1 + len(names) and set(fields[1:]) <= signs.keys():
            attributes[fields[0]] = tuple(signs[field] for field in fields[1:])
    return names, attributes


def _read_numbers(path: Path | None) -> Mapping[str, int]:
    """Return the numbers by file name of a file of lines `name number`; other lines are left out."""
    rows = [line.split() for line in (read_lines(path, tolerant=True) if path is not None else [])]
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdecimal() and len(row[1]) < 10}
