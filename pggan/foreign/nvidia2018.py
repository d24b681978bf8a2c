"""Networks of the paper's authors in TensorFlow, 2018: tkarras/progressive_growing_of_gans."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from pggan.config.settings import NetworkConfig
from pggan.foreign.networks import Array, Layout, Place, Scaled, Source, model_of, settings_of, turned
from pggan.foreign.unpickle import Record, UnpickleError, recorded
from pggan.model.files import Model

NETWORK = "tfutil.Network"
RESAMPLING = {(True, "conv0"): "_up", (False, "conv1"): "_down"}  # endings of such layers, by network and our name
PIXEL_NORMS = {1e-8: "fp32", 1e-4: "fp16"}


def _matches(content: Any) -> bool:
    return isinstance(content, tuple) and len(content) == 3 and all(_is_network(item) for item in content)


def _is_network(item: Any) -> bool:
    return isinstance(item, Record) and item.kind == NETWORK


def _read(content: Any) -> Model:
    """Return the model of the triple (generator, discriminator, average of the generator)."""
    generator, discriminator, average = (_source(record) for record in content)
    options = [record.state["static_kwargs"] for record in content]
    g_options, d_options = options[2], options[1]
    epsilon = float(g_options.get("pixelnorm_epsilon", 1e-8))
    if epsilon not in PIXEL_NORMS:
        raise UnpickleError(f"its pixel norm has an epsilon of {epsilon}; 1e-8 and 1e-4 can be read")
    scaled = {bool(values.get("use_wscale", True)) for values in options}
    if len(scaled) != 1:
        raise UnpickleError("only one of its networks scales its weights")
    group = int(d_options.get("mbstd_group_size", 4))
    config = NetworkConfig(
        **settings_of(average, discriminator),
        weights="equalized" if True in scaled else "he",
        normalize_latents=bool(g_options.get("normalize_latents", True)),
        g_activation="leaky_relu" if g_options.get("use_leakyrelu", True) else "relu",
        g_norm="pixel" if g_options.get("use_pixelnorm", True) else "none",
        pixel_norm=PIXEL_NORMS[epsilon],  # type: ignore[arg-type]
        d_statistics="stddev" if group > 1 else "none",
        stddev_group=max(group, 1),
        down_step="fused" if _fused(discriminator.arrays) else "unfused",
    )
    sources = {"average": average, "generator": generator, "discriminator": discriminator}
    return model_of(config, sources, lod=float(average.take("lod")))


def _source(record: Record) -> Source:
    function = record.state["build_func_name"]
    arrays = {name: array for name, array in record.state["variables"] if isinstance(name, str)}
    if function not in ("G_paper", "D_paper"):
        raise UnpickleError(
            f"its networks were made by the function {str(function)[:40]!r}, not by G_paper and D_paper"
        )
    fused = _fused(arrays)
    return Source(str(record.state["name"]), arrays, partial(_names, fused), partial(_convert, fused))


def _fused(arrays: Mapping[str, Any]) -> bool:
    """Return whether the arrays are of a network that resamples within its convolutions."""
    return any(name.endswith(("Conv0_up/weight", "Conv1_down/weight")) for name in arrays)


def _names(fused: bool, place: Place) -> tuple[str, str]:
    if place.name in ("to_rgb", "from_rgb"):
        name = f"{'To' if place.generator else 'From'}RGB_lod{place.lod}"
    else:
        ending = RESAMPLING.get((place.generator, place.name), "") if fused else ""
        name = f"{place.level}x{place.level}/{place.name.capitalize()}{ending}"
    return f"{name}/weight", f"{name}/bias"


def _convert(fused: bool, place: Place, _: Scaled, weight: Array, bias: Array) -> tuple[Array, Array]:
    if weight.ndim == 2:  # (in, out)
        return weight.T, bias
    if fused and place.generator and place.name == "conv0":  # (k, k, out, in) of a transposed convolution
        return turned(weight.transpose(2, 3, 0, 1)), bias
    return weight.transpose(3, 2, 0, 1), bias


LAYOUT = Layout("progressive_growing_of_gans (2018)", _matches, _read, recorded(NETWORK))
