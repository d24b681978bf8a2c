"""Latents other than those of plain seeds: between two, near a centre, on a loop through time, chosen by the critic.

Most models divide latents by their length before anything else happens to them (`normalize_latents`): only the
direction counts, and what moves latents here moves them along great circles.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datatools.errors import DataError, SettingError
from pggan.model.files import Model, pictures_at_once, render
from pggan.pixels import to_floats
from pggan.precision import full_products
from pggan.rng import normals

COMPANIONS_CLOCK, LOOP_CLOCK = 8, 16  # draws of the purpose "grid": training takes 0, 1 and 2
COMPANIONS = 3  # with the one to be judged a group of four, as most presets train with
WEAKEST = 1e-4  # weight below which a harmonic moves no pixel
LOOP_BYTES = 4 << 30

Change = Callable[[Tensor], Tensor]


def slerp(first: Tensor, second: Tensor, share: Tensor | float) -> Tensor:
    """Interpolate from `first` (share 0) to `second` (share 1) on the great circle through both.

    Lengths are interpolated in proportion.

    Args:
        first, second: (..., d), broadcast against each other.
        share: 0..1, a number or broadcast against (..., 1).
    """
    lengths = first.norm(dim=-1, keepdim=True), second.norm(dim=-1, keepdim=True)
    a, b = (x / length.clamp(min=1e-12) for x, length in zip((first, second), lengths, strict=True))
    angle = torch.acos((a * b).sum(-1, keepdim=True).clamp(-1.0, 1.0))
    share = torch.as_tensor(share, dtype=first.dtype)
    # Where both are all but one direction, or opposite ones, no great circle is singled out and the sine vanishes.
    straight = angle.sin() < 1e-4
    divisor = torch.where(straight, 1.0, angle.sin())
    on_arc = (((1 - share) * angle).sin() * a + (share * angle).sin() * b) / divisor
    direction = torch.where(straight, torch.lerp(a, b, share), on_arc)
    return direction * torch.lerp(*lengths, share)


def truncation_of(model: Model, strength: float, centre: int | None) -> Change:
    """Return the change that truncation makes to latents (n, latent_size): less variety, more typical pictures.

    Where the model normalizes its latents there is no mean to pull them to: the sphere has none, and a shorter latent
    is the same latent. They are pulled along great circles to the latents of the seed `centre` (None: 0), and what
    they are pulled to is that picture: 1 leaves all as they are, 0 makes all of them that one. Where the model does
    not normalize, latents are multiplied by `strength`, towards their mean 0, and there is no centre to choose.

    Args:
        strength: 0..1, of the way from the centre to the latents.
    """
    if not model.config.normalize_latents:
        if centre is not None:
            raise SettingError(
                "centre", f"{centre}: this model does not normalize its latents; truncation pulls them to 0"
            )
        return lambda latents: latents * strength
    middle = model.latents([centre or 0])
    return lambda latents: latents if strength == 1 else slerp(middle, latents, strength)


class Loop:
    """White noise over a closed time, smoothed with a Gaussian with wrap-around: latents of a film that has no end.

    The smoothed noise is drawn as its Fourier series, whose harmonics the Gaussian weights: exactly the same process as
    filtering the noise of every frame, but it needs no frames. The same film at twice the rate has the same pictures
    and others between them, and memory depends on how often latents change, not on how many frames there are.

    Args:
        cells: pictures side by side; each is a function of (seed, its number) alone.
        size: of the latents.
        smoothness: the Gaussian's standard deviation as a part of the whole time, above 0.
    """

    def __init__(self, cells: int, size: int, seed: int, smoothness: float) -> None:
        # exp(-2 (pi s k)^2), the Gaussian's transform, is WEAKEST at the last harmonic
        harmonics = math.floor(math.sqrt(-math.log(WEAKEST) / 2) / (math.pi * smoothness))
        rows = 1 + 2 * harmonics
        if rows * cells * size * 4 > LOOP_BYTES:
            raise DataError(
                f"{cells} pictures that change so often need {rows * cells * size * 4 / 2**30:.1f} GiB of latents: "
                "take a smaller grid, fewer seconds or more smooth_seconds"
            )
        self.shape = (cells, size)
        self.orders = np.arange(1, harmonics + 1)
        weights = math.sqrt(2) * np.exp(-2 * (math.pi * smoothness * self.orders) ** 2)
        self.weights = np.concatenate([[1.0], np.repeat(weights, 2)])  # of 1, cos, sin, cos 2, sin 2, ...
        self.weights /= math.sqrt(1 + np.square(weights).sum())  # to variance 1
        drawn = [normals(seed, "grid", LOOP_CLOCK + cell, (rows, size)) for cell in range(cells)]
        self.coefficients = torch.stack(drawn, dim=1).flatten(1)  # (rows, cells size)

    def smoothed(self, times: NDArray[np.float64]) -> Tensor:
        """Return (n, cells, size) float32 of variance 1 at times 0..1 of the film; times 0 and 1 are the same."""
        phases = 2 * np.pi * (times[:, None] * self.orders % 1.0)  # (n, harmonics)
        waves = np.stack([np.cos(phases), np.sin(phases)], axis=2).reshape(len(times), -1)
        basis = np.concatenate([np.ones((len(times), 1)), waves], axis=1) * self.weights  # (n, rows)
        return (torch.from_numpy(basis.astype(np.float32)) @ self.coefficients).unflatten(1, self.shape)

    def __call__(self, times: NDArray[np.float64]) -> Tensor:
        """Return `smoothed`, each latent scaled to the mean square 1 that normal ones have."""
        latents = self.smoothed(times)
        return latents / latents.square().mean(dim=-1, keepdim=True).sqrt()


@torch.no_grad()
@full_products()
def critic_scores(model: Model, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the discriminator's score (n,) of pictures (n, r, r, 3) uint8 of the model's level.

    Higher is more real; scores of different models cannot be compared. A discriminator that judges minibatches sees
    each picture with the same three others, so that its score depends only on itself.
    """
    config = model.config
    others = np.empty((0, *pictures.shape[1:]), np.uint8)
    if config.d_statistics != "none":
        latents = normals(0, "grid", COMPANIONS_CLOCK, (COMPANIONS, config.latent_size))
        others = render(model.ema, latents, model.labels(None, range(COMPANIONS)), model.lod)
    group = 1 + len(others)
    step = max(1, pictures_at_once(model.device, pictures.shape[1]) // group)
    companions = torch.from_numpy(others)
    scores = []
    for start in range(0, len(pictures), step):
        some = torch.from_numpy(np.ascontiguousarray(pictures[start : start + step]))
        repeated = companions.expand(len(some), *companions.shape)
        batches = torch.cat([some[:, None], repeated], dim=1)  # (n, group, r, r, 3)
        images = batches.flatten(0, 1).permute(0, 3, 1, 2).to(model.device)
        values, _ = model.discriminator(to_floats(images), model.lod, batches=len(some))
        scores.append(values.view(len(some), group)[:, 0].cpu())
    # LSGAN, which alone comes with noise, trains towards 0 for reals and 1 for fakes (appendix B)
    return torch.cat(scores).numpy() * np.float32(-1.0 if config.d_noise else 1.0)


def best_first(seeds: Sequence[int], scores: NDArray[np.float32]) -> list[int]:
    """Return the seeds by falling score; equal ones stay in order."""
    return [seeds[place] for place in np.argsort(-scores, kind="stable")]
