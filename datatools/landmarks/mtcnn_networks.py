"""The three networks of MTCNN, on arrays.

Zhang et al., "Joint Face Detection and Alignment Using Multitask Cascaded Convolutional Networks", IEEE Signal
Processing Letters 2016, figure 2. Each network is a chain of convolutions with PReLU and max-pooling; pooling windows
that stick out at the right and at the bottom count (Caffe's way). Its features give a score and four offsets of the
box's edges, those of O-Net also five points; all but the score are in units of the box's side.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from datatools.landmarks.mtcnn_weights import Array, read_weights

BATCH = 256
"""Crops that go through a network at once: bounds the memory, 60 MB for O-Net."""

Floats = NDArray[np.float32]
Crops = NDArray[np.uint8]


class Pool(nn.Module):
    """Max-pooling as `nn.MaxPool2d(window, stride, ceil_mode=True)`, but several times as fast on a CPU."""

    def __init__(self, window: int, stride: int) -> None:
        super().__init__()
        self.window, self.stride = window, stride

    def forward(self, x: Tensor) -> Tensor:
        """Return the largest values of windows of maps (n, channels, h, w), neither side smaller than the window."""
        return self._along(self._along(x, 2), 3)

    def _along(self, x: Tensor, axis: int) -> Tensor:
        windows = -(-(x.shape[axis] - self.window) // self.stride) + 1
        largest = self._values(x, axis, 0).narrow(axis, 0, windows).clone()
        for place in range(1, self.window):
            values = self._values(x, axis, place)
            count = min(values.shape[axis], windows)  # the last window may stick out
            part = largest.narrow(axis, 0, count)
            torch.maximum(part, values.narrow(axis, 0, count), out=part)
        return largest

    def _values(self, x: Tensor, axis: int, place: int) -> Tensor:
        """Return the values at one place of each window."""
        return x[:, :, place :: self.stride] if axis == 2 else x[..., place :: self.stride]


class Chain(nn.Module):
    """The convolutions of a network; `layers`: for each one maps, kernel, and window and stride of the pooling."""

    def __init__(self, layers: Sequence[tuple[int, int, int, int]]) -> None:
        super().__init__()
        modules: list[nn.Module] = []
        channels = 3
        for maps, kernel, window, stride in layers:
            modules += [nn.Conv2d(channels, maps, kernel), nn.PReLU(maps)]
            if window:
                modules.append(Pool(window, stride))
            channels = maps
        self.steps = nn.Sequential(*modules)

    def forward(self, x: Tensor) -> Tensor:
        """Turn pictures (n, 3, h, w) into maps."""
        maps: Tensor = self.steps(x)
        return maps


class ProposalNet(nn.Module):
    """P-Net: slides over a picture; every second pixel begins a window of 12 x 12 that may be a face."""

    def __init__(self) -> None:
        super().__init__()
        self.chain = Chain([(10, 3, 2, 2), (16, 3, 0, 0), (32, 3, 0, 0)])
        self.heads = nn.ModuleList([nn.Conv2d(32, 4, 1), nn.Conv2d(32, 2, 1)])

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return offsets (n, 4, rows, columns) and class logits (n, 2, rows, columns) of (n, 3, h, w)."""
        heads = [head for head in self.heads if isinstance(head, nn.Conv2d)]
        weight, bias = (torch.cat([getattr(head, name) for head in heads]) for name in ("weight", "bias"))
        features = self.chain(x).permute(0, 2, 3, 1)  # (n, rows, columns, 32), which is their order in memory
        maps = nn.functional.linear(features, weight.flatten(1), bias)  # as one product: quicker than convolutions
        return list(maps.permute(0, 3, 1, 2).split([head.out_channels for head in heads], dim=1))


class CropNet(nn.Module):
    """R-Net and O-Net: convolutions, one dense layer, and heads, on crops of one size."""

    def __init__(self, layers: Sequence[tuple[int, int, int, int]], side: int, features: int, heads: list[int]) -> None:
        super().__init__()
        self.chain = Chain(layers)
        self.dense = nn.Sequential(nn.Linear(layers[-1][0] * side * side, features), nn.PReLU(features))
        self.heads = nn.ModuleList([nn.Linear(features, size) for size in heads])

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the heads' results of crops (n, 3, size, size)."""
        maps = self.chain(x).permute(0, 3, 2, 1)  # (n, columns, rows, maps): the order of the dense weights
        features = self.dense(maps.flatten(1))
        return [head(features) for head in self.heads]


