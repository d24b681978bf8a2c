"""Discriminators of StyleGAN (configuration A) and StyleGAN2 (B to F, table 2): images -> scores.

`lod` is that of `pggan.model.networks`, for discriminators that grow. StyleGAN2's gain of sqrt(2) after leaky ReLU is
part of the weights and biases before it, the 1 / sqrt(2) of a residual sum of the weights of both parts.
"""

import math

import torch
from torch import Tensor, nn

from pggan.config.level import Level
from pggan.config.style import StyleConfig
from pggan.model.convolution import leaky_relu_
from pggan.model.filters import BLUR, BOX, RESAMPLE, reduce, smooth
from pggan.model.layers import LEAKY_SLOPE, ScaledConv, ScaledDense, minibatch_stddev, stddev_group, to_float32
from pggan.model.networks import Network, compute_dtype, down2
from pggan.model.style_layers import SQRT2, Mapping, check_labels, embedding


class StyleDiscriminatorLevel(nn.Module):
    """fromRGB if needed and the level's layers; at 4 x 4 the minibatch deviation, a convolution and two dense ones."""

    def __init__(self, config: StyleConfig, resolution: int) -> None:
        super().__init__()
        maps, below, kind = config.fmaps(resolution), config.fmaps(resolution // 2), config.d_architecture
        self.blurs = kind == "stylegan"
        self.residual = kind == "resnet" and resolution > 4
        bias_gain = 1.0 if self.blurs else SQRT2

        def convolution(channels: int, outputs: int, kernel: int) -> ScaledConv:
            return ScaledConv(channels, outputs, kernel, weights="equalized", bias_gain=bias_gain)

        if config.growing or kind == "skip" or resolution == config.resolution:
            self.from_rgb = convolution(3, maps, 1)
        if resolution == 4:
            self.conv = convolution(maps + 1, maps, 3)
            self.dense = ScaledDense(maps * 16, below, weights="equalized", bias_gain=bias_gain)
            self.out = ScaledDense(below, maps if config.classes else 1, gain=1.0, weights="equalized")
            return
        self.conv0 = convolution(maps, maps, 3)
        self.conv1 = ScaledConv(
            maps,
            below,
            3,
            weights="equalized",
            gain=1.0 if self.residual else SQRT2,
            bias_gain=1.0 if self.residual else bias_gain,
            resample="down",
            taps=BOX if self.blurs else RESAMPLE,
        )
        if self.residual:
            self.skip = ScaledConv(maps, below, 1, gain=1 / SQRT2, weights="equalized", bias=False)

    def enter(self, images: Tensor, dtype: torch.dtype) -> Tensor:
        """(N, 3, r, r) -> (N, maps, r, r)."""
        x = images.to(dtype).contiguous(memory_format=torch.channels_last)
        return leaky_relu_(self.from_rgb(x), LEAKY_SLOPE)

    def shrink(self, x: Tensor) -> Tensor:
        """(N, maps, r, r) -> (N, maps below, r/2, r/2)."""
        y = leaky_relu_(self.conv0(x), LEAKY_SLOPE)
        y = leaky_relu_(self.conv1(smooth(y, BLUR, 1) if self.blurs else y), LEAKY_SLOPE)
        return self.skip(reduce(x)).add_(y) if self.residual else y

    def finish(self, x: Tensor, group: int, batches: int) -> Tensor:
        """(N, maps, 4, 4) -> (N, 1), with classes (N, maps), float32 at least."""
        x = minibatch_stddev(x, group, batches).contiguous(memory_format=torch.channels_last)
        x = leaky_relu_(self.conv(x), LEAKY_SLOPE)
        x = leaky_relu_(self.dense(x), LEAKY_SLOPE)
        return self.out(to_float32(x))


class StyleDiscriminator(Network):
    """Images -> scores."""

    config: StyleConfig

    def __init__(self, config: StyleConfig) -> None:
        super().__init__()
        self.config = config
        self.levels = nn.ModuleDict({str(r): StyleDiscriminatorLevel(config, r) for r in config.levels})
        if config.classes:
            size = config.fmaps(4)
            self.embed = embedding(config.classes, size)
            self.mapping = Mapping(size, size, config.label_layers, SQRT2)

    def level(self, resolution: int) -> StyleDiscriminatorLevel:
        """Return the layers of the level of `resolution` pixels."""
        level = self.levels[str(resolution)]
        assert isinstance(level, StyleDiscriminatorLevel)
        return level

    def uses(self, name: str, at: Level) -> bool:
        """Return whether the parameter `name` takes part in scores at that level."""
        return not self.config.growing or super().uses(name, at)

    def forward(
        self,
        images: Tensor,
        lod: float = 0.0,
        *,
        batches: int = 1,
        group: int | None = None,
        labels: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return (scores (batches N,), no logits (batches N, 0)), float32 (float64 for a network of doubles).

        Args:
            images: (batches N, 3, r, r) of the level of `lod`; the batches know nothing of each other.
            group: samples per stddev group; None: the largest one up to the configured one that divides N.
            labels: (batches N, classes) one-hot; None for networks without classes.
        """
        check_labels(labels, self.config.classes)
        if lod and not self.config.growing:
            raise ValueError(f"lod {lod}: must be 0 for a network that does not grow")
        level = Level(self.config.resolution, lod)
        scores = self.at_level(images, level.resolution, level.alpha, batches=batches, group=group, labels=labels)
        return scores, scores.new_zeros(len(scores), 0)

    def at_level(
        self,
        images: Tensor,
        resolution: int,
        alpha: float,
        *,
        batches: int = 1,
        group: int | None = None,
        labels: Tensor | None = None,
    ) -> Tensor:
        """Return scores at `resolution`: that level with weight alpha and the halved images with 1 - alpha."""
        if images.shape[1:] != (3, resolution, resolution) or images.shape[0] % batches:
            raise ValueError(
                f"images of shape {tuple(images.shape)}: expected ({batches} N, 3, {resolution}, {resolution})"
            )
        skips = self.config.d_architecture == "skip"
        dtype = compute_dtype(self.level(4).out.weight)
        with torch.autocast(images.device.type, enabled=False):
            x = self.level(resolution).enter(images, dtype)
            for r in reversed([r for r in self.config.levels if r < resolution]):
                x = self.level(2 * r).shrink(x)
                if skips:
                    images = reduce(images)
                    x = x + self.level(r).enter(images, dtype)
                elif 2 * r == resolution and alpha < 1.0:
                    x = torch.lerp(x, self.level(r).enter(down2(images), dtype), 1.0 - alpha)
            group = group or stddev_group(len(images) // batches, self.config.stddev_group)
            out = self.level(4).finish(x, group, batches)
            if labels is None or not self.config.classes:
                return out[:, 0]
            of_class = self.mapping(self.embed(labels.to(out)))  # (batches N, maps)
            return (out * of_class).sum(dim=1) / math.sqrt(out.shape[1])
