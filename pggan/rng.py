"""Random numbers as pure functions of (seed, purpose, images seen), so that a resumed run needs no saved streams.

Everything is drawn on the CPU for the whole minibatch: the same on every device, and on any number of them.
"""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import numpy as np
import torch
from torch import Tensor

Purpose = Literal[
    "weights",
    "order",
    "latents-d",
    "latents-g",
    "latents-path",
    "mixing",
    "mixing-d",
    "mixing-g",
    "mixing-path",
    "augment-d",
    "augment-g",
    "labels",
    "noise",
    "noise-d",
    "noise-g",
    "noise-path",
    "grid",
    "metrics",
    "metrics-noise",
    "metrics-path",
    "projection",
    "projection-noise",
]


def sequence(seed: int, purpose: Purpose, clock: int) -> np.random.SeedSequence:
    """Return the entropy of one purpose at one time; `clock` counts images or epochs, as the purpose needs."""
    return np.random.SeedSequence([seed, zlib.crc32(purpose.encode()), clock])


def rng(seed: int, purpose: Purpose, clock: int) -> np.random.Generator:
    """Return NumPy's generator for one purpose at one time."""
    return np.random.default_rng(sequence(seed, purpose, clock))


def torch_seed(seed: int, purpose: Purpose, clock: int) -> int:
    """Return a seed that torch accepts."""
    return int(sequence(seed, purpose, clock).generate_state(1, np.uint64)[0] >> np.uint64(1))


def normals(seed: int, purpose: Purpose, clock: int, shape: tuple[int, ...]) -> Tensor:
    """Return standard normal float32 values on the CPU."""
    return torch.from_numpy(rng(seed, purpose, clock).standard_normal(shape, dtype=np.float32))


def uniforms(seed: int, purpose: Purpose, clock: int, count: int) -> Tensor:
    """Return `count` float32 values in 0..1 on the CPU."""
    return torch.from_numpy(rng(seed, purpose, clock).random(count, dtype=np.float32))


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Start torch's own generators from `seed`, inside this context, and restore them afterwards."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
