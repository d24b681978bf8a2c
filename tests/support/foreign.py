"""Model files of ours written as other projects store their networks: the inverse of what pggan.foreign reads."""

import io
import math
import pickle
import sys
import types
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pggan.config.settings import NetworkConfig
from pggan.model.files import Model, new_model
from pggan.model.networks import Generator, Network

Array = NDArray[Any]
SMALL = NetworkConfig(16, fmap_base=32, fmap_max=8, latent_size=6)  # 8, 8 and 4 maps


def random_model(config: NetworkConfig, lod: float = 0.0) -> Model:
    """A model all of whose weights and biases are random, with three different networks."""
    model = new_model(config, lod)
    generator = torch.Generator().manual_seed(7)
    for network in model.stored.values():
        for parameter in network.parameters():
            parameter.data.normal_(generator=generator)
    return model


def layers(network: Network) -> Iterator[tuple[int, str, Array, Array, float]]:
    """Level, name, weight, bias and run-time scale of every layer, in the order of ours."""
    for name, layer in network.named_modules():
        if hasattr(layer, "scale"):
            _, level, own = name.split(".")
            yield int(level), own, layer.weight.numpy(), layer.bias.numpy(), layer.scale


@contextmanager
def foreign_class(full_name: str) -> Iterator[type]:
    """A class that pickles under another project's name, while the context lasts."""
    module, _, name = full_name.rpartition(".")
    made = type(name, (), {"__module__": module})
    parts = module.split(".")
    names = [".".join(parts[: end + 1]) for end in range(len(parts))]
    for each in names:
        sys.modules[each] = types.ModuleType(each)
    setattr(sys.modules[module], name, made)
    try:
        yield made
    finally:
        for each in names:
            del sys.modules[each]


def record(kind: type, **state: Any) -> Any:
    """An object of a foreign class with these attributes."""
    made = kind()
    made.__dict__.update(state)
    return made


def turned(weight: Array) -> Array:
    return weight[..., ::-1, ::-1]


class Python2Array:
    """An array as Python 2 pickled it: its bytes are a text of Latin 1."""

    def __init__(self, array: Array) -> None:
        self.array = np.array(array, order="C")

    def __reduce__(self) -> Any:
        function, (kind, empty, _), (version, shape, dtype, order, data) = self.array.__reduce__()
        return function, (kind, empty, "b"), (version, shape, dtype, order, data.decode("latin1"))


def nvidia2018(path: Path, model: Model, *, fused: bool, **options: Any) -> None:
    """The authors' TensorFlow pickle: kernels are (k, k, in, out), dense weights (in, out)."""
    full = model.config.resolution

    def variables(network: Network) -> list[tuple[str, Any]]:
        arrays: list[tuple[str, Any]] = [("lod", np.float32(model.lod))]
        for level, own, weight, bias, _ in layers(network):
            up = fused and own == "conv0" and isinstance(network, Generator)
            down = fused and own == "conv1" and not isinstance(network, Generator)
            if own in ("to_rgb", "from_rgb"):
                name = f"{'To' if own == 'to_rgb' else 'From'}RGB_lod{int(math.log2(full // level))}"
            else:
                name = f"{level}x{level}/{own.capitalize()}{'_up' if up else '_down' if down else ''}"
            if weight.ndim == 2:
                stored = weight.T
            else:
                stored = turned(weight).transpose(2, 3, 0, 1) if up else weight.transpose(2, 3, 1, 0)
            arrays += [(f"{name}/weight", stored), (f"{name}/bias", bias)]
        return arrays

    with foreign_class("tfutil.Network") as kind:
        content = tuple(
            record(
                kind,
                version=2,
                name=name,
                static_kwargs={"resolution": full, "mbstd_group_size": model.config.stddev_group, **options},
                build_module_src="",
                build_func_name=f"{name[0]}_paper",
                variables=variables(network),
            )
            for name, network in (("G", model.generator), ("D", model.discriminator), ("Gs", model.ema))
        )
        path.write_bytes(pickle.dumps(content, 4))


