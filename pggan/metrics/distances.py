"""Distances of pictures that gradients can pass; path lengths and projection use them.

pictures (n, 3, h, w) in 0..255  ->  Distance.describe  ->  Distance.compare of two descriptions  ->  (n,)

A picture that is compared many times is described once. `pggan.metrics.lpips.Lpips` is one, `PixelDistance` needs no
weights.
"""

from collections.abc import Iterable, Iterator
from typing import Literal, Protocol, get_args

import click
import torch
from torch import Tensor
from torch.nn import functional

from pggan.metrics.arrays import Bytes
from pggan.metrics.features import Recipe

DistanceName = Literal["lpips", "pixels"]
DISTANCE = click.Choice(get_args(DistanceName))
DISTANCE_HELP = "What path lengths compare pictures with: LPIPS by --weights, or pixels at several scales."
LARGEST = 256
"""Larger pictures are reduced by block means."""
COARSEST = 8
"""Side in pixels of the last scale of `PixelDistance`."""


class Distance(Protocol):
    """A distance of pictures; it is quadratic in small differences.

    Attributes:
        recipe: identifies it, ready for JSON. smallest: side in pixels that it needs.
    """

    recipe: Recipe
    smallest: int

    def describe(self, images: Bytes | Tensor) -> Iterable[Tensor]:
        """Yield what `compare` needs of pictures (n, 3, h, w), 0..255; h, w >= `smallest`."""

    def compare(self, first: Iterable[Tensor], second: Iterable[Tensor]) -> Tensor:
        """Return the distances (n,), at least 0, of pictures by their descriptions; one of them may have n = 1."""


class PixelDistance:
    """The mean squared difference of pixels in 0..1, averaged over scales: the picture, its halves, ..., 8 x 8.

    A stand-in where LPIPS has no weights. Structure counts at each scale that shows it, fine grain at one alone. Its
    numbers cannot be compared with those of LPIPS.
    """

    smallest = 1
    recipe: Recipe = {"distance": f"mean squared difference of pixels at {LARGEST}, {LARGEST // 2}, ..., {COARSEST}"}  # noqa: RUF012

    def describe(self, images: Bytes | Tensor) -> Iterator[Tensor]:
        x = reduced(torch.as_tensor(images)) / 255
        yield x
        while min(x.shape[-2:]) >= 2 * COARSEST:
            x = functional.avg_pool2d(x, 2)
            yield x

    def compare(self, first: Iterable[Tensor], second: Iterable[Tensor]) -> Tensor:
        scales = [(a - b).square().mean(dim=(1, 2, 3)) for a, b in zip(first, second, strict=True)]
        return torch.stack(scales).mean(dim=0)


def reduced(images: Tensor) -> Tensor:
    """Return pictures (n, 3, h, w) of at most 256 to 511 pixels across, float32 at least, by means of blocks."""
    x = images if images.is_floating_point() else images.float()
    factor = x.shape[-1] // LARGEST
    return functional.avg_pool2d(x, factor) if factor > 1 else x
