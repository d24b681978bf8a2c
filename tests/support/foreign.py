"""Model files of ours written as other projects store their networks: the inverse of what pggan.foreign reads."""

import argparse
import io
import math
import pickle
import re
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

from pggan.config.settings import AnyNetworkConfig, NetworkConfig
from pggan.config.style import StyleConfig
from pggan.model.files import Model, new_model
from pggan.model.networks import Generator, Network

Array = NDArray[Any]
SMALL = NetworkConfig(16, fmap_base=32, fmap_max=8, latent_size=6)  # 8, 8 and 4 maps


STYLE = StyleConfig(16, fmap_base=32, fmap_max=8, latent_size=6, mapping_layers=2)


def random_model(config: AnyNetworkConfig, lod: float = 0.0) -> Model:
    """A model all of whose weights and biases are random, with three different networks."""
    model = new_model(config, lod)
    generator = torch.Generator().manual_seed(7)
    for network in model.stored.values():
        for tensor in (*network.parameters(), *network.buffers()):
            tensor.data.normal_(generator=generator)
    return model


def layers(network: Network) -> Iterator[tuple[int, str, Array, Array, float]]:
    """Level, name, weight, bias and run-time scale of every layer, in the order of ours."""
    for name, layer in network.named_modules():
        if hasattr(layer, "scale"):
            _, level, own = name.split(".")
            yield int(level), own, layer.weight.numpy(), layer.bias.numpy(), layer.scale


@contextmanager
def foreign_class(full_name: str, kind: Any = None) -> Iterator[Any]:
    """A class or function that pickles under another project's name, while the context lasts; None: a new class."""
    module, _, name = full_name.rpartition(".")
    made = kind or type(name, (), {})
    made.__module__, made.__name__, made.__qualname__ = module, name, name
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


def renamed(network: Network, rules: dict[str, str], noise: str = "") -> dict[str, Array]:
    """A network's arrays by other names: what each pattern finds is replaced; noise maps have numbers."""
    arrays, maps = {}, 0
    for name, tensor in network.state_dict().items():
        if noise and name.endswith(".noise"):
            name, maps = noise.format(maps), maps + 1
        for pattern, replacement in rules.items():
            name = re.sub(pattern, replacement, name)
        arrays[name] = tensor.numpy()
    return arrays


TENSORFLOW = {
    "^w_average$": "dlatent_avg",
    r"^mapping\.(\d+)\.": r"Dense\1/",
    r"^levels\.4\.out\.": "Output/",
    r"^levels\.(\d+)\.": r"\1x\1/",
    r"/const$": "/Const/const",
    r"/conv\.": "/Conv/",
    r"/dense\.": "/Dense0/",
    r"/to_rgb\.": "/ToRGB/",
    r"/from_rgb\.": "/FromRGB/",
    r"/skip\.": "/Skip/",
    r"affine\.": "mod_",
}
TENSORFLOW_G = {**TENSORFLOW, r"^4x4/conv1\.": "4x4/Conv/", r"/conv0\.": "/Conv0_up/", r"/conv1\.": "/Conv1/"}
TENSORFLOW_D = {**TENSORFLOW, r"/conv0\.": "/Conv0/", r"/conv1\.": "/Conv1_down/"}


