"""ADA's default pipeline: pixel blitting, geometric and colour transforms (Karras et al. 2020, "Training Generative
Adversarial Networks with Limited Data", appendix B), each with the same probability.

A picture's transforms become one matrix of its plane and one of its colours; both are applied at once.
"""

from functools import reduce
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pggan.model.augment.warp import warp

Matrices = NDArray[np.float64]

SHIFT = 0.125  # of the side: whole pixels up to it, and the deviation of those in fractions of a pixel
ZOOM = 0.2  # deviation of the logarithm to base 2 of a scale
BRIGHTNESS = 0.2  # deviation, of pixels in -1..1
CONTRAST, SATURATION = 0.5, 1.0  # deviations of logarithms to base 2
GREY = np.full((3, 3), 1 / 3)  # projection of a colour to the grey axis


def draw(rng: np.random.Generator, count: int, strength: float, resolution: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return what `transform` takes for `count` pictures: places (count, 2, 3) and colours (count, 3, 4), float32.

    strength: probability of each transform, 0..1.
    """
    plane = geometry(rng, count, strength, resolution)
    inverse = np.linalg.inv(plane)[:, :2]
    inverse[:, :, 2] *= 2 / resolution
    return inverse.astype(np.float32), colours(rng, count, strength).astype(np.float32)


def transform(images: Tensor, places: Tensor, colours: Tensor) -> Tensor:
    """Return images (N, 3, r, r) warped, then with other colours.

    Args:
        places: (N, 2, 3): from a place in the result to one in the picture, both (x, y, 1) with x and y in -1..1.
        colours: (N, 3, 4): from (red, green, blue, 1) to red, green and blue.
    """
    same = (places == torch.eye(2, 3, device=places.device)).all(dim=(1, 2))
    images = torch.where(same[:, None, None, None], images, warp(images, places.to(images.dtype)))
    # no product of matrices, which CUDA may round to 10 bits
    colours = colours.to(images.dtype)[:, :, :, None, None]  # (N, 3, 4, 1, 1)
    return (colours[:, :, :3] * images[:, None]).sum(dim=2) + colours[:, :, 3]


def geometry(rng: np.random.Generator, count: int, strength: float, resolution: int) -> Matrices:
    """Return random matrices (count, 3, 3) that move a picture's points (x, y, 1), in pixels from its centre."""
    rotation = 1 - np.sqrt(1 - strength)  # of either one, so that at least one has the strength as its probability
    chances = [strength, strength, strength, strength, rotation, strength, rotation, strength]
    flip, quarters, pixels, zoom, before, stretch, after, fraction = (rng.random((count, len(chances))) < chances).T
    zooms, stretches = (2.0 ** (chosen * rng.normal(0, ZOOM, count)) for chosen in (zoom, stretch))
    steps = [
        # pixel blitting
        scales(1.0 - 2 * flip * rng.integers(0, 2, count), np.ones(count)),
        rotations(quarters * rng.integers(0, 4, count) * (np.pi / 2)),
        shifts(pixels * np.round(rng.uniform(-SHIFT, SHIFT, (2, count)) * resolution)),
        # general geometric transforms
        scales(zooms, zooms),
        rotations(before * rng.uniform(-np.pi, np.pi, count)),
        scales(stretches, 1 / stretches),
        rotations(after * rng.uniform(-np.pi, np.pi, count)),
        shifts(fraction * rng.normal(0, SHIFT, (2, count)) * resolution),
    ]
    return reduce(lambda total, step: step @ total, steps)


def colours(rng: np.random.Generator, count: int, strength: float) -> Matrices:
    """Return random matrices (count, 3, 4) from (red, green, blue, 1) to red, green and blue."""
    brightness, contrast, flip, hue, saturation = (rng.random((count, 5)) < strength).T
    offset = brightness * rng.normal(0, BRIGHTNESS, count)
    contrasts = np.eye(3) * (2.0 ** (contrast * rng.normal(0, CONTRAST, count)))[:, None, None]
    flips = np.eye(3) - 2 * GREY * (flip * rng.integers(0, 2, count))[:, None, None]
    hues = hue_rotations(hue * rng.uniform(-np.pi, np.pi, count))
    factors = 2.0 ** (saturation * rng.normal(0, SATURATION, count))
    linear = (GREY + (np.eye(3) - GREY) * factors[:, None, None]) @ hues @ flips @ contrasts
    return np.concatenate([linear, linear.sum(axis=2, keepdims=True) * offset[:, None, None]], axis=2)


def scales(x: NDArray[np.float64], y: NDArray[np.float64]) -> Matrices:
    """Return matrices (N, 3, 3) that multiply the coordinates with (N,)."""
    matrices = np.tile(np.eye(3), (len(x), 1, 1))
    matrices[:, 0, 0], matrices[:, 1, 1] = x, y
    return matrices


def rotations(angles: NDArray[np.float64]) -> Matrices:
    """Return matrices (N, 3, 3) that turn by these angles (N,), in radians from x to y."""
    matrices = scales(np.cos(angles), np.cos(angles))
    matrices[:, 1, 0], matrices[:, 0, 1] = np.sin(angles), -np.sin(angles)
    return matrices


def shifts(distances: NDArray[np.float64]) -> Matrices:
    """Return matrices (N, 3, 3) that move by distances (2, N)."""
    matrices = np.tile(np.eye(3), (distances.shape[1], 1, 1))
    matrices[:, :2, 2] = distances.T
    return matrices


def hue_rotations(angles: NDArray[np.float64]) -> Matrices:
    """Return matrices (N, 3, 3) that turn colours about the grey axis by these angles (N,)."""
    cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)  # product with the axis
    cosines, sines = np.cos(angles)[:, None, None], np.sin(angles)[:, None, None]
    return GREY + (np.eye(3) - GREY) * cosines + cross * sines
