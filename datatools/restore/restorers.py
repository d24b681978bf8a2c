"""Restorers made of networks: the bundled ones, and weight files that users bring."""

import hashlib
import math
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import torch
from torch import nn

from datatools.errors import DataError
from datatools.images import Box
from datatools.restore.base import (
    DEFAULT_VARIANT,
    Crop,
    Picture,
    RestorePlan,
    Step,
    SuperResolution,
    Variant,
    check_part,
    cut,
    halve,
)
from datatools.restore.bundled import bundled_weights
from datatools.restore.devices import choose_device
from datatools.restore.external import REALESRGAN, load_model
from datatools.restore.external import digest as external_digest
from datatools.restore.tiling import GPU_TILING, Precision, best_precision, network_shape, restore_parts
from datatools.restore.weights import file_digest, load_remover, load_weights, task_of

SHARP_SIDE = 1024.0
"""Side of a face rectangle, in photo pixels, from which super-resolution would be averaged away."""

LARGEST_SIDE = 2800.0
"""Enlarged photos are halved while the face rectangle is larger than this: the warp samples 2048 x 2048 points, and
would miss pixels in between (see `faces.recipe.LEAST_DECODED_SIDE`, which is half of it)."""

GPU_BATCH = 16
"""Photos that a GPU restores at once: enough that most tiles find others of their size."""

BUNDLED: dict[str, Variant] = {
    "bundled": DEFAULT_VARIANT,
    "bundled-distortion": "distortion",
    "bundled-perceptual": "perceptual",
}


_loading = threading.Lock()  # threads that ask at once would get networks of their own


def load_step(step: Step) -> nn.Module:
    """Return the network of a step, on the CPU; a process loads it once."""
    with _loading:
        return _network(step)


@lru_cache(maxsize=4)
def _network(step: Step) -> nn.Module:
    # the digest is a part of the cache's key: a file may have been written anew under its name
    if step.source == "external":
        network = load_model(step.where)
    elif step.source == "jpeg":
        network = load_remover(Path(step.where), step.strength)
    else:
        network = load_weights(Path(step.where), step.source)[0]
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


@dataclass(frozen=True)
class NetworkRestorer:
    """Runs networks one after the other; see `datatools.restore.base.Restorer` and `get_restorer`."""

    name: str
    steps: tuple[Step, ...]
    super_resolution: SuperResolution
    device: str
    precision: Precision
    threads: int
    batch_size: int = 1

    @property
    def digest(self) -> str:
        """Return a hash of the weights, their strength, the kind of device and the precision, which change rounding."""
        arithmetic = [torch.device(self.device).type, self.precision]
        networks = [step.digest if step.strength == 1 else f"{step.digest} {step.strength}" for step in self.steps]
        parts = [*networks, self.super_resolution, *arithmetic]
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()

    def plan(self, side: float, /) -> RestorePlan:
        """Return the networks for a face of that side, and how often their result is halved."""
        enlarge = self.super_resolution == "always" or (self.super_resolution == "auto" and side < SHARP_SIDE)
        steps = tuple(step for step in self.steps if enlarge or _scale(step) == 1)
        scale = math.prod(map(_scale, steps))
        halvings = 0
        while scale > 1 and side * scale > LARGEST_SIDE:
            scale, halvings = scale // 2, halvings + 1
        return RestorePlan(steps, scale, _total_margin(steps), _common_grid(steps), halvings)

    def run(self, crops: Sequence[Crop], /) -> list[Picture]:
        """Restore the wanted parts of crops: each network processes all crops that need it before the next one starts.

        The result of a crop among others may differ by one grey level from its result on its own.
        """
        for _, crop, box in crops:
            check_part(crop, box)
        torch.set_num_threads(self.threads)
        jobs = [_Job(plan.steps, crop, box) for plan, crop, box in crops]
        for step in self.steps:
            due = [job for job in jobs if step in job.steps]
            inputs = [(job.picture, job.next_box()) for job in due]
            results = restore_parts(
                load_step(step),
                inputs,
                device=self.device,
                precision=self.precision,
                tiling=GPU_TILING if self.batch_size > 1 else None,
            )
            for job, (_, box), result in zip(due, inputs, results, strict=True):
                job.advance(box, result)
        return [job.result(plan.halvings) for job, (plan, _, _) in zip(jobs, crops, strict=True)]


