"""Layers of the style-based generators: mapping network, styled convolutions, noise.

A style scales a layer's input maps, and demodulation its output maps, per sample. Scaling the activations gives the
same numbers as a kernel for each sample, and one convolution serves the whole batch. Since leaky ReLU keeps positive
factors, StyleGAN2's gain of sqrt(2) after it is part of the factors and biases before it.
"""

import math

import torch
from torch import Tensor, nn

from pggan.model.convolution import leaky_relu_
from pggan.model.filters import BLUR, RESAMPLE, smooth
from pggan.model.layers import LEAKY_SLOPE, ConvBase, Resample, ScaledDense, pixel_norm, to_float32

MAPPING_RATE = 0.01
DEMODULATION_EPS = 1e-8
INSTANCE_NORM_EPS = 1e-8
SQRT2 = math.sqrt(2.0)


class Mapping(nn.Sequential):
    """Latents -> w, by dense layers with a hundredth of the learning rate."""

    def __init__(self, inputs: int, size: int, layers: int, bias_gain: float) -> None:
        super().__init__(
            *(
                ScaledDense(features, size, weights="equalized", bias_gain=bias_gain, rate=MAPPING_RATE)
                for features in [inputs, *[size] * (layers - 1)]
            )
        )

    def forward(self, *parts: Tensor) -> Tensor:
        """Latents and classes, (N, ...) each, normalized one by one and joined -> (N, size)."""
        w = torch.cat([pixel_norm(part) for part in parts], dim=1)
        for layer in self:
            w = leaky_relu_(layer(w), LEAKY_SLOPE)
        return w


def check_labels(labels: Tensor | None, classes: int) -> None:
    """Raise ValueError unless the labels are of that many classes; None is of no class."""
    if (0 if labels is None else labels.shape[1]) != classes:
        shape = None if labels is None else tuple(labels.shape)
        raise ValueError(f"labels of shape {shape}: the network has {classes} classes")


def embedding(classes: int, size: int) -> ScaledDense:
    """Return the dense layer that makes `size` values of one-hot classes."""
    return ScaledDense(classes, size, gain=1.0, weights="equalized")


def affine(size: int, outputs: int, start: float) -> ScaledDense:
    """Return the dense layer that makes a layer's style of w; its bias starts at `start`."""
    layer = ScaledDense(size, outputs, gain=1.0, weights="equalized")
    assert layer.bias is not None
    nn.init.constant_(layer.bias, start)
    return layer


def per_map(values: Tensor) -> Tensor:
    """(C,) or (N, C) -> (1, C, 1, 1) or (N, C, 1, 1)."""
    return values.reshape(-1, values.shape[-1], 1, 1)


class StyledConv(ConvBase):
    """Convolution with modulated and demodulated weights, noise, bias, leaky ReLU (StyleGAN2, figure 2d).

    `gain` multiplies the result; it is sqrt(2) but for the last layer of a residual block.
    """

    noise: Tensor

    def __init__(
        self, channels: int, outputs: int, resolution: int, size: int, *, resample: Resample = None, gain: float = SQRT2
    ) -> None:
        super().__init__(channels, outputs, 3, gain=1.0, weights="equalized", resample=resample, taps=RESAMPLE)
        self.gain = gain
        self.affine = affine(size, channels, 1.0)
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.register_buffer("noise", torch.randn(resolution, resolution))

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None) -> Tensor:
        """(N, C, H, W), w (N, W), noise (N or 1, 1, r, r) or None -> (N, O, r, r) in x's type."""
        style = self.affine(w)  # (N, C)
        y = self.convolve(x * per_map(style.to(x.dtype)), None)
        factors = per_map(self.demodulation(style).to(x.dtype))
        assert self.bias is not None
        bias = per_map((self.bias * self.gain).to(x.dtype))
        if noise is None:
            y = torch.addcmul(bias, y, factors)
        else:
            y = torch.addcmul((noise * (self.noise_strength * self.gain)).to(x.dtype), y, factors).add_(bias)
        return leaky_relu_(y, LEAKY_SLOPE)

    def demodulation(self, style: Tensor) -> Tensor:
        """Return what each output map is multiplied with, (N, O): gain over the norm of the modulated weights."""
        power = (self.weight * self.scale).square().sum(dim=(2, 3))  # (O, C)
        return torch.rsqrt(style.square() @ power.T + DEMODULATION_EPS) * self.gain


