"""Networks of facebookresearch/pytorch_GAN_zoo, as its `ProgressiveGAN.save` writes them.

Its layers all have the gain sqrt(2), biases are scaled like weights, and the generator's first layer has a bias for
every map and position. Its groups of standard deviations are runs of four samples, with unbiased variances; ours have
samples that lie apart. Four samples, which are one group, get the same scores. With labels, its loss reads the class
from the columns 0, 1, ... of the discriminator, the score's among them; the columns are left where they are.
"""

import math
from typing import Any

import numpy as np

from pggan.config.settings import NetworkConfig
from pggan.foreign.networks import Array, Layout, Place, Scaled, Source, model_of, settings_of
from pggan.foreign.unpickle import Record, UnpickleError, recorded
from pggan.model.files import Model
from pggan.model.layers import LEAKY_SLOPE

CONFIG = "models.utils.config.BaseConfig"
GROUP = 4
NAMES = {
    "dense": "formatLayer",
    "to_rgb": "toRGBLayers.{}",
    "from_rgb": "fromRGBLayers.{}",
    "dense0": "groupScaleZero.1",
    "dense1": "decisionLayer",
}
WITH_TANH = ("MSE", "DCGAN")  # losses whose generators end in it


def _matches(content: Any) -> bool:
    return isinstance(content, dict) and {"config", "netG", "netD"} <= content.keys()


def _read(content: Any) -> Model:
    if not isinstance(content["config"], Record):
        raise UnpickleError("its settings are not a BaseConfig")
    options = content["config"].state
    if not options["equalizedlR"]:
        raise UnpickleError("its weights are not scaled (equalizedlR); such networks cannot be read")
    if options["leakyReluLeak"] != LEAKY_SLOPE:
        raise UnpickleError(f"its leaky ReLU has the slope {options['leakyReluLeak']}; 0.2 can be read")
    normalized = bool(options["perChannelNormalization"])
    sources = {
        stored: Source(name, content[name], _names, _convert)
        for stored, name in (("average", "avgG"), ("generator", "netG"), ("discriminator", "netD"))
        if content.get(name) is not None
    }
    sources.setdefault("average", sources["generator"])
    config = NetworkConfig(
        **settings_of(sources["average"], sources["discriminator"]),
        normalize_latents=normalized,
        g_norm="pixel" if normalized else "none",
        g_tanh=options.get("lossCriterion") in WITH_TANH,
        g_first_bias="position",
        d_statistics="stddev" if options["miniBatchStdDev"] else "none",
        stddev_group=GROUP,
        down_step="unfused",
    )
    return model_of(config, sources, lod=float(options["alpha"]))


def _names(place: Place) -> tuple[str, str]:
    if place.name == "conv":
        name = "groupScale0.0" if place.generator else "groupScaleZero.0"
    elif place.name in ("conv0", "conv1"):
        name = f"scaleLayers.{place.order - 1}.{place.name[-1]}"
    else:
        name = NAMES[place.name].format(place.order)
    return f"{name}.module.weight", f"{name}.module.bias"


def _convert(place: Place, layer: Scaled, weight: Array, bias: Array) -> tuple[Array, Array]:
    scale = math.sqrt(2 / weight[0].size)
    weight = weight * (scale / layer.scale)
    if place.name == "conv" and not place.generator and weight.shape[1] == len(weight) + 1:
        # deviations of 4 samples are sqrt(4/3) as large unbiased as biased
        weight = np.concatenate([weight[:, :-1], weight[:, -1:] * math.sqrt(GROUP / (GROUP - 1))], axis=1)
    return weight, bias * scale


LAYOUT = Layout("pytorch_GAN_zoo", _matches, _read, recorded(CONFIG))
