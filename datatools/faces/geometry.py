"""From five landmarks to the oriented face rectangle, and to what the recipe has to do with the photo.

Source of all formulas: T. Karras, T. Aila, S. Laine, J. Lehtinen, "Progressive Growing of GANs for Improved
Quality, Stability, and Variation", ICLR 2018, appendix C, and the constants of the authors' released code.

Coordinates: landmarks are *centre* coordinates (the centre of the first pixel is (0, 0)); rectangles are *edge*
coordinates (the first pixel covers 0..1), so that cropping subtracts, shrinking divides and enlarging multiplies.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from datatools.errors import DataError
from datatools.sources.landmark_checks import contradictions, outside

FACE_SIZE = 1024
"""Width and height of a finished face in pixels."""

BORDER = 0.1 * FACE_SIZE
"""Photo kept around the rectangle, and the margin that must exist before padding is skipped (face pixels)."""

MIN_PAD = 0.3 * FACE_SIZE
"""Once a photo is padded, every side gets at least this much (face pixels)."""

MIN_INSIDE = 0.25
"""Smallest part of the rectangle's area that must lie inside the photo. The most cut-off face of 212 CelebA photos has
0.75; below a quarter the landmarks do not belong to the photo, or there is no face to see."""

MIN_SIDE = 8.0
"""Smallest side of the rectangle in photo pixels: less is a slip in the landmarks, not a face."""

FrameFault = Literal["bad-landmarks", "outside-photo", "contradiction"]


class FrameError(DataError):
    """These landmarks give no usable rectangle in this photo; the message is the reason. fault: what is wrong."""

    def __init__(self, message: str, fault: FrameFault = "bad-landmarks") -> None:
        super().__init__(message)
        self.fault: FrameFault = fault


@dataclass(frozen=True)
class FaceFrame:
    """Where a face lies in its photo, and the sizes that follow from it.

    Attributes:
        quad: (4, 2) float64; upper-left, lower-left, lower-right, upper-right corner, edge coordinates of the photo.
        side: length of the rectangle's side in photo pixels.
        photo_size: (width, height) of the photo.
        shrink: the photo is reduced by this integer before anything else (1 for all but huge faces).
        border: pixels of the shrunk photo kept around the rectangle's bounding box.
        crop: (left, top, right, bottom) of the kept part, in pixels of the shrunk photo.
        enlarge: factor from the shrunk photo to the picture that is padded and resampled (power of two).
        pad: (left, top, right, bottom) padding in pixels of the enlarged crop; zeros when `padded` is False.
        padded: whether the rectangle leaves the photo far enough for mirror padding.
    """

    quad: NDArray[np.float64]
    side: float
    photo_size: tuple[int, int]
    shrink: int
    border: int
    crop: tuple[int, int, int, int]
    enlarge: int
    pad: tuple[int, int, int, int]
    padded: bool

    @property
    def zoom(self) -> float:
        """Face pixels per photo pixel."""
        return FACE_SIZE / self.side

    @property
    def enlarged_zoom(self) -> float:
        """Face pixels per pixel of the shrunk and enlarged picture."""
        return self.zoom * self.shrink / self.enlarge


def _rot90(v: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.array([-v[1], v[0]])


def face_quad(landmarks: ArrayLike) -> NDArray[np.float64]:
    """Return the oriented square around a face (paper, appendix C).

    Args:
        landmarks: (5, 2) left eye, right eye, nose, left and right mouth corner (as seen in the picture), in centre
            coordinates.

    Returns:
        (4, 2) upper-left, lower-left, lower-right, upper-right corner in edge coordinates.

    Raises:
        FrameError: landmarks that are not finite, or that leave direction or size open.
    """
    points = np.asarray(landmarks, dtype=np.float64)
    if points.shape != (5, 2):
        raise FrameError(f"expected five landmarks (x, y), got an array of shape {points.shape}")
    if not np.isfinite(points).all() or np.abs(points).max() > 1e7:
        raise FrameError("landmarks are not finite pixel positions")
    # + 0.5: centre to edge coordinates, as in the authors' released code
    eyes = (points[0] + points[1]) / 2 + 0.5
    mouth = (points[3] + points[4]) / 2 + 0.5
    across = points[1] - points[0]
    down = mouth - eyes
    direction = across - _rot90(down)
    length = float(np.hypot(*direction))
    half_side = max(2.0 * float(np.hypot(*across)), 1.8 * float(np.hypot(*down)))
    if length < 1e-6 or half_side < MIN_SIDE / 2:
        raise FrameError(f"degenerate landmarks: the face would be {2 * half_side:.1f} px wide, without a direction")
    x = direction / length * half_side
    y = _rot90(x)
    centre = eyes + 0.1 * down
    return np.stack([centre - x - y, centre - x + y, centre + x + y, centre + x - y])


def _bounds(quad: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return left, top, right, bottom of the whole pixels that the quad touches."""
    return np.concatenate([np.floor(quad.min(axis=0)), np.ceil(quad.max(axis=0))]).astype(np.int64)


