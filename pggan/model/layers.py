"""Layers of the progressive GAN: scaled weights, norms, minibatch statistics (the paper's sections 3 and 4).

Types: layers compute in the type of their input; norms, statistics and everything that is summed over many values
are float32 at least.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from pggan.model.convolution import Function, convolution
from pggan.model.filters import BOX, Taps, smooth

LEAKY_SLOPE = 0.2
PIXEL_NORM_EPS = 1e-8
HALF_PIXEL_NORM_EPS = 1e-4  # of networks that their authors trained in float16
RMS_EPS, LATENT_RMS_EPS = 1e-5, 1e-6  # of mmgeneration
STDDEV_EPS = 1e-8
LAYER_NORM_EPS = 1e-4
BATCH_NORM_EPS = 1e-4
BATCH_NORM_MOMENTUM = 0.1
DISCRIMINATION_KERNELS = 100
DISCRIMINATION_DIMENSIONS = 5

Weights = Literal["equalized", "he"]
Resample = Literal["up", "down"] | None
PixelNormKind = Literal["fp32", "fp16", "mmgeneration"]


def to_float32(x: Tensor) -> Tensor:
    """Return x in float32, or unchanged when it is float64."""
    return x if x.dtype == torch.float64 else x.float()


class Scaled(nn.Module):
    """A weight and a bias, the weight scaled at run time by gain / sqrt(fan_in), or started at that scale (He).

    The scale goes to the weight, not to the activations: it is small, and `shared_weights` applies it once per step.
    The bias is used times `bias_gain`. `rate` multiplies the learning rate of both: they are used that many times as
    small, and the weight starts that many times as large.
    """

    weight: nn.Parameter
    bias: nn.Parameter | None

    def __init__(
        self,
        shape: tuple[int, ...],
        gain: float,
        weights: Weights,
        biases: int,
        *,
        bias_gain: float = 1.0,
        rate: float = 1.0,
    ) -> None:
        super().__init__()
        deviation = gain / math.sqrt(math.prod(shape[1:]))
        self.scale = deviation * rate if weights == "equalized" else 1.0
        self.bias_scale = bias_gain * rate
        self.weight = nn.Parameter(torch.randn(shape) * (1.0 / rate if weights == "equalized" else deviation))
        self.bias = nn.Parameter(torch.zeros(biases)) if biases else None
        self.sharing = False
        self._shared: Tensor | None = None

    def effective_weight(self, dtype: torch.dtype) -> Tensor:
        """Return the scaled weight in the layer's shape and the given type; kept while `shared_weights` is active."""
        if self._shared is not None and self._shared.dtype == dtype:
            return self._shared
        weight = self._effective_weight().to(dtype)
        if self.sharing:
            self._shared = weight
        return weight

    def _effective_weight(self) -> Tensor:
        return self.weight * self.scale if self.scale != 1.0 else self.weight

    def effective_bias(self, dtype: torch.dtype) -> Tensor | None:
        """Return the scaled bias in the given type, None for a layer without one."""
        if self.bias is None:
            return None
        return (self.bias * self.bias_scale if self.bias_scale != 1.0 else self.bias).to(dtype)

    def share(self, active: bool) -> None:
        """Start or stop keeping the scaled weight."""
        self.sharing = active
        self._shared = None


@contextmanager
def shared_weights(*networks: nn.Module) -> Iterator[None]:
    """Scale each weight once, inside this context, for all passes; the weights must not change.

    Gradients of all passes then meet at the scaled weight, so that scaling is differentiated once per step.
    """
    layers = [layer for network in networks for layer in network.modules() if isinstance(layer, Scaled)]
    for layer in layers:
        layer.share(True)
    try:
        yield
    finally:
        for layer in layers:
            layer.share(False)