def refinement_net() -> CropNet:
    """Return R-Net without weights: crops of 24 x 24 to offsets and class logits."""
    return CropNet([(28, 3, 3, 2), (48, 3, 3, 2), (64, 2, 0, 0)], side=3, features=128, heads=[4, 2])


def output_net() -> CropNet:
    """Return O-Net without weights: crops of 48 x 48 to offsets, five points and class logits."""
    layers = [(32, 3, 3, 2), (64, 3, 3, 2), (64, 3, 2, 2), (128, 2, 0, 0)]
    return CropNet(layers, side=3, features=256, heads=[4, 10, 2])


def fill(network: nn.Module, arrays: Sequence[Array]) -> None:
    """Set a network's weights to arrays in Keras's layout, in the order of its layers.

    Convolutions (rows, columns, in, out), dense layers (in, out), biases, PReLU's slopes.

    Raises: ValueError for arrays that do not fit.
    """
    source: Iterator[Array] = iter(arrays)
    with torch.no_grad():
        for layer in (module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear | nn.PReLU)):
            weight = torch.from_numpy(next(source).copy())
            if isinstance(layer, nn.PReLU):
                layer.weight.copy_(weight.reshape(layer.weight.shape))
                continue
            weight = weight.permute(3, 2, 0, 1) if weight.ndim == 4 else weight.T
            if weight.shape != layer.weight.shape:
                raise ValueError(f"weights of the shape {tuple(weight.shape)} for {layer}")
            layer.weight.copy_(weight)
            assert layer.bias is not None
            layer.bias.copy_(torch.from_numpy(next(source).copy()))
    if next(source, None) is not None:
        raise ValueError("more arrays than layers")
    network.eval().requires_grad_(False)


@dataclass(frozen=True)
class Networks:
    """The networks on a device, from arrays to arrays; pictures and crops are (h, w, 3) uint8 RGB."""

    proposal: ProposalNet
    refinement: CropNet
    output: CropNet
    device: torch.device

    @torch.inference_mode()
    def propose(self, picture: NDArray[np.uint8]) -> tuple[Floats, Floats]:
        """Return the scores (rows, columns) and offsets (rows, columns, 4) of the windows of a picture."""
        offsets, logits = self.proposal(self._tensor(picture[None]))
        return _scores(logits)[0].cpu().numpy(), offsets[0].permute(1, 2, 0).cpu().numpy()

    @torch.inference_mode()
    def refine(self, crops: Crops) -> tuple[Floats, Floats]:
        """Return scores (n,) and offsets (n, 4) of crops (n, 24, 24, 3)."""
        offsets, logits = self._run(self.refinement, crops)
        return _scores(logits).numpy(), offsets.numpy()

    @torch.inference_mode()
    def finish(self, crops: Crops) -> tuple[Floats, Floats, Floats]:
        """Return scores (n,), offsets (n, 4) and points (n, 5, 2) of crops (n, 48, 48, 3)."""
        offsets, points, logits = self._run(self.output, crops)
        return _scores(logits).numpy(), offsets.numpy(), points.reshape(-1, 2, 5).transpose(1, 2).numpy()

    def _run(self, network: CropNet, crops: Crops) -> list[Tensor]:
        parts = [network(self._tensor(crops[start : start + BATCH])) for start in range(0, len(crops), BATCH)]
        return [torch.cat(results).cpu() for results in zip(*parts, strict=True)]

    def _tensor(self, pictures: NDArray[np.uint8]) -> Tensor:
        """Return (n, h, w, 3) uint8 as (n, 3, h, w), -1 to 1; in memory still pixel by pixel."""
        return (torch.from_numpy(pictures).to(self.device).permute(0, 3, 1, 2).float() - 127.5) / 128


def _scores(logits: Tensor) -> Tensor:
    """Return the probability of a face, from logits (n, 2, ...) of "no face" and "face"."""
    return logits.softmax(1)[:, 1]


@lru_cache(maxsize=2)
def load_networks(device: str) -> Networks:
    """Return the networks with the weights of the package `mtcnn`. Raise DataError where these cannot be read."""
    networks = (ProposalNet(), refinement_net(), output_net())
    for network, name in zip(networks, ("pnet", "rnet", "onet"), strict=True):
        fill(network, read_weights(name))
        nn.utils.convert_conv2d_weight_memory_format(network.to(device), torch.channels_last)  # which pictures have
    return Networks(*networks, torch.device(device))
