"""Generators of open-mmlab/mmgeneration. Its discriminator has other layers than ours, which cannot hold it."""

import math
from functools import partial
from typing import Any

from pggan.config.settings import NetworkConfig
from pggan.foreign.networks import Array, Layout, Place, Scaled, Source, model_of, settings_of, turned
from pggan.foreign.unpickle import UnpickleError, as_array
from pggan.model.files import Model

SOURCES = {"average": "generator_ema", "generator": "generator"}


def _matches(content: Any) -> bool:
    return (
        isinstance(content, dict)
        and isinstance(content.get("state_dict"), dict)
        and "generator.noise2feat.bias" in content["state_dict"]
    )


def _read(content: Any) -> Model:
    arrays = content["state_dict"]
    sources = {}
    for stored, name in SOURCES.items():
        own = {key.removeprefix(f"{name}."): value for key, value in arrays.items() if key.startswith(f"{name}.")}
        if own:
            sources[stored] = Source(name, own, _names, _convert)
    sources.setdefault("average", sources["generator"])
    config = NetworkConfig(**settings_of(sources["average"], None), pixel_norm="mmgeneration")
    number = partial(_number, arrays)
    current, weight = number("_curr_scale_int", config.resolution), number("_curr_transition_weight", 1.0)
    if not 4 <= current <= config.resolution or not 0 <= weight <= 1:
        raise UnpickleError(f"it has grown to {current:g} pixels with the weight {weight:g}")
    lod = math.log2(config.resolution / current)
    if current > 4:
        lod += 1 - weight  # what fades in is the level of the current scale
    return model_of(config, sources, lod=lod, images=round(1000 * number("shown_nkimg", 0.0)))


def _number(arrays: dict[str, Any], name: str, default: float) -> float:
    return float(as_array(arrays[name])) if name in arrays else default


def _names(place: Place) -> tuple[str, str]:
    if place.name == "dense":
        return "noise2feat.linear.weight_orig", "noise2feat.bias"
    if place.name == "to_rgb":
        name = f"torgb_layers.{place.order}.conv"
    else:
        name = f"conv_blocks.{2 * place.order - (place.name == 'conv0')}.conv"
    return f"{name}.weight_orig", f"{name}.bias"


def _convert(place: Place, _: Scaled, weight: Array, bias: Array) -> tuple[Array, Array]:
    if place.name == "conv0":  # (in, out, k, k), scaled by the number of outputs
        return turned(weight.transpose(1, 0, 2, 3)) * math.sqrt(len(weight) / weight.shape[1]), bias
    return weight, bias.reshape(-1)


LAYOUT = Layout("mmgeneration", _matches, _read)
