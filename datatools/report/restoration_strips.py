"""Before and after: the pictures that show what restoration did to a face, at its own size."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datatools.faces.recipe import make_face, reduce_face
from datatools.faces.resample import FinalFilter
from datatools.restore import NoRestorer

PART = 256  # side of the part that is shown, in pixels of the face


@dataclass(frozen=True)
class RestorationStrip:
    """The same part of a face twice.

    Attributes:
        before, after: (s, s, 3) uint8 RGB, without restoration and with it; s = min(256, the face's side).
        side: of the face rectangle in photo pixels.
        difference: mean absolute difference of the two, in grey levels.
    """

    before: NDArray[np.uint8]
    after: NDArray[np.uint8]
    side: float
    difference: float


def restoration_candidates(
    quads: NDArray[np.float64], best_first: NDArray[np.int64]
) -> list[tuple[str, NDArray[np.int64]]]:
    """What to show: for each strip why it is interesting, and the faces that would do, best suited first.

    Args: as of `strips.strip_candidates`.
    Returns: at most six (reason, faces); the lists share faces.
    """
    count = len(quads)
    if not count:
        return []
    by_side = np.argsort(np.hypot(*(quads[:, 3] - quads[:, 0]).T), kind="stable")
    nearest_to_middle = np.argsort(np.abs(np.arange(count) - count // 2), kind="stable")
    return [
        ("Smallest rectangle", by_side),
        ("Small rectangle", by_side[count // 10 :]),
        ("Middling rectangle", by_side[nearest_to_middle]),
        ("Large rectangle", by_side[::-1]),
        ("High score", best_first),
        ("Low score", best_first[::-1]),
    ]


def make_restoration_strip(
    data: bytes, landmarks: NDArray[np.float64], face: NDArray[np.uint8], final_filter: FinalFilter
) -> RestorationStrip:
    """Make the face again without restoration, and cut the same part out of both.

    Args:
        data: the photo file's bytes. landmarks: (5, 2) in centre coordinates of the stored photo.
        face: (r, r, 3) uint8 RGB, the restored one, r a power of two up to 1024. final_filter: that it was made with.
    Raises: ImageError, FrameError (both DataError) for a photo or landmarks that give no face.
    """
    resolution = face.shape[0]
    plain = make_face(data, landmarks, NoRestorer(), final_filter=final_filter)
    left, top = eye_and_cheek(plain.frame.quad, landmarks, resolution)
    before, after = (
        np.ascontiguousarray(picture[top : top + PART, left : left + PART])
        for picture in (reduce_face(plain.face, resolution), face)
    )
    difference = float(np.abs(before.astype(np.int16) - after).mean())
    return RestorationStrip(before, after, plain.frame.side, difference)


def eye_and_cheek(quad: NDArray[np.float64], landmarks: NDArray[np.float64], resolution: int) -> tuple[int, int]:
    """Left and top of the part of a face that shows an eye and the skin below it.

    It is the eye farther from the nose: that side of the face is turned to the camera.

    Args: quad (4, 2), landmarks (5, 2) of one photo, as in `geometry`; resolution: the face's side in pixels.
    """
    right, down = quad[3] - quad[0], quad[1] - quad[0]
    points = (landmarks + 0.5 - quad[0]) @ np.stack([right / (right @ right), down / (down @ down)], axis=1)
    eyes, nose, mouth = points[:2], points[2], points[3:]
    nearer = int(np.argmax(np.abs(eyes[:, 0] - nose[0])))
    centre = (eyes[nearer] + (mouth[nearer] - eyes[nearer]) / 3) * resolution
    left, top = np.clip(np.rint(centre - PART / 2), 0, max(resolution - PART, 0)).astype(int)
    return int(left), int(top)
