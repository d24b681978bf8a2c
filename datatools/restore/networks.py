"""The two restoration networks of the published pipeline, and the critic that trains one of them.

Sources: X.-J. Mao, C. Shen, Y.-B. Yang, "Image Restoration Using Very Deep Convolutional Encoder-Decoder Networks
with Symmetric Skip Connections", NIPS 2016; C. Ledig et al., "Photo-Realistic Single Image Super-Resolution Using a
Generative Adversarial Network", CVPR 2017. Appendix C of the progressive GAN's paper says that such networks were
used; they were never published.

Pictures are (n, 3, h, w) floats, 0..1. There is no normalization over a whole picture: a part gives the same result as
the whole in all pixels that lie `reach` or more away from where it was cut, if it was cut at multiples of `grid`. With
`margin` instead, which is less for deep networks, it differs by less than a tenth of a level.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from datatools.restore.consistency import REACH, keep_small_picture

Orientations = Literal[1, 2, 4]

MIDDLE = 0.5
"""Subtracted before the first layer: with inputs that are never negative, whole layers of ReLUs die early."""


def _conv(inputs: int, outputs: int, *, stride: int = 1, gain: float = 1.0) -> nn.Conv2d:
    layer = nn.Conv2d(inputs, outputs, 3, stride, 1)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    with torch.no_grad():
        layer.weight.mul_(gain)
    return layer


def average_orientations(restore: Callable[[Tensor], Tensor], pictures: Tensor, count: int) -> Tensor:
    """Return the mean result for the picture in `count` orientations: 1, 2 (upright, upside down) or 4.

    Errors that a network makes in only one orientation cancel (R. Timofte et al., "Seven ways to improve example-based
    single image super resolution", CVPR 2016).
    """
    total: Tensor | int = 0
    for quarter in range(0, 4, 4 // count):
        picture = torch.rot90(pictures, quarter, (2, 3)).contiguous(memory_format=torch.channels_last)
        total = total + torch.rot90(restore(picture), -quarter, (2, 3))
    assert isinstance(total, Tensor)
    return total / count


def _check_self_ensemble(count: Orientations) -> Orientations:
    """Return the number of orientations. Raise ValueError for one that `average_orientations` cannot use."""
    if type(count) is not int or count not in (1, 2, 4):  # 2.0, as JSON may hold it, would fail only when it is used
        raise ValueError(f"a picture can be turned into 1, 2 or 4 orientations, not {count!r}")
    return count


class PictureNetwork(nn.Module):
    """Maps (n, 3, h, w), 0..1, h and w multiples of `grid`, to (n, 3, h * scale, w * scale), which may leave 0..1.

    An output pixel depends on no input pixel further than `margin` away, or so little that no result shows it.
    """

    scale: int
    margin: int
    grid: int
    self_ensemble: Orientations = 1


class ResidualBlock(nn.Module):
    """x + SHARE * conv(relu(conv(x))), without batch normalization, which would tie a pixel to its minibatch.

    The small share keeps deep stacks stable under steps of one size for all kernels (B. Lim et al., "Enhanced deep
    residual networks for single image super-resolution", 2017).
    """

    SHARE = 0.1

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _conv(channels, channels)
        self.second = _conv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.second(functional.relu(self.first(x)))
        return torch.add(x, change, alpha=self.SHARE)


class ArtifactRemover(PictureNetwork):
    """Encoder-decoder with symmetric skips (Mao et al. 2016), which predicts what JPEG changed. The size is kept.

    Blocks of 2 x 2 pixels become channels, a strided convolution halves once more, and a transposed one leads back;
    each step up receives the features of its own size from the way down. There is no layer at full size, where a CPU
    would spend its time on moving features rather than on multiplying them.
    """

    scale = 1
    grid = 8
    MARGIN: ClassVar[int] = 48
    """Largest margin. Of the 96 pixels that the bundled network reaches, those beyond 48 changed results by 0.04 levels
    at most, those beyond 40 by 0.23 (photos, noise, JPEG of quality 10): the outer part of a receptive field counts
    little (W. Luo et al., "Understanding the effective receptive field in deep convolutional neural networks", 2016).
    """

    def __init__(
        self,
        channels: tuple[int, int] = (64, 96),
        blocks: tuple[int, int] = (4, 6),
        self_ensemble: Orientations = 1,
    ) -> None:
        """Set `channels` and residual `blocks` at half size (as many again on the way up) and at a quarter.

        In evaluation the result is the mean over `self_ensemble` orientations of the picture.
        """
        super().__init__()
        self.settings = {"channels": list(channels), "blocks": list(blocks), "self_ensemble": self_ensemble}
        self.self_ensemble = _check_self_ensemble(self_ensemble)
        self.strength = 1.0
        """Share of the change that is made: with the whole change, a photo loses some of its own grain."""
        self.reach = 4 * (2 * blocks[1] + 2) + 2 * (4 * blocks[0] + 4)
        self.margin = min(self.reach, self.MARGIN)
        half, quarter = channels
        self.entry = _conv(3 * 4 + 4, half)
        self.down = nn.Sequential(*[ResidualBlock(half) for _ in range(blocks[0])])
        self.to_quarter = _conv(half, quarter, stride=2)
        self.middle = nn.Sequential(*[ResidualBlock(quarter) for _ in range(blocks[1])])
        self.from_quarter = nn.ConvTranspose2d(quarter, half, 4, 2, 1)
        self.up = nn.Sequential(*[ResidualBlock(half) for _ in range(blocks[0])])
        self.exit = _conv(half, 3 * 4, gain=0.1)

    def forward(self, pictures: Tensor) -> Tensor:
        """Map (n, 3, h, w), h and w multiples of 8, to the same shape, unclipped. JPEG's blocks start at the corner."""
        restored = average_orientations(self._restore, pictures, 1 if self.training else self.self_ensemble)
        return restored if self.strength == 1 else torch.lerp(pictures, restored, self.strength)

    def _restore(self, pictures: Tensor) -> Tensor:
        with torch.autocast(pictures.device.type, enabled=False):
            # in bfloat16 the picture would lose its last bits, and with them what JPEG of high quality changed
            first = self.entry(torch.cat([functional.pixel_unshuffle(pictures - MIDDLE, 2), _places(pictures)], dim=1))
        half = self.down(first)
        x = self.from_quarter(self.middle(self.to_quarter(half)))
        x = self.up(x + half)
        change = functional.pixel_shuffle(self.exit(x), 2)
        return pictures + change.to(pictures.dtype)


def _places(pictures: Tensor) -> Tensor:
    """Return the places of 2 x 2 pixels in JPEG's blocks of 8 x 8 as points on two circles, (n, 4, h / 2, w / 2)."""
    n, _, height, width = pictures.shape
    rows, columns = (
        torch.arange(size // 2, device=pictures.device, dtype=pictures.dtype) * (torch.pi / 2)
        for size in (height, width)
    )
    waves = [wave[:, None].expand(-1, width // 2) for wave in (rows.cos(), rows.sin())]
    waves += [wave[None, :].expand(height // 2, -1) for wave in (columns.cos(), columns.sin())]
    return torch.stack(waves).expand(n, -1, -1, -1)


class SuperResolver(PictureNetwork):
    """Residual network at the small size, then a pixel shuffle by 4 (Ledig et al. 2016, without their normalization).

    The network predicts what bilinear enlargement lacks. With `texture` it also adds grain, see `Texture`.
    """

    scale = 4
    MARGIN: ClassVar[int] = 16
    """Largest margin, as that of `ArtifactRemover`: of the 37 pixels that the bundled network reaches, those beyond 16
    changed results by 0.001 levels at most, those beyond 12 by 0.06."""

    def __init__(self, channels: int = 64, blocks: int = 12, texture: int = 0, self_ensemble: Orientations = 1) -> None:
        """Set `channels` and residual `blocks`, and the channels of the layers that make grain (`texture`, 0: none).

        In evaluation the result is the mean over `self_ensemble` orientations of the picture, and reduces to it again.
        """
        super().__init__()
        self.settings = {"channels": channels, "blocks": blocks, "texture": texture, "self_ensemble": self_ensemble}
        self.self_ensemble = _check_self_ensemble(self_ensemble)
        self.reach = 2 * blocks + 3 + REACH
        self.grid = 1
        self.entry = _conv(3, channels)
        self.body = nn.Sequential(*[ResidualBlock(channels) for _ in range(blocks)])
        self.after = _conv(channels, channels)
        self.exit = _conv(channels, 3 * self.scale**2, gain=0.1)
        self.texture: Texture | None = None
        if texture:
            self.texture = Texture(channels, texture, self.scale)
            self.reach += Texture.REACH
            self.grid = Texture.PERIOD
        self.margin = min(self.reach, self.MARGIN)

    def forward(self, pictures: Tensor) -> Tensor:
        """Map (n, 3, h, w) to (n, 3, 4 h, 4 w), not clipped. The corner is at a multiple of `grid` in the photo."""
        if self.training:
            return average_orientations(self._restore, pictures, 1)
        enlarged = average_orientations(self._restore, pictures, self.self_ensemble)
        return keep_small_picture(enlarged, pictures, self.scale)

    def _restore(self, pictures: Tensor) -> Tensor:
        x = self.entry(pictures - MIDDLE)
        x = self.after(self.body(x)) + x
        change = functional.pixel_shuffle(self.exit(x), self.scale)
        plain = functional.interpolate(pictures, scale_factor=self.scale, mode="bilinear", align_corners=False)
        enlarged = plain + change.to(pictures.dtype)
        if self.texture is None:
            return enlarged
        return enlarged + self.texture(x, enlarged)


class Texture(nn.Module):
    """Adds what the small picture does not contain: grain, pores, hair, made from white noise by a few convolutions.

    A network without noise has to make texture out of the input's own pixels, and repeats itself with the pixel
    shuffle's grid. The noise is part of the weights, lies fixed on the photo's pixels and repeats every `PERIOD` pixels
    of the input: parts of a photo get the same grain as the whole. In training it is drawn anew for each step.
    """

    PERIOD: ClassVar[int] = 64
    REACH: ClassVar[int] = 4
    """Pixels of the input by which it enlarges the receptive field: three convolutions and the bicubic enlargement's
    two, instead of the last convolution's one."""
    NOISE: ClassVar[int] = 4
    """Channels of noise, at either size."""

    def __init__(self, features: int, channels: int, scale: int) -> None:
        super().__init__()
        self.scale = scale
        generator = torch.Generator().manual_seed(0)
        self.noise: Tensor
        self.small_noise: Tensor
        for name, side in (("noise", self.PERIOD * scale), ("small_noise", self.PERIOD)):
            self.register_buffer(name, torch.randn(1, self.NOISE, side, side, generator=generator))
        self.control = _conv(features, channels)
        self.small = _conv(channels + self.NOISE, channels)
        self.small_exit = _conv(channels, 3, gain=0.03)
        self.first = _conv(channels + self.NOISE + 3, channels)
        self.second = _conv(channels, channels)
        self.exit = _conv(channels, 3, gain=0.03)

    def forward(self, features: Tensor, enlarged: Tensor) -> Tensor:
        """Map (n, features, h, w) and (n, 3, h * scale, w * scale) to the texture to add to the latter."""
        control = functional.leaky_relu(self.control(features), 0.2)
        small = torch.cat([control, self._placed(self.small_noise, control)], dim=1)
        small = self.small_exit(functional.leaky_relu(self.small(small), 0.2)).float()
        # enlarged smoothly: this module exists to avoid the patterns of a pixel shuffle
        coarse = functional.interpolate(small, scale_factor=self.scale, mode="bicubic", align_corners=False)
        control = functional.interpolate(control, scale_factor=self.scale, mode="bilinear", align_corners=False)
        x = torch.cat([control, self._placed(self.noise, control), (enlarged - MIDDLE).to(control.dtype)], dim=1)
        x = functional.leaky_relu(self.second(functional.leaky_relu(self.first(x), 0.2)), 0.2)
        fine: Tensor = self.exit(x)
        return coarse + fine.float()

    def scale_by(self, strength: float) -> None:
        """Multiply the texture by a factor."""
        with torch.no_grad():
            for layer in (self.small_exit, self.exit):
                layer.weight.mul_(strength)
                layer.bias.mul_(strength)  # type: ignore[union-attr]

    def _placed(self, noise: Tensor, like: Tensor) -> Tensor:
        """Return (n, NOISE, h, w) noise of the size of `like`."""
        n, _, height, width = like.shape
        if self.training:
            return torch.randn(n, self.NOISE, height, width, device=like.device).to(like.dtype)
        side = noise.shape[2]
        repeats = (-(-height // side), -(-width // side))
        return noise.repeat(1, 1, *repeats)[:, :, :height, :width].expand(n, -1, -1, -1).to(like.dtype)


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
        """Map (n, 3, h, w), h and w at least 16, to (n, 1, h / 16, w / 16) scores."""
        scores = pictures * 2 - 1
        for layer in self.layers:
            if isinstance(layer, nn.Conv2d):
                with torch.autocast(scores.device.type, enabled=False):  # its power iteration needs float32
                    weight = layer.weight
                scores = functional.conv2d(scores, weight, layer.bias, layer.stride, layer.padding)
            else:
                scores = layer(scores)
        return scores
