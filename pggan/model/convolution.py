"""Convolutions and leaky ReLU whose gradients of any order cost what they must, and no more.

The gradient penalty differentiates the discriminator twice. PyTorch's own second derivative of a convolution goes
through a convolution with kernels as large as the image, and that of leaky ReLU sends blocks of zeros through every
layer below. Here the gradient of a convolution is again made of convolutions, and the slopes of leaky ReLU are taken
as the constants that they are.

Resampling shares its work with the 3 x 3 convolution next to it. A convolution followed by the average of 2 x 2 pixels
is a 2 x 2 box filter followed by the convolution with stride 2; nearest 2x upsampling followed by a convolution is a
transposed convolution with stride 2 followed by a 2 x 2 box filter. Both are exact, with a quarter of the
multiplications; a single 4 x 4 kernel, the usual way to fuse the two, needs 16/9 as many.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

_INPUT_ONLY: ContextVar[bool] = ContextVar("input_only", default=False)


@contextmanager
def without_weight_gradients() -> Iterator[None]:
    """Compute gradients of activations only, inside this context: gradients by the image need no others.

    Autograd tells a custom function what its inputs may need, not what the pass at hand asks for.
    """
    token = _INPUT_ONLY.set(True)
    try:
        yield
    finally:
        _INPUT_ONLY.reset(token)


def gradients_of_weights() -> bool:
    """Return whether a backward pass computes gradients of weights and biases (see `without_weight_gradients`)."""
    return not _INPUT_ONLY.get()


class Function(torch.autograd.Function):
    """A function with its own gradient, which TorchScript records as the operations that it is made of."""

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """Return `forward` of the arguments; gradients are left out while TorchScript is recording."""
        recording = torch.jit.is_tracing()  # type: ignore[attr-defined]
        return cls.forward(_NoContext(), *args) if recording else super().apply(*args)


class _NoContext:
    """Takes what `forward` would keep for gradients, and forgets it."""

    def save_for_backward(self, *_: Tensor) -> None: ...

    def mark_dirty(self, *_: Tensor) -> None: ...


def convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None, *, stride: int = 1, padding: int = 0, transposed: bool = False
) -> Tensor:
    """Convolve x; x, weight and bias have one type.

    Args:
        x: (N, I, H, W).
        weight: (O, I, k, k), or (I, O, k, k) when transposed; stride, padding and k must fit H and W without rest.
        bias: (O,) or None.
    """
    return _Convolution.apply(x, weight, bias, stride, padding, transposed)


def leaky_relu_(x: Tensor, slope: float) -> Tensor:
    """Compute max(x, slope x) in place (slope 0: ReLU); nothing else may use x."""
    return _LeakyReLU.apply(x, slope)


def box(x: Tensor, padding: int, bias: Tensor | None = None) -> Tensor:
    """Return the mean of 2 x 2 pixels at every place, plus bias (C,).

    (N, C, H, W) -> (N, C, H + 1, W + 1) with padding 1, where zeros outside count, or H - 1 and W - 1 without.
    """
    return _Box.apply(x, padding, bias)


class _Box(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, padding: int, bias: Tensor | None) -> Tensor:
        ctx.padding = padding
        if x.device.type == "cpu" and x.dtype in (torch.float32, torch.bfloat16):
            # oneDNN's depthwise convolution: several times as fast as the pooling in bfloat16
            kernel = x.new_full((x.shape[1], 1, 2, 2), 0.25)
            return functional.conv2d(x, kernel, bias, padding=padding, groups=x.shape[1])
        y = functional.avg_pool2d(x, 2, stride=1, padding=padding)
        return y if bias is None else y.add_(bias.view(1, -1, 1, 1))

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        gb = g.sum(dim=(0, 2, 3)) if ctx.needs_input_grad[2] and gradients_of_weights() else None
        return _Box.apply(g, 1 - ctx.padding, None), None, gb  # the filter is symmetric: its adjoint is itself


class _Convolution(Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int, transposed: bool
    ) -> Tensor:
        ctx.geometry = (stride, padding, transposed)
        ctx.save_for_backward(x, weight)
        run = functional.conv_transpose2d if transposed else functional.conv2d
        return run(x, weight, bias, stride=stride, padding=padding)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        stride, padding, transposed = ctx.geometry
        gx = gw = gb = None
        if ctx.needs_input_grad[0]:
            gx = _Convolution.apply(g, weight, None, stride, padding, not transposed)
        if gradients_of_weights():
            if ctx.needs_input_grad[1]:
                gw = _WeightGradient.apply(x, g, weight.shape[-1], ctx.geometry)
            if ctx.needs_input_grad[2]:
                gb = g.sum(dim=(0, 2, 3))
        return gx, gw, gb, None, None, None


class _WeightGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, g: Tensor, kernel: int, geometry: tuple[int, int, bool]) -> Tensor:
        ctx.geometry = geometry
        ctx.save_for_backward(x, g)
        stride, padding, transposed = geometry
        # the kernel's leading axis is the side that strides start from
        first, second = (x, g) if transposed else (g, x)
        shape = (first.shape[1], second.shape[1], kernel, kernel)
        _, gw, _ = torch.ops.aten.convolution_backward(
            g,
            x,
            torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last),
            None,
            [stride, stride],
            [padding, padding],
            [1, 1],
            transposed,
            [0, 0],
            1,
            [False, True, False],
        )
        return gw

    @staticmethod
    def backward(ctx: Any, gw: Tensor) -> tuple[Tensor | None, ...]:
        x, g = ctx.saved_tensors
        stride, padding, transposed = ctx.geometry
        gx = gg = None
        if ctx.needs_input_grad[0]:
            gx = _Convolution.apply(g, gw, None, stride, padding, not transposed)
        if ctx.needs_input_grad[1]:
            gg = _Convolution.apply(x, gw, None, stride, padding, transposed)
        return gx, gg, None, None


class _LeakyReLU(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: float) -> Tensor:
        ctx.mark_dirty(x)
        functional.leaky_relu_(x, slope)
        ctx.slope = slope
        ctx.save_for_backward(x)
        return x

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        (y,) = ctx.saved_tensors
        return _Slopes.apply(g, y, ctx.slope), None


class _Slopes(torch.autograd.Function):
    """Multiply g by the slope at y, which is constant almost everywhere: y gets no gradient."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, y: Tensor, slope: float) -> Tensor:
        ctx.slope = slope
        ctx.save_for_backward(y)
        return torch.ops.aten.leaky_relu_backward(g, y, slope, True)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:
        (y,) = ctx.saved_tensors
        return _Slopes.apply(g, y, ctx.slope), None, None