def stylegan2(path: Path, model: Model, *, function: str = "G_synthesis_stylegan2", **options: Any) -> None:
    """The authors' pickle of StyleGAN2: networks with components, kernels (k, k, in, out), dense weights (in, out)."""

    def variables(network: Network, rules: dict[str, str]) -> dict[str, Any]:
        stored: dict[str, Any] = {}
        for name, array in renamed(network, rules, "noise{}").items():
            if name.endswith("weight"):
                array = array.T if array.ndim == 2 else array.transpose(2, 3, 1, 0)
            elif name.endswith("mod_bias"):
                array = array - 1
            elif name.endswith("const") or name.startswith("noise"):
                array = array[None] if array.ndim == 3 else array[None, None]
            stored[name] = array[()] if array.ndim == 0 else array
        return stored

    def network(name: str, function: str, stored: dict[str, Any], **components: Any) -> Any:
        return record(
            kind,
            version=4,
            name=name,
            static_kwargs={"resolution": model.config.resolution, "label_size": 0, **options},
            components=components,
            build_module_src="",
            build_func_name=function,
            variables=list(stored.items()),
        )

    def generator(name: str, stored: dict[str, Any]) -> Any:
        def some(start: str) -> dict[str, Any]:
            return {name: array for name, array in stored.items() if re.match(start, name)}

        return network(
            name,
            "G_main",
            {"lod": np.float32(0), **some("dlatent_avg")},
            synthesis=network("G_synthesis", function, some(r"\d|noise")),
            mapping=network("G_mapping", "G_mapping", some("Dense")),
        )

    with foreign_class("dnnlib.tflib.network.Network") as kind:
        content = (
            generator("G", variables(model.generator, TENSORFLOW_G)),
            network("D", "D_stylegan2", variables(model.discriminator, TENSORFLOW_D)),
            generator("Gs", variables(model.ema, TENSORFLOW_G)),
        )
        path.write_bytes(pickle.dumps(content, 4))


class Persistent:
    """An object that pickles as a call of a function, as those of stylegan2-ada-pytorch do."""

    def __init__(self, function: Any, meta: Any) -> None:
        self.called = (function, (meta,))

    def __reduce__(self) -> Any:
        return self.called


ADA = {
    r"^w_average$": "mapping.w_avg",
    r"^embed": "mapping.embed",
    r"^mapping\.(\d)": r"mapping.fc\1",
    r"^levels\.": "b",
    r"to_rgb": "torgb",
    r"from_rgb": "fromrgb",
    r"dense": "fc",
    r"noise$": "noise_const",
}
FILTER = np.outer([1, 3, 3, 1], [1, 3, 3, 1]).astype(np.float32) / 64


def stylegan2_ada(path: Path, model: Model, *, protocol: int = 4, changes: Any = None, **options: Any) -> None:
    """stylegan2-ada-pytorch's pickle: modules with their attributes, tensors with bytes of the old container.

    changes: more attributes of modules, by the modules' names.
    """

    def module(name: str, arrays: dict[str, Array]) -> Any:
        children: dict[str, dict[str, Array]] = {}
        own: dict[str, Any] = {"absent": None}
        for key, array in arrays.items():
            child, _, rest = key.partition(".")
            if rest:
                children.setdefault(child, {})[rest] = array
            else:
                own[child] = torch.tensor(array.copy())
        state = {
            "training": False,
            "_parameters": {key: torch.nn.Parameter(value) for key, value in own.items() if key == "weight"},
            "_buffers": {key: value for key, value in own.items() if key != "weight"},
            "_non_persistent_buffers_set": set(),
            "_backward_hooks": OrderedDict(),
            "_modules": OrderedDict((key, module(f"{name}.{key}", value)) for key, value in children.items()),
            "_init_kwargs": easy_dict(conv_clamp=256),
            "act_gain": np.float64(math.sqrt(2)),
            "bias_gain": 0.01 if ".fc" in name else 1,
            **(changes or {}).get(name, {}),
        }
        if name == "D.b4":
            state["_modules"]["mbstd"] = module("D.b4.mbstd", {})
        if name == "D.b4.mbstd":
            state |= {"group_size": model.config.stddev_group, "num_channels": 1, **options}
        meta = easy_dict(type="class", version=6, module_src="", class_name="Module", state=state)
        return Persistent(function, meta)

    with (
        foreign_class("torch_utils.persistence._reconstruct_persistent_obj", lambda meta: meta) as function,
        foreign_class("dnnlib.util.EasyDict", type("EasyDict", (dict,), {})) as easy_dict,
    ):
        generators = {}
        for name, network in (("G", model.generator), ("G_ema", model.ema)):
            arrays = renamed(network, ADA)
            for key, array in arrays.items():
                if key.endswith("conv0.weight"):
                    arrays[key] = turned(array)
            arrays = {f"{'synthesis.' * key.startswith('b')}{key}": array for key, array in arrays.items()}
            generators[name] = module(name, {**arrays, "synthesis.b8.resample_filter": FILTER})
        content = {
            "training_set_kwargs": {"path": "dataset.zip"},
            **generators,
            "D": module("D", {**renamed(model.discriminator, ADA), "b8.conv1.resample_filter": FILTER}),
            "augment_pipe": None,
        }
        path.write_bytes(pickle.dumps(content, protocol))


