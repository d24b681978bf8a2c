"""CelebA's own annotations as a source of landmarks, and files like them."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from datatools.errors import DataError
from datatools.files import as_data_error, atomic_path
from datatools.landmarks.base import Face, face_of_points
from datatools.landmarks.table import FileLandmarks
from datatools.sources.celeba import read_tree
from datatools.sources.celeba_layout import find_layout

NAME = "annotations"
ENDING = ".txt"
"""Of files in CelebA's format."""
_COLUMNS = "lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y rightmouth_x rightmouth_y"


def has_annotations(folder: Path) -> bool:
    """Return whether a folder is a CelebA tree, or the part of one that has the photos."""
    try:
        find_layout(folder)
    except DataError:
        return False
    return True


def read_annotations(folder: Path) -> FileLandmarks:
    """Return CelebA's landmarks, by the names in the annotations, of the photos, and of these below `folder`.

    Raises: DataError where `folder` is no CelebA tree, or its landmarks cannot be used.
    """
    tree = read_tree(folder)
    layout = find_layout(folder)
    assert layout.landmarks is not None
    with as_data_error(layout.landmarks, "read"):
        digest = hashlib.sha256(layout.landmarks.read_bytes()).hexdigest()
    faces = {}
    for record in tree.records:
        face = [face_of_points(record.landmarks)]
        faces[record.file_name] = faces[record.path.name] = face
        if record.path.is_relative_to(folder):
            faces[record.path.relative_to(folder).as_posix()] = face
    return FileLandmarks(NAME, digest, faces)


def write_annotations(path: Path, faces: Mapping[str, Sequence[Face]], annotated: Mapping[str, str]) -> None:
    """Write a file in the format of CelebA's list_landmarks_celeba.txt, whole or not at all.

    Args:
        path: of the file.
        faces: by the names of photos; each photo's first one is written, photos without a face are left out.
        annotated: the name that the annotations give a photo, where it is another one, as of converted photos.

    Raises:
        DataError: a file that cannot be written, or a name that the format cannot hold.
    """
    lines = []
    for name, found in faces.items():
        written = annotated.get(name, name)
        if "/" in written or len(written.split()) != 1 or not written.isascii():
            raise DataError(
                f"{written!r}: CelebA's format has no blanks and folders in names; write a .csv file instead"
            )
        if found:
            lines.append(" ".join([written, *(f"{value:.2f}" for value in found[0].points.ravel())]))
    with as_data_error(path), atomic_path(path) as temporary:
        temporary.write_text("\n".join([str(len(lines)), _COLUMNS, *lines]) + "\n", encoding="ascii", newline="")
