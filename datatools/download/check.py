"""What a folder has of CelebA, and what is missing for a build."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from datatools.download.archives import find_parts
from datatools.download.catalogue import (
    ATTRIBUTES,
    CELEBA_PHOTOS,
    IDENTITIES,
    LANDMARKS,
    PARTITION,
    WILD_PARTS,
    RemoteFile,
)
from datatools.download.fetch import difference
from datatools.errors import DataError
from datatools.files import PICTURE_ENDINGS, SYSTEM_NAMES, as_data_error
from datatools.images import ImageError, image_size
from datatools.text import counted

ALIGNED_SIZE = (178, 218)
DEPTH = 5
LOOKED_AT = 8
"""Pictures of a folder whose size is read, spread over all."""

_NUMBERED = re.compile(r"\d{6}\..+")

USES = {
    LANDMARKS: "needed",
    ATTRIBUTES: "optional, for attributes",
    PARTITION: "optional, for the split",
    IDENTITIES: "optional, for identities; on request from CelebA's authors",
}


@dataclass(frozen=True)
class Pictures:
    """A folder with pictures. aligned: whether they are CelebA's aligned images."""

    folder: Path
    names: tuple[str, ...]
    aligned: bool


@dataclass
class Findings:
    """What is in a folder.

    Attributes:
        root: the folder.
        wild, aligned: folders with pictures, the fullest first.
        files: other files by their name in lower case.
        lines: all of it in words, the worst first.
        complete: whether a build is possible.
    """

    root: Path
    wild: list[Pictures] = field(default_factory=list)
    aligned: list[Pictures] = field(default_factory=list)
    files: dict[str, Path] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    complete: bool = False


def check_celeba(root: Path, *, checksums: bool = False) -> Findings:
    """Look for the parts of CelebA below `root`. Raises DataError for a folder that cannot be read.

    checksums: compare the archive's parts, too, which takes about a minute.
    """
    with as_data_error(root, "read"):
        os.listdir(root)
    found = Findings(root)
    for folder, names in _walk(root, DEPTH):
        pictures = tuple(sorted(name for name in names if os.path.splitext(name)[1].lower() in PICTURE_ENDINGS))
        aligned = bool(pictures) and _are_aligned(folder, pictures)
        if aligned or any(map(_NUMBERED.fullmatch, pictures)):
            (found.aligned if aligned else found.wild).append(Pictures(folder, pictures, aligned))
        for name in set(names).difference(pictures):
            found.files.setdefault(name.lower(), folder / name)
    for kinds in (found.wild, found.aligned):
        kinds.sort(key=lambda each: -len(each.names))
    landmarks = found.files.get(LANDMARKS.name.lower())
    found.complete = bool(found.wild) and landmarks is not None
    found.lines += [*_aligned_lines(found), _photo_line(found), *_part_lines(found, checksums)]
    found.lines += [_annotation_line(found, file, use) for file, use in USES.items()]
    found.lines.append(_what_next(found))
    return found


def _walk(folder: Path, depth: int) -> Iterator[tuple[Path, list[str]]]:
    """Yield each folder with the names of its files; not hidden ones, nor those that cannot be read."""
    files: list[str] = []
    folders: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith(".") or entry.name.lower() in SYSTEM_NAMES:
                    continue
                (folders if entry.is_dir() else files).append(entry.name)
    except OSError:
        return
    yield folder, files
    for name in sorted(folders) if depth else ():
        yield from _walk(folder / name, depth - 1)


def _are_aligned(folder: Path, names: Sequence[str]) -> bool:
    """Return whether pictures are CelebA's aligned images: by their size, and by their folder's name without one."""
    sizes = set()
    for name in names[:: -(-len(names) // LOOKED_AT)]:
        try:
            sizes.add(image_size((folder / name).read_bytes()))
        except (OSError, ImageError):
            continue
    return sizes == {ALIGNED_SIZE} if sizes else "align" in folder.name.lower()


def _aligned_lines(found: Findings) -> list[str]:
    """Say what belongs to the aligned images, which are taken for the photos in the wild most often."""
    parts = [f"{each.folder} with {counted(len(each.names), 'picture')} of 178 x 218 pixels" for each in found.aligned]
    parts += [str(path) for name, path in sorted(found.files.items()) if "align_celeba" in name]
    if not parts:
        return []
    more = f" and {counted(len(parts) - 1, 'other')}" if len(parts) > 1 else ""
    if found.complete:
        return [f"aligned    {parts[0]}{more}: BuildCelebAHQ does not use the aligned images"]
    wrong = "the aligned images are here in place of the photos in the wild"
    return [f"wrong      {wrong}: {parts[0]}{more}; BuildCelebAHQ cannot use them, only BuildCelebA128 does"]


def _photo_line(found: Findings) -> str:
    if not found.wild:
        return "missing    the photos in the wild (Img/img_celeba)"
    best = found.wild[0]
    numbers = {name[:6] for name in best.names if _NUMBERED.fullmatch(name)}
    line = f"have       {len(best.names):,} of {CELEBA_PHOTOS:,} photos in {best.folder}"
    first = next((f"{number:06}" for number in range(1, CELEBA_PHOTOS + 1) if f"{number:06}" not in numbers), "")
    return f"{line}; the first that is missing is {first}.jpg" if first else line


def _part_lines(found: Findings, checksums: bool) -> list[str]:
    """Say which parts of the archive of the photos are there, and whether they are whole."""
    there = [part for part in WILD_PARTS if part.name in found.files]
    if not there:
        return []
    names = f"{WILD_PARTS[0].name} to {WILD_PARTS[-1].name[-3:]}"
    lines = [f"have       {len(there)} of {len(WILD_PARTS)} parts of the archive ({names})"]
    missing = [part.name for part in WILD_PARTS if part not in there]
    if missing:
        lines.append(f"missing    {', '.join(missing)}")
    elif not found.wild:
        lines[0] += "; not unpacked yet"
    for part in there if checksums else ():
        problem = difference(found.files[part.name], part.size, part.checksum)
        if problem:
            lines.append(f"broken     {found.files[part.name]}: {problem}: remove it and download it again")
    if not missing and len(lines) == 1:
        try:
            find_parts(found.files[WILD_PARTS[0].name])
        except DataError as error:
            lines.append(f"broken     {error}")
    return lines


def _annotation_line(found: Findings, file: RemoteFile, use: str) -> str:
    path = found.files.get(file.name.lower())
    if path is None:
        table = found.files.get(f"{os.path.splitext(file.name)[0].lower()}.csv")
        other = f"; {table} is a table of another copy, which is not read" if table else ""
        return f"missing    {file.path} ({use}){other}"
    with as_data_error(path, "read"):
        problem = difference(path, file.size, file.checksum)
    return f"have       {path} ({use}), {'not the published file: it ' + problem if problem else 'as published'}"


def _what_next(found: Findings) -> str:
    if found.complete:
        return f"complete   luigi --module pipelines BuildCelebAHQ --celeba-dir {found.root}"
    needed = [] if found.wild else ["photos in the wild"]
    needed += [] if LANDMARKS.name.lower() in found.files else [LANDMARKS.name]
    command = f"python -m datatools.download celeba --out {found.root}"
    return f"incomplete without {' and '.join(needed)}: {command}"
