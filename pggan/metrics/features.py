"""Features of images by a network, and what extractors of different networks share.

images (n, 3, h, w)  ->  Extractor  ->  features (n, d) and logits (n, c)
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from datatools.errors import DataError
from datatools.files import check_readable, unlike
from pggan.metrics.arrays import Bytes, Floats, require_rgb
from pggan.metrics.frechet import Gaussian, fit

Recipe = dict[str, str]


class Extractor(Protocol):
    """A network that describes images; `recipe` identifies it, ready for JSON."""

    recipe: Recipe

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(n, 3, h, w) uint8 on the CPU -> features (n, d), logits (n, c), float32, on the CPU."""


@dataclass(frozen=True)
class Features:
    """`features` (n, d) and `logits` (n, c) of a set of images; c is 0 for a network without classes."""

    features: Floats
    logits: Floats

    @property
    def count(self) -> int:
        return len(self.features)

    @cached_property
    def gaussian(self) -> Gaussian:
        """Return the normal distribution fitted to the features; needs two of them."""
        return fit(self.features)


@dataclass(frozen=True)
class Summary:
    """The normal distribution of the features of `count` images, without the features."""

    count: int
    gaussian: Gaussian


def describe(batches: Iterable[Tensor | Bytes], extractor: Extractor) -> Features:
    """Return features of a set that comes in batches (n, 3, h, w) uint8. Raises DataError for a set without images."""
    features, logits = [], []
    for batch in batches:
        require_rgb(batch)
        described = extractor(torch.as_tensor(batch))
        features.append(described[0].numpy())
        logits.append(described[1].numpy())
    if not features:
        raise DataError("no images to describe")
    return Features(np.concatenate(features), np.concatenate(logits))


def joined(parts: list[Features]) -> Features:
    """Return the features of a set from those of its parts."""
    return Features(np.concatenate([part.features for part in parts]), np.concatenate([p.logits for p in parts]))


def resize_bicubic(images: Tensor, side: int) -> Tensor:
    """Resize (n, 3, h, w) uint8 to (n, 3, side, side) float32 in 0..255, antialiased, without rounding to bytes.

    PyTorch's filter is the bicubic one of Pillow (a = -0.5), with which clean FID is defined (Parmar et al. 2022).
    """
    size = (side, side)
    resized = torch.nn.functional.interpolate(images.float(), size, mode="bicubic", antialias=True)
    return resized.clamp(0, 255)


def read_weights(path: Path) -> dict[str, Any]:
    """Return the tensors by name of a PyTorch file. Raises DataError for any other, of which no code is run."""
    check_readable(path, "weight file", "the file of the network's weights")
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # whatever the bytes lead to
        content = unlike(path, (b"pk", b"\x80"))
        raise DataError(
            f"{path}: is not a file of weights that PyTorch can read safely{f': {content}' if content else ''}"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise DataError(f"{path}: is not a file of a network's weights, which are tensors by name")
    return state
