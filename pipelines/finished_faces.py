"""Faces that are copied: those that the first pass kept, and those of the finished file of an earlier build."""

import zlib

import numpy as np

from datatools.errors import DataError
from datatools.pyramid import Provenance, Pyramid
from datatools.pyramid.format import CHECKSUMS, image_checksum, level_name
from pipelines.layout import BuildLayout
from pipelines.photo_work import Face
from pipelines.score_shard import DAMAGE, damaged
from pipelines.unfinished import read_face

Key = tuple[str, int, str, bytes]
"""What decides about a face, apart from the recipe: the photo's name, the face's number, MD5, and landmarks."""


class KeptFaces:
    """The faces that the first pass kept of a score shard, which has to be there."""

    def __init__(self, layout: BuildLayout, shard: int) -> None:
        self._path, self._resolution = layout.faces_path(shard), layout.resolution
        scores = layout.score_path(shard)
        try:
            with np.load(scores, allow_pickle=False) as archive:
                # Earlier versions had no checksums.
                self._checksums = archive["face_checksum"] if "face_checksum" in archive.files else None
        except DAMAGE as error:
            raise damaged(scores, error) from error

    def read(self, index: int) -> Face:
        """Return the face of photo `index` of the shard. Raises DataError where it is damaged, and removes the file."""
        try:
            face = read_face(self._path, index, self._resolution)
        except ValueError as error:
            raise damaged(self._path, error) from error
        if self._checksums is not None and zlib.crc32(face.data) != self._checksums[index]:
            raise damaged(self._path, f"face {index} has other bytes")
        return face


class FinishedFaces:
    """The faces of the build's finished file, as far as they were made by the recipe of this build.

    There are none where the file is missing, cannot be read, or is of another recipe or resolution.
    """

    def __init__(self, layout: BuildLayout) -> None:
        self._rows: dict[Key, int] = {}
        try:
            self._pyramid = pyramid = Pyramid(layout.pyramid_path)
            if (pyramid.settings.get("face_digest"), pyramid.resolution) != (layout.face_digest, layout.resolution):
                return
            columns = [pyramid.provenance(name) for name in ("file_name", "face", "source_md5", "landmarks")]
            self._checksums = pyramid.table(f"{CHECKSUMS}/{level_name(layout.resolution)}")
        except (DataError, OSError):
            return
        photos, numbers, digests, landmarks = columns
        keys = zip(photos.tolist(), numbers.tolist(), digests.tolist(), map(_points, landmarks), strict=True)
        self._rows = {key: row for row, key in enumerate(keys)}

    @property
    def faces(self) -> set[tuple[str, int]]:
        """Return name of the photo and number of each face."""
        return {(photo, number) for photo, number, *_ in self._rows}

    def __contains__(self, provenance: Provenance) -> bool:
        return _key(provenance) in self._rows

    def read(self, provenance: Provenance) -> Face:
        """Return a face that is there. Raises DataError where it is damaged."""
        row = self._rows[_key(provenance)]
        stored = self._pyramid[self._pyramid.resolution][row]
        if image_checksum(stored) != self._checksums[row]:
            raise DataError(
                f"{self._pyramid.path}: image {row} is damaged; remove the file, so that its faces are made again, and "
                "run the same command again"
            )
        return np.ascontiguousarray(stored.transpose(1, 2, 0))

    def close(self) -> None:
        """Close the file."""
        if self._rows:
            self._pyramid.close()


def _key(provenance: Provenance) -> Key:
    return provenance.file_name, provenance.face, provenance.source_md5, _points(provenance.landmarks)


def _points(landmarks: object) -> bytes:
    return np.asarray(landmarks, np.float64).tobytes()
