"""StyleGAN2's networks as rosinality/stylegan2-pytorch trains them, or converts the authors'."""

from functools import partial
from typing import Any

import torch

from pggan.foreign.networks import Array, Layout
from pggan.foreign.style import StyleSource, check_filters, style_model
from pggan.foreign.unpickle import recorded
from pggan.model.files import Model
from pggan.model.style import StyleGenerator
from pggan.rng import normals

AVERAGED, AVERAGED_CLOCK = 4096, 4096  # latents whose w stand for the average that a training run does not store
GENERATORS = {"average": "g_ema", "generator": "g"}
PARTS = {
    "weight": "conv.weight",
    "bias": "activate.bias",
    "noise_strength": "noise.weight",
    "affine.weight": "conv.modulation.weight",
    "affine.bias": "conv.modulation.bias",
}
ENDS = {"conv": "final_conv.0", "dense": "final_linear.0", "out": "final_linear.1"}
PLACES = {"from_rgb": ("", 0), "conv0": ("conv1.", 0), "conv1": ("conv2.", 1), "skip": ("skip.", 1)}
"""Layers of the discriminator -> the block's part, and the weight's place in it; filters come before, biases after."""


def _matches(content: Any) -> bool:
    return isinstance(content, dict) and isinstance(content.get("g_ema"), dict) and "input.input" in content["g_ema"]


def _read(content: Any) -> Model:
    average = {"latent_avg": content["latent_avg"]} if "latent_avg" in content else {}
    sources = {}
    for stored, name in GENERATORS.items():
        if name in content:
            arrays = {**content[name], **average}
            arrays.setdefault("latent_avg", arrays["style.1.bias"])  # of the right shape; computed below
            filters = check_filters(arrays, ".kernel")
            sources[stored] = StyleSource(name, arrays, _of_generator, _convert, ignored=filters)
    if "d" in content:
        levels = sum(name.startswith("to_rgb") and name.endswith("conv.weight") for name in content["g_ema"])
        filters = check_filters(content["d"], ".kernel")
        named = partial(_of_discriminator, levels)
        sources["discriminator"] = StyleSource("d", content["d"], named, lambda _, array: array, ignored=filters)
    model = style_model(sources)
    if not average:
        for network in (model.ema, model.generator):
            assert isinstance(network, StyleGenerator)
            latents = normals(0, "grid", AVERAGED_CLOCK, (AVERAGED, model.config.latent_size))
            with torch.no_grad():
                network.w_average.copy_(network.map(latents).mean(dim=0))
    return model


def _of_generator(name: str) -> str:
    if name == "w_average":
        return "latent_avg"
    kind, place, *rest = name.split(".", 3)
    if kind == "mapping":
        return f"style.{int(place) + 1}.{rest[0]}"
    layer, part = rest[0], rest[-1]
    number = 2 * (int(place).bit_length() - 4) + (layer == "conv1")  # -1 at 4 x 4
    if layer == "const":
        return "input.input"
    if part == "noise":
        return f"noises.noise_{number + 1}"
    if layer == "to_rgb":
        where = "to_rgb1" if place == "4" else f"to_rgbs.{number // 2}"
        return f"{where}.bias" if part == "bias" else f"{where}.{PARTS[part]}"
    if layer == "skip":
        return name  # its generators have none
    return f"{'conv1' if place == '4' else f'convs.{number}'}.{PARTS[part]}"


def _of_discriminator(levels: int, name: str) -> str:
    _, level, layer, part = f"{name}..".split(".")[:4]
    if layer in ENDS:
        # the bias of the convolution is the activation's
        return f"{ENDS[layer]}.{part}" if (layer, part) != ("conv", "bias") else "final_conv.1.bias"
    if layer not in PLACES:
        return name
    inner, place = PLACES[layer]
    block = 0 if layer == "from_rgb" else levels + 3 - int(level).bit_length()
    return f"convs.{block}.{inner}{place + (part == 'bias')}.{part}"


def _convert(name: str, array: Array) -> Array:
    if array.ndim == 5:  # (1, out, in, k, k)
        array = array[0]
    return array[:, :, ::-1, ::-1] if name.endswith("conv0.weight") else array


LAYOUT = Layout("rosinality's stylegan2-pytorch", _matches, _read, recorded("argparse.Namespace"))