class StyledRgb(ConvBase):
    """toRGB: 1 x 1 convolution with modulated weights, without demodulation or activation."""

    def __init__(self, channels: int, size: int) -> None:
        super().__init__(channels, 3, 1, gain=1.0, weights="equalized")
        self.affine = affine(size, channels, 1.0)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """(N, C, r, r), w (N, W) -> (N, 3, r, r), float32 at least."""
        assert self.bias is not None
        count, channels, height, width = x.shape
        weights = self.affine(w)[:, :, None] * (self.weight * self.scale).flatten(1).T  # (N, C, 3)
        # weights for each sample are a few numbers here, and scaling the activations a pass over all of them
        pixels = x.permute(0, 2, 3, 1).reshape(count, height * width, channels)
        rgb = to_float32(pixels @ weights.to(x.dtype)) + self.bias
        return rgb.view(count, height, width, 3).permute(0, 3, 1, 2)


class _AdaptiveEnding:
    """What ends each layer of the original StyleGAN: noise, bias, leaky ReLU, instance norm, style (its figure 1b)."""

    bias: nn.Parameter | None

    def _add_ending(self, maps: int, resolution: int, size: int) -> None:
        assert isinstance(self, nn.Module)
        self.affine = affine(size, 2 * maps, 0.0)
        self.noise_strength = nn.Parameter(torch.zeros(maps))
        self.register_buffer("noise", torch.randn(resolution, resolution))

    def _end(self, x: Tensor, w: Tensor, noise: Tensor | None) -> Tensor:
        assert self.bias is not None
        bias = per_map(self.bias.to(x.dtype))
        x = x + bias if noise is None else torch.addcmul(x, noise.to(x.dtype), per_map(self.noise_strength.to(x.dtype)))
        if noise is not None:
            x = x.add_(bias)
        x = leaky_relu_(x, LEAKY_SLOPE)
        scale, shift = (per_map(part) for part in self.affine(w).chunk(2, dim=1))
        values = to_float32(x)
        variance, mean = torch.var_mean(values, dim=(2, 3), correction=0, keepdim=True)
        factors = torch.rsqrt(variance + INSTANCE_NORM_EPS) * (scale + 1.0)
        # the mean first: factors are up to 1e4 where a map is nearly constant, as the constant input is at the start
        return torch.addcmul(shift, values - mean, factors).to(x.dtype)


class AdaptiveInput(_AdaptiveEnding, nn.Module):
    """The ending of the constant input of the original StyleGAN."""

    noise: Tensor

    def __init__(self, maps: int, size: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(maps))
        self._add_ending(maps, 4, size)

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None) -> Tensor:
        """(N, C, 4, 4), w (N, W), noise (N or 1, 1, 4, 4) or None -> the same shape and type."""
        return self._end(x, w, noise)


class AdaptiveConv(_AdaptiveEnding, ConvBase):
    """A convolution of the original StyleGAN, blurred after enlarging, and the ending."""

    noise: Tensor

    def __init__(self, channels: int, outputs: int, resolution: int, size: int, *, resample: Resample = None) -> None:
        super().__init__(channels, outputs, 3, weights="equalized", resample=resample)
        self._add_ending(outputs, resolution, size)

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None) -> Tensor:
        """(N, C, H, W), w (N, W), noise (N or 1, 1, r, r) or None -> (N, O, r, r) in x's type."""
        x = self.convolve(x, None)
        return self._end(smooth(x, BLUR, 1) if self.resample == "up" else x, w, noise)


NoisyLayer = StyledConv | AdaptiveConv | AdaptiveInput