def rosinality(path: Path, model: Model, *, training: bool = False, taps: Array = FILTER) -> None:
    """rosinality's file, converted from the authors' or of a training run."""

    def block(found: re.Match[str]) -> str:
        number = int(math.log2(model.config.resolution / int(found[1]))) + 1
        if found[2] == "from_rgb":
            return f"convs.0.{int(found[3] == 'bias')}.{found[3]}"
        part, first = {"conv0": ("conv1", 0), "conv1": ("conv2", 1), "skip": ("skip", 1)}[found[2]]
        return f"convs.{number}.{part}.{first + (found[3] == 'bias')}.{found[3]}"

    def generator(network: Network) -> dict[str, torch.Tensor]:
        tensors, noises = {"to_rgbs.0.upsample.kernel": torch.tensor(taps * 4)}, 0
        for name, tensor in network.state_dict().items():
            level = name.split(".")[1] if name.startswith("levels") else ""
            number = int(math.log2(int(level or 4))) - 2  # from 0
            if name.startswith("mapping"):
                _, layer, own = name.split(".")
                tensors[f"style.{int(layer) + 1}.{own}"] = tensor
            elif name.endswith(".noise"):
                tensors[f"noises.noise_{noises}"] = tensor[None, None]
                noises += 1
            elif name == "levels.4.const":
                tensors["input.input"] = tensor[None]
            elif level:
                _, _, layer, own = name.split(".", 3)
                if layer == "to_rgb":
                    where = "to_rgb1" if level == "4" else f"to_rgbs.{number - 1}"
                else:
                    where = "conv1" if level == "4" else f"convs.{2 * number - 2 + (layer == 'conv1')}"
                if own == "weight":
                    tensors[f"{where}.conv.weight"] = (tensor.flip(2, 3) if layer == "conv0" else tensor)[None]
                elif own == "bias":
                    bias = tensor.view(1, -1, 1, 1) if layer == "to_rgb" else tensor
                    tensors[f"{where}.bias" if layer == "to_rgb" else f"{where}.activate.bias"] = bias
                elif own == "noise_strength":
                    tensors[f"{where}.noise.weight"] = tensor.view(1)
                else:
                    tensors[f"{where}.conv.modulation.{own.removeprefix('affine.')}"] = tensor
        return tensors

    def discriminator(network: Network) -> dict[str, torch.Tensor]:
        tensors = {"convs.1.conv2.0.kernel": torch.tensor(taps)}
        for name, tensor in network.state_dict().items():
            name = name.replace("levels.4.conv.weight", "final_conv.0.weight")
            name = name.replace("levels.4.conv.bias", "final_conv.1.bias")
            name = name.replace("levels.4.dense", "final_linear.0").replace("levels.4.out", "final_linear.1")
            tensors[re.sub(r"levels\.(\d+)\.(\w+)\.(\w+)", block, name)] = tensor
        return tensors

    content: dict[str, Any] = {
        "g": generator(model.generator),
        "d": discriminator(model.discriminator),
        "g_ema": generator(model.ema),
    }
    if training:
        content |= {"args": argparse.Namespace(size=model.config.resolution), "g_optim": {"state": {0: {"step": 1}}}}
    else:
        content["latent_avg"] = model.ema.state_dict()["w_average"]
    torch.save(content, path, _use_new_zipfile_serialization=not training)
