"""Images seen -> level, minibatch and rates: a pure function of the settings.

Images are counted as reals shown to the discriminator. A phase trains a level for `training_kimg`, then fades the
next one in during `transition_kimg`. lod counts levels from the top: 0 is the full resolution, 1.25 a quarter of the
way from half of it back to a fourth. (Section 3 and appendix A of the paper.)
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from datatools.errors import SettingError
from pggan.config.checks import check_least, check_resolution
from pggan.config.level import Level

LevelTable = tuple[tuple[int, float], ...]  # (resolution, value) for the levels that differ from the base

TICK_KIMG: LevelTable = (
    (4, 160.0),
    (8, 140.0),
    (16, 120.0),
    (32, 100.0),
    (64, 80.0),
    (128, 60.0),
    (256, 40.0),
    (512, 20.0),
    (1024, 10.0),
)
RAMPUP_STEEPNESS = 5.0


@dataclass(frozen=True)
class ScheduleConfig:
    """What happens when. Minibatches and rates by level are (resolution, value) pairs; other levels use the base.

    `d_steps` discriminator minibatches come before every generator minibatch; `minibatch_repeats` such pairs are a
    round, within which nothing changes. `start_resolution` equal to `resolution` trains without growing.
    """

    resolution: int
    start_resolution: int = 4
    training_kimg: float = 600.0
    transition_kimg: float = 600.0
    total_kimg: float = 12000.0
    minibatch_base: int = 16
    minibatch_by_level: LevelTable = ()
    rate_base: float = 0.001
    rate_by_level: LevelTable = ()
    rampup_kimg: float = 0.0
    minibatch_repeats: int = 4
    d_steps: int = 1
    tick_kimg_base: float = 10.0
    tick_kimg_by_level: LevelTable = TICK_KIMG

    def __post_init__(self) -> None:
        check_resolution("resolution", self.resolution)
        check_resolution("start_resolution", self.start_resolution)
        if self.start_resolution > self.resolution:
            raise SettingError(
                "start_resolution",
                f"{self.start_resolution} is above the resolution {self.resolution}: "
                "start at the full resolution or below it",
            )
        check_least(self, 0, "training_kimg", "transition_kimg", "rampup_kimg")
        if not self.total_kimg > 0:
            raise SettingError("total_kimg", f"{self.total_kimg}: must be above 0")
        if self.start_resolution < self.resolution and self.training_kimg + self.transition_kimg == 0:
            raise SettingError("training_kimg", "0: growing needs a phase; give this or the transition a length")
        minibatches = (self.minibatch_base, *(value for _, value in self.minibatch_by_level))
        if any(value < 1 or value != int(value) for value in minibatches):
            raise SettingError("minibatch", f"{min(minibatches)}: must be a whole number of at least 1")
        if (rate := min(self.rate_base, *(value for _, value in self.rate_by_level), math.inf)) <= 0:
            raise SettingError("learning_rate", f"{rate}: must be above 0 at every level")
        check_least(self, 1, "minibatch_repeats", "d_steps")

    @property
    def levels(self) -> tuple[int, ...]:
        """Resolutions that a run visits, smallest first."""
        first, last = int(math.log2(self.start_resolution)), int(math.log2(self.resolution))
        return tuple(2**level for level in range(first, last + 1))


@dataclass(frozen=True, kw_only=True)
class ScheduleState(Level):
    """Level and settings of the round that starts when `images` reals have been shown.

    `learning_rate` is the level's rate; the optimizer uses `learning_rate * rampup`. `round_images` reals are shown
    until the next round. `number`: minibatches of reals before it, which only `rounds` counts.
    """

    images: int
    minibatch: int
    learning_rate: float
    rampup: float
    tick_kimg: float
    round_images: int
    number: int = 0

    @property
    def rate(self) -> float:
        """Learning rate of both optimizers."""
        return self.learning_rate * self.rampup


def lod_at(config: ScheduleConfig, images: int) -> float:
    """Return the level of detail after `images` reals, counted down from log2(resolution / start) to 0."""
    kimg = images / 1000.0
    phase_kimg = config.training_kimg + config.transition_kimg
    phase = math.floor(kimg / phase_kimg) if phase_kimg > 0 else 0
    inside = kimg - phase * phase_kimg
    lod = math.log2(config.resolution) - math.log2(config.start_resolution) - phase
    if config.transition_kimg > 0:
        lod -= max(inside - config.training_kimg, 0.0) / config.transition_kimg
    return max(lod, 0.0)


def state_at(config: ScheduleConfig, images: int) -> ScheduleState:
    """Return the state of the round that starts after `images` reals."""
    if images < 0:
        raise ValueError(f"images {images}: must be 0 or more")
    level = Level(config.resolution, lod_at(config, images))
    resolution = level.resolution
    minibatch = int(dict(config.minibatch_by_level).get(resolution, config.minibatch_base))
    kimg = images / 1000.0
    ramping = kimg < config.rampup_kimg
    return ScheduleState(
        full=level.full,
        lod=level.lod,
        images=images,
        minibatch=minibatch,
        learning_rate=dict(config.rate_by_level).get(resolution, config.rate_base),
        rampup=math.exp(-RAMPUP_STEEPNESS * (1.0 - kimg / config.rampup_kimg) ** 2) if ramping else 1.0,
        tick_kimg=dict(config.tick_kimg_by_level).get(resolution, config.tick_kimg_base),
        round_images=minibatch * config.d_steps * config.minibatch_repeats,
    )


def rounds(config: ScheduleConfig, images: int = 0) -> Iterator[ScheduleState]:
    """Yield every round from `images` on, up to the last one that starts before `total_kimg`."""
    number = minibatches(config, images)
    while images < config.total_kimg * 1000:
        state = replace(state_at(config, images), number=number)
        yield state
        images += state.round_images
        number += config.d_steps * config.minibatch_repeats


def minibatches(config: ScheduleConfig, images: int) -> int:
    """Return the number of minibatches of reals before a round that starts after `images` of them."""
    spans = ((stage, min(stage.end_image, images) - stage.first_image) for stage in stages(config))
    return sum(span // stage.minibatch for stage, span in spans if span > 0)


@dataclass(frozen=True)
class Stage:
    """A stretch of rounds with the same stage, minibatch and rate: a line of the plan."""

    first_image: int
    end_image: int
    resolution: int
    fading: bool
    minibatch: int
    learning_rate: float


def stages(config: ScheduleConfig) -> tuple[Stage, ...]:
    """Return all stages of a run, in order; it ends at the last one's `end_image`."""
    result: list[Stage] = []
    images, total = 0, config.total_kimg * 1000
    while images < total:
        first = state_at(config, images)
        # lod never rises and a stage has one minibatch: the first round of the next stage is found by bisection
        inside, outside = 0, math.ceil((total - images) / first.round_images)
        while outside - inside > 1:
            middle = (inside + outside) // 2
            if state_at(config, images + middle * first.round_images).stage == first.stage:
                inside = middle
            else:
                outside = middle
        images += outside * first.round_images
        result.append(
            Stage(
                first_image=first.images,
                end_image=images,
                resolution=first.resolution,
                fading=first.stage[0] != first.stage[1],
                minibatch=first.minibatch,
                learning_rate=first.learning_rate,
            )
        )
    return tuple(result)
