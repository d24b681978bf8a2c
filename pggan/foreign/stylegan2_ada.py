"""Networks of NVlabs/stylegan2-ada-pytorch: modules whose pickles hold their attributes, and source text as well.

The text is not looked at. With classes, the class joins the latents of the generator, and weights the outputs of the
discriminator.
"""

from typing import Any

from pggan.foreign.containers import bare_storage
from pggan.foreign.networks import Array, Layout, turned
from pggan.foreign.style import StyleSource, check_filters, style_model
from pggan.foreign.unpickle import Record, UnpickleError, state_dict
from pggan.model.files import Model
from pggan.model.style_layers import MAPPING_RATE

MODULE = "a module of stylegan2-ada-pytorch"
MOST_MODULES = 1000  # several times as many as the largest networks have
NETWORKS = {"average": "G_ema", "generator": "G", "discriminator": "D"}
LAYERS = {"to_rgb": "torgb", "from_rgb": "fromrgb", "dense": "fc", "noise": "noise_const"}


def _module(meta: Any) -> Record:
    """Return a module, with the attributes that it was stored with."""
    if not isinstance(meta, dict) or not isinstance(meta.get("state"), dict):
        raise UnpickleError("it has a module without attributes")
    return Record(MODULE, meta["state"])


def _set(items: Any = ()) -> set[Any]:
    """Return an empty set: none of these files has another one."""
    if items:
        raise UnpickleError("it has a set that is not empty")
    return set()


def _matches(content: Any) -> bool:
    return isinstance(content, dict) and all(
        isinstance(network := content.get(name), Record) and network.kind == MODULE for name in NETWORKS.values()
    )


def _read(content: Any) -> Model:
    modules = {stored: _modules(content[name]) for stored, name in NETWORKS.items()}
    sources = {}
    for stored, name in NETWORKS.items():
        arrays = _arrays(modules[stored])
        generator = stored != "discriminator"
        sources[stored] = StyleSource(
            name,
            arrays,
            _of_generator if generator else _of_discriminator,
            _convert if generator else lambda _, array: array,
            ignored=check_filters(arrays, "resample_filter"),
        )
    deviation = modules["discriminator"].get("b4.mbstd.")
    if deviation is None or deviation.state["num_channels"] != 1 or type(deviation.state["group_size"]) is not int:
        raise UnpickleError("its discriminator lacks the deviation within groups as one more map")
    return style_model(sources, stddev_group=deviation.state["group_size"])


def _modules(network: Record) -> dict[str, Record]:
    """Return a module and those in it, by their names with a dot after each."""
    modules = [("", network)]
    for prefix, module in modules:
        if not isinstance(module, Record):
            raise UnpickleError(f"its {prefix[:40]} is not a module")
        modules += [(f"{prefix}{name}.", child) for name, child in module.state["_modules"].items()]
        if len(modules) > MOST_MODULES:
            raise UnpickleError(f"it has more than {MOST_MODULES} modules")
    return dict(modules)


def _arrays(modules: dict[str, Record]) -> dict[str, Any]:
    arrays: dict[str, Any] = {}
    for prefix, module in modules.items():
        state = module.state
        if (activation := state.get("activation", "linear")) not in ("lrelu", "linear"):
            raise UnpickleError(f"its {prefix[:-1]} has the activation {str(activation)[:20]}; lrelu can be read")
        if prefix.startswith("mapping.fc") and state["bias_gain"] != MAPPING_RATE:
            raise UnpickleError(f"its mapping has the rate {str(state['bias_gain'])[:20]}; {MAPPING_RATE} can be read")
        own = {**state["_parameters"], **state["_buffers"]}
        arrays |= {f"{prefix}{name}": array for name, array in own.items() if array is not None}
    return arrays


def _of_generator(name: str) -> str:
    return "mapping.w_avg" if name == "w_average" else _named(name, "synthesis.")


def _of_discriminator(name: str) -> str:
    return _named(name, "")


def _named(name: str, where: str) -> str:
    first, *rest = name.split(".")
    if first == "levels":
        return ".".join([f"{where}b{rest[0]}", *(LAYERS.get(part, part) for part in rest[1:])])
    return f"mapping.fc{'.'.join(rest)}" if first == "mapping" else f"mapping.{name}"


def _convert(name: str, array: Array) -> Array:
    return turned(array) if name.endswith("conv0.weight") else array


LAYOUT = Layout(
    "stylegan2-ada-pytorch",
    _matches,
    _read,
    {
        "torch_utils.persistence _reconstruct_persistent_obj": _module,
        "dnnlib.util EasyDict": state_dict,
        "torch._utils _rebuild_parameter": lambda tensor, *_: tensor,
        "torch.storage _load_from_bytes": bare_storage,
        "builtins set": _set,
    },
)
