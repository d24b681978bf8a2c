"""DiffAugment: every transform against a plain formulation, and its ranges."""

import numpy as np
import pytest
import torch
from torch import Tensor

from pggan.model.augment.diffaugment import cut_out, draw, recoloured, shifted, transform


def pictures(size: int, count: int = 2) -> Tensor:
    values = torch.rand(count, 3, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    return values * 2 - 1


def values(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def test_colours_pixel_by_pixel() -> None:
    images = pictures(4)
    found = recoloured(images, values(0.25, 0.0), values(1.5, 1.0), values(0.5, 1.0)).numpy()
    bright = images[0].numpy() + 0.25
    grey = bright.sum(axis=0) / 3
    saturated = grey + 1.5 * (bright - grey)
    mean = saturated.sum() / saturated.size
    np.testing.assert_allclose(found[0], mean + 0.5 * (saturated - mean), atol=1e-12)
    np.testing.assert_allclose(found[1], images[1].numpy(), atol=1e-12)


@pytest.mark.parametrize(("down", "right"), [(0, 0), (1, 0), (-1, 2), (0, -2)])
def test_shifts_bring_in_zeros(down: int, right: int) -> None:
    images = pictures(8)
    expected = torch.zeros_like(images)
    for row in range(8):
        for column in range(8):
            if 0 <= row - down < 8 and 0 <= column - right < 8:
                expected[:, :, row, column] = images[:, :, row - down, column - right]
    both = torch.tensor([down, down]), torch.tensor([right, right])
    assert torch.equal(shifted(images, *both), expected)


@pytest.mark.parametrize(("row", "column"), [(0, 0), (2, 3), (-2, 6), (6, -2)])
def test_a_square_of_half_the_side_is_cut_out(row: int, column: int) -> None:
    images = pictures(8)
    expected = images.clone()
    expected[:, :, max(row, 0) : row + 4, max(column, 0) : column + 4] = 0
    assert torch.equal(cut_out(images, torch.tensor([row, row]), torch.tensor([column, column])), expected)


@pytest.mark.parametrize(("size", "shift", "side"), [(4, 1, 2), (8, 1, 4), (16, 2, 8), (32, 4, 16), (128, 16, 64)])
def test_ranges_are_the_papers(size: int, shift: int, side: int) -> None:
    colours, places = draw(np.random.default_rng(0), 4000, size)
    assert colours.dtype == np.float32
    low, high = colours.min(axis=0), colours.max(axis=0)
    np.testing.assert_allclose(low, [-0.5, 0, 0.5], atol=0.01)
    np.testing.assert_allclose(high, [0.5, 2, 1.5], atol=0.01)
    assert {*places[:, 0]} == {*places[:, 1]} == {*range(-shift, shift + 1)}
    assert {*places[:, 2]} == {*places[:, 3]} == {*range(-side // 2, size - side // 2 + 1)}


def test_gradients_of_any_order_are_exact() -> None:
    images = pictures(4).requires_grad_()
    colours, places = (torch.from_numpy(drawn) for drawn in draw(np.random.default_rng(1), 2, 4))
    assert torch.autograd.gradcheck(lambda x: transform(x, colours, places), (images,), fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda x: transform(x, colours, places) ** 3, (images,), fast_mode=True)
