"""The augmentation of a run: what each step draws, and ADA's strength, which follows the discriminator's scores."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch

from pggan.config.schedule import ScheduleState
from pggan.config.settings import AugmentConfig
from pggan.model.augment.augmentation import Augmentation, draw
from pggan.rng import rng

INTERVAL = 4  # minibatches of the discriminator between two changes of the strength, as in the ADA paper
STRENGTH = "augment_p"
"""Name of the statistic that has ADA's strength."""
SETS: dict[Literal["augment-d", "augment-g"], int] = {"augment-d": 3, "augment-g": 1}
"""Minibatches that a step augments: reals, fakes and mixed pictures, or fakes alone."""


@dataclass
class Augmenter:
    """Draws the transforms of a step as a function of the seed, the images seen and the strength.

    `strength`: of ADA, in 0..1. `measures` and `images`: of the minibatches since it last changed.
    """

    config: AugmentConfig
    seed: int
    strength: float = 0.0

    def __post_init__(self) -> None:
        self.measures: list[float] = []
        self.images = 0

    @property
    def is_adaptive(self) -> bool:
        return self.config.kind == "ada"

    def draw(
        self, purpose: Literal["augment-d", "augment-g"], state: ScheduleState, images: int, device: torch.device
    ) -> Augmentation | None:
        """Return the transforms of the step after `images` images, None for a run without augmentation."""
        if self.config.kind == "none":
            return None
        return draw(
            self.config,
            self.strength if self.is_adaptive else 1.0,
            rng(self.seed, purpose, images),
            sets=SETS[purpose],
            count=state.minibatch,
            resolution=state.resolution,
            device=device,
        )

    def after(self, overfitting: float, minibatch: int) -> None:
        """Adapt ADA's strength to the overfitting of a minibatch of the discriminator, see `losses.overfitting`."""
        self.measures.append(overfitting)
        self.images += minibatch
        if len(self.measures) == INTERVAL:
            excess = sum(self.measures) / INTERVAL - self.config.target
            step = self.images / (self.config.kimg * 1000)
            self.strength = min(max(self.strength + (step if excess > 0 else -step if excess < 0 else 0.0), 0.0), 1.0)
            self.measures, self.images = [], 0

    def status(self) -> str:
        """Return ADA's strength for the status line, "" where it does not adapt."""
        return f"ada {self.strength:.3f}" if self.is_adaptive else ""

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint needs to continue: nothing unless the strength adapts."""
        if not self.is_adaptive:
            return {}
        return {"augment": {"strength": self.strength, "measures": self.measures, "images": self.images}}

    def load(self, values: Mapping[str, Any]) -> None:
        """Take over a checkpoint's values; one of a run without ADA, which was forked, starts at strength 0."""
        state = values.get("augment", {"strength": 0.0, "measures": [], "images": 0})
        self.strength, self.measures, self.images = float(state["strength"]), list(state["measures"]), state["images"]
