"""Our networks, filled layer by layer from the arrays of another project's file."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pggan.config.settings import NetworkConfig
from pggan.foreign.unpickle import Globals, UnpickleError, as_array
from pggan.model.files import MAX_RESOLUTION, Model, filled_model, new_model
from pggan.model.layers import ScaledConv, ScaledDense
from pggan.model.networks import Network

Scaled = ScaledConv | ScaledDense
Array = NDArray[Any]


class Place(NamedTuple):
    """A layer of a generator or a discriminator of `full` pixels: its level's resolution and its name in ours."""

    generator: bool
    full: int
    level: int
    name: str

    @property
    def lod(self) -> int:
        """Return the number of levels above this one."""
        return int(math.log2(self.full / self.level))

    @property
    def order(self) -> int:
        """Return the number of levels below this one."""
        return int(math.log2(self.level)) - 2


@dataclass(frozen=True)
class Layout:
    """A way in which a project stores its networks.

    Attributes:
        name: the project.
        matches: tells a file's content that is of this project.
        read: gives its model. Raises UnpickleError for what does not fit, and what damaged structures lead to.
        globals: what its pickles name besides arrays; see `WeightUnpickler`.
    """

    name: str
    matches: Callable[[Any], bool]
    read: Callable[[Any], Model]
    globals: Globals = field(default_factory=dict)


@dataclass
class Arrays:
    """A network of a file, and which of its arrays were taken.

    Attributes:
        name: what the file calls the network.
        arrays: its arrays by name.
    """

    name: str
    arrays: Mapping[str, Any]
    ignored: frozenset[str] = field(default=frozenset({"lod"}), kw_only=True)
    used: set[str] = field(default_factory=set, kw_only=True)

    def take(self, name: str) -> Array:
        """Return the array of that name. Raises UnpickleError where there is none."""
        if name not in self.arrays:
            raise UnpickleError(f"{self.name} lacks {name}")
        self.used.add(name)
        return as_array(self.arrays[name])

    def unfit(self, name: str) -> str:
        """Return the message that an array does not fit."""
        return f"{name} of {self.name} has the shape {self.take(name).shape}, which does not fit the others"

    def fitted(self, name: str, array: Array, target: Tensor | None) -> Tensor:
        """Return the array of that name, as it was converted. Raises UnpickleError where it does not fit `target`."""
        if target is None or array.shape != target.shape:
            raise UnpickleError(self.unfit(name))
        if not np.isfinite(array).all():
            raise UnpickleError(f"{name} of {self.name} has values that are not finite")
        return torch.from_numpy(np.array(array, np.float32))

    def check_all_used(self) -> None:
        """Raise UnpickleError for an array that was not taken, although it is not one to ignore."""
        if extra := sorted(set(self.arrays) - self.used - self.ignored):
            raise UnpickleError(f"{self.name} also has {', '.join(extra[:3])}{', ...' if len(extra) > 3 else ''}")


@dataclass
class Source(Arrays):
    """A network of a progressive GAN in a file.

    Attributes:
        names: gives the names of a layer's weight and bias.
        convert: gives weight and bias as our layer has them, from those of the file; the weight is divided by our
            layer's `scale` where the file's is the one to use.
    """

    names: Callable[[Place], tuple[str, str]]
    convert: Callable[[Place, Scaled, Array, Array], tuple[Array, Array]]

    def layer(self, place: Place, layer: Scaled) -> tuple[Tensor, Tensor]:
        """Return weight and bias of our layer. Raises UnpickleError where the file's do not fit."""
        names = self.names(place)
        arrays = self.take(names[0]), self.take(names[1])
        try:
            with np.errstate(over="ignore"):  # what becomes infinite is refused below
                converted = self.convert(place, layer, *(array.astype(np.float32) for array in arrays))
        except (ValueError, IndexError):  # as many axes as expected, or sizes that cannot be reshaped
            converted = arrays
        weight, bias = map(self.fitted, names, converted, (layer.weight, layer.bias))
        return weight, bias


def turned(weight: Array) -> Array:
    """Return (out, in, k, k) kernels rotated by 180 degrees."""
    return weight[:, :, ::-1, ::-1]


def dense_of_maps(weight: Array) -> Array:
    """Return the (maps 16, in) weight of the generator's first layer from (maps, in, 4, 4); see `ScaledDense`."""
    return weight.transpose(0, 2, 3, 1).reshape(-1, weight.shape[1])


def settings_of(generator: Source, discriminator: Source | None) -> dict[str, Any]:
    """Return resolution, feature maps, latent size and classes, as the arrays have them. Raises UnpickleError."""

    def length(source: Source, place: Place) -> int:
        return source.take(source.names(place)[1]).size

    resolution = MAX_RESOLUTION
    while resolution > 4 and generator.names(Place(True, resolution, resolution, "conv1"))[1] not in generator.arrays:
        resolution //= 2
    maps = {4: length(generator, Place(True, resolution, 4, "conv"))}
    level = 8
    while level <= resolution:
        maps[level] = length(generator, Place(True, resolution, level, "conv1"))
        level *= 2
    hidden, classes = maps[4], 0
    if discriminator is not None:
        hidden = length(discriminator, Place(False, resolution, 4, "dense0"))
        classes = length(discriminator, Place(False, resolution, 4, "dense1")) - 1
    dense = generator.names(Place(True, resolution, 4, "dense"))[0]
    latents = generator.take(dense).size // (16 * max(maps[4], 1)) - classes
    if latents < 1:
        raise UnpickleError(generator.unfit(dense))
    return {"resolution": resolution, "latent_size": latents, "classes": classes, **_map_settings(maps, hidden)}


def _map_settings(maps: dict[int, int], hidden: int) -> dict[str, Any]:
    """Return the settings of feature maps by level, of which `hidden` is below 4: the paper's formula where it fits."""
    top = max(maps)
    by_formula: dict[str, Any] = {"fmap_base": maps[top] * top // 2, "fmap_max": max(maps.values())}
    config, wanted = NetworkConfig(top, **by_formula), {2: hidden, **maps}
    fits = all(config.fmaps(resolution) == count for resolution, count in wanted.items())
    return by_formula if fits else {"fmap_by_level": tuple(wanted.items())}


def model_of(config: NetworkConfig, sources: Mapping[str, Source], *, lod: float, images: int = 0) -> Model:
    """Return the model whose networks, by their names in `Model.stored`, have the weights of `sources`.

    A generator that the file lacks becomes the average's; a discriminator that it lacks stays random, and
    `Model.untrained` names it. Raises UnpickleError for arrays that do not fit each other.
    """
    if not 0 <= lod <= len(config.levels) - 1:
        raise UnpickleError(f"it has grown to the level of detail {lod}, which must be 0 to {len(config.levels) - 1}")
    with torch.device("meta"):  # networks of any size cost nothing before the arrays are seen to fit
        shapes = new_model(config).stored
    states = {name: _state(shapes[name], source) for name, source in sources.items()}
    states.setdefault("generator", states["average"])
    return filled_model(config, states, lod=lod, images=images)


def _state(network: Network, source: Source) -> dict[str, Tensor]:
    """Return the state dictionary of our network from the arrays of a source, all of which must be used."""
    full = network.config.resolution
    generator = "to_rgb" in dict(network.level(4).named_children())
    state = {}
    for name, layer in network.named_modules():
        if isinstance(layer, ScaledConv | ScaledDense):
            _, level, own = name.split(".")
            place = Place(generator, full, int(level), own)
            state[f"{name}.weight"], state[f"{name}.bias"] = source.layer(place, layer)
    source.check_all_used()
    return state