@dataclass
class _Job:
    """A crop between two networks.

    Attributes:
        steps: networks that have not run yet.
        picture: result of the network before, or the crop.
        box: (left, top, right, bottom) of the wanted part in it.
    """

    steps: tuple[Step, ...]
    picture: Picture
    box: Box

    def next_box(self) -> Box:
        """Return the part that the next network has to restore: the wanted one and the later networks' margin.

        It begins at multiples of later networks' grids, as the photo and the crop do.
        """
        margin, grid = _total_margin(self.steps[1:]), _common_grid(self.steps[1:])
        height, width = self.picture.shape[:2]
        left, top, right, bottom = self.box
        return (
            max(left - margin, 0) // grid * grid,
            max(top - margin, 0) // grid * grid,
            min(right + margin, width),
            min(bottom + margin, height),
        )

    def advance(self, restored: Box, result: Picture) -> None:
        """Continue with the next network's result for the part `restored` of the picture."""
        scale = _scale(self.steps[0])
        left, top, right, bottom = self.box
        x, y = restored[:2]
        self.box = ((left - x) * scale, (top - y) * scale, (right - x) * scale, (bottom - y) * scale)
        self.picture, self.steps = result, self.steps[1:]

    def result(self, halvings: int) -> Picture:
        """Return the wanted part after the last network."""
        picture = cut(self.picture, self.box)
        for _ in range(halvings):
            picture = halve(picture)
        return picture


def _scale(step: Step) -> int:
    return network_shape(load_step(step))[0]


def _common_grid(steps: Sequence[Step]) -> int:
    """Return the grid on which pictures may begin for all of these networks; only the last one enlarges."""
    return math.lcm(*(network_shape(load_step(step))[2] for step in steps))


def _total_margin(steps: Sequence[Step]) -> int:
    return sum(network_shape(load_step(step))[1] for step in steps)


def network_restorer(name: str, *, super_resolution: SuperResolution, device: str, threads: int) -> NetworkRestorer:
    """Return the restorer of networks with that name; see `datatools.restore.get_restorer`."""
    if name in BUNDLED:
        steps = _bundled(BUNDLED[name])
    elif name in (REALESRGAN, "srmd") or "." in name or os.sep in name:
        task = task_of(Path(name))
        steps = [_own(task, Path(name)) if task is not None else Step("external", name, external_digest(name))]
    else:
        known = ", ".join(["none", *BUNDLED, REALESRGAN])
        raise DataError(f"unknown restorer {name!r}; known: {known}, or a weight file (.safetensors, .pth)")
    place = choose_device(device)
    for step in steps:
        load_step(step)  # reports a damaged file now, not in a worker
    batch_size = 1 if place.type == "cpu" else GPU_BATCH
    return NetworkRestorer(name, tuple(steps), super_resolution, str(place), best_precision(place), threads, batch_size)


def _bundled(variant: Variant) -> list[Step]:
    """Return both bundled networks; the enlargement's model card says how strong the remover was in its training."""
    enlargement = bundled_weights("sr", variant)
    card = load_weights(enlargement, "sr")[1]
    strength = float(card.get("degrade_strength", card.get("after_strength", 1.0)))  # the name before
    remover = replace(_own("jpeg", bundled_weights("jpeg", variant)), strength=strength)
    return [remover, _own("sr", enlargement)]


def _own(task: str, path: Path) -> Step:
    return Step(task, str(path), file_digest(path))
