"""Generator and discriminator of the progressive GAN (Karras et al. 2018, section 2, appendix A, table 2).

A network holds all levels; `lod` says which of them work: 0 is the full resolution, 1 half of it, 1.25 a quarter of
the way from half of it back to a fourth. Images are (N, 3, r, r) in -1..1 with r = resolution / 2^floor(lod), their
level's own size. Parameters are called `levels.<r>.<layer>.<weight|bias>`.

Under `torch.autocast` convolutions run in the type that it names; latents' norm, statistics and the last dense layer
in float32. `module.double()` computes everything in float64.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from pggan.config.level import Level
from pggan.config.settings import NetworkConfig
from pggan.config.style import StyleConfig
from pggan.model.convolution import leaky_relu_
from pggan.model.layers import (
    DISCRIMINATION_KERNELS,
    LEAKY_SLOPE,
    BatchNorm,
    LayerNorm,
    MinibatchDiscrimination,
    PixelNorm,
    Resample,
    ScaledConv,
    ScaledDense,
    minibatch_stddev,
    stddev_group,
    to_float32,
)

NOISE_MEMORY = 0.9  # of the running mean of fake scores that drives the discriminator's noise
NOISE_ONSET = 0.5


def compute_dtype(parameter: Tensor) -> torch.dtype:
    """Return the type of activations: autocast's where it is on, else the parameters' own."""
    kind = parameter.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else parameter.dtype


def up2(x: Tensor) -> Tensor:
    """Upsample by 2, nearest neighbour."""
    return functional.interpolate(x, scale_factor=2.0, mode="nearest")


def down2(x: Tensor) -> Tensor:
    """Return the average of 2 x 2 pixels."""
    return functional.avg_pool2d(x, 2)


class Network(nn.Module):
    """A network that holds all levels, `levels.<r>`, and works at some of them."""

    config: NetworkConfig | StyleConfig
    levels: nn.ModuleDict

    def level(self, resolution: int) -> nn.Module:
        """Return the layers of the level of `resolution` pixels."""
        return self.levels[str(resolution)]

    def uses(self, name: str, at: Level) -> bool:
        """Return whether the parameter `name` takes part at that level."""
        size = level_of(name)
        if size is None:
            return True
        fades_out = size * 2 == at.resolution and at.below > 0
        if name.split(".")[2] in ("to_rgb", "from_rgb", "norm_rgb"):
            return size == at.resolution or fades_out
        return size <= at.resolution


def level_of(name: str) -> int | None:
    """Return the resolution of the level that the parameter `name` belongs to, None for those of no level."""
    return int(name.split(".")[1]) if name.startswith("levels.") else None


class GeneratorLevel(nn.Module):
    """Two convolutions with activations and norms, and the level's toRGB; at 4 x 4 the first one is a dense layer."""

    def __init__(self, config: NetworkConfig, resolution: int) -> None:
        super().__init__()
        maps = config.fmaps(resolution)
        bias = config.g_norm != "batch"  # batch norm brings its own
        self.slope = LEAKY_SLOPE if config.g_activation == "leaky_relu" else 0.0
        self.first = resolution == 4
        if self.first:
            features = config.latent_size + config.classes
            # sqrt(2) / 4 instead of sqrt(2): matches the original network's scaling of this layer
            biases = maps if config.g_first_bias == "map" else None
            self.dense = ScaledDense(
                features, maps * 16, gain=math.sqrt(2) / 4, weights=config.weights, bias=bias, biases=biases
            )
            self.conv = ScaledConv(maps, maps, 3, weights=config.weights, bias=bias)
        else:
            below = config.fmaps(resolution // 2)
            self.conv0 = ScaledConv(below, maps, 3, weights=config.weights, bias=bias, resample="up")
            self.conv1 = ScaledConv(maps, maps, 3, weights=config.weights, bias=bias)
        self.norm0 = self._norm(config, maps)
        self.norm1 = self._norm(config, maps)
        self.batch_norm = config.g_norm == "batch"
        self.to_rgb = ScaledConv(maps, 3, 1, gain=1.0, weights=config.weights)

    @staticmethod
    def _norm(config: NetworkConfig, maps: int) -> nn.Module | None:
        return {"pixel": PixelNorm(config.pixel_norm), "batch": BatchNorm(maps), "none": None}[config.g_norm]

    def _finish(self, x: Tensor, norm: nn.Module | None) -> Tensor:
        """Apply activation and norm: batch norm before the activation, pixel norm after it."""
        if norm is None:
            return leaky_relu_(x, self.slope)
        return leaky_relu_(norm(x), self.slope) if self.batch_norm else norm(leaky_relu_(x, self.slope))

    def forward(self, x: Tensor) -> Tensor:
        """(N, features) or the level below's activations (N, C, r/2, r/2) -> (N, maps, r, r)."""
        if self.first:
            x = self.dense(x).unflatten(1, (-1, 4, 4))  # output index = map * 16 + row * 4 + column
            if self.dense.bias is not None and not self.dense.adds_bias:
                x = x + self.dense.bias.to(x.dtype).view(1, -1, 1, 1)
            x = x.contiguous(memory_format=torch.channels_last)
            x = self._finish(x, self.norm0)
            return self._finish(self.conv(x), self.norm1)
        return self._finish(self.conv1(self._finish(self.conv0(x), self.norm0)), self.norm1)


class Generator(Network):
    """Latents -> images."""

    config: NetworkConfig

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.normalize = PixelNorm(config.pixel_norm, latents=True)
        self.levels = nn.ModuleDict({str(r): GeneratorLevel(config, r) for r in config.levels})

    def level(self, resolution: int) -> GeneratorLevel:
        """Return the layers of the level of `resolution` pixels."""
        level = self.levels[str(resolution)]
        assert isinstance(level, GeneratorLevel)
        return level

    def forward(self, latents: Tensor, labels: Tensor | None = None, lod: float = 0.0) -> Tensor:
        """Return images of the level of `lod`.

        Args:
            latents: (N, latent_size), standard normal.
            labels: (N, classes), one-hot; None where there are no classes.
            lod: 0..log2(resolution / 4).

        Returns:
            (N, 3, r, r), float32 (float64 for a network of doubles).
        """
        level = Level(self.config.resolution, lod)
        return self.at_level(latents, labels, level.resolution, level.alpha)

    def at_level(self, latents: Tensor, labels: Tensor | None, resolution: int, alpha: float) -> Tensor:
        """Return images of `resolution`: that level with weight alpha and the enlarged one below with 1 - alpha."""
        parameter = self.level(4).to_rgb.weight
        dtype = compute_dtype(parameter)
        with torch.autocast(parameter.device.type, enabled=False):
            x = self._inputs(latents.to(parameter.dtype), labels).to(dtype)
            below: Tensor | None = None
            for level in self.config.levels:
                x = self.level(level)(x)
                if level == resolution:
                    break
                if level * 2 == resolution and alpha < 1.0:
                    below = to_float32(self.level(level).to_rgb(x))
            images = to_float32(self.level(resolution).to_rgb(x))
            if below is not None:
                images = torch.lerp(images, up2(below), 1.0 - alpha)
            return torch.tanh(images) if self.config.g_tanh else images

    def _inputs(self, latents: Tensor, labels: Tensor | None) -> Tensor:
        """Return latents and labels, normalized: (N, latent_size + classes)."""
        config = self.config
        expected = (latents.shape[0], config.classes)
        if config.classes and (labels is None or labels.shape != expected):
            raise ValueError(f"labels of shape {expected} are needed, found {None if labels is None else labels.shape}")
        parts = [latents]
        if config.classes and labels is not None:
            parts.append(labels.to(latents))
        if not config.normalize_latents:
            return torch.cat(parts, dim=1)
        if config.label_join == "before":
            return self.normalize(torch.cat(parts, dim=1))
        return torch.cat([self.normalize(latents), *parts[1:]], dim=1)


class DiscriminatorLevel(nn.Module):
    """fromRGB and the level's layers; at 4 x 4 statistics of the minibatch, a convolution and two dense layers."""

    def __init__(self, config: NetworkConfig, resolution: int) -> None:
        super().__init__()
        maps = config.fmaps(resolution)
        below = config.fmaps_of_stage(0) if resolution == 4 else config.fmaps(resolution // 2)
        bias = config.d_norm != "layer"  # layer norm brings its own

        def norm(channels: int) -> LayerNorm | None:
            return LayerNorm(channels) if config.d_norm == "layer" else None

        self.noise_factor = config.d_noise
        self.averages_late = config.down_step == "unfused"
        self.statistics = config.d_statistics
        self.from_rgb = ScaledConv(3, maps, 1, weights=config.weights, bias=bias)
        self.norm_rgb, self.norm0, self.norm1 = norm(maps), norm(maps), norm(below)
        if resolution == 4:
            extra = 1 if config.d_statistics == "stddev" else 0
            features = below + (DISCRIMINATION_KERNELS if config.d_statistics == "discrimination" else 0)
            self.conv = ScaledConv(maps + extra, maps, 3, weights=config.weights, bias=bias)
            self.dense0 = ScaledDense(maps * 16, below, weights=config.weights, bias=bias)
            if config.d_statistics == "discrimination":
                self.discrimination = MinibatchDiscrimination(below)
            self.dense1 = ScaledDense(features, 1 + config.classes, gain=1.0, weights=config.weights)
        else:
            self.conv0 = ScaledConv(maps, maps, 3, weights=config.weights, bias=bias)
            down: Resample = None if self.averages_late else "down"
            self.conv1 = ScaledConv(maps, below, 3, weights=config.weights, bias=bias, resample=down)

    @staticmethod
    def _finish(x: Tensor, norm: LayerNorm | None) -> Tensor:
        return leaky_relu_(x if norm is None else norm(x), LEAKY_SLOPE)

    def enter(self, images: Tensor, dtype: torch.dtype) -> Tensor:
        """(N, 3, r, r) -> (N, maps, r, r)."""
        x = images.to(dtype).contiguous(memory_format=torch.channels_last)
        return self._finish(self.from_rgb(x), self.norm_rgb)

    def shrink(self, x: Tensor, strength: Tensor) -> Tensor:
        """(N, maps, r, r) -> (N, maps below, r/2, r/2)."""
        x = self._finish(self.conv0(self._noisy(x, strength)), self.norm0)
        x = self._finish(self.conv1(self._noisy(x, strength)), self.norm1)
        return down2(x) if self.averages_late else x

    def hidden(self, x: Tensor, group: int, batches: int, strength: Tensor) -> Tensor:
        """(N, maps, 4, 4) -> features (N, nf(0)) before minibatch discrimination and the last dense layer."""
        if self.statistics == "stddev":
            x = minibatch_stddev(x, group, batches).contiguous(memory_format=torch.channels_last)
        x = self._finish(self.conv(self._noisy(x, strength)), self.norm0)
        return self._finish(self.dense0(self._noisy(x, strength)), self.norm1)

    def finish(self, x: Tensor, batches: int) -> Tensor:
        """Features (N, nf(0)) -> (N, 1 + classes), in float32: scores need more than 8 bits."""
        if self.statistics == "discrimination":
            x = self.discrimination(x, batches)
        return self.dense1(to_float32(x))

    def _noisy(self, x: Tensor, strength: Tensor) -> Tensor:
        """x (1 + strength sqrt(C) n), n ~ N(0, 1) per sample and channel (appendix B), while training."""
        if not (self.noise_factor and self.training):
            return x
        noise = torch.randn(*x.shape[:2], 1, 1, device=x.device, dtype=x.dtype)
        return x * (1.0 + strength.to(x.dtype) * math.sqrt(x.shape[1]) * noise)


class Discriminator(Network):
    """Images -> scores, and the logits of their classes."""

    config: NetworkConfig
    noise_average: Tensor
    noise_strength: Tensor

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.levels = nn.ModuleDict({str(r): DiscriminatorLevel(config, r) for r in config.levels})
        if config.d_noise:  # state of the adaptive noise: it belongs into checkpoints
            self.register_buffer("noise_average", torch.zeros(()))
            self.register_buffer("noise_strength", torch.zeros(()))

    def level(self, resolution: int) -> DiscriminatorLevel:
        """Return the layers of the level of `resolution` pixels."""
        level = self.levels[str(resolution)]
        assert isinstance(level, DiscriminatorLevel)
        return level

    def forward(
        self, images: Tensor, lod: float = 0.0, *, batches: int = 1, group: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return scores and logits of images at the level of `lod`.

        Args:
            images: (batches N, 3, r, r); the batches lie one after the other and know nothing of each other.
            lod: 0..log2(resolution / 4).
            batches: so many independent batches share this pass, for instance reals and fakes.
            group: samples per stddev group; None: the largest number up to the configured one that divides N.

        Returns:
            (scores (batches N,), logits (batches N, classes)), float32 (float64 for a network of doubles).
        """
        level = Level(self.config.resolution, lod)
        return self.at_level(images, level.resolution, level.alpha, batches=batches, group=group)

    def at_level(
        self, images: Tensor, resolution: int, alpha: float, *, batches: int = 1, group: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Run `forward` at `resolution`: that level with weight alpha and the halved images with 1 - alpha."""
        features = self.features(images, resolution, alpha, batches=batches, group=group)
        with torch.autocast(images.device.type, enabled=False):
            out = self.level(4).finish(features, batches)
            return out[:, 0], out[:, 1:]

    def features(
        self, images: Tensor, resolution: int, alpha: float, *, batches: int = 1, group: int | None = None
    ) -> Tensor:
        """Return activations before minibatch discrimination and the last dense layer, (batches N, nf(0))."""
        if images.shape[1:] != (3, resolution, resolution) or images.shape[0] % batches:
            raise ValueError(
                f"images of shape {tuple(images.shape)}: expected ({batches} N, 3, {resolution}, {resolution})"
            )
        last = self.level(4)
        dtype = compute_dtype(last.dense1.weight)
        strength = self.noise_strength if self.config.d_noise else images.new_zeros(())
        with torch.autocast(images.device.type, enabled=False):
            level = self.level(resolution)
            x = level.enter(images, dtype)
            if resolution > 4:
                x = level.shrink(x, strength)
                if alpha < 1.0:
                    old = self.level(resolution // 2).enter(down2(images), dtype)
                    x = torch.lerp(x, old, 1.0 - alpha)
            for r in reversed([r for r in self.config.levels if 4 < r < resolution]):
                x = self.level(r).shrink(x, strength)
            group = group or stddev_group(images.shape[0] // batches, self.config.stddev_group)
            return last.hidden(x, group, batches, strength)

    @property
    def needs_initial_images(self) -> bool:
        """Return whether `initialise` must see reals before training: minibatch discrimination starts from data."""
        return self.config.d_statistics == "discrimination" and not bool(self.level(4).discrimination.initialised)

    @torch.no_grad()
    def initialise(self, reals: Tensor, lod: float) -> None:
        """Initialise minibatch discrimination from reals (500 in the paper's row e*) at the level of `lod`."""
        level = Level(self.config.resolution, lod)
        features = self.features(reals, level.resolution, level.alpha)
        self.level(4).discrimination.initialise(features)

    @torch.no_grad()
    def update_noise(self, mean_fake_score: Tensor) -> None:
        """Update the noise after a minibatch: it grows when fakes pass for reals (appendix B).

        `mean_fake_score` is the mean over the whole minibatch, of all devices.
        """
        if self.config.d_noise:
            clipped = mean_fake_score.to(self.noise_average).clamp(0.0, 1.0)
            self.noise_average.lerp_(clipped, 1.0 - NOISE_MEMORY)
            excess = (self.noise_average - NOISE_ONSET).clamp(min=0.0)
            self.noise_strength.copy_(self.config.d_noise * excess.square())


def used_parameters(network: Network, lod: float, frozen: int = 0) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield (name, parameter) of the layers used at `lod`, in a fixed order; the others get no gradient.

    `frozen`: so many levels are left out, of the network's largest ones.
    """
    at = Level(network.config.resolution, lod)
    for name, parameter in network.named_parameters():
        if network.uses(name, at) and (level_of(name) or 0) <= at.full >> frozen:
            yield name, parameter


def require_gradients(network: Network, lod: float | None, frozen: int = 0) -> None:
    """Let only the parameters used at `lod` take gradients, without `frozen` levels; None: no parameter does."""
    wanted = {name for name, _ in used_parameters(network, lod, frozen)} if lod is not None else set()
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name in wanted)


@torch.no_grad()
def update_ema(ema: Network, generator: Network, decay: float) -> None:
    """Move the EMA: ema += (1 - decay) (generator - ema), at every level; running statistics are copied."""
    torch._foreach_lerp_(list(ema.parameters()), list(generator.parameters()), 1.0 - decay)
    for target, source in zip(ema.buffers(), generator.buffers(), strict=True):
        target.copy_(source)
