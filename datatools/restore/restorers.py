"""Restorers made of networks: the bundled ones, and weight files that users bring."""

import hashlib
import json
import math
import os
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import torch

from datatools.errors import DataError
from datatools.images import Box
from datatools.restore.base import (
    NAMES,
    Crop,
    Picture,
    RestorePlan,
    Step,
    SuperResolution,
    check_part,
    cut,
    grow_box,
    halve,
)
from datatools.restore.devices import torch_device
from datatools.restore.enlarge import LANCZOS_REACH, enlarge_lanczos
from datatools.restore.external import REALESRGAN, load_external
from datatools.restore.external import digest as external_digest
from datatools.restore.networks import PictureNetwork
from datatools.restore.strength import StrengthRule, check_strength, is_rule_file, load_rule, mean_change
from datatools.restore.tiling import GPU_TILING, Precision, best_precision, restore_parts
from datatools.restore.weights import NETWORKS, file_digest, load_remover, load_weights, task_of

SHARP_SIDE = 1024.0
"""Side of a face rectangle, in photo pixels, from which super-resolution would be averaged away."""

LARGEST_SIDE = 2800.0
"""Enlarged photos are halved while the face rectangle is larger than this: the warp samples 2048 x 2048 points, and
would miss pixels in between (see `faces.recipe.LEAST_DECODED_SIDE`, which is half of it)."""

VERSION = "4"
"""Raised whenever the same networks give other pixels: finished work of earlier versions is not mixed with new."""

GPU_BATCH = 16
"""Photos that a GPU restores at once: enough that most tiles find others of their size."""

FOLDER = Path(__file__).with_name("data")
"""The bundled weights; docs/restoration.md describes their training and quality."""
BUNDLED = {"bundled": "distortion", "bundled-distortion": "distortion", "bundled-perceptual": "perceptual"}
"""Super-resolver of each restorer of our own networks: that with the least error, or that with texture."""


_loading = threading.Lock()  # threads that ask at once would get networks of their own


def load_step(step: Step) -> PictureNetwork:
    """Return the network of a step, on the CPU; a process loads it once."""
    with _loading:
        return _network(step)


@lru_cache(maxsize=4)
def _network(step: Step) -> PictureNetwork:
    # the digest is a part of the cache's key: a file may have been written anew under its name
    network: PictureNetwork
    if step.source == "external":
        network = load_external(step.where)
    elif step.source == "jpeg":
        network = load_remover(Path(step.where), step.strength)
    else:
        network = load_weights(Path(step.where), step.source)[0]
    if step.upright:
        network.self_ensemble = 1
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
    uses_torch: bool = True
    rule: StrengthRule | None = None
    strength: float = 1.0

    @property
    def digest(self) -> str:
        """Return a hash of the weights, their strength, the kind of device and the precision, which change rounding."""
        arithmetic = [torch.device(self.device).type, self.precision]
        networks = [step.digest if step.strength == 1 else f"{step.digest} {step.strength}" for step in self.steps]
        rule = json.dumps(None if self.rule is None else asdict(self.rule))
        parts = [VERSION, *networks, self.super_resolution, *arithmetic, rule, str(self.strength)]
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()

    def plan(self, side: float, /) -> RestorePlan:
        """Return the networks for a face of that side, and how often their result is halved."""
        share = self._enlargement_share(side)
        steps = tuple(step for step in self.steps if share > 0 or load_step(step).scale == 1)
        if share == 0:  # the mean over orientations took half the time, for 0.05 dB: docs/results/restoration.md
            steps = tuple(replace(step, upright=load_step(step).self_ensemble > 1) for step in steps)
        scale, margin, grid = _shape(steps)
        halvings = 0
        while scale > 1 and side * scale > LARGEST_SIDE:
            scale, halvings = scale // 2, halvings + 1
        return RestorePlan(steps, scale, margin, grid, halvings, share)

    def _enlargement_share(self, side: float) -> float:
        """Return the share of the network's enlargement for a face of that side; 0 leaves the network out."""
        if self.super_resolution == "never" or (self.super_resolution == "auto" and side >= SHARP_SIDE):
            return 0.0
        if self.rule is None:
            return min(self.strength, 1.0)
        small = self.super_resolution == "always"
        return min(self.strength * self.rule.enlargement_share(0.0 if small else side), 1.0)

    def _removal_share(self, wanted: Picture, cleaned: Picture) -> float:
        """Return the share of what the artifact remover changed, measured on the wanted part before and after it."""
        share = 1.0 if self.rule is None else self.rule.removal_share(mean_change(wanted, cleaned))
        return min(self.strength * share, 1.0)

    def run(self, crops: Sequence[Crop], /) -> list[Picture]:
        """Restore the wanted parts of crops: each network processes all crops that need it before the next one starts.

        The result of a crop among others may differ by one grey level from its result on its own, few values
        by two.
        """
        for _, crop, box in crops:
            check_part(crop, box)
        torch.set_num_threads(self.threads)
        tiling = GPU_TILING if self.batch_size > 1 else None
        pictures = [crop for _, crop, _ in crops]
        boxes = [box for _, _, box in crops]  # of the wanted parts, in `pictures`
        for step in dict.fromkeys(step for plan, _, _ in crops for step in plan.steps):
            due = [index for index, (plan, _, _) in enumerate(crops) if step in plan.steps]
            # of each picture the wanted part and the margin of later networks, which begins at multiples of their grids
            parts: list[tuple[Picture, Box]] = []
            for index in due:
                steps = crops[index][0].steps
                _, margin, grid = _shape(steps[steps.index(step) + 1 :])
                parts.append((pictures[index], grow_box(boxes[index], margin, grid, pictures[index].shape[1::-1])))
            network = load_step(step)
            results = restore_parts(network, parts, device=self.device, precision=self.precision, tiling=tiling)
            for index, (picture, part), result in zip(due, parts, results, strict=True):
                left, top, right, bottom = boxes[index]
                x, y, s = *part[:2], network.scale
                box = (left - x, top - y, right - x, bottom - y)  # of the wanted part, in the network's input
                if s == 1:
                    before = cut(picture, part)
                    result = mix(before, result, self._removal_share(cut(before, box), cut(result, box)))
                elif crops[index][0].enlargement_share < 1:
                    plain = enlarge_part(picture, part, s)
                    result = mix(plain, result, crops[index][0].enlargement_share)
                boxes[index] = (box[0] * s, box[1] * s, box[2] * s, box[3] * s)
                pictures[index] = result
        results = [cut(picture, box) for picture, box in zip(pictures, boxes, strict=True)]
        for index, (plan, _, _) in enumerate(crops):
            for _ in range(plan.halvings):
                results[index] = halve(results[index])
        return results


