"""Small training runs of restoration networks."""

from pathlib import Path
from typing import Any

import torch

from datatools.restore.fit.settings import FitSettings
from datatools.restore.fit.training import Fit, run
from datatools.restore.networks import PictureNetwork
from tests.support.restore_samples import TINY

CPU = torch.device("cpu")


def settings(task: str = "sr", **changes: Any) -> FitSettings:
    values = {"task": task, "steps": 4, "minibatch": 2, "patch": 24, "precision": "fp32", "network": TINY[task]}
    return FitSettings(**(values | changes))


def trained(fit: Fit, out: Path, every: int = 3) -> list[dict[str, float]]:
    return list(run(fit, out, every=every, card={"variant": fit.settings.variant}, progress=lambda: None))


class Negative(PictureNetwork):
    """A teacher whose result nobody takes for a photo."""

    scale, margin, grid = 4, 0, 1

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return (1 - pictures).repeat_interleave(4, 2).repeat_interleave(4, 3)