class ConvBase(Scaled):
    """Convolution with kernel 1 or 3 that keeps the size, or doubles or halves it with resample "up" or "down".

    With `taps` (1, 1), "up" is nearest upsampling, then the convolution, and "down" the convolution, then the average
    of 2 x 2 pixels. With (1, 3, 3, 1), "up" is `filters.enlarge`, then the convolution, and "down" the filter, then
    the convolution with stride 2; zeros are padded before the filter alone.
    """

    def __init__(
        self,
        channels: int,
        outputs: int,
        kernel: int,
        *,
        weights: Weights,
        gain: float = math.sqrt(2.0),
        resample: Resample = None,
        taps: Taps = BOX,
        bias: bool = True,
        bias_gain: float = 1.0,
    ) -> None:
        shape = (outputs, channels, kernel, kernel)
        super().__init__(shape, gain, weights, outputs if bias else 0, bias_gain=bias_gain)
        self.resample = resample
        self.taps = taps

    def _effective_weight(self) -> Tensor:
        weight = super()._effective_weight()
        if self.resample == "up":
            # (I, O, 3, 3) of the transposed convolution; times 4: enlarging keeps the sum, the filter averages
            weight = 4.0 * weight.flip(2, 3).transpose(0, 1)
        return weight.contiguous(memory_format=torch.channels_last)

    def convolve(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """Convolve x (N, I, H, W) and add a bias (O,), neither scaled nor that of the layer: (N, O, H', W')."""
        weight, half = self.effective_weight(x.dtype), len(self.taps) // 2
        if self.resample == "up":
            return smooth(convolution(x, weight, None, stride=2, transposed=True), self.taps, half - 1, bias)
        if self.resample == "down":
            return convolution(smooth(x, self.taps, half), weight, bias, stride=2)
        return convolution(x, weight, bias, padding=self.weight.shape[-1] // 2)


class ScaledConv(ConvBase):
    """`ConvBase` with its own bias."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, I, H, W) -> (N, O, H', W') in x's type."""
        return self.convolve(x, self.effective_bias(x.dtype))


class ScaledDense(Scaled):
    """Dense layer; x is flattened to (N, features) in the order channel, row, column."""

    def __init__(
        self,
        features: int,
        outputs: int,
        *,
        weights: Weights,
        gain: float = math.sqrt(2.0),
        bias: bool = True,
        biases: int | None = None,
        bias_gain: float = 1.0,
        rate: float = 1.0,
    ) -> None:
        """`biases` below `outputs`: that many, for the caller to add (one per map of the generator's first layer)."""
        count = (biases or outputs) if bias else 0
        super().__init__((outputs, features), gain, weights, count, bias_gain=bias_gain, rate=rate)
        self.adds_bias = biases is None

    def forward(self, x: Tensor) -> Tensor:
        """(N, ...) -> (N, outputs) in x's type."""
        bias = self.effective_bias(x.dtype) if self.adds_bias else None
        return functional.linear(x.flatten(1), self.effective_weight(x.dtype), bias)


def pixel_norm(x: Tensor, eps: float = PIXEL_NORM_EPS) -> Tensor:
    """Return x / sqrt(mean of x^2 over axis 1 + eps), the mean in float32 (section 4.2)."""
    return _PixelNorm.apply(x, eps)


class _PixelNorm(Function):
    """With r = 1 / sqrt(mean x^2 + eps) and y = r x, the gradient is r (g - y mean(g y)); means over axis 1."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float) -> Tensor:
        ctx.eps = eps
        total = torch.linalg.vector_norm(x, dim=1, keepdim=True, dtype=to_float32(x[:0]).dtype).square_()
        r = total.div_(x.shape[1]).add_(eps).rsqrt_()
        y = x * r.to(x.dtype)
        ctx.save_for_backward(x, y, r)
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        x, y, r = ctx.saved_tensors
        if torch.is_grad_enabled():  # to be differentiated again: as the operations it is made of
            r = torch.rsqrt(to_float32(x).square().mean(dim=1, keepdim=True) + ctx.eps)
            y = x * r.to(x.dtype)
        mean = (g * y).mean(dim=1, keepdim=True)
        return torch.addcmul(g, y, mean, value=-1.0) * r.to(x.dtype), None


def rms_norm(x: Tensor, eps: float) -> Tensor:
    """Return x / (sqrt(mean of x^2 over axis 1) + eps), the mean in float32."""
    norm = torch.linalg.vector_norm(x, dim=1, keepdim=True, dtype=to_float32(x[:0]).dtype)
    return x / (norm / math.sqrt(x.shape[1]) + eps).to(x.dtype)


class PixelNorm(nn.Module):
    """Pixel norm as a layer, in one of the forms that published networks have.

    "fp32": `pixel_norm`; "fp16": with an epsilon of 1e-4; "mmgeneration": `rms_norm`, which differs on latents.
    """

    def __init__(self, kind: PixelNormKind = "fp32", *, latents: bool = False) -> None:
        super().__init__()
        self.outside = kind == "mmgeneration"
        if self.outside:
            self.eps = LATENT_RMS_EPS if latents else RMS_EPS
        else:
            self.eps = HALF_PIXEL_NORM_EPS if kind == "fp16" else PIXEL_NORM_EPS

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, ...) -> the same shape."""
        return rms_norm(x, self.eps) if self.outside else pixel_norm(x, self.eps)


class BatchNorm(nn.BatchNorm2d):
    """Batch normalization over N, H, W, with a gain and a bias per map; statistics in float32."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=BATCH_NORM_EPS, momentum=BATCH_NORM_MOMENTUM)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape and type."""
        return super().forward(to_float32(x)).to(x.dtype)


class LayerNorm(nn.Module):
    """Layer normalization over C, H, W, then one gain for all and a bias per map."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(()))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C) or (N, C, H, W) -> the same shape and type."""
        values = to_float32(x)
        axes = tuple(range(1, x.ndim))
        variance, mean = torch.var_mean(values, dim=axes, correction=0, keepdim=True)
        bias = self.bias.view(1, -1, *(1,) * (x.ndim - 2))
        return ((values - mean) * torch.rsqrt(variance + LAYER_NORM_EPS) * self.gain + bias).to(x.dtype)


def stddev_group(samples: int, limit: int) -> int:
    """Return the size of a stddev group: the largest divisor of the samples <= limit; limit 0 is all samples."""
    if limit == 0 or limit >= samples:
        return samples
    return next(size for size in range(limit, 0, -1) if samples % size == 0)


def minibatch_stddev(x: Tensor, group: int, batches: int = 1) -> Tensor:
    """Append a map: the average deviation within the sample's group (section 3; strided groups as of 2018).

    Sample n of a batch of N belongs to group n mod (N / group). `batches` batches lie one after the other in x and
    know nothing of each other, so that reals and fakes may share one pass.

    Args:
        x: (batches N, C, H, W), N divisible by group.
        group: samples per group, as `stddev_group` gives it.
    """
    total, channels, height, width = x.shape
    per_group = total // batches // group
    values = to_float32(x).reshape(batches, group, per_group, channels, height, width)  # (B, G, N/G, C, H, W): strided
    variance = (values - values.mean(dim=1, keepdim=True)).square().mean(dim=1)  # biased; (B, N/G, C, H, W)
    deviation = (variance + STDDEV_EPS).sqrt()
    mean = deviation.mean(dim=(2, 3, 4))  # (B, N/G)
    maps = mean[:, None, :].expand(batches, group, per_group).reshape(total, 1, 1, 1)
    return torch.cat([x, maps.to(x.dtype).expand(total, 1, height, width)], dim=1)


class MinibatchDiscrimination(nn.Module):
    """Append features of how near a sample is to the others (Salimans et al. 2016).

    theta is normalized per kernel dimension and scaled by exp(log_scale). Scale and bias start from data:
    `initialise` makes the mean smallest half-distance 1 and the mean feature 0.
    """

    initialised: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        shape = (DISCRIMINATION_KERNELS, DISCRIMINATION_DIMENSIONS)
        self.theta = nn.Parameter(torch.randn(features, *shape) * 0.05)
        self.log_scale = nn.Parameter(torch.zeros(shape))
        self.bias = nn.Parameter(torch.full((DISCRIMINATION_KERNELS,), -1.0))
        self.register_buffer("initialised", torch.zeros((), dtype=torch.bool))

    def _distances(self, x: Tensor) -> Tensor:
        """x (B, N, F) -> L1 distances of all pairs of a batch by kernel, (B, N, N, K); to itself: infinite."""
        weight = self.theta * (self.log_scale.exp() / self.theta.square().sum(dim=0).sqrt())
        points = torch.einsum("bnf,fkd->bnkd", x, weight)
        distances = x.new_zeros(())
        for axis in points.unbind(dim=-1):  # one dimension at a time: a fifth of the memory
            distances = distances + (axis[:, :, None] - axis[:, None, :]).abs()
        itself = torch.eye(x.shape[1], dtype=torch.bool, device=x.device)
        return distances.masked_fill(itself[None, :, :, None], math.inf)

    def forward(self, x: Tensor, batches: int = 1) -> Tensor:
        """(batches N, F) -> (batches N, F + 100) in x's type; batches know nothing of each other."""
        values = to_float32(x).unflatten(0, (batches, -1))
        features = torch.exp(-self._distances(values)).sum(dim=2) + self.bias
        return torch.cat([x, features.flatten(0, 1).to(x.dtype)], dim=1)

    @torch.no_grad()
    def initialise(self, x: Tensor) -> None:
        """Scale and bias from the features x (N, F) of reals, N >= 2 (500 in the paper's row e*)."""
        values = to_float32(x)[None]
        smallest = 0.5 * self._distances(values).amin(dim=2).mean(dim=(0, 1))  # (K,)
        self.log_scale.sub_(smallest.log()[:, None])
        features = torch.exp(-self._distances(values)).sum(dim=2)
        self.bias.copy_(-features.mean(dim=(0, 1)))
        self.initialised.fill_(True)