def mix(plain: Picture, restored: Picture, share: float) -> Picture:
    """Return the plain picture and that share of what the restored one differs by."""
    if share >= 1:
        return restored
    return np.asarray(cv2.addWeighted(restored, share, plain, 1 - share, 0), dtype=np.uint8)


def enlarge_part(picture: Picture, box: Box, factor: int) -> Picture:
    """Return a part of a picture, enlarged with Lanczos-3 as within the whole picture."""
    left, top, right, bottom = box
    around = grow_box(box, LANCZOS_REACH, 1, picture.shape[1::-1])
    x, y = around[:2]
    enlarged = enlarge_lanczos(cut(picture, around), factor)
    return cut(enlarged, ((left - x) * factor, (top - y) * factor, (right - x) * factor, (bottom - y) * factor))


def _shape(steps: Sequence[Step]) -> tuple[int, int, int]:
    """Return scale, margin and grid of networks in a row, of which only the last one enlarges."""
    networks = [load_step(step) for step in steps]
    return (
        math.prod(network.scale for network in networks),
        sum(network.margin for network in networks),
        math.lcm(*(network.grid for network in networks)),
    )


def bundled_weights(task: str, variant: str) -> Path:
    """Return the bundled weight file for "jpeg" (there is only one) or "sr"."""
    path = FOLDER / ("jpeg.safetensors" if task == "jpeg" else f"sr-{variant}.safetensors")
    if not path.is_file():
        raise DataError(f"{path} is missing: the installation is damaged, install the program again")
    return path


def load_network(name: str, task: str) -> PictureNetwork:
    """Return one network by a restorer's name or by file, in evaluation mode.

    Args:
        name: as for `datatools.restore.get_restorer`.
        task: "jpeg" or "sr"; of the bundled networks, the one for this task.

    Raises:
        DataError: no such network or file, a damaged one, or one for another task.
    """
    path = bundled_weights(task, BUNDLED[name]) if name in BUNDLED else Path(name)
    if task_of(path) is not None:
        return load_weights(path, task)[0]
    network, scale = load_external(name), NETWORKS[task].scale
    if network.scale != scale:
        raise DataError(f"{name} enlarges {network.scale}x; give a network that enlarges {scale}x")
    return network


def network_restorer(
    name: str, *, super_resolution: SuperResolution, device: str, threads: int, strength: float = 1.0
) -> NetworkRestorer:
    """Return the restorer of networks with that name; see `datatools.restore.get_restorer`."""
    rule = None
    if name in BUNDLED:
        steps = _bundled(BUNDLED[name])
        rule = StrengthRule() if BUNDLED[name] == "distortion" else None
    elif is_rule_file(name):
        steps, rule = _bundled("distortion"), load_rule(Path(name))
    elif name in (REALESRGAN, "srmd") or "." in name or os.sep in name:
        task = task_of(Path(name))
        steps = [_own(task, Path(name)) if task is not None else Step("external", name, external_digest(name))]
    else:
        raise DataError(f"unknown restorer {name!r}; known: {', '.join(NAMES)}, or a weight file (.safetensors, .pth)")
    place = torch_device(device)
    for step in steps:
        load_step(step)  # reports a damaged file now, not in a worker
    batch_size = 1 if place.type == "cpu" else GPU_BATCH
    return NetworkRestorer(
        name,
        tuple(steps),
        super_resolution,
        str(place),
        best_precision(place),
        threads,
        batch_size,
        rule=rule,
        strength=check_strength(strength),
    )


def _bundled(variant: str) -> list[Step]:
    """Return both bundled networks; the enlargement's model card says how strong the remover was in its training."""
    enlargement = bundled_weights("sr", variant)
    card = load_weights(enlargement, "sr")[1]
    strength = float(card.get("degrade_strength", card.get("after_strength", 1.0)))  # the name before
    remover = replace(_own("jpeg", bundled_weights("jpeg", variant)), strength=strength)
    return [remover, _own("sr", enlargement)]


def _own(task: str, path: Path) -> Step:
    return Step(task, str(path), file_digest(path))
