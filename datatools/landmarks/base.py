"""The interface of landmark sources, from a photo to its faces, and the choice among several faces. Loads no torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from datatools.errors import ArrayError

Picture = NDArray[np.uint8]
"""(h, w, 3) RGB."""

CROP_POINTS = (0, 1, 3, 4)
"""The points of a face that the crop uses: the eyes and the corners of the mouth."""


@dataclass(frozen=True, eq=False, slots=True)
class Face:
    """One face in a photo.

    Attributes:
        points: (5, 2) float64: left eye, right eye, nose, left and right mouth corner as seen in the picture; (x, y) in
            centre coordinates (the centre of the upper-left pixel is (0, 0)) of the pixels given to `find`.
        box: x, y, width, height in pixels; x and y of the upper-left corner.
        score: confidence, 0 to 1.
        points68: (68, 2) in the order of iBUG 300-W, where the detector has them; else None.
    """

    points: NDArray[np.float64]
    box: tuple[float, float, float, float]
    score: float = 1.0
    points68: NDArray[np.float64] | None = None

    @property
    def size(self) -> float:
        """Return the shorter side of the box in pixels."""
        return min(self.box[2:])

    @property
    def eye_distance(self) -> float:
        """Return the distance of the eyes in pixels."""
        return float(np.hypot(*(self.points[1] - self.points[0])))

    def scaled(self, factor: float) -> "Face":
        """Return the same face in a photo that is so many times as large."""
        left, top, width, height = (edge * factor for edge in self.box)
        points68 = None if self.points68 is None else (self.points68 + 0.5) * factor - 0.5
        return Face((self.points + 0.5) * factor - 0.5, (left, top, width, height), self.score, points68)


@dataclass(frozen=True, eq=False, slots=True)
class Photo:
    """What a source looks at. pixels: None is enough for a source whose `reads_pixels` is false.

    name: relative to the folder of photos, with / between folders: a file of landmarks has it in its rows.
    """

    name: str
    pixels: Picture | None = None


class LandmarkSource(Protocol):
    """Where landmarks come from: a detector, which reads pixels, or a file, which is asked by name.

    Picklable, so that it reaches worker processes; networks are loaded by the process that first uses them.
    """

    @property
    def name(self) -> str:
        """Return what to say and to store about the source, such as "mtcnn" or "faces.csv"."""

    @property
    def digest(self) -> str:
        """Return a hash that changes whenever the landmarks may change; part of finished work's paths."""

    @property
    def reads_pixels(self) -> bool:
        """Return whether `find` needs the pixels of a photo."""

    @property
    def batch_size(self) -> int:
        """Return how many photos to give to `find` at once. 1: more gain nothing, so spread photos over processes."""

    def find(self, photos: Sequence[Photo], /) -> list[list[Face]]:
        """Return the faces of each photo, in the detector's or the file's order; an empty list where there are none.

        Raises:
            DataError: pixels that are missing, or not an (h, w, 3) uint8 array; weights or a device that are missing.
        """


def pixels_of(photo: Photo) -> Picture:
    """Return the pixels of a photo. Raise DataError unless they are an (h, w, 3) uint8 array of at least one pixel."""
    pixels = photo.pixels
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8:
        kind = pixels.dtype if isinstance(pixels, np.ndarray) else type(pixels).__name__
        raise ArrayError(f"{photo.name}: landmarks are found in arrays of uint8, 0..255, not {kind}")
    if pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise ArrayError(f"{photo.name}: a photo has the shape (height, width, 3), not {pixels.shape}")
    return pixels


def face_of_points(points: NDArray[np.float64], score: float = 1.0) -> Face:
    """Return a face known by its five points alone, with about the box that MTCNN would give it.

    Of 212 photos its boxes are, in the median, 3.7 times as wide and 5.0 times as high as the mean distance of the
    points from their centre, which lies 0.4 of it below the box's.
    """
    points = np.asarray(points, np.float64).reshape(5, 2)
    centre = points.mean(axis=0)
    spread = float(np.hypot(*(points - centre).T).mean())
    width, height = 3.7 * spread, 5.0 * spread
    box = (centre[0] - width / 2, centre[1] - 0.4 * spread - height / 2, width, height)
    x, y, *sides = (round(float(value), 2) for value in box)
    return Face(points, (x, y, sides[0], sides[1]), score)


def select_faces(
    faces: Sequence[Face], width: int, height: int, *, all_faces: bool = False, min_face: float = 0
) -> list[Face]:
    """Return the face to use, or every face, the most prominent one first.

    Args:
        faces: of one photo.
        width, height: of the photo in pixels.
        all_faces: return all of them, not the first alone; the position in the list is the face's number.
        min_face: least `Face.size` in pixels; smaller faces are left out.

    Returns:
        At most one face unless `all_faces`; an empty list where no face is large enough.
    """
    large = [face for face in faces if face.size >= min_face]
    ranked = sorted(large, key=lambda face: -prominence(face, width, height))  # stable: equal ones in the given order
    return ranked if all_faces else ranked[:1]


def prominence(face: Face, width: int, height: int) -> float:
    """Return how large and central a face is: the area of its box, down to a quarter of it towards the corners."""
    x, y, box_width, box_height = face.box
    off_centre = np.hypot(x + box_width / 2 - width / 2, y + box_height / 2 - height / 2)
    half_diagonal = np.hypot(width, height) / 2
    return float(box_width * box_height * face.score * (1 - 0.75 * min(off_centre / half_diagonal, 1.0)))


def nearest_face(faces: Sequence[Face], annotation: NDArray[np.float64]) -> Face | None:
    """Return the face that an annotation names; None where no face is near.

    Args:
        faces: of one photo.
        annotation: (5, 2) points, or (4,) a box: x, y, width, height.

    With points, that is the face whose points' centre is nearest to theirs, no further away than the longer side of its
    box. With a box, it is the face whose box overlaps it most.
    """
    if not faces:
        return None
    if np.size(annotation) == 4:
        x, y, width, height = np.asarray(annotation, np.float64).ravel()
        shared = [_overlap(face.box, (x, y, width, height)) for face in faces]
        best = int(np.argmax(shared))
        return faces[best] if shared[best] > 0 else None
    centre = np.asarray(annotation, np.float64).reshape(5, 2).mean(axis=0)
    distances = [float(np.hypot(*(face.points.mean(axis=0) - centre))) for face in faces]
    best = int(np.argmin(distances))
    return faces[best] if distances[best] <= max(faces[best].box[2:]) else None


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Return intersection over union of two boxes (x, y, width, height)."""
    across = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    down = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    shared = max(across, 0.0) * max(down, 0.0)
    return shared / max(one[2] * one[3] + other[2] * other[3] - shared, 1e-9)
