"""Latents, style mixing and noise maps of a minibatch: functions of the seed, the images seen and the sample's place.

They depend neither on the number of devices nor on how a minibatch is divided.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pggan.config.style import StyleConfig
from pggan.model.style import StyleGenerator, mixing_place, seeded_noise
from pggan.rng import Purpose, rng, sequence
from pggan.training.terms import Moment, StepContext
from pggan.transfer import to_device

PURPOSES: dict[Literal["d", "g", "path"], tuple[Purpose, Purpose, Purpose]] = {
    "d": ("latents-d", "mixing-d", "noise-d"),
    "g": ("latents-g", "mixing-g", "noise-g"),
    "path": ("latents-path", "mixing-path", "noise-path"),
}


@dataclass(frozen=True)
class StyleDraw:
    """What a pass of the generator is a function of.

    Attributes:
        latents: (2, N, latent_size): the second ones take over from a place on.
        mixed_from: (N,), that place; the number of places for samples that are not mixed.
        seeds: (N,), of the noise.
        places: number of places in use.
        index: `StepContext.index`.
    """

    latents: Tensor
    mixed_from: Tensor
    seeds: NDArray[np.int64]
    places: int
    lod: float
    index: Callable[[Sequence[int]], Tensor | slice]

    @classmethod
    def of(
        cls,
        context: StepContext,
        pass_: Literal["d", "g", "path"],
        moment: Moment,
        mixing: float,
        per_group: int | None = None,
    ) -> "StyleDraw":
        """Draw for a minibatch, or for `per_group` samples of each of its groups.

        The samples of a group are mixed alike. The authors draw once for a device's batch, which has one group where
        there are four samples at a time.
        """
        config, state, seed = context.preset.network, moment.state, context.seed
        assert isinstance(config, StyleConfig)
        group = context.division(state.minibatch).group
        groups = state.minibatch // group
        count = groups * (per_group or group)
        of_latents, of_mixing, of_noise = PURPOSES[pass_]
        places, dice = config.places(state.resolution), rng(seed, of_mixing, moment.images)
        mixed_from = [mixing_place(dice, mixing, places) or places for _ in range(groups)]
        states = sequence(seed, of_noise, moment.images).generate_state(count, np.uint64)
        return cls(
            context.latents(of_latents, moment.images, 2 * count).unflatten(0, (2, count)),
            # sample n is of group n mod groups
            to_device(torch.tensor(mixed_from), context.device).repeat(count // groups),
            (states >> np.uint64(1)).astype(np.int64),
            places,
            state.lod,
            context.index,
        )

    def ws(self, generator: StyleGenerator, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return ws of these samples, (n, places, W), and the mean of their w before mixing, (W,), detached."""
        chosen = self.index(indices)
        first, second = generator.map(self.latents[:, chosen].flatten(0, 1)).unflatten(0, (2, -1))
        numbers = torch.arange(self.places, device=first.device)
        mixed = torch.where(
            (numbers < self.mixed_from[chosen, None])[:, :, None], first[:, None], second[:, None]
        )  # (n, places, W)
        return mixed, first.detach().mean(dim=0)

    def noise(self, generator: StyleGenerator, indices: Sequence[int]) -> list[Tensor]:
        """Return the noise maps of these samples, (n, 1, r, r) for each layer at work."""
        return self._maps(generator, indices, 0)[0]

    def path_noise(self, generator: StyleGenerator, indices: Sequence[int]) -> tuple[list[Tensor], Tensor]:
        """Return the noise maps of these samples, and the directions of their path lengths (n, 3, r, r)."""
        side = generator.noise_sides(self.lod)[-1]
        maps, rest = self._maps(generator, indices, 3 * side**2)
        return maps, rest.unflatten(1, (3, side, side)) / side

    def _maps(self, generator: StyleGenerator, indices: Sequence[int], more: int) -> tuple[list[Tensor], Tensor]:
        """Return the maps, and so many further values for each sample, (n, more)."""
        seeds = (int(self.seeds[index]) for index in indices)
        return seeded_noise(generator.noise_sides(self.lod), seeds, self.latents.device, more)
