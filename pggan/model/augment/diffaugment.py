"""DiffAugment's policy "color, translation, cutout" (Zhao et al. 2020, "Differentiable Augmentation for
Data-Efficient GAN Training"), applied to every picture."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SHIFT = 0.125  # of the side, at most, either way
CUTOUT = 0.5  # of the side


def draw(rng: np.random.Generator, count: int, resolution: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return what `transform` takes for `count` pictures of `resolution`.

    Returns:
        float32 (count, 3): brightness in -0.5..0.5, saturation in 0..2, contrast in 0.5..1.5, uniform.
        int64 (count, 4): shift down and right, first row and column of the square that is cut out, uniform.
    """
    colours = rng.uniform((-0.5, 0, 0.5), (0.5, 2, 1.5), (count, 3)).astype(np.float32)
    shift, side = round_half_up(SHIFT * resolution), round_half_up(CUTOUT * resolution)
    shifts = rng.integers(-shift, shift + 1, (count, 2))
    # the middle of the square lies anywhere in the picture: a part of it may be outside
    corners = rng.integers(0, resolution + 1 - side % 2, (count, 2)) - side // 2
    return colours, np.concatenate([shifts, corners], axis=1)


def transform(images: Tensor, colours: Tensor, places: Tensor) -> Tensor:
    """Return images (N, 3, r, r) with other colours, then shifted, then with a square cut out.

    What comes in at the edges and the square are 0, a medium grey.

    Args:
        colours: (N, 3) and places: (N, 4), see `draw`.
    """
    down, right, first_row, first_column = places.unbind(1)
    images = shifted(recoloured(images, *colours.to(images.dtype).unbind(1)), down, right)
    return cut_out(images, first_row, first_column)


def recoloured(images: Tensor, brightness: Tensor, saturation: Tensor, contrast: Tensor) -> Tensor:
    """Add the brightness, then multiply differences from a pixel's mean, then those from the picture's mean."""
    brightness, saturation, contrast = (values.view(-1, 1, 1, 1) for values in (brightness, saturation, contrast))
    images = images + brightness
    grey = images.mean(dim=1, keepdim=True)
    images = grey + (images - grey) * saturation
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return mean + (images - mean) * contrast


def shifted(images: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """Return images (N, 3, r, r) moved by whole pixels (N,); zeros come in."""
    size = images.shape[-1]
    places = torch.arange(size, device=images.device)
    rows, columns = places - down[:, None], places - right[:, None]  # (N, r): what comes here
    inside = window(rows, 0, size)[:, None, :, None] & window(columns, 0, size)[:, None, None, :]
    rows, columns = (values.clamp(0, size - 1) for values in (rows, columns))
    moved = images.gather(2, rows[:, None, :, None].expand_as(images))
    return moved.gather(3, columns[:, None, None, :].expand_as(images)) * inside


def cut_out(images: Tensor, first_row: Tensor, first_column: Tensor) -> Tensor:
    """Return images (N, 3, r, r) with zeros in a square of half their side, from these rows and columns (N,) on."""
    size = images.shape[-1]
    side, places = round_half_up(CUTOUT * size), torch.arange(size, device=images.device)
    rows, columns = places - first_row[:, None], places - first_column[:, None]
    square = window(rows, 0, side)[:, None, :, None] & window(columns, 0, side)[:, None, None, :]
    return images * ~square


def window(values: Tensor, first: int, end: int) -> Tensor:
    """Return where first <= values < end."""
    return (values >= first) & (values < end)


def round_half_up(value: float) -> int:
    """Return the nearest whole number, the larger one of two."""
    return int(value + 0.5)
