"""Fixed low-pass filters of the style-based networks, and resampling by 2 with them (differentiable to any order).

A filter is given by the taps of one axis, symmetric, and divided by their sum; outside the image are zeros. Both axes
are filtered one after the other with depthwise convolutions, the fastest of several ways on a CPU
(docs/decisions/style-layers.md). Such a filter is its own adjoint but for the padding, and enlarging is the adjoint of
reducing, so every gradient is again one of the functions here.
"""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from pggan.model.convolution import Function, box, gradients_of_weights

Taps = tuple[int, ...]
BOX: Taps = (1, 1)
BLUR: Taps = (1, 2, 1)
"""The filter of the original StyleGAN (configuration A), in addition to `BOX`."""
RESAMPLE: Taps = (1, 3, 3, 1)
"""The filter of StyleGAN2's resampling."""


def smooth(x: Tensor, taps: Taps, padding: int, bias: Tensor | None = None) -> Tensor:
    """Filter both axes, and add bias (C,).

    (N, C, H, W) -> (N, C, H + 2 padding - len(taps) + 1, W + ...), in x's type.
    """
    return box(x, padding, bias) if taps == BOX else _Smooth.apply(x, taps, padding, bias)


def enlarge(x: Tensor) -> Tensor:
    """Double the size: zeros between the pixels, then `RESAMPLE` with gain 4. (N, C, H, W) -> (N, C, 2H, 2W)."""
    return _Resample.apply(x, True)


def reduce(x: Tensor) -> Tensor:
    """Halve the size: filter with `RESAMPLE`, then take every second pixel. (N, C, 2H, 2W) -> (N, C, H, W)."""
    return _Resample.apply(x, False)


@lru_cache(maxsize=512)
def _kernel(taps: Taps, axes: int, channels: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return a depthwise kernel: (C, 1, k, k) with two axes, (C, 1, k, 1) with one."""
    line = torch.tensor(taps, dtype=torch.float64) / sum(taps)
    kernel = torch.outer(line, line) if axes == 2 else line[:, None]
    return kernel.to(device, dtype).expand(channels, 1, *kernel.shape).contiguous()


def _filter(x: Tensor, taps: Taps, padding: int, bias: Tensor | None) -> Tensor:
    kernel = _kernel(taps, 1, x.shape[1], x.dtype, x.device)
    y = functional.conv2d(x, kernel, padding=(padding, 0), groups=x.shape[1])
    return functional.conv2d(y, kernel.transpose(2, 3), bias, padding=(0, padding), groups=x.shape[1])


class _Smooth(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, taps: Taps, padding: int, bias: Tensor | None) -> Tensor:
        ctx.taps, ctx.padding = taps, padding
        return _filter(x, taps, padding, bias)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        gb = g.sum(dim=(0, 2, 3)) if ctx.needs_input_grad[3] and gradients_of_weights() else None
        return _Smooth.apply(g, ctx.taps, len(ctx.taps) - 1 - ctx.padding, None), None, None, gb


class _Resample(Function):
    """Enlarging, or reducing; the adjoint of one is the other, times or divided by 4."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, larger: bool) -> Tensor:
        ctx.larger = larger
        if larger:  # the same as filtering repeated pixels with (1, 2, 1), which has fewer taps
            return _filter(functional.interpolate(x, scale_factor=2.0, mode="nearest"), BLUR, 1, None)
        kernel = _kernel(RESAMPLE, 2, x.shape[1], x.dtype, x.device)
        return functional.conv2d(x, kernel, stride=2, padding=1, groups=x.shape[1])

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        return _Resample.apply(g, not ctx.larger) * (4.0 if ctx.larger else 0.25), None
