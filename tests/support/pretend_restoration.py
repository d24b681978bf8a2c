"""Restoration and the training of restorers on the pretended device; see `pretend_device`."""

from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
import torch

from datatools.images import Box
from datatools.restore.base import Picture
from datatools.restore.fit import optimizer
from datatools.restore.fit.dataset import Photos
from datatools.restore.fit.training import Fit
from datatools.restore.networks import PictureNetwork
from datatools.restore.tiling import GPU_TILING, Precision, restore_parts
from tests.support.fit_runs import settings
from tests.support.pretend_device import DEVICE, Counts, reports
from tests.support.restore_samples import tiny_remover, tiny_resolver, tiny_rrdb

PICTURE = np.zeros((70, 90, 3), np.uint8)


def restoration(make: Callable[[], PictureNetwork], precision: Precision) -> Callable[[Counts], object]:
    """Return a case: two parts of equal windows, in one batch."""

    def case(counts: Counts) -> None:
        network = make().to(DEVICE)
        parts: list[tuple[Picture, Box]] = [(PICTURE, (0, 0, 90, 70)), (PICTURE, (10, 10, 60, 60))]
        counts.clear()
        restore_parts(network, parts, device=DEVICE, precision=precision, tiling=GPU_TILING)

    return case


class Noise(Photos):
    """Noise in place of photos."""

    def __init__(self) -> None:
        self.least = 400

    def part(self, side: int, rng: np.random.Generator) -> Picture:
        return rng.integers(0, 255, (side, side, 3), dtype=np.uint8)


def fit(*, planted: bool = False, **changes: Any) -> Callable[[Counts], object]:
    """Return a case: two steps of training, of which the second is counted."""

    def case(counts: Counts) -> None:
        # views of fake kernels have no storage that could be compared
        optimizer._matrix = lambda kernel: kernel.detach().permute(0, 2, 3, 1).flatten(1)
        run = Fit(settings(**changes), Noise(), cast(Any, None), DEVICE)
        if planted:
            entry = cast(Any, run.network).entry
            entry.weight = torch.nn.Parameter(torch.zeros(entry.weight.shape))
        run.one_step()
        counts.clear()
        run.one_step()

    return case


NETWORKS: Mapping[str, Callable[[], PictureNetwork]] = {
    "remover": tiny_remover,
    "resolver": tiny_resolver,
    "real-esrgan": tiny_rrdb,
}
TEXTURE = {"variant": "perceptual", "patch": 64, "network": {"channels": 6, "blocks": 1, "texture": 3}}
CASES = {
    **{name: restoration(make, "fp32") for name, make in NETWORKS.items()},
    "resolver bf16": restoration(tiny_resolver, "bf16"),
    "fit jpeg": fit(task="jpeg"),
    "fit sr": fit(),
    "fit texture": fit(**TEXTURE),
    "fit texture bf16": fit(precision="bf16", **TEXTURE),
    "planted": fit(planted=True),
}

if __name__ == "__main__":
    reports(CASES)
