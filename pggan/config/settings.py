"""Everything that decides what a run computes, as frozen values."""

import json
import math
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from typing import Any, Literal

from datatools.errors import SettingError
from pggan.config.checks import check_choices, check_least, check_resolution
from pggan.config.schedule import ScheduleConfig
from pggan.config.style import StyleConfig, StyleLossConfig

LossName = Literal["wgan-gp", "lsgan"]
AugmentName = Literal["none", "diffaugment", "ada"]
STYLE = "style"
"""What JSON names the family of style-based networks and their losses."""
MAX_FMAP_DECAY = 16.0
"""Far more than halves the feature maps of a level down to one; much larger values overflow."""

LSGAN_NOISE = 0.2
WHOLE_MINIBATCH = 0  # stddev_group: all samples are one group


@dataclass(frozen=True)
class NetworkConfig:
    """Shapes and layers of both networks (the paper's table 2 and section 4).

    A level of 2^k pixels has min(floor(fmap_base / 2^((k - 1) fmap_decay)), fmap_max) feature maps. `stddev_group` 0
    means the whole minibatch. `label_join`: labels are joined to the latents before their normalization (2018) or
    after it (2017). `down_step`: the discriminator averages 2 x 2 pixels before bias and activation (fused) or after.
    `d_noise`: factor of the discriminator's adaptive multiplicative noise, for LSGAN alone (appendix B: 0.2).

    For networks of other projects (docs/pretrained.md): `fmap_by_level` has (resolution, feature maps) of levels that
    the formula does not give, with 2 for the discriminator's last hidden layer. `g_first_bias`: the generator's dense
    layer has a bias per map, or per map and position. `pixel_norm`: see `PixelNorm`.
    """

    resolution: int
    fmap_base: int = 8192
    fmap_max: int = 512
    fmap_decay: float = 1.0
    latent_size: int = 512
    classes: int = 0
    weights: Literal["equalized", "he"] = "equalized"
    normalize_latents: bool = True
    label_join: Literal["before", "after"] = "before"
    g_activation: Literal["leaky_relu", "relu"] = "leaky_relu"
    g_norm: Literal["pixel", "batch", "none"] = "pixel"
    g_tanh: bool = False
    d_norm: Literal["layer", "none"] = "none"
    d_statistics: Literal["stddev", "discrimination", "none"] = "stddev"
    stddev_group: int = 4
    down_step: Literal["fused", "unfused"] = "fused"
    d_noise: float = 0.0
    fmap_by_level: tuple[tuple[int, int], ...] = ()
    g_first_bias: Literal["map", "position"] = "map"
    pixel_norm: Literal["fp32", "fp16", "mmgeneration"] = "fp32"

    def __post_init__(self) -> None:
        check_choices(self)
        check_resolution("resolution", self.resolution)
        for pair in self.fmap_by_level:
            if len(pair) != 2 or any(type(value) is not int or value < 1 for value in pair):
                raise SettingError("fmap_by_level", f"{pair}: must be a resolution and its number of feature maps")
        check_least(self, 1, "fmap_base", "fmap_max", "latent_size")
        check_least(self, 0, "classes", "stddev_group", "d_noise")
        if abs(self.fmap_decay) > MAX_FMAP_DECAY:
            raise SettingError("fmap_decay", f"{self.fmap_decay:g}: must be -16 to 16, as 1 in the paper")

    def fmaps(self, resolution: int) -> int:
        """Return the feature maps of the level of `resolution` x `resolution` pixels."""
        stage = resolution.bit_length() - 2  # log2(resolution) - 1
        return self.fmaps_of_stage(stage)

    def fmaps_of_stage(self, stage: int) -> int:
        """Return the paper's nf(stage); stage 0 is the discriminator's last hidden layer."""
        by_formula = max(1, min(int(self.fmap_base / 2.0 ** (stage * self.fmap_decay)), self.fmap_max))
        return dict(self.fmap_by_level).get(2 ** (stage + 1), by_formula)

    @property
    def levels(self) -> tuple[int, ...]:
        """Resolutions of the levels, 4 first."""
        return tuple(2**k for k in range(2, self.resolution.bit_length()))


