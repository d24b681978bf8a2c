"""Landmarks of a pyramid's images in their own pixels, not in those of the photos."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def landmarks_in_pictures(landmarks: ArrayLike, quads: ArrayLike, resolution: int) -> NDArray[np.float64]:
    """Return landmarks in pixels of pictures of that side; the centre of the first pixel is (0, 0).

    Args:
        landmarks: (..., 5, 2) in centre coordinates of the photos.
        quads: (..., 4, 2) corners of the face rectangles in edge coordinates of the photos, as in the provenance.

    Returns: (..., 5, 2); not-a-number where landmarks or rectangle are not known.
    """
    points, corners = np.asarray(landmarks, np.float64), np.asarray(quads, np.float64)
    upper_left, lower_left, upper_right = corners[..., 0, :], corners[..., 1, :], corners[..., 3, :]
    axes = np.stack([upper_right - upper_left, lower_left - upper_left], axis=-1)  # columns: across, down
    with np.errstate(divide="ignore", invalid="ignore"):
        area = axes[..., 0, 0] * axes[..., 1, 1] - axes[..., 0, 1] * axes[..., 1, 0]
        adjugate = np.stack([axes[..., 1, 1], -axes[..., 0, 1], -axes[..., 1, 0], axes[..., 0, 0]], axis=-1)
        inverse = adjugate.reshape(axes.shape) / area[..., None, None]
        parts = (points + 0.5 - upper_left[..., None, :]) @ np.swapaxes(inverse, -1, -2)  # 0 to 1 inside
        inside: NDArray[np.float64] = np.where(np.isfinite(parts), parts, np.nan) * resolution - 0.5
    return inside
