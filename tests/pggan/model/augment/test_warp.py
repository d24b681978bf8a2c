"""Warps: sampled as the filters say, exact where that is possible, and linear with an exact adjoint."""

import numpy as np
import pytest
import torch
from torch import Tensor

from pggan.model.augment.warp import ADVANCE, MARGIN, SYM6, filters, warp

SAME = torch.eye(2, 3, dtype=torch.float64)


def pictures(size: int, count: int = 1) -> Tensor:
    return torch.rand(count, 2, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


def places(*rows: list[float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)[None]


def test_the_filter_is_that_of_an_orthonormal_wavelet_with_six_vanishing_moments() -> None:
    taps = np.array(SYM6)
    assert taps.sum() == pytest.approx(np.sqrt(2), abs=1e-12)
    for shift in range(6):
        product = (taps[2 * shift :] * taps[: len(taps) - 2 * shift]).sum()
        assert product == pytest.approx(float(shift == 0), abs=1e-10)
    signs = (-1.0) ** np.arange(12)
    for moment in range(6):
        assert (signs * taps * (np.arange(12) / 12) ** moment).sum() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("size", [4, 8, 32])
def test_filters_keep_a_constant_and_undo_each_other(size: int) -> None:
    up, down = filters(size)
    np.testing.assert_allclose(up.sum(axis=1), 1, atol=1e-10)
    np.testing.assert_allclose(down.sum(axis=1), 1, atol=1e-10)
    within = down[:, MARGIN : MARGIN + 2 * size] @ up
    inner = slice(MARGIN, size - MARGIN)
    np.testing.assert_allclose(within[inner, inner], np.eye(size)[inner, inner], atol=1e-10)


def plain_warp(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Warp one channel pixel by pixel: mirrored, filtered, sampled bilinearly, mirrored and filtered again."""
    size, taps = len(image), np.array(SYM6) / np.sum(SYM6)
    mirrored = np.pad(image, 8, mode="symmetric")
    stuffed = np.zeros((2 * (size + 16),) * 2)
    stuffed[::2, ::2] = 4 * mirrored
    fine = np.zeros((2 * size, 2 * size))
    for row, column in np.ndindex(fine.shape):
        for i, j in np.ndindex(12, 12):
            fine[row, column] += taps[i] * taps[j] * stuffed[row + 16 + MARGIN - i, column + 16 + MARGIN - j]
    sampled = np.zeros((2 * size + 2 * MARGIN,) * 2)
    padded = np.pad(fine, 20 * size, mode="symmetric")
    for row, column in np.ndindex(sampled.shape):
        x, y = matrix @ [*((index + 0.5 - MARGIN + ADVANCE) / size - 1 for index in (column, row)), 1]
        x, y = ((value + 1) * size - 0.5 - ADVANCE + 20 * size for value in (x, y))
        left, top = int(np.floor(x)), int(np.floor(y))
        right, bottom = x - left, y - top
        block = padded[top : top + 2, left : left + 2]
        sampled[row, column] = np.array([1 - bottom, bottom]) @ block @ np.array([1 - right, right])
    return np.array(
        [
            [taps @ sampled[2 * row : 2 * row + 12, 2 * column : 2 * column + 12] @ taps for column in range(size)]
            for row in range(size)
        ]
    )


@pytest.mark.parametrize("size", [4, 8])
@pytest.mark.parametrize(
    "matrix",
    [
        [[1.0, 0, 0], [0, 1, 0]],
        [[1.0, 0, 0.3], [0, 1, -1.7]],
        [[0.7, -0.4, 0.1], [0.6, 0.9, -0.2]],
        [[2.5, 0, 0], [0, 2.5, 3.1]],
    ],
    ids=["same", "moved", "turned", "smaller"],
)
def test_a_warp_is_the_plain_one(size: int, matrix: list[list[float]]) -> None:
    image = pictures(size)
    expected = plain_warp(image[0, 1].numpy(), np.array(matrix))
    np.testing.assert_allclose(warp(image, places(*matrix))[0, 1].numpy(), expected, atol=1e-12)


def test_whole_pixels_are_moved_without_loss() -> None:
    image = torch.zeros(1, 2, 32, 32, dtype=torch.float64)
    image[..., 14:18, 13:19] = pictures(32)[..., 14:18, 13:19]
    moved = warp(image, places([1, 0, -3 * 2 / 32], [0, 1, 2 * 2 / 32]))  # 3 pixels right, 2 up
    torch.testing.assert_close(moved, image.roll((-2, 3), (2, 3)), atol=1e-10, rtol=0)


def test_a_quarter_turn_of_a_smooth_picture() -> None:
    wave = torch.cos(torch.linspace(0, 3, 32, dtype=torch.float64))
    image = (wave[:, None] * wave.flip(0).square()).expand(1, 2, 32, 32)
    turned = warp(image, places([0, 1, 0], [-1, 0, 0]))  # what was at the top lies on the right
    inner = slice(3, -3)
    torch.testing.assert_close(turned[..., inner, inner], image.rot90(-1, (2, 3))[..., inner, inner], atol=1e-3, rtol=0)


def test_gradients_of_any_order_are_exact() -> None:
    image = pictures(4, 2).requires_grad_()
    matrices = torch.cat([places([0.7, -0.4, 0.1], [0.6, 0.9, -0.2]), places([1, 0.2, 1.3], [0, 1.4, 0])])
    assert torch.autograd.gradcheck(lambda x: warp(x, matrices), (image,), fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda x: warp(x, matrices) ** 3, (image,), fast_mode=True)


def test_pictures_of_a_batch_do_not_know_of_each_other() -> None:
    images = pictures(8, 3)
    matrices = torch.cat([places([1, 0, shift], [0, 1, 0]) for shift in (0.1, 0.7, 4.0)])
    whole = warp(images, matrices)
    for index in range(3):
        torch.testing.assert_close(warp(images[index : index + 1], matrices[index : index + 1])[0], whole[index])
