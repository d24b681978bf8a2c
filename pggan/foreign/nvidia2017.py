"""Networks of the paper's authors in Theano, 2017: branch original-theano-version of their repository.

Their arrays have no names, only an order. A layer's weight comes with its own scale, which is close to, but not, the
one that ours is used with.
"""

from typing import Any

from pggan.config.settings import NetworkConfig
from pggan.foreign.networks import Array, Layout, Place, Scaled, Source, dense_of_maps, model_of, settings_of, turned
from pggan.foreign.unpickle import Record, UnpickleError, as_array, recorded
from pggan.model.files import Model

NETWORK = "network.Network"
FUNCTIONS = ("G_paper", "D_paper", "G_progressive_8", "D_progressive_8")
UNLIKE_OURS = ("use_batchnorm", "use_layernorm", "tanh_at_end", "mbdisc_kernels", "label_size")
"""Options that our networks do not have in the authors' form, where they are set."""


def _matches(content: Any) -> bool:
    return isinstance(content, tuple) and len(content) == 3 and all(_is_network(item) for item in content)


def _is_network(item: Any) -> bool:
    return isinstance(item, Record) and item.kind == NETWORK


def _read(content: Any) -> Model:
    """Return the model of the triple (generator, discriminator, average of the generator)."""
    specs = [record.state["build_func_spec"] for record in content]
    for spec in specs:
        if spec["func"] not in FUNCTIONS:
            raise UnpickleError(f"its networks were made by {str(spec['func'])[:40]!r}, not by G_paper and D_paper")
        if set_here := [name for name in UNLIKE_OURS if spec.get(name)]:
            raise UnpickleError(f"its networks have {', '.join(set_here)}, which cannot be read")
    g_spec, d_spec = specs[2], specs[1]
    statistics = d_spec.get("mbstat_avg", "all")
    if statistics not in ("all", None):
        raise UnpickleError(f"its statistics of the minibatch are averaged by {str(statistics)[:40]!r}, not over all")
    scaled = {bool(spec.get("use_wscale", True)) for spec in specs}
    if len(scaled) != 1:
        raise UnpickleError("only one of its networks scales its weights")
    generator, discriminator, average = (
        Source(name, _named(record.state["param_values"], name != "D", True in scaled), _names, _convert)
        for name, record in zip(("G", "D", "Gs"), content, strict=True)
    )
    config = NetworkConfig(
        **settings_of(average, discriminator),
        weights="equalized" if True in scaled else "he",
        normalize_latents=bool(g_spec.get("normalize_latents", True)),
        label_join="after",
        g_activation="leaky_relu" if g_spec.get("use_leakyrelu", True) else "relu",
        g_norm="pixel" if g_spec.get("use_pixelnorm", True) else "none",
        d_statistics="none" if statistics is None else "stddev",
        stddev_group=0,
        down_step="unfused",
    )
    sources = {"average": average, "generator": generator, "discriminator": discriminator}
    return model_of(config, sources, lod=float(as_array(content[2].state["toplevel_params"]["cur_lod"])))


def _named(values: list[Any], generator: bool, scaled: bool) -> dict[str, Array]:
    """Return the arrays by the names of our layers, with weights in the scale that they are used with."""
    arrays = [as_array(value) for value in values]
    step = 3 if scaled else 2  # weight, scale where there is one, bias
    count, rest = divmod(len(arrays), step)
    levels, left = divmod(count, 3)
    if rest or left != (0 if generator else 1) or not 1 <= levels <= 9:
        raise UnpickleError(
            f"its {'generator' if generator else 'discriminator'} has {len(arrays)} arrays, which fits no resolution"
        )
    sizes = [2 ** (2 + order) for order in range(levels)]
    if generator:
        order = ["4/dense", "4/conv", *(f"{size}/{name}" for size in sizes[1:] for name in ("conv0", "conv1"))]
        order += [f"{size}/to_rgb" for size in reversed(sizes)]
    else:
        order = [f"{sizes[-1]}/from_rgb"]
        for size in reversed(sizes[1:]):
            order += [f"{size}/conv0", f"{size}/conv1", f"{size // 2}/from_rgb"]
        order += ["4/conv", "4/dense0", "4/dense1"]
    named = {}
    for place, name in enumerate(order):
        own = arrays[place * step : (place + 1) * step]
        named[f"{name}/weight"] = own[0] * own[1] if scaled else own[0]
        named[f"{name}/bias"] = own[-1]
    return named


def _names(place: Place) -> tuple[str, str]:
    return f"{place.level}/{place.name}/weight", f"{place.level}/{place.name}/bias"


def _convert(place: Place, layer: Scaled, weight: Array, bias: Array) -> tuple[Array, Array]:
    weight = weight / layer.scale
    if place.name == "dense":  # (maps, in, 4, 4)
        return dense_of_maps(weight), bias
    if place.name == "dense0":  # (out, in, 4, 4)
        return turned(weight).reshape(len(weight), -1), bias
    if weight.ndim == 2:  # (in, out)
        return weight.T.reshape(layer.weight.shape), bias
    return turned(weight), bias


LAYOUT = Layout("progressive_growing_of_gans (2017)", _matches, _read, recorded(NETWORK))
