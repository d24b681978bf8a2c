"""Restorers made of networks: the bundled chain, Real-ESRGAN, SRMD, and weight files of the user's."""

import hashlib
import math
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from datatools.errors import DataError
from datatools.images import Box
from datatools.restore import DEFAULT_VARIANT, Part, Restoration, SuperResolution, Variant
from datatools.restore.bundled import bundled_weights
from datatools.restore.devices import choose_device
from datatools.restore.external import NAMED, load_model
from datatools.restore.external import digest as foreign_digest
from datatools.restore.fit.dataset import halve
from datatools.restore.pictures import check_part
from datatools.restore.tiling import BATCHES, Precision, Tiling, best_precision, network_shape, restore_parts
from datatools.restore.weights import file_digest, load_remover, load_weights, task_of

ENOUGH = 1024.0
"""Side of a face rectangle, in photo pixels, from which super-resolution would be averaged away."""

LARGEST_SIDE = 2800.0
"""Enlarged photos are halved while the face rectangle is larger than this: the warp samples 2048 x 2048 points, and
would miss pixels in between (see `faces.LEAST_DECODED_SIDE`, which is half of it)."""

TOGETHER = 16
"""Photos whose parts are restored together on a GPU: most have tiles as large as others' then."""

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
        strength: share of its change that an artifact remover makes.
    """

    source: str
    where: str
    digest: str
    strength: float = 1.0

    @property
    def network(self) -> nn.Module:
        """The network; a process loads it once."""
        with _loading:
            return _network(self.source, self.where, self.strength, self.digest)

    @property
    def scale(self) -> int:
        """By which it enlarges."""
        return network_shape(self.network)[0]


_loading = threading.Lock()  # threads that ask at once would get networks of their own


@lru_cache(maxsize=4)
def _network(source: str, where: str, strength: float, _digest: str) -> nn.Module:
    # the digest is a part of the cache's key: a file may have been written anew under its name
    if source == "foreign":
        network = load_model(where)
    elif source == "jpeg":
        network = load_remover(Path(where), strength)
    else:
        network = load_weights(Path(where), source)[0]
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
    together: int = 1

    @property
    def digest(self) -> str:
        """Of the weights, their strength, and where and how networks are computed: that changes rounding, and tiles."""
        arithmetic = [torch.device(self.device).type, self.precision]
        networks = [step.digest if step.strength == 1 else f"{step.digest} {step.strength}" for step in self.steps]
        parts = [*networks, self.super_resolution, *arithmetic]
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()

    def for_face(self, side: float, /) -> Restoration:
        """Without super-resolution where that is asked for or, with "auto", would not be seen; halved where needed."""
        enlarge = self.super_resolution == "always" or (self.super_resolution == "auto" and side < ENOUGH)
        steps = tuple(step for step in self.steps if enlarge or step.scale == 1)
        scale = math.prod(step.scale for step in steps)
        halvings = 0
        while scale > 1 and side * scale > LARGEST_SIDE:
            scale, halvings = scale // 2, halvings + 1
        return _Chain(self, steps, scale, halvings)

    def restore_all(self, parts: Sequence[Part], /) -> list[NDArray[np.uint8]]:
        """Every network takes all photos that it is meant for before the next one begins."""
        return self.run(parts, BATCHES)

    def run(self, parts: Sequence[Part], tiling: Tiling | None = None) -> list[NDArray[np.uint8]]:
        """Restore parts, whose restorations are this restorer's; `tiling`: of photos, alone or together.

        Raises DataError for what is no picture, and for a part outside of it.
        """
        for part in parts:
            check_part(part.picture, part.inner)
        torch.set_num_threads(self.threads)
        passing = [_Passing(part) for part in parts]
        for step in self.steps:
            due = [one for one in passing if step in one.left]
            wanted = [one.wanted() for one in due]
            results = restore_parts(
                step.network,
                [(one.picture, box) for one, box in zip(due, wanted, strict=True)],
                device=self.device,
                precision=self.precision,
                tiling=tiling,
            )
            for one, box, result in zip(due, wanted, results, strict=True):
                one.advance(box, result)
        return [one.result() for one in passing]


@dataclass(frozen=True)
class _Chain:
    """The networks for one photo."""

    restorer: NetworkRestorer
    steps: tuple[Step, ...]
    scale: int
    halvings: int
    margin: int = field(init=False)
    grid: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "grid", _common_grid(self.steps))
        object.__setattr__(self, "margin", _total_margin(self.steps))

    def __call__(self, picture: NDArray[np.uint8], inner: Box) -> NDArray[np.uint8]:
        return self.restorer.run([Part(self, picture, inner)])[0]


class _Passing:
    """A part of a photo on its way through the networks of its chain."""

    def __init__(self, part: Part) -> None:
        assert isinstance(part.restoration, _Chain)
        self.picture = part.picture
        self.inner = part.inner
        self.left = part.restoration.steps
        """Networks that are yet to come."""
        self._halvings = part.restoration.halvings

    def wanted(self) -> Box:
        """What the next network has to restore: what is wanted in the end, and what later networks want to see.

        It begins at multiples of later networks' grids, as the photo and the part of it do.
        """
        room, grid = _total_margin(self.left[1:]), _common_grid(self.left[1:])
        height, width = self.picture.shape[:2]
        left, top, right, bottom = self.inner
        return (
            max(left - room, 0) // grid * grid,
            max(top - room, 0) // grid * grid,
            min(right + room, width),
            min(bottom + room, height),
        )

    def advance(self, restored: Box, result: NDArray[np.uint8]) -> None:
        """Go on with what the next network made of the part `restored` of the picture."""
        scale = self.left[0].scale
        left, top, right, bottom = self.inner
        x, y = restored[:2]
        self.inner = ((left - x) * scale, (top - y) * scale, (right - x) * scale, (bottom - y) * scale)
        self.picture, self.left = result, self.left[1:]

    def result(self) -> NDArray[np.uint8]:
        """What is wanted, after the last network."""
        left, top, right, bottom = self.inner
        picture = self.picture[top:bottom, left:right]
        for _ in range(self._halvings):
            picture = halve(picture)
        return picture


def _common_grid(steps: Sequence[Step]) -> int:
    """Where pictures may begin for all of these networks, none of which but the last enlarges."""
    return math.lcm(*(network_shape(step.network)[2] for step in steps))


def _total_margin(steps: Sequence[Step]) -> int:
    return sum(network_shape(step.network)[1] for step in steps)


def network_restorer(name: str, *, super_resolution: SuperResolution, device: str, threads: int) -> NetworkRestorer:
    """See `datatools.restore.get_restorer`."""
    if name in BUNDLED:
        steps = _bundled(BUNDLED[name])
    elif name in NAMED:
        steps = [Step("foreign", name, foreign_digest(name))]
    elif "." in name or os.sep in name:
        task = task_of(Path(name))
        steps = [_own(task, Path(name)) if task is not None else Step("foreign", name, foreign_digest(name))]
    else:
        known = ", ".join(["none", *BUNDLED, *NAMED])
        raise DataError(f"unknown restorer {name!r}; known: {known}, or a weight file (.safetensors, .pth)")
    place = choose_device(device)
    for step in steps:
        _ = step.network  # a damaged file is told now, not by a worker
    together = 1 if place.type == "cpu" else TOGETHER
    return NetworkRestorer(name, tuple(steps), super_resolution, str(place), best_precision(place), threads, together)


def _bundled(variant: Variant) -> list[Step]:
    """The remover is as strong as it was when the enlargement was trained: that stands in the weights' card."""
    enlargement = bundled_weights("sr", variant)
    strength = float(load_weights(enlargement, "sr")[1].get("after_strength", 1.0))
    remover = replace(_own("jpeg", bundled_weights("jpeg", variant)), strength=strength)
    return [remover, _own("sr", enlargement)]


def _own(task: str, path: Path) -> Step:
    return Step(task, str(path), file_digest(path))
