"""Generators of StyleGAN (configuration A) and StyleGAN2 (B to F, table 2): latents -> w -> images.

The mapping network makes a w of each latent vector; every level takes two, at numbered *places*: 0 and 1 at 4 x 4, 2
and 3 at 8 x 8, and so on. At its place a w makes the style of a layer; StyleGAN2's toRGB takes that of the place after
its level's last layer, which the next level's first layer uses, too. `lod` is that of `pggan.model.networks`, for
generators that grow; images are (N, 3, r, r) of their level's own size.

Under `torch.autocast` convolutions run in the type that it names; mapping, styles and images in float32.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from pggan.config.level import Level
from pggan.config.style import StyleConfig
from pggan.model.filters import enlarge
from pggan.model.layers import ScaledConv, to_float32
from pggan.model.networks import Network, compute_dtype, up2
from pggan.model.style_layers import (
    SQRT2,
    AdaptiveConv,
    AdaptiveInput,
    Mapping,
    NoisyLayer,
    StyledConv,
    StyledRgb,
    check_labels,
    embedding,
)

W_AVERAGE_DECAY = 0.995

Noise = Literal["fresh", "fixed", "none"] | Sequence[Tensor]
"""Noise maps: drawn anew for each sample by torch's own generator, those stored with the weights, no noise, or given
ones in the order of `StyleGenerator.noise_sides`, (N or 1, 1, r, r) each."""


@dataclass(frozen=True)
class Look:
    """How a generator in evaluation mode makes pictures; see `StyleGenerator.forward`."""

    noise: Noise = "fixed"
    psi: float = 1.0
    cutoff: int | None = None


NoiseOf = Callable[[NoisyLayer], Tensor | None]


def seeded_noise(
    sides: Sequence[int], seeds: Iterable[int], device: torch.device, more: int = 0
) -> tuple[list[Tensor], Tensor]:
    """Return noise maps of N samples, (N, 1, r, r) for each of `sides`, and so many further normal values, (N, more).

    Those of a sample depend on its seed alone (0 to 2^63 - 1), and on the kind of device.
    """
    seeds, sizes = list(seeds), [side**2 for side in sides]
    values = torch.empty(len(seeds), sum(sizes) + more, device=device)
    dice = torch.Generator(device)
    for row, seed in zip(values, seeds, strict=True):
        row.normal_(generator=dice.manual_seed(seed))
    *maps, rest = values.split([*sizes, more], dim=1)
    return [values.unflatten(1, (1, side, side)) for values, side in zip(maps, sides, strict=True)], rest


class StyleGeneratorLevel(nn.Module):
    """The layers of a level: two (one at 4 x 4 in StyleGAN2), a shortcut in residual networks, and toRGB if needed."""

    def __init__(self, config: StyleConfig, resolution: int) -> None:
        super().__init__()
        maps, size, kind = config.fmaps(resolution), config.latent_size, config.g_architecture
        self.place = config.places(resolution) - 2
        """The number of the level's first place."""
        self.adaptive = kind == "stylegan"
        self.residual = kind == "resnet" and resolution > 4
        layer = AdaptiveConv if self.adaptive else StyledConv
        if resolution == 4:
            self.const = nn.Parameter(torch.ones(maps, 4, 4) if self.adaptive else torch.randn(maps, 4, 4))
            if self.adaptive:
                self.input = AdaptiveInput(maps, size)
            self.conv1 = layer(maps, maps, 4, size)
        else:
            below = config.fmaps(resolution // 2)
            self.conv0 = layer(below, maps, resolution, size, resample="up")
            self.conv1 = layer(maps, maps, resolution, size)
            if self.residual:
                self.conv1.gain = 1.0  # the sum's 1 / sqrt(2), taken into both of its parts
                self.skip = ScaledConv(below, maps, 1, gain=1 / SQRT2, weights="equalized", bias=False)
        if config.growing or kind == "skip" or resolution == config.resolution:
            plain = self.adaptive
            self.to_rgb = ScaledConv(maps, 3, 1, gain=1.0, weights="equalized") if plain else StyledRgb(maps, size)

    def noisy_layers(self) -> list[NoisyLayer]:
        """Return the layers that add noise, in their order."""
        return [layer for layer in self.children() if isinstance(layer, NoisyLayer)]

    def forward(self, x: Tensor, ws: Tensor, noise_of: NoiseOf) -> Tensor:
        """The level below's activations, or at 4 x 4 `start`, and ws (N, places, W) -> (N, maps, r, r)."""
        y, layers = x, self.noisy_layers()
        # StyleGAN2 has one layer at 4 x 4, at place 0: each later level begins with the place that toRGB below took
        place = self.place if self.adaptive else max(self.place - 1, 0)
        for number, layer in enumerate(layers):
            y = layer(y, ws[:, place + number], noise_of(layer))
        return enlarge(self.skip(x)).add_(y) if self.residual else y

    def start(self, count: int, dtype: torch.dtype) -> Tensor:
        """Return the constant for each sample, (N, maps, 4, 4)."""
        const = self.const.to(dtype).expand(count, -1, -1, -1)
        return const.contiguous(memory_format=torch.channels_last)

    def rgb(self, x: Tensor, ws: Tensor) -> Tensor:
        """(N, maps, r, r), ws (N, places, W) -> the level's part of the image (N, 3, r, r), float32 at least."""
        return to_float32(self.to_rgb(x)) if self.adaptive else self.to_rgb(x, ws[:, self.place + 1])


class StyleGenerator(Network):
    """Latents -> images.

    Attributes:
        look: what evaluation mode does by default; training mode has fresh noise and no truncation.
    """

    config: StyleConfig
    w_average: Tensor

    def __init__(self, config: StyleConfig) -> None:
        super().__init__()
        self.config = config
        bias_gain = 1.0 if config.g_architecture == "stylegan" else SQRT2
        size, inputs = config.latent_size, config.latent_size
        if config.classes:
            self.embed = embedding(config.classes, size)
            inputs += size
        self.mapping = Mapping(inputs, size, config.mapping_layers, bias_gain)
        self.levels = nn.ModuleDict({str(r): StyleGeneratorLevel(config, r) for r in config.levels})
        self.register_buffer("w_average", torch.zeros(config.latent_size))
        self.look = Look()

    def _by_default(self) -> Look:
        return Look("fresh") if self.training else self.look

    def level(self, resolution: int) -> StyleGeneratorLevel:
        """Return the layers of the level of `resolution` pixels."""
        level = self.levels[str(resolution)]
        assert isinstance(level, StyleGeneratorLevel)
        return level

    def uses(self, name: str, at: Level) -> bool:
        """Return whether the parameter `name` takes part in images at that level."""
        return not self.config.growing or super().uses(name, at)

    def noise_sides(self, lod: float = 0.0) -> list[int]:
        """Return the side of each noise map that images of `lod` need, in the layers' order."""
        most = Level(self.config.resolution, lod).resolution
        return [r for r in self.config.levels if r <= most for _ in self.level(r).noisy_layers()]

    def forward(
        self,
        latents: Tensor,
        labels: Tensor | None = None,
        lod: float = 0.0,
        *,
        noise: Noise | None = None,
        psi: float | None = None,
        cutoff: int | None = None,
    ) -> Tensor:
        """Return images of the level of `lod`, (N, 3, r, r), float32 (float64 for a network of doubles).

        Args:
            latents: (N, latent_size), standard normal.
            labels: (N, classes) one-hot; None for networks without classes.
            psi, cutoff: truncation, see `truncate`; psi None: that of `look`, as its noise.
        """
        if psi is None:
            psi, cutoff = self._by_default().psi, self._by_default().cutoff
        ws = self.truncate(self.broadcast(self.map(latents, labels)), psi, cutoff)
        return self.synthesize(ws, lod, noise)

    def map(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return w (N, W) of latents (N, latent_size) and labels (N, classes), None without classes."""
        check_labels(labels, self.config.classes)
        with torch.autocast(latents.device.type, enabled=False):
            parts = [latents.to(self.w_average.dtype)]
            if labels is not None and self.config.classes:
                parts.append(self.embed(labels.to(parts[0])))
            return self.mapping(*parts)

    def broadcast(self, w: Tensor) -> Tensor:
        """Return w (N, W) for all places, (N, places, W)."""
        return w[:, None].expand(-1, self.config.places(self.config.resolution), -1)

    def truncate(self, ws: Tensor, psi: float, cutoff: int | None = None) -> Tensor:
        """Pull ws (N, places, W) towards the average of w, which psi 0 reaches and psi 1 ignores.

        `cutoff`: only at the first places, that many; None: at all.
        """
        if psi == 1.0:
            return ws
        truncated = torch.lerp(self.w_average.to(ws), ws, psi)
        return truncated if cutoff is None else torch.cat([truncated[:, :cutoff], ws[:, cutoff:]], dim=1)

    @torch.no_grad()
    def track(self, w: Tensor) -> None:
        """Move the average of w towards the mean of a batch w (N, W), taken before mixing."""
        self.w_average.lerp_(w.mean(dim=0).to(self.w_average), 1.0 - W_AVERAGE_DECAY)

    def synthesize(self, ws: Tensor, lod: float = 0.0, noise: Noise | None = None) -> Tensor:
        """Return images (N, 3, r, r) of ws (N, places, W) at the level of `lod`, float32 at least."""
        if lod and not self.config.growing:
            raise ValueError(f"lod {lod}: must be 0 for a network that does not grow")
        level = Level(self.config.resolution, lod)
        return self.at_level(ws, level.resolution, level.alpha, noise)

    def at_level(self, ws: Tensor, resolution: int, alpha: float, noise: Noise | None = None) -> Tensor:
        """Return images of `resolution`: that level with weight alpha and the enlarged one below with 1 - alpha."""
        parameter = self.level(4).const
        noise = self._by_default().noise if noise is None else noise
        noise_of, dtype = _noise_of(noise, ws.shape[0], parameter), compute_dtype(parameter)
        image: Tensor | None = None
        with torch.autocast(parameter.device.type, enabled=False):
            x = self.level(4).start(ws.shape[0], dtype)
            for r in (r for r in self.config.levels if r <= resolution):
                level = self.level(r)
                x = level(x, ws, noise_of)
                if self.config.g_architecture == "skip":
                    image = level.rgb(x, ws) if image is None else enlarge(image) + level.rgb(x, ws)
                elif r * 2 == resolution and alpha < 1.0:
                    image = up2(level.rgb(x, ws))
                elif r == resolution:
                    rgb = level.rgb(x, ws)
                    image = rgb if image is None else torch.lerp(rgb, image, 1.0 - alpha)
        assert image is not None
        return image


def _noise_of(noise: Noise, count: int, like: Tensor) -> NoiseOf:
    """Return what gives each layer its noise, in the type and on the device of `like`."""
    if noise == "none":
        return lambda _: None
    if noise == "fixed":
        return lambda layer: layer.noise[None, None]
    if noise == "fresh":
        return lambda layer: torch.randn(count, 1, *layer.noise.shape, dtype=like.dtype, device=like.device)
    maps = iter(noise)
    return lambda _: next(maps)


def mix_styles(first: Tensor, second: Tensor, place: int) -> Tensor:
    """Return ws that are `first` before that place and `second` from it on, all (N, places, W)."""
    return torch.cat([first[:, :place], second[:, place:]], dim=1)


def mixing_place(rng: np.random.Generator, probability: float, places: int) -> int | None:
    """Draw the place from which on a second w takes over: 1 .. places - 1, uniform; None: no mixing.

    `places`: those in use, `StyleConfig.places` of the level that works.
    """
    mixes, place = rng.random() < probability, int(rng.integers(1, places))
    return place if mixes else None
