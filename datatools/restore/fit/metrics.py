"""How near one picture is to another: PSNR and SSIM, as papers on super-resolution report them.

Pictures are (h, w, 3) uint8 RGB of one shape. `border` pixels at every side are left out: a network knows less there.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from datatools.errors import DataError
from datatools.restore.base import Picture

Plane = NDArray[np.float64]

PEAK = 255.0
EQUAL = 100.0
"""PSNR given for equal pictures, in dB: a number, so that means and JSON stay meaningful."""

SSIM_WINDOW = 11
"""Side of SSIM's Gaussian window in pixels; smaller pictures have no SSIM."""
SSIM_SIGMA = 1.5
SSIM_C1, SSIM_C2 = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2


def luma(picture: Picture) -> Plane:
    """(h, w) float64 luma, 16..235: ITU-R BT.601 with studio swing, not rounded."""
    weights = np.array([65.481, 128.553, 24.966]) / 255
    return np.asarray(16 + picture.astype(np.float64) @ weights, np.float64)


def psnr_rgb(first: Picture, second: Picture, border: int = 0) -> float:
    """Peak signal to noise ratio over all three colours, in dB, at most `EQUAL`. Raises DataError as `psnr_y`."""
    first, second = _inside(first, second, border)
    return _psnr(first.astype(np.float64), second.astype(np.float64))


def psnr_y(first: Picture, second: Picture, border: int = 0) -> float:
    """Peak signal (255) to noise ratio of the luma, in dB, at most `EQUAL`.

    Raises:
        DataError: pictures of different shapes, or with nothing inside the border.
    """
    first, second = _inside(first, second, border)
    return _psnr(luma(first), luma(second))


def ssim_y(first: Picture, second: Picture, border: int = 0) -> float:
    """Structural similarity of the luma, 1 for equal pictures: mean over all places where the window fits.

    Source: Z. Wang, A. C. Bovik, H. R. Sheikh, E. P. Simoncelli, "Image Quality Assessment: From Error Visibility to
    Structural Similarity", IEEE Transactions on Image Processing 13(4), 2004.

    Raises:
        DataError: pictures of different shapes, or without room for the window of 11 x 11 inside the border.
    """
    first, second = _inside(first, second, border)
    if min(first.shape[:2]) < SSIM_WINDOW:
        raise DataError(
            f"SSIM needs {SSIM_WINDOW} x {SSIM_WINDOW} pixels inside the border, there are "
            f"{first.shape[1]} x {first.shape[0]}"
        )
    a, b = luma(first), luma(second)
    mean_a, mean_b = _windowed(a), _windowed(b)
    variance_a = _windowed(a * a) - mean_a**2
    variance_b = _windowed(b * b) - mean_b**2
    covariance = _windowed(a * b) - mean_a * mean_b
    similarity = (2 * mean_a * mean_b + SSIM_C1) * (2 * covariance + SSIM_C2)
    similarity /= (mean_a**2 + mean_b**2 + SSIM_C1) * (variance_a + variance_b + SSIM_C2)
    return float(similarity.mean())


def _inside(first: Picture, second: Picture, border: int) -> tuple[Picture, Picture]:
    if first.shape != second.shape:
        raise DataError(f"pictures of {first.shape} and {second.shape} cannot be compared: their shapes differ")
    height, width = first.shape[:2]
    if min(height, width) <= 2 * border:
        raise DataError(f"nothing of a picture of {width} x {height} pixels lies inside a border of {border}")
    inside = (slice(border, height - border), slice(border, width - border))
    return first[inside], second[inside]


def _psnr(first: Plane, second: Plane) -> float:
    error = float(np.mean((first - second) ** 2))
    return min(float(10 * np.log10(PEAK**2 / error)), EQUAL) if error else EQUAL


def _windowed(plane: Plane) -> Plane:
    """Gaussian mean around every pixel that has the whole window around it."""
    reach = SSIM_WINDOW // 2
    blurred = cv2.GaussianBlur(plane, (SSIM_WINDOW, SSIM_WINDOW), SSIM_SIGMA)
    return np.asarray(blurred[reach:-reach, reach:-reach], np.float64)
