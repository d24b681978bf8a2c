"""From the enlarged picture to the 1024 x 1024 face, in one warp.

The paper warps the picture, enlarged by a power of two with Lanczos-3, to 4096 x 4096 with bilinear interpolation and
reduces that to 1024 x 1024. Here the same positions are sampled once per face pixel: an enlarged picture holds
nothing above the face's sampling limit, so the 16 sub-samples only act as a small blur, which three taps reproduce.
docs/decisions/output-space.md has the reasoning and the measurements; `datatools/faces/reference.py` is the exact
procedure.
"""

from functools import cache
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from datatools.faces.geometry import FACE_SIZE
from datatools.restore.enlarge import enlarge_lanczos

FinalFilter = Literal["lanczos", "box"]
FINAL_FILTERS: tuple[FinalFilter, ...] = ("lanczos", "box")

LARGEST_FULL_ENLARGEMENT = 1448.0
"""Sides above this (px of the enlarged picture, 1024..2048) are enlarged half as far and warped with cubic instead of
linear interpolation: half the time, and 0.5 dB less at 256 x 256. Not photos that are enlarged only twice: the cubic
kernel would see their finest detail at the photo's own sampling limit, where it is too soft."""


BAND = 64
"""Rows of the result that are warped at a time."""


def face_to_picture(quad: NDArray[np.float64], half_pixel: float, size: int = FACE_SIZE) -> NDArray[np.float64]:
    """Return the affine map from pixel indices of the face to edge coordinates of the picture that `quad` lies in.

    Args:
        quad: (4, 2) corners in edge coordinates of that picture.
        half_pixel: half a pixel of the *enlarged* picture, in pixels of that picture. The published images were
            sampled this far to the lower right (a convention of the Pillow of 2016), and so are ours.
        size: the grid of indices has size x size points over the face.

    Returns:
        (2, 3): edge position = matrix @ (column, row, 1).
    """
    upper_left, lower_left, _, upper_right = quad
    # Position of the mean of the sub-samples i/4096 that one output pixel stands for (0, not 0.5, is the first).
    first = (4096 / size - 1) / 2 / 4096
    right = upper_right - upper_left
    down = lower_left - upper_left
    return np.stack([right / size, down / size, upper_left + first * (right + down) + half_pixel], axis=1)


def _warp(
    picture: NDArray[np.uint8], to_picture: NDArray[np.float64], size: int, interpolation: int
) -> NDArray[np.float32]:
    """Sample (size, size, 3) float32 from `picture` at edge coordinates `to_picture` @ (column, row, 1)."""
    matrix = to_picture.copy()
    matrix[:, 2] -= 0.5  # edge coordinates to array indices
    out = np.empty((size, size, 3), np.float32)
    # In bands, since the picture as floats would not fit into the CPU's caches, but a band's part of it does.
    for top in range(0, size, BAND):
        corners = matrix @ np.array([[0, size, 0, size], [top, top, top + BAND, top + BAND], [1, 1, 1, 1]])
        # Two pixels for cubic interpolation, one for rounding. Beyond the picture its edge pixels are repeated.
        low = np.floor(corners.min(axis=1)).astype(int) - 3
        high = np.ceil(corners.max(axis=1)).astype(int) + 4
        left, upper = np.clip(low, 0, np.array(picture.shape[1::-1]) - 1)
        right, lower = np.clip(high, (left + 1, upper + 1), picture.shape[1::-1])
        part = picture[upper:lower, left:right].astype(np.float32)
        shifted = matrix.copy()
        shifted[:, 2] += matrix[:, 1] * top - (left, upper)
        # Replicated, not mirrored: where the rectangle leaves the photo, the padding covers the result completely.
        cv2.warpAffine(
            part,
            shifted,
            (size, BAND),
            dst=out[top : top + BAND],
            flags=interpolation | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
    return out


def _blur(face: NDArray[np.float32], variance: float) -> NDArray[np.float32]:
    """Blur by the given small variance (px^2), with three taps per axis."""
    taps = np.array([variance / 2, 1 - variance, variance / 2], np.float32)
    return np.asarray(cv2.sepFilter2D(face, -1, taps, taps, borderType=cv2.BORDER_REPLICATE), dtype=np.float32)


@cache
def _lanczos_halving() -> NDArray[np.float32]:
    distance = (np.arange(12) - 5.5) / 2
    taps = np.sinc(distance) * np.sinc(distance / 3)
    return np.asarray(taps / taps.sum(), dtype=np.float32)


def _halve(picture: NDArray[np.float32], final_filter: FinalFilter) -> NDArray[np.float32]:
    """Reduce (2n, 2n, 3) to (n, n, 3)."""
    if final_filter == "box":
        size = picture.shape[0] // 2
        return np.asarray(cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA), dtype=np.float32)
    taps = _lanczos_halving()
    one = np.ones(1, np.float32)
    # Anchor 5 of 12 taps: the output at an even index is centred between it and the next one.
    border = cv2.BORDER_REFLECT
    rows = cv2.sepFilter2D(picture, -1, one, taps, anchor=(0, 5), borderType=border)[::2]
    columns = cv2.sepFilter2D(np.ascontiguousarray(rows), -1, taps, one, anchor=(5, 0), borderType=border)[:, ::2]
    return np.ascontiguousarray(columns)


def warp_to_face(
    picture: NDArray[np.uint8],
    quad: NDArray[np.float64],
    *,
    enlarge: int,
    half_pixel: float,
    final_filter: FinalFilter,
) -> NDArray[np.float32]:
    """Resample the face (paper, appendix C, last step), without the final rounding.

    Args:
        picture: (h, w, 3) uint8, the crop at the photo's (shrunk or restored) size.
        quad: (4, 2) the face's corners in edge coordinates of `picture`.
        enlarge: power of two by which the recipe enlarges `picture` with Lanczos-3 before the warp.
        half_pixel: see `face_to_picture`.
        final_filter: how 4096 x 4096 becomes 1024 x 1024.

    Returns:
        (1024, 1024, 3) float32, 0..255 with a little overshoot. Beyond the picture its edge is repeated.
    """
    side = float(np.hypot(*(quad[3] - quad[0])))
    box_variance = 1 / 12 if final_filter == "box" else 0.0  # of a box one face pixel wide
    if enlarge == 1:
        to_picture = face_to_picture(quad, half_pixel, 2 * FACE_SIZE)
        fine = _warp(picture, to_picture, 2 * FACE_SIZE, cv2.INTER_LINEAR)
        return _halve(fine, final_filter)

    full = enlarge == 2 or side * enlarge <= LARGEST_FULL_ENLARGEMENT
    factor = enlarge if full else enlarge // 2
    to_picture = face_to_picture(quad * factor, half_pixel * factor)
    enlarged = enlarge_lanczos(picture, factor)
    if full:
        face = _warp(enlarged, to_picture, FACE_SIZE, cv2.INTER_LINEAR)
        return _blur(face, box_variance) if box_variance else face
    # Bilinear interpolation in the fully enlarged picture is a triangle of variance 1/6 px^2, which cubic has not.
    triangle_variance = (FACE_SIZE / (side * enlarge)) ** 2 / 6
    return _blur(_warp(enlarged, to_picture, FACE_SIZE, cv2.INTER_CUBIC), box_variance + triangle_variance)
