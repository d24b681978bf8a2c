"""PSNR and SSIM are what papers mean by them."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from datatools.errors import DataError
from datatools.restore.base import Picture
from datatools.restore.fit.metrics import EQUAL, band_ratios, luma, mean_shift, psnr_rgb, psnr_y, ssim_y


def pair(height: int = 40, width: int = 53, spread: int = 20) -> tuple[Picture, Picture]:
    rng = np.random.default_rng(3)
    first = rng.integers(0, 256, (height, width, 3))
    second = np.clip(first + rng.integers(-spread, spread + 1, first.shape), 0, 255)
    return first.astype(np.uint8), second.astype(np.uint8)


def test_luma_of_the_corners_of_the_cube() -> None:
    """The values that BT.601 itself gives: black 16, white 235, and the primaries."""
    corners = np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    assert luma(corners)[0] == pytest.approx([16, 235, 81.481, 144.553, 40.966])


def test_psnr_in_closed_form() -> None:
    """An error of d everywhere gives 20 log10(255 / d)."""
    black = np.zeros((5, 7, 3), np.uint8)
    assert psnr_rgb(black, black + 5) == pytest.approx(20 * np.log10(255 / 5))
    assert psnr_y(black, black + 5) == pytest.approx(20 * np.log10(255 / (5 * 219 / 255)))
    red = black.copy()
    red[..., 0] = 30
    assert psnr_rgb(black, red) == pytest.approx(20 * np.log10(255 / 30) + 10 * np.log10(3))


def test_the_border_is_left_out() -> None:
    first, second = pair()
    frame = first.copy()
    frame[:4] = frame[-4:] = frame[:, :4] = frame[:, -4:] = 0
    for score in (psnr_rgb, psnr_y, ssim_y):
        assert score(first, second, 4) == score(first[4:-4, 4:-4], second[4:-4, 4:-4])
        assert score(first, second, 4) == score(frame, second, 4)
        assert score(first, second, 3) != score(frame, second, 3)


def test_equal_pictures_have_a_number() -> None:
    first, _ = pair()
    assert psnr_rgb(first, first) == psnr_y(first, first) == EQUAL
    assert ssim_y(first, first) == pytest.approx(1)


def test_nearly_equal_large_pictures_do_not_pass_equal_ones() -> None:
    first = np.zeros((400, 400, 3), np.uint8)
    second = first.copy()
    second[0, 0, 0] = 1
    assert psnr_rgb(first, second) <= EQUAL


@pytest.mark.parametrize("spread", [1, 20, 120])
def test_scores_are_those_of_the_plain_formulas(spread: int) -> None:
    first, second = pair(spread=spread)
    error = np.mean((first.astype(float) - second) ** 2)
    assert psnr_rgb(first, second) == pytest.approx(10 * np.log10(255**2 / error))
    a, b = luma(first), luma(second)
    assert psnr_y(first, second) == pytest.approx(10 * np.log10(255**2 / np.mean((a - b) ** 2)))
    assert ssim_y(first, second) == pytest.approx(plain_ssim(a, b), abs=1e-9)


def plain_ssim(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """The formula of Wang et al. 2004, with an 11 x 11 Gaussian window, where the window fits."""

    def mean(plane: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(cv2.GaussianBlur(plane, (11, 11), 1.5)[5:-5, 5:-5], np.float64)

    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    m, n = mean(a), mean(b)
    variance_a, variance_b, covariance = mean(a * a) - m * m, mean(b * b) - n * n, mean(a * b) - m * n
    similarity = (2 * m * n + c1) * (2 * covariance + c2) / ((m * m + n * n + c1) * (variance_a + variance_b + c2))
    return float(similarity.mean())


def test_ssim_of_flat_pictures_in_closed_form() -> None:
    """Without variance only the luminance term is left."""
    a, b = np.full((12, 12, 3), 100, np.uint8), np.full((12, 12, 3), 150, np.uint8)
    m, n, c = luma(a)[0, 0], luma(b)[0, 0], (0.01 * 255) ** 2
    assert ssim_y(a, b) == pytest.approx((2 * m * n + c) / (m * m + n * n + c))


def test_pictures_that_cannot_be_compared() -> None:
    first, second = pair(12, 18)
    with pytest.raises(DataError, match="shapes differ"):
        psnr_y(first, second[:, 1:])
    with pytest.raises(DataError, match="border of 6"):
        psnr_rgb(first, second, 6)
    with pytest.raises(DataError, match="there are 16 x 10"):
        ssim_y(first, second, 1)


def test_shifts_of_colours_are_measured() -> None:
    given = np.full((8, 12, 3), 100, np.uint8)
    result = np.full((32, 48, 3), (101, 98, 100), np.uint8)
    assert mean_shift(result, given) == (1.0, -2.0, 0.0)


def test_bands_are_measured_after_reduction() -> None:
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(60, 190, (192, 160, 3), dtype=np.uint8))
    given = np.array(coarse.resize((40, 48), Image.Resampling.BICUBIC))
    assert band_ratios(given, given) == pytest.approx((1, 1, 1))
    assert band_ratios(np.array(coarse), given) == pytest.approx((1, 1, 1), abs=0.02)
    middle = given.mean(axis=(0, 1))
    soft = (middle + 0.5 * (given - middle)).round().astype(np.uint8)
    assert band_ratios(soft, given) == pytest.approx((0.5, 0.5, 0.5), abs=0.02)
    blurred = np.asarray(cv2.GaussianBlur(given, (0, 0), 0.7))
    ratios = band_ratios(blurred, given)
    assert 1 > ratios[0] > ratios[1] > ratios[2]
    flat = np.full((48, 40, 3), 9, np.uint8)
    assert band_ratios(flat, flat) == (1.0, 1.0, 1.0)
