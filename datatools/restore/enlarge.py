"""Enlarge pictures by whole factors with Lanczos-3, as the published data set's recipe does."""

from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

LANCZOS_REACH = 3
"""Pixels around a part that its enlargement uses."""


@cache
def lanczos_phases(factor: int) -> tuple[NDArray[np.float32], ...]:
    """Lanczos-3 taps at source offsets -3..3 for each of the `factor` output pixels inside one source pixel."""
    phases = []
    for phase in range(factor):
        distance = np.arange(-3, 4) - ((phase + 0.5) / factor - 0.5)
        taps = np.where(np.abs(distance) < 3, np.sinc(distance) * np.sinc(distance / 3), 0.0)
        phases.append((taps / taps.sum()).astype(np.float32))
    return tuple(phases)


def _enlarge_rows(picture: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    height, width = picture.shape[:2]
    out = np.empty((height, factor, width, 3), np.uint8)
    for phase, taps in enumerate(lanczos_phases(factor)):
        out[:, phase] = cv2.filter2D(picture, -1, taps[:, None], borderType=cv2.BORDER_REFLECT)
    return out.reshape(height * factor, width, 3)


def enlarge_lanczos(picture: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """Enlarge by an integer with Lanczos-3: (h, w, 3) -> (h factor, w factor, 3) uint8.

    Rounded after each pass, columns before rows, as Pillow does it. Both passes filter whole rows at a time, the first
    of them those of the transposed picture.
    """
    if factor == 1:
        return picture
    wide = cv2.transpose(_enlarge_rows(np.asarray(cv2.transpose(picture), dtype=np.uint8), factor))
    return _enlarge_rows(np.asarray(wide, dtype=np.uint8), factor)
