"""Warp pictures by affine maps without aliasing, differentiable any number of times.

As in the ADA paper's appendix B: twice the resolution by the low-pass filter of the wavelet sym6, bilinear samples, and
back by the same filter. Outside a picture lies its mirror image. Along a side the filters are matrices, which
include the mirror image, so they work from 4 pixels on.
"""

from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

SYM6 = (
    0.015404109327027373,
    0.0034907120842174702,
    -0.11799011114819057,
    -0.048311742585633,
    0.4910559419267466,
    0.787641141030194,
    0.3379294217276218,
    -0.07263752278646252,
    -0.021060292512300564,
    0.04472490177066578,
    0.0017677118642428036,
    -0.007800708325034148,
)
"""Low-pass filter of the symlet with 6 vanishing moments: orthonormal to itself at even shifts."""
MARGIN = len(SYM6) // 2 - 1  # fine pixels that the second filter needs beyond either edge
ADVANCE = (len(SYM6) - 1) / 2 - sum(i * tap for i, tap in enumerate(SYM6)) / sum(SYM6)
"""Fine pixels by which the first filter, which is not quite symmetric, moves a picture up and left."""
BILINEAR, MIRRORED = 0, 2  # torch's numbers of interpolation and padding


def warp(images: Tensor, places: Tensor) -> Tensor:
    """Return images (N, C, r, r) sampled elsewhere.

    Args:
        places: (N, 2, 3): from a place in the result to one in the picture, both (x, y, 1), where -1 and 1 are the
            outer edges of the picture.
    """
    size = images.shape[-1]
    up, down = _filters_on(size, images.dtype, images.device)
    fine = up @ images @ up.T  # (N, C, 2 r, 2 r)
    pixels = torch.arange(-MARGIN, 2 * size + MARGIN, device=images.device, dtype=images.dtype)
    at = (pixels + 0.5 + ADVANCE) / size - 1
    places = places[:, :, :, None, None]  # (N, 2, 3, 1, 1)
    grid = places[:, :, 0] * at + places[:, :, 1] * at[:, None] + places[:, :, 2]  # (N, 2, rows, columns)
    grid = grid - ADVANCE / size
    fine = _Samples.apply(fine, grid.movedim(1, 3).contiguous())  # (N, C, 2 r + 2 MARGIN, 2 r + 2 MARGIN)
    return down @ fine @ down.T


@cache
def _filters_on(size: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    up, down = (torch.from_numpy(matrix).to(device, dtype) for matrix in filters(size))
    return up, down


@cache
def filters(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the filters along a side of `size` pixels: (2 size, size) and back, (size, 2 size + 2 MARGIN)."""
    taps = np.array(SYM6) / np.sum(SYM6)
    up, down = np.zeros((2 * size, size)), np.zeros((size, 2 * size + 2 * MARGIN))
    for pixel in range(size):
        down[pixel, 2 * pixel : 2 * pixel + len(taps)] = taps
    for pixel in range(-MARGIN, size + MARGIN):  # those outside are the mirror images of others
        mirrored = -1 - pixel if pixel < 0 else 2 * size - 1 - pixel if pixel >= size else pixel
        for tap, weight in enumerate(taps, 2 * pixel - MARGIN):
            if 0 <= tap < 2 * size:
                up[tap, mirrored] += 2 * weight
    return up, down


class _Samples(torch.autograd.Function):
    """Bilinear samples of pictures (N, C, H, W) at `grid` (N, h, w, 2): linear in the pictures.

    torch has no second derivative of its own in all supported versions. The grid gets no gradient.
    """

    @staticmethod
    def forward(ctx: Any, images: Tensor, grid: Tensor) -> Tensor:
        ctx.shape = images.shape
        ctx.save_for_backward(grid)
        return torch.ops.aten.grid_sampler_2d(images, grid, BILINEAR, MIRRORED, False)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        (grid,) = ctx.saved_tensors
        return _Adjoint.apply(g, grid, ctx.shape), None


class _Adjoint(torch.autograd.Function):
    """The gradient of `_Samples`, which is linear in g, (N, C, h, w) -> (N, C, H, W)."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, grid: Tensor, shape: torch.Size) -> Tensor:
        ctx.save_for_backward(grid)
        unused = g.new_zeros(shape)  # the pictures, which matter to the grid's gradient only
        sampler = torch.ops.aten.grid_sampler_2d_backward
        return sampler(g.contiguous(), unused, grid, BILINEAR, MIRRORED, False, [True, False])[0]

    @staticmethod
    def backward(ctx: Any, gg: Tensor) -> tuple[Tensor, None, None]:
        (grid,) = ctx.saved_tensors
        return _Samples.apply(gg, grid), None, None
