"""Which pictures of a folder are CelebA-HQ's, by their names, and what CelebA's annotations say of them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from datatools.errors import DataError
from datatools.files import read_lines
from datatools.sources.celeba import read_annotations
from datatools.sources.published import COUNT, published_files

MAPPING = "CelebA-HQ-to-CelebA-mapping.txt"
"""The file of CelebAMask-HQ that names the photo of each picture; it lies next to the folder of pictures."""


@dataclass(frozen=True, slots=True)
class CelebAHQPicture:
    """A picture of the published CelebA-HQ.

    Attributes:
        celebahq_index: 0 to 29999.
        photo: file name in CelebA.
        attributes: +1 or -1; None when not given.
        identity: number of the person; None when not given.
        split: 0 training, 1 validation, 2 test; None when not given.
    """

    celebahq_index: int
    photo: str
    attributes: tuple[int, ...] | None = None
    identity: int | None = None
    split: int | None = None


@dataclass(frozen=True)
class CelebAHQPictures:
    """Pictures of a folder by name. reason: why they count as CelebA-HQ's, in words."""

    pictures: Mapping[str, CelebAHQPicture]
    attribute_names: tuple[str, ...]
    reason: str


def celebahq_pictures(
    root: Path, names: Sequence[str], *, wanted: bool | None = None, celeba_dir: Path | None = None
) -> CelebAHQPictures | None:
    """Find out which of the pictures `names` of a folder are CelebA-HQ's.

    Their names are numbers of up to five digits, the index. They count as such where MAPPING is in the folder or next
    to it, or where the folder has all of 0 to 29999 (or 00000 to 29999).

    Args:
        root: the folder or archive.
        names: of its pictures, with / between folders.
        wanted: True where numbers are indices in any case; False where they are not.
        celeba_dir: CelebA's folder or its Anno, for attributes, identities and split; counts as `wanted`.

    Returns: None where the pictures are not CelebA-HQ's.
    Raises: DataError for a mapping or annotations that cannot be read or contradict the published set, and where the
        pictures are said to be CelebA-HQ's and no name is an index.
    """
    if wanted is False:
        if celeba_dir is not None:
            raise DataError("--celeba-dir describes CelebA-HQ's pictures; leave out --no-celebahq")
        return None
    indices = {name: index for name in names if (index := _index(name)) is not None}
    mapping = next((path for path in (root / MAPPING, root.absolute().parent / MAPPING) if path.is_file()), None)
    if mapping is not None:
        _check_mapping(mapping)
        reason = f"{mapping} is there"
    elif wanted or celeba_dir is not None:
        reason = "--celebahq is given" if celeba_dir is None else "--celeba-dir is given"
    elif len(names) == COUNT and {*indices.values()} == {*range(COUNT)}:
        reason = "all of 0 to 29999 are there"
    else:
        return None
    if not indices:
        if mapping is not None and not wanted and celeba_dir is None:
            return None
        raise DataError(
            f"{root}: no picture has the name of one of CelebA-HQ's, such as 00000.jpg or 29999.png"
            f"{f'; they are called {names[0]} ...' if names else ''}"
        )
    annotations = None if celeba_dir is None else read_annotations(celeba_dir)
    photos = published_files()
    pictures = {}
    for name, index in indices.items():
        photo = photos[index]
        if annotations is None:
            pictures[name] = CelebAHQPicture(index, photo)
        else:
            pictures[name] = CelebAHQPicture(
                index,
                photo,
                annotations.attributes.get(photo),
                annotations.identities.get(photo),
                annotations.splits.get(photo),
            )
    return CelebAHQPictures(pictures, () if annotations is None else annotations.attribute_names, reason)


def _index(name: str) -> int | None:
    """Return the index that a picture's name is; None for another name. CelebA's own names have six digits."""
    stem = PurePosixPath(name).stem
    if not re.fullmatch("[0-9]{1,5}", stem) or int(stem) >= COUNT:
        return None
    return int(stem)


def _check_mapping(path: Path) -> None:
    """Raise DataError unless a mapping agrees with the published set."""
    photos = published_files()
    rows = 0
    for number, line in enumerate(read_lines(path), start=1):
        fields = line.split()
        if number == 1 or not fields:
            continue  # the column names
        if len(fields) != 3 or not fields[0].isdecimal() or int(fields[0]) >= COUNT:
            raise DataError(f"{path}, line {number}: expected index, row and file name, found {line[:80]!r}")
        if photos[int(fields[0])] != fields[2]:
            raise DataError(
                f"{path}, line {number}: names {fields[2]} for index {fields[0]}, the published set has "
                f"{photos[int(fields[0])]}; move the file away, or use --no-celebahq"
            )
        rows += 1
    if not rows:
        raise DataError(f"{path}: holds no rows; move the file away, or use --no-celebahq")
