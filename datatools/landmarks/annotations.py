"""CelebA's own annotations as a source of landmarks."""

import hashlib
from pathlib import Path

from datatools.errors import DataError
from datatools.files import as_data_error
from datatools.landmarks.base import face_of_points
from datatools.landmarks.table import FileLandmarks
from datatools.sources.celeba import read_tree
from datatools.sources.celeba_layout import find_layout

NAME = "annotations"


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