@dataclass(frozen=True)
class LossConfig:
    """Loss of both networks. `gradient_norm`: where the penalty's norm is taken, see losses.gradient_scale."""

    kind: LossName = "wgan-gp"
    gradient_norm: Literal["full", "native"] = "full"
    gradient_weight: float = 10.0
    gradient_target: float = 1.0
    drift_weight: float = 0.001
    label_weight: float = 1.0
    lsgan_fake_weight: float = 0.1

    def __post_init__(self) -> None:
        check_choices(self)
        if self.gradient_target <= 0:
            raise SettingError("gradient_target", f"{self.gradient_target}: must be above 0")
        check_least(self, 0, "gradient_weight", "drift_weight", "label_weight")


@dataclass(frozen=True)
class OptimizerConfig:
    """Adam of both networks, and the EMA of the generator: ema += (1 - decay_at(images, minibatch)) (G - ema).

    `ema_half_life`: above 0, of the EMA in thousands of reals shown, whatever the minibatch, in place of `ema_decay`,
    by which it decays in every minibatch. `ema_ramp`: above 0, the half-life is also at most that share of the images
    seen, so that the random start of a short run is soon forgotten.
    `ema_kimg`: half-lives, in thousands of reals shown, of further EMAs, from which pictures can be made as well.
    `freeze_d`: so many of the discriminator's levels, from the largest resolution on, keep their weights (FreezeD,
    Mo et al. 2020).
    """

    beta1: float = 0.0
    beta2: float = 0.99
    eps: float = 1e-8
    ema_decay: float = 0.999
    ema_ramp: float = 0.0
    ema_half_life: float = 0.0
    ema_kimg: tuple[float, ...] = ()
    freeze_d: int = 0

    def __post_init__(self) -> None:
        check_least(self, 0, "freeze_d")
        if not all(0 < kimg < math.inf for kimg in self.ema_kimg):
            raise SettingError("ema_kimg", f"{self.ema_kimg}: half-lives must be above 0 and finite")
        for name in ("beta1", "beta2", "ema_decay"):
            if not 0 <= (value := getattr(self, name)) < 1:
                raise SettingError(name, f"{value}: must be at least 0 and below 1")
        for name in ("ema_ramp", "ema_half_life"):
            if not 0 <= (value := getattr(self, name)) < math.inf:
                raise SettingError(name, f"{value}: must be at least 0 and finite")

    def decay_at(self, images: int, minibatch: int) -> float:
        """Return the decay of the EMA, in 0..1, for the minibatch that follows `images` seen ones."""
        decay = 0.5 ** (minibatch / (self.ema_half_life * 1000)) if self.ema_half_life else self.ema_decay
        if self.ema_ramp == 0:
            return decay
        half_life = self.ema_ramp * images
        return min(decay, 0.5 ** (minibatch / half_life)) if half_life > 0 else 0.0


@dataclass(frozen=True)
class AugmentConfig:
    """Random transforms of all pictures that the discriminator sees: see `pggan.model.augment`.

    ADA's strength rises while its measure of overfitting is above `target`, from 0 to 1 within `kimg`, and falls below.
    """

    kind: AugmentName = "none"
    target: float = 0.6
    kimg: float = 500.0

    def __post_init__(self) -> None:
        check_choices(self)
        if not 0 < self.target <= 1:
            raise SettingError("ada_target", f"{self.target}: must be above 0 and at most 1")
        if not 0 < self.kimg < math.inf:
            raise SettingError("ada_kimg", f"{self.kimg}: must be above 0 and finite")


AnyNetworkConfig = NetworkConfig | StyleConfig
AnyLossConfig = LossConfig | StyleLossConfig


