"""Restorers made of networks: the bundled chain, Real-ESRGAN, and weight files of the user's."""

import hashlib
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from datatools.errors import DataError
from datatools.images import Box
from datatools.restore import DEFAULT_VARIANT, Restoration, SuperResolution, Variant
from datatools.restore.apply import Precision, best_precision, network_shape, restore
from datatools.restore.bundled import bundled_weights
from datatools.restore.devices import choose_device
from datatools.restore.foreign import REALESRGAN, load_model
from datatools.restore.foreign import digest as foreign_digest
from datatools.restore.photos import halve
from datatools.restore.weights import load_weights, task_of

ENOUGH = 1024.0
"""Side of a face rectangle, in photo pixels, from which super-resolution would be averaged away."""

LARGEST_SIDE = 2800.0
"""Enlarged photos are halved while the face rectangle is larger than this: the warp samples 2048 x 2048 points, and
would miss pixels in between (see `faces.LEAST_DECODED_SIDE`, which is half of it)."""

BUNDLED: dict[str, Variant] = {
    "bundled": DEFAULT_VARIANT,
    "bundled-distortion": "distortion",
    "bundled-perceptual": "perceptual",
}


@dataclass(frozen=True)
class Step:
    """One network of a chain, by where its weights are: networks themselves are loaded by the process that uses them.

    Attributes:
        source: "jpeg" or "sr" for weights of ours in `where`, "foreign" for what `foreign.load_model` knows.
        where: file or name.
        digest: of the weights.
    """

    source: str
    where: str
    digest: str

    @property
    def network(self) -> nn.Module:
        """The network; a process loads it once."""
        return _network(self.source, self.where)


@lru_cache(maxsize=4)
def _network(source: str, where: str) -> nn.Module:
    network: nn.Module = load_model(where) if source == "foreign" else load_weights(Path(where), source)[0]
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


@dataclass(frozen=True)
class NetworkRestorer:
    """Runs networks one after the other; see `datatools.restore.get_restorer`."""

    name: str
    steps: tuple[Step, ...]
    super_resolution: SuperResolution
    device: str
    precision: Precision
    threads: int

    @property
    def digest(self) -> str:
        parts = [step.digest for step in self.steps] + [self.super_resolution, self.precision]
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()

    def for_face(self, side: float, /) -> Restoration:
        """Without super-resolution where that is asked for or, with "auto", would not be seen; halved where needed."""
        networks = [step.network for step in self.steps]
        enlarge = self.super_resolution == "always" or (self.super_resolution == "auto" and side < ENOUGH)
        if not enlarge:
            networks = [network for network in networks if network_shape(network)[0] == 1]
        scale = int(np.prod([network_shape(network)[0] for network in networks]))
        halvings = 0
        while scale > 1 and side * scale > LARGEST_SIDE:
            scale, halvings = scale // 2, halvings + 1
        return _Chain(tuple(networks), scale, halvings, self.device, self.precision, self.threads)


@dataclass(frozen=True)
class _Chain:
    """The networks for one photo."""

    networks: tuple[nn.Module, ...]
    scale: int
    halvings: int
    device: str
    precision: Precision
    threads: int
    margin: int = field(init=False)
    grid: int = field(init=False)

    def __post_init__(self) -> None:
        shapes = [network_shape(network) for network in self.networks]
        object.__setattr__(self, "grid", int(np.lcm.reduce([shape[2] for shape in shapes] or [1])))
        object.__setattr__(self, "margin", sum(shape[1] for shape in shapes))

    def __call__(self, picture: NDArray[np.uint8], inner: Box) -> NDArray[np.uint8]:
        torch.set_num_threads(self.threads)
        left, top, right, bottom = inner
        for index, network in enumerate(self.networks):
            # what the networks after this one want to see around the part
            room = sum(network_shape(later)[1] for later in self.networks[index + 1 :])
            height, width = picture.shape[:2]
            wanted = (max(left - room, 0), max(top - room, 0), min(right + room, width), min(bottom + room, height))
            picture = restore(network, picture, inner=wanted, device=self.device, precision=self.precision)
            scale = network_shape(network)[0]
            left, right = (left - wanted[0]) * scale, (right - wanted[0]) * scale
            top, bottom = (top - wanted[1]) * scale, (bottom - wanted[1]) * scale
        picture = picture[top:bottom, left:right]
        for _ in range(self.halvings):
            picture = halve(picture)
        return picture


def network_restorer(name: str, *, super_resolution: SuperResolution, device: str, threads: int) -> NetworkRestorer:
    """See `datatools.restore.get_restorer`."""
    if name in BUNDLED:
        steps = [_own("jpeg", bundled_weights("jpeg", "distortion")), _own("sr", bundled_weights("sr", BUNDLED[name]))]
    elif (task := task_of(Path(name))) is not None:
        steps = [_own(task, Path(name))]
    elif name == REALESRGAN or "." in name:
        steps = [Step("foreign", name, foreign_digest(name))]
    else:
        known = ", ".join(["none", *BUNDLED, REALESRGAN])
        raise DataError(f"unknown restorer {name!r}; known: {known}, or a weight file (.safetensors, .pth)")
    for step in steps:
        _ = step.network  # a damaged file is told now, not by a worker
    place = choose_device(device)
    return NetworkRestorer(name, tuple(steps), super_resolution, str(place), best_precision(place), threads)


def _own(task: str, path: Path) -> Step:
    return Step(task, str(path), hashlib.sha256(path.read_bytes()).hexdigest())
