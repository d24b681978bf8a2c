"""The authors' networks as genforce/genforce and genforce/interfacegan converted them, and networks of genforce's own.

InterFaceGAN's files have the average of the generator alone.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from pggan.config.settings import NetworkConfig
from pggan.foreign.networks import Array, Layout, Place, Scaled, Source, dense_of_maps, model_of, settings_of, turned
from pggan.foreign.unpickle import as_array
from pggan.model.files import Model

GROUP = 16
SOURCES = {"average": "generator_smooth", "generator": "generator", "discriminator": "discriminator"}


def _matches(content: Any) -> bool:
    return isinstance(content, dict) and set(SOURCES.values()) <= content.keys()


def _read(content: Any) -> Model:
    sources = {}
    for stored, name in SOURCES.items():
        arrays = content[name]
        sources[stored] = Source(name, arrays, _names, partial(_convert, _fused(arrays)))
    config = NetworkConfig(
        **settings_of(sources["average"], sources["discriminator"]), stddev_group=GROUP, down_step="unfused"
    )
    return model_of(config, sources, lod=float(sources["average"].take("lod")))


def _fused(arrays: Mapping[str, Any]) -> bool:
    """Return whether a generator's upsampling layers are transposed convolutions, whose weights are (in, out, k, k).

    Only layers that change the number of maps show it; where none does, they are taken for plain ones.
    """
    names = [name for name in arrays if name.startswith("layer") and name.endswith(".weight")]
    shapes = [(as_array(arrays[name]).shape, as_array(arrays[name.replace("weight", "bias")]).size) for name in names]
    return any(shape[0] != maps == shape[1] for shape, maps in shapes)


def _names(place: Place) -> tuple[str, str]:
    if place.name == "to_rgb":
        name = f"output{place.order}"
    elif place.name == "from_rgb":
        name = f"input{place.lod}"
    elif place.generator:
        name = f"layer{2 * place.order + (place.name in ('conv', 'conv1'))}"
    else:
        layers = ("conv", "dense0", "dense1") if place.level == 4 else ("conv0", "conv1")
        name = f"layer{2 * place.lod + layers.index(place.name)}"
    return f"{name}.weight", f"{name}.bias"


def _convert(fused: bool, place: Place, _: Scaled, weight: Array, bias: Array) -> tuple[Array, Array]:
    if place.name == "dense":
        return dense_of_maps(turned(weight)), bias
    if fused and place.generator and place.name == "conv0":
        return turned(weight.transpose(1, 0, 2, 3)), bias
    return weight, bias


def _matches_interfacegan(content: Any) -> bool:
    return isinstance(content, dict) and "layer0.wscale.bias" in content


def _read_interfacegan(content: Any) -> Model:
    fused = "layer2.weight" in content  # upsampling layers are transposed convolutions
    names, convert = partial(_names_interfacegan, fused), partial(_convert_interfacegan, fused)
    average = Source("the generator", content, names, convert)
    config = NetworkConfig(**settings_of(average, None))
    return model_of(config, {"average": average}, lod=float(average.take("lod")))


def _names_interfacegan(fused: bool, place: Place) -> tuple[str, str]:
    name = _names(place)[0].removesuffix(".weight")
    return f"{name}.weight" if fused and place.name == "conv0" else f"{name}.conv.weight", f"{name}.wscale.bias"


def _convert_interfacegan(fused: bool, place: Place, layer: Scaled, weight: Array, bias: Array) -> tuple[Array, Array]:
    if fused and place.name == "conv0":  # (k, k, in, out)
        return turned(weight.transpose(3, 2, 0, 1)), bias
    return _convert(False, place, layer, weight, bias)


LAYOUT = Layout("genforce", _matches, _read)
INTERFACEGAN = Layout("InterFaceGAN", _matches_interfacegan, _read_interfacegan)