@dataclass(frozen=True)
class Preset:
    """Everything that decides a run's results except the data, the seed and the precision."""

    name: str
    network: AnyNetworkConfig
    schedule: ScheduleConfig
    loss: AnyLossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    mirror: bool = True

    def __post_init__(self) -> None:
        if self.network.resolution != self.schedule.resolution:
            raise SettingError(
                "resolution",
                f"{self.network.resolution} of the networks and {self.schedule.resolution} of the schedule differ; "
                "give both the resolution of the data",
            )
        if self.optimizer.freeze_d >= (levels := len(self.network.levels)):
            raise SettingError(
                "freeze_d", f"{self.optimizer.freeze_d}: the discriminator has {levels} levels; leave one to train"
            )
        style = isinstance(self.network, StyleConfig)
        if style != isinstance(self.loss, StyleLossConfig):
            raise SettingError(
                "loss",
                f"{self.loss.kind}: style-based networks train with the logistic loss, and the progressive GAN's with "
                "wgan-gp or lsgan; choose a preset of the family that you want",
            )
        if isinstance(self.network, StyleConfig) and not self.network.growing and len(self.schedule.levels) > 1:
            raise SettingError(
                "start_resolution",
                f"{self.schedule.start_resolution}: these networks do not grow; start at {self.network.resolution}, "
                "or choose stylegan-a to stylegan-d",
            )
        if self.loss.kind == "lsgan" and self.network.d_statistics == "discrimination":
            raise SettingError(
                "loss", "lsgan with minibatch discrimination is not a published combination; use wgan-gp"
            )
        if self.loss.kind != "lsgan" and self.network.d_noise > 0:
            raise SettingError(
                "d_noise", f"{self.network.d_noise}: the noise follows LSGAN's scores; choose the loss lsgan, or 0"
            )

    def with_loss(self, kind: LossName) -> "Preset":
        """Return the preset with that loss; LSGAN comes with the discriminator's adaptive noise (appendix B)."""
        if not isinstance(self.network, NetworkConfig) or not isinstance(self.loss, LossConfig):
            raise SettingError("loss", f"{kind}: style-based networks train with the logistic loss of their presets")
        noise = LSGAN_NOISE if kind == "lsgan" else 0.0
        return replace(self, network=replace(self.network, d_noise=noise), loss=replace(self.loss, kind=kind))

    def with_resolution(self, resolution: int) -> "Preset":
        """Return the preset for data of another resolution; a schedule without growing stays without."""
        start = self.schedule.start_resolution
        start = resolution if start == self.schedule.resolution else min(start, resolution)
        return replace(
            self,
            network=replace(self.network, resolution=resolution),
            schedule=replace(self.schedule, resolution=resolution, start_resolution=start),
        )

    def with_classes(self, classes: int) -> "Preset":
        """Return the preset for data with labels of that many classes (AC-GAN); 0: without labels."""
        if not isinstance(self.network, NetworkConfig):
            if classes or self.network.classes:
                where = "leave the labels out" if classes else "take other networks, or a file without classes"
                raise SettingError("labels", f"style-based networks are trained without classes; {where}")
            return self
        return replace(self, network=replace(self.network, classes=classes))

    def to_json(self) -> dict[str, Any]:
        """Return plain values for json.dump; `stored.preset_from_json` reads them."""
        values: dict[str, Any] = asdict(self) | {"network": network_to_json(self.network)}
        if isinstance(self.loss, StyleLossConfig):
            values["loss"]["family"] = STYLE
        plain: dict[str, Any] = json.loads(json.dumps(values))
        return plain


def network_to_json(config: AnyNetworkConfig) -> dict[str, Any]:
    """Return the networks' settings as plain values; the progressive GAN's name no family, as before there was one."""
    return asdict(config) | ({"family": STYLE} if isinstance(config, StyleConfig) else {})


def flat(preset: Preset) -> dict[str, Any]:
    """Return all settings by names such as `network.fmap_max`."""
    settings: dict[str, Any] = {}
    for part, values in vars(preset).items():
        settings |= (
            {f"{part}.{name}": value for name, value in vars(values).items()}
            if is_dataclass(values)
            else {part: values}
        )
    return settings


def differences(first: Preset, second: Preset) -> tuple[tuple[str, Any, Any], ...]:
    """Return (setting, value in first, value in second) where they differ; names such as `network.fmap_max`."""
    before, now = flat(first), flat(second)  # of another family, some are None
    return tuple((name, before.get(name), now.get(name)) for name in before | now if before.get(name) != now.get(name))
