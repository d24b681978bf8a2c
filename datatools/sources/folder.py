"""A folder of one's own photos: names, a record of each face that is used, and attributes from a table.

A photo's name is its path below the folder, with / between folders, so photos of the same name do not collide.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from datatools.errors import DataError
from datatools.files import PICTURE_ENDINGS, list_pictures, read_lines
from datatools.sources.celeba import CelebATree
from datatools.sources.own_attributes import OwnAttributes
from datatools.sources.records import FaceRecord, Rejection, RejectionKind, face_name
from datatools.text import counted, normal_name


class FoundFace(Protocol):
    """What a record needs of a face; see `datatools.landmarks.base.Face`."""

    @property
    def points(self) -> NDArray[np.float64]: ...
    @property
    def size(self) -> float: ...


@dataclass(frozen=True)
class FolderPhotos:
    """The photos of a folder. paths: name -> file, in the order of names. rejections: entries that are none."""

    paths: Mapping[str, Path]
    rejections: tuple[Rejection, ...]


def list_photos(folder: Path, without: Iterable[Path] = ()) -> FolderPhotos:
    """List the photos below a folder, those below the folders `without` aside. Raises DataError where it has none."""
    files, hidden = list_pictures(folder, recursive=True), [path.absolute() for path in without]
    paths, rejections = {}, []
    for path in (*files.pictures, *files.others):
        if any(path.absolute().is_relative_to(place) for place in hidden):
            continue
        name = path.relative_to(folder).as_posix()
        if path not in files.pictures:
            if path.suffix.lower() in PICTURE_ENDINGS:
                rejections.append(Rejection(RejectionKind.NOT_READABLE, name, "no regular file"))
        elif _fits_tables(name):
            paths[name] = path
        else:
            detail = "the file's name is not valid UTF-8 or has a line break; rename the file"
            rejections.append(Rejection(RejectionKind.BAD_FILE_NAME, name, detail))
    if not paths:
        raise DataError(f"--photos {folder}: the folder holds no pictures")
    return FolderPhotos(paths, tuple(rejections))


def _fits_tables(name: str) -> bool:
    return not {"\n", "\r"} & set(name) and name.encode("utf-8", "replace") == name.encode("utf-8", "surrogateescape")


@dataclass(frozen=True)
class FolderTree(CelebATree):
    """The faces of a folder of photos. summary: what was found in how many photos, and by what."""

    summary: str = ""

    @property
    def converted(self) -> tuple[FaceRecord, ...]:
        """Return (): names are those of the files."""
        return ()

    def describe_missing(self) -> str:
        """Return what to say where no face can be used; "" elsewhere."""
        return "" if self.records else f"no face of the photos in {self.root} can be used: {self.summary}"

    def describe_unannotated(self) -> str:
        """Return what was found, in one line."""
        return self.summary


@dataclass(frozen=True)
class FaceChoice:
    """Which faces of a photo are used. all_faces: every one, not the first alone. min_face: least size in pixels."""

    all_faces: bool = False
    min_face: float = 0

    def of(self, faces: Sequence[FoundFace]) -> list[tuple[int, FoundFace]]:
        """Return number and face of those to use, of faces in the order of their numbers."""
        large = [(number, face) for number, face in enumerate(faces) if face.size >= self.min_face]
        return large if self.all_faces else large[:1]


def read_folder(
    folder: Path,
    photos: FolderPhotos,
    faces: Mapping[str, Sequence[FoundFace]],
    choice: FaceChoice,
    *,
    source: str,
    no_face: str,
    unreadable: Mapping[str, Rejection],
    attributes: OwnAttributes,
) -> FolderTree:
    """Return a record of every face to use, and a rejection of every photo that gives none; no photo is opened.

    Args:
        folder: as listed in `photos`.
        faces: by name, in the order of their numbers; a photo without a row is missing.
        choice: which of them are used.
        source: where the faces come from, for people. no_face: what to say of a photo without one.
        unreadable: photos that could not be looked at.
        attributes: joined by name.
    """
    records, rejections = [], list(photos.rejections)
    for name, path in photos.paths.items():
        found = faces.get(name, ())
        chosen = choice.of(found)
        if not chosen:
            rejections.append(_without_face(name, found, choice, no_face, unreadable))
        values = attributes.of(name)
        for number, face in chosen:
            points = np.asarray(face.points, np.float64)
            own_name = face_name(name, number)
            records.append(FaceRecord(own_name, path.parent, path.name, points, own=True, face=number, **values))
    without = len(photos.paths) - len({record.photo_name for record in records})
    summary = f"{counted(len(records), 'face')} of {counted(len(photos.paths), 'photo')}, landmarks from {source}" + (
        f"; {counted(without, 'photo')} without a face to use (rejected.csv)" if without else ""
    )
    notes = attributes.notes(photos.paths)
    return FolderTree(folder, folder, tuple(records), tuple(rejections), attributes.names, summary=summary, notes=notes)


def _without_face(
    name: str, found: Sequence[Any], choice: FaceChoice, no_face: str, unreadable: Mapping[str, Rejection]
) -> Rejection:
    if found:
        largest = max(face.size for face in found)
        detail = f"the largest face has {largest:.0f} px, and --min-face is {choice.min_face:g}"
        return Rejection(RejectionKind.SMALL_FACE, name, detail)
    if name in unreadable:
        return unreadable[name]
    return Rejection(RejectionKind.NO_FACE, name, no_face)


def read_own_names(path: Path, flag: str, photos: Iterable[str]) -> frozenset[str]:
    """Return the names in a text file, one per line, of photos, or of one face of several.

    A line may be a name alone, which may have blanks, commas and #; else `#` begins a comment, and of a CSV line the
    first field counts.

    Args:
        path: the file. flag: the option that names it, for messages.
        photos: names that are known.

    Raises:
        DataError: a file that cannot be read.
    """
    known = {normal_name(name): name for name in photos}
    try:
        lines = read_lines(path)
    except DataError as error:
        raise DataError(f"{flag} {path}: cannot be read ({error})") from error
    names = set()
    for line in lines:
        readings = [
            line,
            line.strip(),
            line.split("#")[0].strip(),
            line.split("#")[0].split(",")[0].strip().strip("\"'"),
        ]
        found = [known[normal_name(reading)] for reading in readings if normal_name(reading) in known]
        if found or readings[-1] not in ("", "file_name"):
            names.add(found[0] if found else readings[-1])
    return frozenset(names)
