"""StyleGAN2's networks by its authors, in TensorFlow: NVlabs/stylegan2, configurations E, F and those of table 2."""

from collections.abc import Mapping
from typing import Any

from pggan.foreign.networks import Array, Layout
from pggan.foreign.style import StyleSource, style_model
from pggan.foreign.unpickle import Record, UnpickleError, recorded
from pggan.model.files import Model

NETWORK = "dnnlib.tflib.network.Network"
FUNCTIONS = ("G_main", "G_mapping", "G_synthesis_stylegan2", "D_stylegan2")
ONLY = {
    "label_size": (0,),
    "num_channels": (3,),
    "mapping_lrmul": (0.01,),
    "mapping_nonlinearity": ("lrelu",),
    "nonlinearity": ("lrelu",),
    "normalize_latents": (True,),
    "resample_kernel": ([1, 3, 3, 1], None),
    "mbstd_num_features": (1,),
}
"""Options of its networks -> the values that can be read, which are those of all published ones."""
LAYERS = {
    "conv0": "Conv0_up",
    "conv1": "Conv1",
    "to_rgb": "ToRGB",
    "from_rgb": "FromRGB",
    "skip": "Skip",
    "const": "Const/const",
    "conv": "Conv",
    "dense": "Dense0",
}
OF_DISCRIMINATOR = {**LAYERS, "conv0": "Conv0", "conv1": "Conv1_down"}
PARTS = {"affine.weight": "mod_weight", "affine.bias": "mod_bias"}


def _matches(content: Any) -> bool:
    return isinstance(content, tuple) and len(content) == 3 and all(_is_network(item) for item in content)


def _is_network(item: Any) -> bool:
    return isinstance(item, Record) and item.kind == NETWORK


def _read(content: Any) -> Model:
    """Return the model of the triple (generator, discriminator, average of the generator)."""
    generator, discriminator, average = content
    arrays = _arrays(discriminator)
    sources = {
        "average": StyleSource("Gs", _arrays(average), _of_generator, _convert),
        "generator": StyleSource("G", _arrays(generator), _of_generator, _convert),
        "discriminator": StyleSource("D", arrays, _of_discriminator, _convert),
    }
    return style_model(sources, stddev_group=int(discriminator.state["static_kwargs"].get("mbstd_group_size", 4)))


def _arrays(network: Record) -> Mapping[str, Any]:
    """Return the variables of a network and of its components."""
    parts = [network, *network.state["components"].values()]
    arrays: dict[str, Any] = {}
    for part in parts:
        if not _is_network(part):
            raise UnpickleError("it has a component that is not a network")
        function = part.state["build_func_name"]
        if function not in FUNCTIONS:
            raise UnpickleError(
                f"its networks were made by the function {str(function)[:40]!r}; those of {', '.join(FUNCTIONS)} "
                "can be read"
            )
        for name, values in ONLY.items():
            if (value := part.state["static_kwargs"].get(name, values[0])) not in values:
                raise UnpickleError(f"its networks have {name} {str(value)[:40]}; {values[0]} can be read")
        arrays |= {name: array for name, array in part.state["variables"] if isinstance(name, str)}
    return arrays


def _of_generator(name: str) -> str:
    if name == "w_average":
        return "dlatent_avg"
    kind, place, *rest = name.split(".", 3)
    if kind == "mapping":
        return f"Dense{place}/{rest[0]}"
    layer, *parts = rest
    if parts == ["noise"]:
        return f"noise{2 * (int(place).bit_length() - 3) - (layer == 'conv0')}"
    own = "Conv" if (place, layer) == ("4", "conv1") else LAYERS[layer]
    return "/".join([f"{place}x{place}", own, *(PARTS.get(part, part) for part in parts)])


def _of_discriminator(name: str) -> str:
    _, level, layer, part = f"{name}..".split(".")[:4]
    if layer == "out":
        return f"Output/{part}"
    return f"{level}x{level}/{OF_DISCRIMINATOR.get(layer, layer)}/{part}"


def _convert(name: str, array: Array) -> Array:
    if name.endswith("affine.bias"):
        return array + 1.0
    if not name.endswith(".weight"):
        return array
    return array.T if array.ndim == 2 else array.transpose(3, 2, 0, 1)  # (in, out), (k, k, in, out)


LAYOUT = Layout("stylegan2 (TensorFlow)", _matches, _read, recorded(NETWORK))
