"""Perceptual path length of style-based models (Karras et al. 2019, section 4.1; StyleGAN2, table 1).

    two latents -> a step between them, in z or in w -> two pictures -> their distance over the squared step -> mean

A short step that changes a picture much says that the model's space is not smooth. The distance is LPIPS in published
numbers. Pairs in each hundredth at either end are left out of the mean.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datatools.errors import DataError
from pggan.config.settings import AnyNetworkConfig
from pggan.config.style import StyleConfig
from pggan.media.latents import slerp
from pggan.metrics.arrays import Progress
from pggan.metrics.distances import Distance, reduced
from pggan.model.files import Model, pictures_at_once
from pggan.model.style import StyleGenerator, seeded_noise
from pggan.rng import rng

STEP = 1e-4
KEPT = (1, 99)
"""Percentiles of the distances that are averaged, both included."""


@dataclass(frozen=True)
class PathKind:
    """Which path length: steps in `space`, at a random place of the path (`full`) or its beginning, of face crops."""

    space: Literal["w", "z"]
    full: bool = False
    crop: bool = False


_WHOLE = {
    "ppl": PathKind("w"),
    "ppl-wfull": PathKind("w", full=True),
    "ppl-zend": PathKind("z"),
    "ppl-zfull": PathKind("z", full=True),
}
PATHS = _WHOLE | {f"{name}-crop": replace(kind, crop=True) for name, kind in _WHOLE.items()}
"""Metrics; `ppl` is that of StyleGAN2's tables."""


def check_paths(network: AnyNetworkConfig | None, resolution: int, metrics: Sequence[str]) -> None:
    """Raise DataError for path lengths among the metrics where there is no style-based model; None: there is none."""
    found = [metric for metric in metrics if metric in PATHS]
    if found and not isinstance(network, StyleConfig):
        what = "no model is measured" if network is None else "this model is a progressive GAN, which has no w"
        raise DataError(f"{found[0]} measures style-based models, and {what}: leave {found[0]} out")
    if any(PATHS[metric].crop for metric in found) and resolution < 8:
        raise DataError(f"pictures of {resolution} x {resolution} pixels: the face crop needs at least 8; see ppl")


def path_length(
    model: Model, metric: str, distance: Distance, count: int, seed: int, progress: Progress = lambda *_: None
) -> dict[str, Any]:
    """Return the mean over `count` pairs, a record as those of `figures.figures`: {"metric", "value", "images", ...}.

    Latents, place, class and noise of a pair depend on the seed and its number alone. Class and noise are the same at
    both ends of a step. Pictures are not rounded to bytes. Raises DataError where they are too small for the distance.
    """
    kind, generator = PATHS[metric], model.ema
    assert isinstance(generator, StyleGenerator)
    resolution, device = model.level.resolution, model.device
    side = resolution // 8 * 4 if kind.crop else resolution
    if side < distance.smallest:
        raise DataError(f"pictures of {side} x {side} pixels: the distance of {metric} needs {distance.smallest}")
    size = max(1, pictures_at_once(device, resolution) // 2)
    found = []
    for start in range(0, count, size):
        numbers = range(start, min(start + size, count))
        pairs = [_Pair.of(seed, number, generator.config.latent_size) for number in numbers]
        found.append(_distances(model, generator, kind, pairs, model.labels(None, numbers), distance))
        progress(metric, len(pairs), count)
    value = trimmed_mean(np.concatenate(found))
    return {"metric": metric, "value": value, "images": count, **distance.recipe}


@dataclass(frozen=True)
class _Pair:
    latents: NDArray[np.float32]  # (2, latent_size)
    share: float
    noise_seed: int

    @classmethod
    def of(cls, seed: int, number: int, size: int) -> "_Pair":
        dice = rng(seed, "metrics-path", number)
        return cls(dice.standard_normal((2, size), dtype=np.float32), dice.random(), int(dice.integers(1 << 63)))


@torch.no_grad()
def _distances(
    model: Model,
    generator: StyleGenerator,
    kind: PathKind,
    pairs: Sequence[_Pair],
    labels: Tensor | None,
    distance: Distance,
) -> NDArray[np.float64]:
    device, count = model.device, len(pairs)
    both = None if labels is None else labels.repeat(2, 1).to(device)
    latents = torch.from_numpy(np.stack([pair.latents for pair in pairs], axis=1)).double()  # (2, n, latent_size)
    shares = torch.tensor([pair.share for pair in pairs], dtype=torch.float64)
    # float32 has three digits of a step between two numbers of about 1
    ends = step_ends(kind, latents, shares, lambda z: generator.map(z.to(device, torch.float32), both).cpu().double())
    maps, _ = seeded_noise(generator.noise_sides(model.lod), [pair.noise_seed for pair in pairs], device)
    ws = generator.broadcast(ends.flatten(0, 1).to(device, torch.float32))
    images = generator.synthesize(ws, model.lod, [torch.cat([values, values]) for values in maps])
    return step_distances(images.unflatten(0, (2, count)), kind, distance).double().cpu().numpy()


def step_ends(kind: PathKind, latents: Tensor, shares: Tensor, mapping: Callable[[Tensor], Tensor]) -> Tensor:
    """Return w (2, n, W) of where steps begin and end.

    Args:
        latents: (2, n, Z) of both ends of the paths.
        shares: (n,), 0..1: where a step begins, for a `full` kind.
        mapping: (m, Z) -> (m, W); for steps in z it gets vectors of length 1.
    """
    begin = shares if kind.full else torch.zeros_like(shares)
    places = torch.stack([begin, begin + STEP])[:, :, None]  # (2, n, 1)
    if kind.space == "z":
        first, second = latents / latents.norm(dim=-1, keepdim=True)
        return mapping(slerp(first, second, places).flatten(0, 1)).unflatten(0, places.shape[:2])
    first, second = mapping(latents.flatten(0, 1)).unflatten(0, places.shape[:2])
    return torch.lerp(first, second, places)


def step_distances(images: Tensor, kind: PathKind, distance: Distance) -> Tensor:
    """Return distances (n,) over the squared step of the pictures (2, n, 3, r, r), -1..1, at its ends."""
    x = (images + 1) * 127.5
    if kind.crop:
        eighth = images.shape[-1] // 8
        x = x[..., 3 * eighth : 7 * eighth, 2 * eighth : 6 * eighth]
    first, second = (distance.describe(reduced(end)) for end in x)
    return distance.compare(first, second) / STEP**2


def trimmed_mean(distances: NDArray[np.float64]) -> float:
    """Return the mean of the distances (n,) within `KEPT`."""
    low, high = np.percentile(distances, KEPT[0], method="lower"), np.percentile(distances, KEPT[1], method="higher")
    return float(distances[(low <= distances) & (distances <= high)].mean())
