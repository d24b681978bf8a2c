"""LPIPS: the perceptual distance of two pictures by a VGG16 network (Zhang et al. 2018, version 0.1).

images a, b (n, 3, h, w)  ->  features of five layers, each of unit length at every position  ->  distance (n,)

Weights come from a file with the names of the authors' package, `lpips.LPIPS(net="vgg").state_dict()`: the network
(`net.slice1.0.weight` ...) and the weight of every feature (`lin0.model.1.weight` ...). torch-fidelity's class has the
same names, but takes no file, and needs torchvision.
"""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from datatools.errors import DataError
from pggan.metrics.arrays import Bytes
from pggan.metrics.distances import reduced
from pggan.metrics.features import read_weights

LAYERS = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))
"""Convolutions of 3 x 3 by their places in VGG16; the picture is halved between the layers."""
SMALLEST = 16
"""Side in pixels: what is halved four times has one pixel left."""
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of ImageNet, for values in -1..1


class Lpips:
    """LPIPS with weights by path, a `Distance`. Raises DataError for weights of another network or that are none."""

    smallest = SMALLEST

    def __init__(self, weights: Path, device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)
        state = read_weights(weights)
        self.state = {name: tensor.to(self.device, torch.float32) for name, tensor in state.items()}
        self.shift, self.scale = (torch.tensor(x, device=self.device)[:, None, None] for x in (SHIFT, SCALE))
        try:
            probe = np.zeros((1, 3, SMALLEST, SMALLEST), np.uint8)
            self(probe, probe)
        except (LookupError, RuntimeError) as error:
            raise DataError(
                f'{weights}: weights of another network; LPIPS needs those of lpips.LPIPS(net="vgg").state_dict()'
            ) from error
        self.recipe = {
            "network": "LPIPS 0.1, VGG16",
            "weights_sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        }

    @torch.no_grad()
    def __call__(self, a: Bytes | Tensor, b: Bytes | Tensor) -> NDArray[np.float64]:
        """(n, 3, h, w), 0..255, twice -> distances (n,), at least 0; h, w >= 16."""
        return self.compare(self.describe(a), self.describe(b)).double().cpu().numpy()

    def compare(self, first: Iterable[Tensor], second: Iterable[Tensor]) -> Tensor:
        """Return the distances (n,) of pictures by their descriptions."""
        parts = []
        for number, (a, b) in enumerate(zip(first, second, strict=True)):
            weighted = functional.conv2d((a - b).square(), self.state[f"lin{number}.model.1.weight"])  # (n, 1, y, x)
            parts.append(weighted.mean(dim=(1, 2, 3)))
        return torch.stack(parts).sum(dim=0)

    def describe(self, images: Bytes | Tensor) -> Iterator[Tensor]:
        """Yield the features (n, c, y, x) of each layer, of unit length over c."""
        x = reduced(torch.as_tensor(images).to(self.device).float())
        x = (x / 127.5 - 1 - self.shift) / self.scale
        for number, places in enumerate(LAYERS):
            if number:
                x = functional.max_pool2d(x, 2)
            for place in places:
                name = f"net.slice{number + 1}.{place}"
                x = functional.conv2d(x, self.state[f"{name}.weight"], self.state[f"{name}.bias"], padding=1).relu()
            yield _unit(x)


def _unit(features: Tensor) -> Tensor:
    """Divide (n, c, y, x) by its length over c."""
    power = features.square().sum(dim=1, keepdim=True)
    return features / (power.clamp(min=1e-30).sqrt() + 1e-10)  # the root of 0 has no gradient
