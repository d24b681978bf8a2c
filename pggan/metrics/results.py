"""What a measurement gives."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Levels:
    """Sliced Wasserstein distances times 1000 by the size of the level, largest first."""

    by_size: dict[int, float]

    @property
    def average(self) -> float:
        return float(np.mean(list(self.by_size.values())))

    def to_json(self) -> dict[str, Any]:
        """Return {"levels": {"64": ...}, "average": ...}."""
        return {"levels": {str(size): value for size, value in self.by_size.items()}, "average": self.average}


@dataclass(frozen=True)
class Results:
    """Results of a measurement; None for what was not requested. `floor` and `pairs_reals` are of reals alone.

    `pairs`: means over pairs of images of one set, by metric. `figures`: FID and the others by names that state the
    number of images. `notes`: lines for the user.
    """

    resolution: int
    count: int
    swd: Levels | None = None
    floor: Levels | None = None
    pairs: dict[str, float] = field(default_factory=dict)
    pairs_reals: dict[str, float] = field(default_factory=dict)
    figures: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def of_pairs(self) -> dict[str, float | None]:
        """Return {"ms_ssim": of the images, "ms_ssim_reals": of reals or None, "lpips" ...} of what was requested."""
        values: dict[str, float | None] = {}
        for metric, value in self.pairs.items():
            name = metric.replace("-", "_")
            values |= {name: value, f"{name}_reals": self.pairs_reals.get(metric)}
        return values

    def to_json(self) -> dict[str, Any]:
        """Return {"swd": {"levels", "average", "floor"} or null, "ms_ssim": number or null, ...}."""
        distances = None
        if self.swd is not None:
            distances = {**self.swd.to_json(), "floor": None if self.floor is None else self.floor.to_json()}
        return {
            "swd": distances,
            "ms_ssim": None,
            "ms_ssim_reals": None,
            **self.of_pairs(),
            **self.figures,
            "resolution": self.resolution,
            "images": self.count,
            "notes": list(self.notes),
        }
