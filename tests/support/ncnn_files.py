"""Writes ncnn files the way ncnn's converter does, of RRDB networks above all, and runs their graphs step by step."""

import base64
import hashlib
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from datatools.restore.ncnn import PackagedModel
from datatools.restore.realesrgan import MODEL, RRDBNet

LEAKY = " 9=2 -23310=1,2.000000e-01"


def tiny_network(features: int = 3, growth: int = 1, blocks: int = 1, seed: int = 0) -> RRDBNet:
    """A network with random weights, all of which show in its result. The sizes are odd: fp16 weights need filling."""
    network = RRDBNet(features, growth, blocks)
    randomize(network, seed)
    return network


def randomize(network: nn.Module, seed: int = 0) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in network.parameters():
            spread = value[0].numel() ** -0.5  # keeps the size of what goes through
            value.copy_(torch.randn(value.shape, generator=generator) * spread)
    network.eval().requires_grad_(False)


def graph(features: int = 3, growth: int = 1, blocks: int = 1) -> list[str]:
    """The lines of the .param file, without the copies (`Split`) that ncnn needs where a result is used twice."""
    lines = ["Input in 0 1 data"]

    def add(kind: str, inputs: Sequence[str], settings: str = "") -> str:
        name = f"b{len(lines)}"
        lines.append(f"{kind} l{len(lines)} {len(inputs)} 1 {' '.join(inputs)} {name} {settings}".rstrip())
        return name

    def convolve(source: str, inputs: int, outputs: int, more: str = LEAKY) -> str:
        return add("Convolution", [source], f"0={outputs} 1=3 4=1 5=1 6={inputs * outputs * 9}{more}")

    begin = x = convolve("data", 3, features, "")
    for _ in range(blocks):
        outer = x
        for _ in range(3):
            known = [x]
            for index in range(4):
                source = add("Concat", known) if index else x
                known.append(convolve(source, features + index * growth, growth))
            change = convolve(add("Concat", known), features + 4 * growth, features, "")
            x = add("Eltwise", [change, x], "0=1 -23301=2,2.000000e-01,1.000000e+00")
        x = add("Eltwise", [x, outer], "0=1 -23301=2,2.000000e-01,1.000000e+00")
    x = add("BinaryOp", [begin, convolve(x, features, features, "")])
    for _ in range(2):
        x = convolve(add("Interp", [x], "0=1 1=2.000000e+00 2=2.000000e+00"), features, features)
    convolve(convolve(x, features, features), features, 3, "")
    return lines


def srmd_graph() -> list[str]:
    """The lines of the .param file of SRMDNF x4."""
    lines = ["Input input 0 1 b0"]
    for number in range(1, 13):
        inputs, outputs = 18 if number == 1 else 128, 48 if number == 12 else 128
        relu = " 9=1" if number < 12 else ""
        settings = f"0={outputs} 1=3 4=1 5=1 6={inputs * outputs * 9}{relu}"
        lines.append(f"Convolution l{number} 1 1 b{number - 1} b{number} {settings}")
    return [*lines, "PixelShuffle output 1 1 b12 output 0=4"]


def with_splits(lines: Sequence[str]) -> list[str]:
    """The same graph with a `Split` wherever a result is used more than once."""
    uses: dict[str, int] = {}
    for line in lines:
        words = line.split()
        for name in words[4 : 4 + int(words[2])]:
            uses[name] = uses.get(name, 0) + 1
    left = dict(uses)
    result = []
    for line in lines:
        words = line.split()
        inputs = int(words[2])
        for place in range(4, 4 + inputs):
            name = words[place]
            if uses[name] > 1:
                left[name] -= 1
                words[place] = f"{name}_split_{left[name]}"
        result.append(" ".join(words))
        made = words[4 + inputs]
        if uses.get(made, 0) > 1:
            copies = " ".join(f"{made}_split_{index}" for index in range(uses[made]))
            result.append(f"Split s{made} 1 {uses[made]} {made} {copies}")
    return result


def replace(old: str, new: str) -> Callable[[list[str]], list[str]]:
    """The graph with one mistake: `old` is replaced in the last line that has it."""

    def change(lines: list[str]) -> list[str]:
        place = max(index for index, line in enumerate(lines) if old in line)
        return [*lines[:place], lines[place].replace(old, new, 1), *lines[place + 1 :]]

    return change


def param(lines: Sequence[str]) -> bytes:
    return "\n".join(["7767517", f"{len(lines)} {len(lines)}", *lines, ""]).encode()


def numbers(network: nn.Module, *, half: bool = False) -> bytes:
    """The .bin file: for every convolution a word, its weights, filling up to four bytes, its bias."""
    parts = []
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            weights = layer.weight.numpy().astype("<f2" if half else "<f4").tobytes()
            parts += [struct.pack("<I", 0x01306B47 if half else 0), weights, bytes(-len(weights) % 4)]
            assert layer.bias is not None
            parts.append(layer.bias.numpy().astype("<f4").tobytes())
    return b"".join(parts)


def run_graph(text: str, data: bytes, picture: Tensor) -> Tensor:
    """The result of the last layer of a .param file, layer by layer (fp16 or fp32 weights)."""
    known: dict[str, Tensor] = {}
    position = 0
    for line in text.splitlines()[2:]:
        kind, _, count, results, *words = line.split()
        inputs = [known[name] for name in words[: int(count)]]
        names = words[int(count) : int(count) + int(results)]
        settings = dict(word.split("=") for word in words[int(count) + int(results) :])
        if kind == "Convolution":
            outputs, size = int(settings["0"]), int(settings["6"])
            half = struct.unpack_from("<I", data, position)[0] != 0
            weights = np.frombuffer(data, "<f2" if half else "<f4", size, position + 4).astype(np.float32)
            position += 4 + (size * (2 if half else 4) + 3) // 4 * 4
            bias = np.frombuffer(data, "<f4", outputs, position).copy()
            position += 4 * outputs
            kernel = torch.from_numpy(weights).reshape(outputs, -1, 3, 3)
            out = functional.conv2d(inputs[0], kernel, torch.from_numpy(bias), padding=1)
            out = functional.leaky_relu(out, float(settings["-23310"].split(",")[1])) if "9" in settings else out
        elif kind == "Concat":
            out = torch.cat(inputs, 1)
        elif kind == "Eltwise":
            first, second = (float(word) for word in settings["-23301"].split(",")[1:])
            out = inputs[0] * first + inputs[1] * second
        elif kind == "BinaryOp":
            out = inputs[0] + inputs[1]
        elif kind == "Interp":
            out = inputs[0].repeat_interleave(2, 2).repeat_interleave(2, 3)
        else:
            out = inputs[0] if kind == "Split" else picture
        known.update(dict.fromkeys(names, out))
    assert position == len(data)
    return out


def recorded(ending: str, content: bytes, model: PackagedModel = MODEL) -> str:
    """The line of a package's record for one of the model's files."""
    found = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
    return f"{model.path}{ending},sha256={found},{len(content)}"


def install(folder: Path, files: dict[str, bytes], record: Sequence[str] = (), model: PackagedModel = MODEL) -> None:
    """A folder for sys.path in which the weights' package seems installed. Its code fails where it is run."""
    package = folder / model.path.split("/")[0]
    (folder / model.path).parent.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('no Vulkan driver')\n")
    information = folder / f"{model.package.replace('-', '_')}-9.9.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {model.package}\nVersion: 9.9\n")
    (information / "RECORD").write_text("".join(f"{line}\n" for line in record))
    for ending, content in files.items():
        (folder / (model.path + ending)).write_bytes(content)
