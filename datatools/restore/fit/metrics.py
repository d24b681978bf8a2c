"""Measure how close one picture is to another: PSNR and SSIM, as papers on super-resolution report them.

The arithmetic is scikit-image's. Added here: the luma of these papers, a border that does not count, a number for equal
pictures, and one-line errors. Pictures are (h, w, 3) uint8 RGB of one shape, else DataError is raised; `border` pixels
at every side are left out, because a network sees less there.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from datatools.errors import ArrayError, DataError
from datatools.restore.base import Picture

Plane = NDArray[np.float64]

PEAK = 255.0
EQUAL = 100.0
"""PSNR given for equal pictures, in dB: a number, so that means and JSON stay meaningful."""

SSIM_WINDOW = 11
"""Side of SSIM's Gaussian window in pixels; smaller pictures have no SSIM."""


def luma(picture: Picture) -> Plane:
    """Return (h, w) float64 luma, 16..235: ITU-R BT.601 with studio swing, not rounded."""
    weights = np.array([65.481, 128.553, 24.966]) / 255
    return np.asarray(16 + picture.astype(np.float64) @ weights, np.float64)


def psnr_rgb(first: Picture, second: Picture, border: int = 0) -> float:
    """Return the peak signal to noise ratio over all three colours, in dB, at most `EQUAL`."""
    return _psnr(*_inside(first, second, border))


def psnr_y(first: Picture, second: Picture, border: int = 0) -> float:
    """Return the peak signal (255) to noise ratio of the luma, in dB, at most `EQUAL`."""
    return _psnr(*map(luma, _inside(first, second, border)))


def ssim_y(first: Picture, second: Picture, border: int = 0) -> float:
    """Return the structural similarity of the luma, 1 for equal pictures: mean over all places where the window fits.

    Source: Z. Wang, A. C. Bovik, H. R. Sheikh, E. P. Simoncelli, "Image Quality Assessment: From Error Visibility to
    Structural Similarity", IEEE Transactions on Image Processing 13(4), 2004; 11 x 11 Gaussian window, sigma 1.5.
    """
    first, second = _inside(first, second, border)
    if min(first.shape[:2]) < SSIM_WINDOW:
        raise DataError(
            f"SSIM needs {SSIM_WINDOW} x {SSIM_WINDOW} pixels inside the border, there are "
            f"{first.shape[1]} x {first.shape[0]}"
        )
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    return float(structural_similarity(luma(first), luma(second), data_range=PEAK, **settings))


def _inside(first: Picture, second: Picture, border: int) -> tuple[Picture, Picture]:
    if first.shape != second.shape:
        raise ArrayError(f"pictures of {first.shape} and {second.shape} cannot be compared: their shapes differ")
    height, width = first.shape[:2]
    if min(height, width) <= 2 * border:
        raise DataError(f"nothing of a picture of {width} x {height} pixels lies inside a border of {border}")
    inside = (slice(border, height - border), slice(border, width - border))
    return first[inside], second[inside]


def _psnr(first: Picture | Plane, second: Picture | Plane) -> float:
    if np.array_equal(first, second):
        return EQUAL
    return min(float(peak_signal_noise_ratio(first, second, data_range=PEAK)), EQUAL)


BANDS = ((1 / 16, 1 / 8), (1 / 8, 1 / 4), (1 / 4, 1 / 2))
"""Octaves of the small picture in cycles per pixel; those of a picture four times as large are a quarter of them."""


FLAT = 1e-6
"""Energy of an octave below which it has no content but rounding."""


def mean_shift(result: Picture, given: Picture) -> tuple[float, ...]:
    """Return the channel means of a result less those of what it was made of, in levels."""
    return tuple(float(value) for value in result.mean(axis=(0, 1)) - given.mean(axis=(0, 1)))


def band_ratios(result: Picture, given: Picture) -> tuple[float, ...]:
    """Return, per octave of `BANDS`, the amplitude of a result over that of what it was made of.

    The luma of both is compared; a larger result is reduced to the size of `given` first, with Pillow's bicubic filter
    and without rounding. 1: nothing was blurred or sharpened that the small picture has. Octaves without content are 1.
    """
    size = (given.shape[1], given.shape[0])
    reduced = Image.fromarray(luma(result).astype(np.float32)).resize(size, Image.Resampling.BICUBIC)
    planes = [np.asarray(reduced, np.float64), luma(given)]
    window = np.outer(np.hanning(size[1]), np.hanning(size[0]))
    spectra = [np.abs(np.fft.fft2((plane - plane.mean()) * window)) ** 2 for plane in planes]
    rows, columns = np.fft.fftfreq(size[1])[:, None], np.fft.fftfreq(size[0])[None]
    frequency = np.hypot(rows, columns)
    ratios = []
    for low, high in BANDS:
        band = (frequency >= low) & (frequency < high)
        ours, theirs = (float(spectrum[band].sum()) for spectrum in spectra)
        ratios.append((ours / theirs) ** 0.5 if theirs > FLAT else 1.0)
    return tuple(ratios)
