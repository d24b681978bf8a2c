"""The transforms that one step applies to its pictures: drawn for the whole minibatch, applied to parts of it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from pggan.config.settings import AugmentConfig
from pggan.model.augment import ada, diffaugment
from pggan.transfer import to_device


@dataclass(frozen=True)
class Augmentation:
    """Transforms of `sets` minibatches, such as reals, fakes and mixed pictures.

    `parameters`: what the transforms of `kind` take, each (sets, N, ...); empty where pictures stay as they are.
    """

    kind: str
    parameters: tuple[Tensor, ...] = ()

    def at(self, indices: Tensor | slice) -> "Augmentation":
        """Return the transforms of these samples of every set."""
        return replace(self, parameters=tuple(values[:, indices] for values in self.parameters))

    def __call__(self, images: Tensor, sets: Sequence[int]) -> Tensor:
        """Return images (len(sets) N, 3, r, r) in -1..1 transformed, one set after the other.

        Differentiable twice by the images. Results can lie outside of -1..1.
        """
        if not self.parameters:
            return images
        parameters = [torch.cat([values[number] for number in sets]) for values in self.parameters]
        transform = ada.transform if self.kind == "ada" else diffaugment.transform
        with torch.autocast(images.device.type, enabled=False):
            return transform(images, *parameters)


def draw(
    config: AugmentConfig,
    strength: float,
    rng: np.random.Generator,
    *,
    sets: int,
    count: int,
    resolution: int,
    device: torch.device,
) -> Augmentation:
    """Return random transforms of `sets` minibatches of `count` pictures of `resolution`.

    `strength`: ADA's probability of every transform, 0..1; 0 leaves all pictures as they are, bit for bit.
    """
    if strength == 0:
        return Augmentation(config.kind)
    if config.kind == "ada":
        drawn = ada.draw(rng, sets * count, strength, resolution)
    else:
        drawn = diffaugment.draw(rng, sets * count, resolution)
    parameters = (to_device(torch.from_numpy(values).unflatten(0, (sets, count)), device) for values in drawn)
    return Augmentation(config.kind, tuple(parameters))
