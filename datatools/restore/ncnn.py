"""Networks in files of the ncnn library: a graph as text (.param), and the convolutions' numbers (.bin).

They come as data files of PyPI packages. Nothing of such a package is imported or run; only its files are read, and
checked against the package's own record.
"""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from datatools.errors import DataError

MAGIC = "7767517"  # first line of every .param
HALF = 0x01306B47  # the word before fp16 weights; 0 stands before fp32 ones
MAX_PARAM_BYTES = 4 * 1024**2

Setting = int | float | tuple[float, ...]


@dataclass(frozen=True)
class Operation:
    """One step of a graph: what is done to the results of earlier steps (given by their positions)."""

    kind: str
    inputs: tuple[int, ...]
    settings: Mapping[int, Setting]  # by ncnn's numbers


def _parse_setting(word: str) -> tuple[int, Setting]:
    """`0=64`, `1=2.000000e+00`, or an array with its length first: `-23310=1,2.000000e-01`."""
    key, _, value = word.partition("=")
    if "," in value:
        return int(key), tuple(float(part) for part in value.split(","))
    return int(key), int(value) if value.lstrip("-").isdigit() else float(value)


def parse_graph(text: str) -> list[Operation]:
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
    steps: list[Operation] = []
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
            steps.append(Operation(kind, sources, settings))
    return steps


def describe(step: Operation) -> str:
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


def fill(network: nn.Module, numbers: bytes, name: str) -> None:
    """Give a network's convolutions, in the order of its modules, the numbers of a .bin file; it may lie on "meta".

    Raises:
        DataError: too short, too long, values of another type or not finite; `name` is the file's, without ending.
    """
    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    try:
        tensors = _read_numbers(numbers, layers)
    except ValueError as error:
        raise DataError(f"{name}.bin is damaged or belongs to another network: {error}") from error
    for layer, (weight, bias) in zip(layers, tensors, strict=True):
        layer.weight, layer.bias = nn.Parameter(weight), nn.Parameter(bias)
    network.eval().requires_grad_(False)


@dataclass(frozen=True)
class PackagedModel:
    """A model among the data files of a PyPI package.

    Attributes:
        title: the network's name, for messages.
        package: name on PyPI.
        path: within the installed package, without ending.
        install: command that installs it.
        limit: bytes that its .bin never exceeds.
    """

    title: str
    package: str
    path: str
    install: str
    limit: int

    @property
    def name(self) -> str:
        return f"{self.package}: {self.path}"

    def graph(self) -> bytes:
        """Contents of the .param file. Raises DataError as `numbers`."""
        return self._file(".param", MAX_PARAM_BYTES)

    def numbers(self) -> bytes:
        """Contents of the .bin file, which name the network in digests.

        Raises:
            DataError: the package is not installed; the file is missing, too large, or changed since.
        """
        return self._file(".bin", self.limit)

    def _file(self, ending: str, limit: int) -> bytes:
        try:
            distribution = metadata.distribution(self.package)
        except metadata.PackageNotFoundError as error:
            raise DataError(f"the weights of {self.title} are not installed: {self.install}") from error
        path = Path(str(distribution.locate_file(self.path + ending)))
        if not path.is_file():
            raise DataError(
                f"{path}: no such file in {self.package} {distribution.version}; install it anew: {self.install}"
            )
        if path.stat().st_size > limit:
            raise DataError(f"{path} is larger than any file of this network ({limit >> 20} MiB)")
        data = path.read_bytes()
        for file in distribution.files or ():
            if str(file) == self.path + ending and file.hash is not None and file.hash.mode == "sha256":
                found = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
                if found != file.hash.value:
                    raise DataError(
                        f"{path} is damaged: it is not the file that {self.package} {distribution.version} installed"
                    )
        return data
