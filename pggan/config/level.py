"""How far networks have grown: the one place that converts between level of detail, resolution and weights."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Level:
    """A level of networks of `full` pixels, alone or while it fades in over the level below.

    `lod` counts levels from the top: 0 is the full resolution, 1 half of it, 1.25 a quarter of the way from half of it
    back to a fourth. It is what schedules compute and files store; everything else follows from it, since `1 - alpha`
    has fewer digits than `lod`. ValueError for a lod below 0 or of less than 4 x 4 pixels.
    """

    full: int
    lod: float = 0.0

    def __post_init__(self) -> None:
        most = math.log2(self.full) - 2
        if not 0 <= math.floor(self.lod) <= most:
            raise ValueError(f"lod {self.lod}: must be 0..{most:g} for a network of {self.full} pixels")

    @classmethod
    def whole(cls, full: int, resolution: int) -> "Level":
        """Return the level of `resolution` pixels, wholly faded in."""
        return cls(full, math.log2(full / resolution))

    @property
    def resolution(self) -> int:
        """Side of the level's images in pixels."""
        return self.full >> math.floor(self.lod)

    @property
    def below(self) -> float:
        """Weight of the level below, from 0 (nothing fades) to 1."""
        return self.lod - math.floor(self.lod)

    @property
    def alpha(self) -> float:
        """Weight of the level itself: 1 when nothing fades."""
        return 1.0 - self.below

    @property
    def stage(self) -> tuple[int, int]:
        """(floor(lod), ceil(lod)): the optimizers are reset whenever this changes."""
        return math.floor(self.lod), math.ceil(self.lod)
