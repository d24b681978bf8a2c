"""Our style-based networks, filled array by array from those of another project's file."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pggan.config.style import Architecture, StyleConfig
from pggan.foreign.networks import Array, Arrays
from pggan.foreign.unpickle import UnpickleError, as_array
from pggan.model.files import MAX_RESOLUTION, Model, filled_model, new_model
from pggan.model.filters import RESAMPLE
from pggan.model.networks import Network


@dataclass
class StyleSource(Arrays):
    """A style-based network in a file.

    Attributes:
        theirs: gives the file's name of an array by that of ours, such as "levels.8.conv0.affine.weight".
        convert: gives an array as ours is, but for axes of length 1, by our name.
    """

    theirs: Callable[[str], str]
    convert: Callable[[str, Array], Array]

    def has(self, name: str) -> bool:
        """Return whether there is an array of that name of ours."""
        return self.theirs(name) in self.arrays

    def count(self, name: str) -> int:
        """Return how many values the array of that name of ours has."""
        return self.take(self.theirs(name)).size

    def state(self, network: Network) -> dict[str, Tensor]:
        """Return the state dictionary of our network. Raises UnpickleError for arrays that do not fit it."""
        state = {name: self._tensor(name, target) for name, target in network.state_dict().items()}
        self.check_all_used()
        return state

    def _tensor(self, name: str, target: Tensor) -> Tensor:
        array = found = self.take(self.theirs(name))
        try:
            with np.errstate(over="ignore"):  # what becomes infinite is refused below
                array = self.convert(name, found.astype(np.float32))
        except (ValueError, IndexError):  # other axes than expected
            pass
        if _long_axes(array.shape) == _long_axes(target.shape):
            array = array.reshape(target.shape)
        return self.fitted(self.theirs(name), array, target)


def _long_axes(shape: Iterable[int]) -> list[int]:
    return [size for size in shape if size != 1]


def style_model(sources: Mapping[str, StyleSource], *, stddev_group: int = 4) -> Model:
    """Return the model whose networks, by their names in `Model.stored`, have the arrays of `sources`.

    A generator that the file lacks becomes the average's; a discriminator that it lacks stays random, and
    `Model.untrained` names it. Raises UnpickleError for arrays that do not fit each other.
    """
    config = _config(sources["average"], sources.get("discriminator"), stddev_group)
    with torch.device("meta"):  # networks of any size cost nothing before the arrays are seen to fit
        shapes = new_model(config).stored
    states = {name: source.state(shapes[name]) for name, source in sources.items()}
    states.setdefault("generator", states["average"])
    return filled_model(config, states, lod=0.0, images=0)


def _config(generator: StyleSource, discriminator: StyleSource | None, stddev_group: int) -> StyleConfig:
    resolution = 4
    while resolution < MAX_RESOLUTION and generator.has(f"levels.{2 * resolution}.conv1.weight"):
        resolution *= 2
    maps = {r: generator.count(f"levels.{r}.conv1.bias") for r in StyleConfig(resolution).levels}
    of_classes: dict[str, Any] = {}
    if discriminator is not None:
        maps[2] = discriminator.count("levels.4.dense.bias")
        if discriminator.has("embed.bias"):
            classes = discriminator.count("embed.weight") // max(discriminator.count("embed.bias"), 1)
            of_classes = {"classes": classes, "label_layers": _mapping_layers(discriminator)}
    config = StyleConfig(
        resolution,
        _architecture(generator, "to_rgb"),
        "resnet" if discriminator is None else _architecture(discriminator, "from_rgb"),
        fmap_base=maps[resolution] * resolution // 2,
        fmap_max=max(maps.values()),
        latent_size=generator.count("mapping.0.bias"),
        mapping_layers=_mapping_layers(generator),
        stddev_group=stddev_group,
        **of_classes,
    )
    if any(config.fmaps(r) != count for r, count in maps.items()):
        counts = ", ".join(f"{count} at {r}" for r, count in maps.items())
        raise UnpickleError(f"its feature maps by level ({counts}) are not min(2 base / r, max) for any base and max")
    return config


def _mapping_layers(source: StyleSource) -> int:
    layers = 1
    while source.has(f"mapping.{layers}.bias"):
        layers += 1
    return layers


def _architecture(source: StyleSource, picture_layer: str) -> Architecture:
    """Return the kind of network: one with shortcuts, with pictures at each level, or neither."""
    if source.has("levels.8.skip.weight"):
        return "resnet"
    return "skip" if source.has(f"levels.4.{picture_layer}.bias") else "orig"


def check_filters(arrays: Mapping[str, object], ending: str) -> frozenset[str]:
    """Return the names of the filters among the arrays. Raises UnpickleError unless all are ours but for their gain."""
    names = frozenset(name for name in arrays if name.endswith(ending))
    expected = np.outer(RESAMPLE, RESAMPLE) / sum(RESAMPLE) ** 2
    for name in names:
        taps = as_array(arrays[name]).astype(np.float64)
        if taps.shape != expected.shape or not np.allclose(taps, expected * taps.sum(), atol=1e-6):
            raise UnpickleError(f"its filter {name} is not that of {list(RESAMPLE)}, the only one that can be read")
    return names
