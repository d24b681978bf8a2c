"""Find the w and noise maps of a picture by gradient descent (StyleGAN2: section 5, appendix D).

    mean w, random maps  ->  steps of Adam on distance + roughness of the maps  ->  w, maps, picture

One w serves all places. Noise on w, which ends after three quarters of the steps, keeps it out of narrow valleys. The
roughness keeps signal of the picture out of the noise maps.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pggan.metrics.distances import Distance
from pggan.model.files import Model
from pggan.model.style import StyleGenerator
from pggan.rng import normals

STEPS = 1000
RATE, RAMP_UP, RAMP_DOWN = 0.1, 0.05, 0.25
"""The learning rate, and the parts of the time in which it rises from 0 and falls to 0."""
BETAS, ADAM_EPS = (0.9, 0.999), 1e-8
W_NOISE, W_NOISE_UNTIL = 0.05, 0.75
"""Noise on w at the beginning, in deviations of w, and the part of the time until it ends."""
ROUGHNESS_WEIGHT = 1e5
COARSEST = 8
"""Noise maps are halved to so many pixels when their roughness is measured."""
SAMPLES, SAMPLES_SEED, AT_ONCE = 10_000, 123, 1000


@dataclass(frozen=True)
class Start:
    """Where projections begin: the mean w (W,), and the root of the mean squared distance of other ws to it."""

    mean: Tensor
    deviation: float

    @classmethod
    @torch.no_grad()
    def of(cls, model: Model, generator: StyleGenerator) -> "Start":
        """Map 10,000 latents, the same for each model of that latent size; of a model of classes, of random ones."""
        latents = np.random.RandomState(SAMPLES_SEED).randn(SAMPLES, generator.config.latent_size)
        labels, device = model.labels(None, range(SAMPLES)), generator.w_average.device
        found = []
        for start in range(0, SAMPLES, AT_ONCE):
            some = slice(start, start + AT_ONCE)
            z = torch.from_numpy(latents[some]).to(generator.w_average)
            found.append(generator.map(z, None if labels is None else labels[some].to(device)))
        w = torch.cat(found)
        mean = w.mean(dim=0)
        return cls(mean, float((w - mean).square().sum(dim=1).mean().sqrt()))


def rate_at(time: float) -> float:
    """Return the learning rate at 0..1 of the steps."""
    falling = min(1.0, (1.0 - time) / RAMP_DOWN)
    return RATE * min(1.0, time / RAMP_UP) * (0.5 - 0.5 * math.cos(math.pi * falling))


def w_noise_at(time: float, deviation: float) -> float:
    """Return the deviation of the noise on w at 0..1 of the steps."""
    return deviation * W_NOISE * max(0.0, 1.0 - time / W_NOISE_UNTIL) ** 2


def roughness(maps: Sequence[Tensor]) -> Tensor:
    """Return how far noise maps (N, 1, r, r) are from white noise, (N,).

    For each map, and its halves down to 8 x 8: the squared correlations with itself moved by a column and by a row.
    """
    total = torch.zeros(len(maps[0]), dtype=maps[0].dtype, device=maps[0].device)
    for values in maps:
        v = values
        while True:
            for axis in (2, 3):
                total = total + (v * v.roll(1, dims=axis)).mean(dim=(1, 2, 3)).square()
            if v.shape[-1] <= COARSEST:
                break
            v = functional.avg_pool2d(v, 2)
    return total


@torch.no_grad()
def whiten_(maps: Sequence[Tensor]) -> None:
    """Set each of the maps (N, 1, r, r), sample by sample, to mean 0 and variance 1."""
    for values in maps:
        values -= values.mean(dim=(1, 2, 3), keepdim=True)
        values *= values.square().mean(dim=(1, 2, 3), keepdim=True).rsqrt()


class Projection:
    """N pictures on their way, each as if it were alone.

    Args:
        targets: (N, 3, r, r), 0..255.
        maps: (1, 1, r, r) for each layer, to begin with; see `first_maps`.

    Attributes:
        w: (N, W). maps: (N, 1, r, r) for each layer.
    """

    def __init__(
        self,
        generator: StyleGenerator,
        lod: float,
        targets: Tensor,
        distance: Distance,
        start: Start,
        maps: Sequence[Tensor],
        steps: int = STEPS,
    ) -> None:
        self.generator, self.lod, self.distance, self.start, self.steps = generator, lod, distance, start, steps
        self.described = [part.detach() for part in distance.describe(targets)]
        count = len(targets)
        self.w = start.mean.repeat(count, 1).requires_grad_()
        self.maps = [values.to(start.mean).repeat(count, 1, 1, 1).requires_grad_() for values in maps]
        self.adam = torch.optim.Adam([self.w, *self.maps], betas=BETAS)
        self.done = 0

    def step(self, draw: Tensor) -> tuple[Tensor, Tensor]:
        """Take a step with the noise on w of the normal values `draw` (W,); return distances and losses, (N,) each.

        Both are of the picture before the step, with noise on w.
        """
        time = self.done / self.steps
        noisy = self.w + draw.to(self.w) * w_noise_at(time, self.start.deviation)
        distances = self._distances(self._synthesize(noisy))
        losses = distances + ROUGHNESS_WEIGHT * roughness(self.maps)
        group = self.adam.param_groups[0]
        group["lr"] = rate_at(time)
        # TensorFlow adds it to the root before the correction of its bias, PyTorch afterwards
        group["eps"] = ADAM_EPS / math.sqrt(1.0 - BETAS[1] ** (self.done + 1))
        self.adam.zero_grad()
        losses.sum().backward()
        self.adam.step()
        whiten_(self.maps)
        self.done += 1
        return distances.detach(), losses.detach()

    @torch.no_grad()
    def pictures(self) -> Tensor:
        """Return the pictures as they are, (N, 3, r, r) in -1..1."""
        return self._synthesize(self.w)

    @torch.no_grad()
    def distances(self) -> Tensor:
        """Return their distances to the targets, (N,)."""
        return self._distances(self.pictures())

    def _synthesize(self, w: Tensor) -> Tensor:
        return self.generator.synthesize(self.generator.broadcast(w), self.lod, self.maps)

    def _distances(self, images: Tensor) -> Tensor:
        return self.distance.compare(self.distance.describe((images + 1) * 127.5), self.described)


def first_maps(generator: StyleGenerator, lod: float, seed: int) -> list[Tensor]:
    """Return normal noise maps to begin with, (1, 1, r, r) for each layer."""
    sides = generator.noise_sides(lod)
    return [normals(seed, "projection-noise", number, (1, 1, side, side)) for number, side in enumerate(sides)]


def draw_at(seed: int, step: int, size: int) -> Tensor:
    """Return the normal values (W,) of a step's noise on w, the same for all pictures."""
    return normals(seed, "projection", step, (size,))
