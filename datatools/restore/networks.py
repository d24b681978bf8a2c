"""The two restoration networks of the published pipeline, and the critic that trains one of them.

Sources: X.-J. Mao, C. Shen, Y.-B. Yang, "Image Restoration Using Very Deep Convolutional Encoder-Decoder Networks
with Symmetric Skip Connections", NIPS 2016; C. Ledig et al., "Photo-Realistic Single Image Super-Resolution Using a
Generative Adversarial Network", CVPR 2017. Appendix C of the progressive GAN's paper says that such networks were
used; they were never published.

Pictures are (n, 3, h, w) floats, 0..1. There is no normalization over a whole picture: a part gives the same result as
the whole in all pixels that lie `margin` or more away from where it was cut, if it was cut at multiples of `grid`.
"""

from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

MIDDLE = 0.5
"""Taken off before the first layer: with inputs that are never negative, whole layers of ReLUs die early on."""


def _conv(inputs: int, outputs: int, *, stride: int = 1, gain: float = 1.0) -> nn.Conv2d:
    layer = nn.Conv2d(inputs, outputs, 3, stride, 1)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    with torch.no_grad():
        layer.weight.mul_(gain)
    return layer


class ResidualBlock(nn.Module):
    """x + conv(relu(conv(x))) without batch normalization, which would tie a pixel to the rest of its minibatch."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _conv(channels, channels)
        self.second = _conv(channels, channels, gain=0.1)  # begins close to the identity, however many are stacked

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.second(functional.relu(self.first(x)))
        return x + change


class ArtifactRemover(nn.Module):
    """Encoder-decoder with symmetric skips (Mao et al. 2016), which predicts what JPEG changed. The size is kept.

    Blocks of 2 x 2 pixels become channels, a strided convolution halves once more, and a transposed one leads back;
    each step up receives the features of its own size from the way down. At full size there is no layer: there, a
    processor would spend its time on moving features rather than on multiplying them.
    """

    scale: ClassVar[int] = 1
    grid: ClassVar[int] = 4

    def __init__(self, channels: tuple[int, int] = (64, 96), blocks: tuple[int, int] = (2, 4)) -> None:
        """`channels` and residual `blocks` at half size (as many again on the way up) and at a quarter."""
        super().__init__()
        self.settings = {"channels": list(channels), "blocks": list(blocks)}
        self.margin = 4 * (2 * blocks[1] + 2) + 2 * (4 * blocks[0] + 4)
        half, quarter = channels
        self.entry = _conv(3 * 4, half)
        self.down = nn.Sequential(*[ResidualBlock(half) for _ in range(blocks[0])])
        self.to_quarter = _conv(half, quarter, stride=2)
        self.middle = nn.Sequential(*[ResidualBlock(quarter) for _ in range(blocks[1])])
        self.from_quarter = nn.ConvTranspose2d(quarter, half, 4, 2, 1)
        self.up = nn.Sequential(*[ResidualBlock(half) for _ in range(blocks[0])])
        self.exit = _conv(half, 3 * 4, gain=0.1)

    def forward(self, pictures: Tensor) -> Tensor:
        """(n, 3, h, w), h and w multiples of 4 -> the same shape, not clipped."""
        with torch.autocast(pictures.device.type, enabled=False):
            # in bfloat16 the picture would lose its last bits, and with them what JPEG of high quality changed
            first = self.entry(functional.pixel_unshuffle(pictures - MIDDLE, 2))
        half = self.down(first)
        x = self.from_quarter(self.middle(self.to_quarter(half)))
        x = self.up(x + half)
        change = functional.pixel_shuffle(self.exit(x), 2)
        return pictures + change.to(pictures.dtype)


class SuperResolver(nn.Module):
    """Residual network at the small size, then a pixel shuffle by 4 (Ledig et al. 2016, without their normalization).

    The network predicts what bilinear enlargement lacks.
    """

    scale: ClassVar[int] = 4
    grid: ClassVar[int] = 1

    def __init__(self, channels: int = 64, blocks: int = 8) -> None:
        super().__init__()
        self.settings = {"channels": channels, "blocks": blocks}
        self.margin = 2 * blocks + 3
        self.entry = _conv(3, channels)
        self.body = nn.Sequential(*[ResidualBlock(channels) for _ in range(blocks)])
        self.after = _conv(channels, channels)
        self.exit = _conv(channels, 3 * self.scale**2, gain=0.1)

    def forward(self, pictures: Tensor) -> Tensor:
        """(n, 3, h, w) -> (n, 3, 4 h, 4 w), not clipped."""
        x = self.entry(pictures - MIDDLE)
        x = self.after(self.body(x)) + x
        change = functional.pixel_shuffle(self.exit(x), self.scale)
        plain = functional.interpolate(pictures, scale_factor=self.scale, mode="bilinear", align_corners=False)
        return plain + change.to(pictures.dtype)


class Critic(nn.Module):
    """Scores how much every part of a picture looks like a photograph (after Ledig et al. 2016; a score per part)."""

    def __init__(self, channels: int = 32) -> None:
        super().__init__()
        widths = [3, channels, channels * 2, channels * 2, channels * 4]
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            layers += [
                nn.utils.parametrizations.spectral_norm(nn.Conv2d(inputs, outputs, 4, 2, 1)),
                nn.LeakyReLU(0.2),
            ]
        layers.append(nn.utils.parametrizations.spectral_norm(nn.Conv2d(widths[-1], 1, 3, 1, 1)))
        self.layers = nn.Sequential(*layers)

    def forward(self, pictures: Tensor) -> Tensor:
        """(n, 3, h, w), h and w at least 16 -> (n, 1, h / 16, w / 16) scores."""
        scores: Tensor = self.layers(pictures * 2 - 1)
        return scores