def nvidia2017(path: Path, model: Model, **options: Any) -> None:
    """The authors' Theano pickle: arrays by order, each weight with a scale of its own, kernels turned."""
    numbers = np.random.default_rng(3)

    def parameters(network: Network) -> list[Any]:
        stored: dict[tuple[int, str], list[Array]] = {}
        for level, own, weight, bias, scale in layers(network):
            if own == "dense":
                weight = weight.reshape(-1, 4, 4, weight.shape[1]).transpose(0, 3, 1, 2)
            elif own == "dense0":
                weight = turned(weight.reshape(len(weight), -1, 4, 4))
            elif own in ("to_rgb", "from_rgb", "dense1"):
                weight = weight.reshape(weight.shape[:2]).T
            else:
                weight = turned(weight)
            drawn = np.float32(scale * numbers.uniform(0.8, 1.2))
            stored[level, own] = [weight * np.float32(scale / drawn), np.asarray(drawn), bias]
        levels = sorted({level for level, _ in stored})
        if isinstance(network, Generator):
            order = [(4, "dense"), (4, "conv"), *((r, own) for r in levels[1:] for own in ("conv0", "conv1"))]
            order += [(r, "to_rgb") for r in reversed(levels)]
        else:
            order = [(levels[-1], "from_rgb")]
            for r in reversed(levels[1:]):
                order += [(r, "conv0"), (r, "conv1"), (r // 2, "from_rgb")]
            order += [(4, "conv"), (4, "dense0"), (4, "dense1")]
        return [Python2Array(array) for place in order for array in stored[place]]

    with foreign_class("network.Network") as kind:
        content = tuple(
            record(
                kind,
                build_func_spec={"func": function, "resolution": model.config.resolution, **options},
                build_module_src="",
                param_values=parameters(network),
                toplevel_params={"cur_lod": Python2Array(np.float32(model.lod))},
            )
            for function, network in (
                ("G_paper", model.generator),
                ("D_paper", model.discriminator),
                ("G_progressive_8", model.ema),
            )
        )
        path.write_bytes(pickle.dumps(content, 2))


def gan_zoo(path: Path, model: Model, *, legacy: bool = False, **options: Any) -> None:
    """pytorch_GAN_zoo's file: gain sqrt(2) in all layers, biases scaled, unbiased deviations."""

    def state(network: Network) -> OrderedDict[str, torch.Tensor]:
        tensors: OrderedDict[str, torch.Tensor] = OrderedDict()
        generator = isinstance(network, Generator)
        for level, own, weight, bias, scale in layers(network):
            order = int(math.log2(level)) - 2
            name = {
                "dense": "formatLayer",
                "conv": "groupScale0.0" if generator else "groupScaleZero.0",
                "conv0": f"scaleLayers.{order - 1}.0",
                "conv1": f"scaleLayers.{order - 1}.1",
                "to_rgb": f"toRGBLayers.{order}",
                "from_rgb": f"fromRGBLayers.{order}",
                "dense0": "groupScaleZero.1",
                "dense1": "decisionLayer",
            }[own]
            theirs = math.sqrt(2 / weight[0].size)
            weight = weight * (scale / theirs)
            if own == "conv" and not generator:
                weight[:, -1] *= math.sqrt(3 / 4)
            tensors[f"{name}.module.weight"] = torch.tensor(weight, dtype=torch.float32)
            tensors[f"{name}.module.bias"] = torch.tensor(bias / theirs, dtype=torch.float32)
        return tensors

    settings = {
        "equalizedlR": True,
        "leakyReluLeak": 0.2,
        "perChannelNormalization": True,
        "miniBatchStdDev": True,
        "lossCriterion": "WGANGP",
        "alpha": model.lod,
        **options,
    }
    with foreign_class("models.utils.config.BaseConfig") as kind:
        content = {
            "config": record(kind, **settings),
            "netG": state(model.generator),
            "netD": state(model.discriminator),
            "avgG": state(model.ema),
        }
        torch.save(content, path, _use_new_zipfile_serialization=not legacy)


def genforce_state(network: Network, *, fused: bool = False) -> OrderedDict[str, torch.Tensor]:
    """State dictionary of a network of genforce, without its lod."""
    tensors: OrderedDict[str, torch.Tensor] = OrderedDict()
    generator, full = isinstance(network, Generator), network.config.resolution
    for level, own, weight, bias, _ in layers(network):
        order, lod = int(math.log2(level)) - 2, int(math.log2(full // level))
        if own == "to_rgb":
            name = f"output{order}"
        elif own == "from_rgb":
            name = f"input{lod}"
        elif generator:
            name = f"layer{2 * order + (own in ('conv', 'conv1'))}"
        else:
            name = f"layer{2 * lod + {'conv0': 0, 'conv1': 1, 'conv': 0, 'dense0': 1, 'dense1': 2}[own]}"
        if own == "dense":
            weight = turned(weight.reshape(-1, 4, 4, weight.shape[1]).transpose(0, 3, 1, 2))
        elif own == "conv0" and generator and fused:
            weight = turned(weight).transpose(1, 0, 2, 3)
        tensors[f"{name}.weight"], tensors[f"{name}.bias"] = torch.tensor(weight.copy()), torch.tensor(bias)
    return tensors


def genforce(path: Path, model: Model, *, fused: bool = False) -> None:
    """genforce's file of three state dictionaries."""
    names = {"generator": model.generator, "discriminator": model.discriminator, "generator_smooth": model.ema}
    lod = torch.tensor(model.lod)
    torch.save({name: {"lod": lod, **genforce_state(each, fused=fused)} for name, each in names.items()}, path)


def interfacegan(path: Path, model: Model, *, fused: bool = False) -> None:
    """InterFaceGAN's file of the average; fused kernels are (k, k, in, out) of transposed convolutions."""
    tensors: OrderedDict[str, torch.Tensor] = OrderedDict(lod=torch.tensor(model.lod))
    for name, tensor in genforce_state(model.ema).items():
        layer, _, part = name.partition(".")
        number = layer.removeprefix("layer")
        if part == "bias":
            tensors[f"{layer}.wscale.bias"] = tensor
        elif fused and number.isdecimal() and int(number) >= 2 and int(number) % 2 == 0:
            tensors[f"{layer}.weight"] = tensor.flip(2, 3).permute(2, 3, 1, 0)
        else:
            tensors[f"{layer}.conv.weight"] = tensor
    torch.save(tensors, path)


def mmgeneration(path: Path, model: Model, *, weight: float = 1.0) -> None:
    """mmgeneration's file; its discriminator is reduced to one tensor, as nothing of it is read."""
    state: OrderedDict[str, torch.Tensor] = OrderedDict(
        shown_nkimg=torch.tensor(12.0),
        _curr_transition_weight=torch.tensor(weight),
        _curr_scale_int=torch.tensor(model.config.resolution, dtype=torch.int32),
    )
    state["discriminator.decision.linear0.bias"] = torch.zeros(3)
    for prefix, network in (("generator", model.generator), ("generator_ema", model.ema)):
        for level, own, kernel, bias, _ in layers(network):
            order = int(math.log2(level)) - 2
            name = {
                "dense": "noise2feat.linear",
                "conv": "conv_blocks.0.conv",
                "conv0": f"conv_blocks.{2 * order - 1}.conv",
                "conv1": f"conv_blocks.{2 * order}.conv",
                "to_rgb": f"torgb_layers.{order}.conv",
            }[own]
            if own == "conv0":
                kernel = turned(kernel * math.sqrt(len(kernel) / kernel.shape[1])).transpose(1, 0, 2, 3)
            state[f"{prefix}.{name}.weight_orig"] = torch.tensor(kernel.copy(), dtype=torch.float32)
            if own == "dense":
                state[f"{prefix}.noise2feat.bias"] = torch.tensor(bias).view(1, -1, 1, 1)
            else:
                state[f"{prefix}.{name}.bias"] = torch.tensor(bias)
    torch.save({"meta": {"mmcv_version": "1"}, "state_dict": state}, path)


def torch_bytes(content: Any, *, legacy: bool = False) -> bytes:
    """What torch.save writes of an object."""
    stream = io.BytesIO()
    torch.save(content, stream, _use_new_zipfile_serialization=not legacy)
    return stream.getvalue()
