"""Measure a network on held-out photos during training."""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from datatools.restore.base import Picture
from datatools.restore.fit.dataset import Photos
from datatools.restore.fit.degrade import SCALE, compress, reduce_picture
from datatools.restore.fit.losses import laplacian_levels

VALIDATION_SIDE = 256
VALIDATION_QUALITIES = (10, 25, 50, 75)


class Validation:
    """Fixed pairs from photos that are not used for training: the middle of each, reduced or compressed."""

    def __init__(self, task: str, photos: Photos) -> None:
        self.task = task
        self.digest = photos.digest()
        self.pairs: list[tuple[Picture, Picture]] = []
        for number, photo in enumerate(photos.photos):
            clean = _middle(photo.versions[-1])
            if task == "sr":
                self.pairs.append((reduce_picture(clean), clean))
            else:
                self.pairs.append((compress(clean, VALIDATION_QUALITIES[number % len(VALIDATION_QUALITIES)]), clean))

    def measure(
        self, restore: Callable[[Tensor], Tensor], as_tensor: Callable[[NDArray[np.uint8]], Tensor]
    ) -> dict[str, float]:
        """Return means over the pictures: "psnr" and "baseline" in dB, RGB; "contrast", the standard deviation of the
        finest Laplacian level over that of the photo.
        """
        scores = []
        for given, clean in self.pairs:
            inputs, target = as_tensor(given[None]), as_tensor(clean[None])
            baseline = inputs
            if self.task == "sr":
                baseline = functional.interpolate(inputs, scale_factor=SCALE, mode="bicubic", antialias=True)
            output = (restore(inputs).clamp(0, 1) * 255).round() / 255
            fine, true = (float(laplacian_levels(p, 1)[0].std()) for p in (output, target))
            psnr = (_tensor_psnr(picture, target) for picture in (output, baseline.clamp(0, 1)))
            scores.append((*psnr, fine / max(true, 1e-6)))
        names = ("psnr", "baseline", "contrast")
        return {name: float(np.mean(values)) for name, values in zip(names, zip(*scores, strict=True), strict=True)}


def _tensor_psnr(picture: Tensor, target: Tensor) -> float:
    return -10 * math.log10(float((picture - target).square().mean()) + 1e-10)


def _middle(picture: Picture) -> Picture:
    height, width = (min(size, VALIDATION_SIDE) // 8 * 8 for size in picture.shape[:2])
    top, left = (picture.shape[0] - height) // 2, (picture.shape[1] - width) // 2
    return np.ascontiguousarray(picture[top : top + height, left : left + width])
