"""What restorers take: pictures, and the wanted part of one. Does not load torch."""

import numpy as np
from numpy.typing import NDArray

from datatools.errors import DataError
from datatools.images import Box

Picture = NDArray[np.uint8]
"""(h, w, 3) RGB."""


def check_picture(picture: Picture) -> None:
    """Raises DataError for anything but an (h, w, 3) uint8 array with at least one pixel."""
    if not isinstance(picture, np.ndarray) or picture.dtype != np.uint8:
        kind = picture.dtype if isinstance(picture, np.ndarray) else type(picture).__name__
        raise DataError(f"a picture to restore has to be an array of uint8, 0..255, not {kind}")
    if picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
        raise DataError(f"a picture to restore has the shape (height, width, 3), not {picture.shape}")


def check_part(picture: Picture, inner: Box) -> None:
    """Raises DataError as `check_picture`, and for a part (left, top, right, bottom) that is empty or not within it."""
    check_picture(picture)
    height, width = picture.shape[:2]
    left, top, right, bottom = inner
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        raise DataError(f"the part {inner} does not lie within the picture of {width} x {height} pixels")