def inside_fraction(quad: NDArray[np.float64], width: int, height: int) -> float:
    """Return the part of the quad's area that lies on the photo, 0..1, estimated on a 64 x 64 grid of points."""
    steps = (np.arange(64) + 0.5) / 64
    upper_left, lower_left, _, upper_right = quad
    grid = (
        upper_left
        + steps[:, None, None] * (lower_left - upper_left)
        + steps[None, :, None] * (upper_right - upper_left)
    )
    return float(((grid >= 0) & (grid < (width, height))).all(axis=2).mean())


def face_frame(landmarks: ArrayLike, width: int, height: int) -> FaceFrame:
    """Return what the recipe needs to know about one face before it looks at pixels (paper, appendix C).

    Args:
        landmarks: (5, 2) in centre coordinates of the stored photo.
        width, height: of the stored photo in pixels.

    Raises:
        FrameError: degenerate landmarks, points that contradict each other, or a rectangle or eyes that lie (almost)
            outside of the photo.
    """
    quad = face_quad(landmarks)
    side = float(np.hypot(*(quad[3] - quad[0])))
    inside = inside_fraction(quad, width, height)
    if inside < MIN_INSIDE:
        raise FrameError(
            f"only {inside:.0%} of the face rectangle (side {side:.0f} px) lies inside the {width} x {height} photo",
            "outside-photo",
        )
    points = np.asarray(landmarks, dtype=np.float64)
    if outside(points, width, height):
        raise FrameError(f"eyes or mouth lie far outside of the {width} x {height} photo", "outside-photo")
    (contradiction,) = contradictions(points[None])
    if contradiction:
        raise FrameError(contradiction, "contradiction")
    zoom = FACE_SIZE / side
    shrink = max(int(np.floor(0.5 / zoom)), 1)
    zoom *= shrink
    shrunk_size = (max(round(width / shrink), 1), max(round(height / shrink), 1))
    border = max(round(BORDER / zoom), 3)

    left, top, right, bottom = (int(v) for v in _bounds(quad / shrink) + np.array([-1, -1, 1, 1]) * border)
    crop = (max(left, 0), max(top, 0), min(right, shrunk_size[0]), min(bottom, shrunk_size[1]))

    enlarge = 1
    while zoom > enlarge:
        enlarge *= 2
    crop_size = np.array([crop[2] - crop[0], crop[3] - crop[1]]) * enlarge
    bounds = _bounds((quad / shrink - crop[:2]) * enlarge)
    # The border keeps the number of pixels it had before the enlargement: the authors' code does so too.
    sticks_out = np.maximum(np.concatenate([border - bounds[:2], bounds[2:] - crop_size + border]), 0)
    padded = bool(sticks_out.max() > border - 4)
    pad = np.maximum(sticks_out, round(MIN_PAD * enlarge / zoom)) if padded else np.zeros(4, dtype=np.int64)
    return FaceFrame(
        quad=quad,
        side=side,
        photo_size=(width, height),
        shrink=shrink,
        border=border,
        crop=crop,
        enlarge=enlarge,
        pad=(int(pad[0]), int(pad[1]), int(pad[2]), int(pad[3])),
        padded=padded,
    )
