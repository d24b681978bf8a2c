"""Named settings: everything that decides what a run computes, as frozen values, and a table of presets.

`celebahq` is the paper's own run (appendix A.1), `celebahq-v2` the faster one that its authors published in 2018,
`table1-a` ... `table1-h` are the rows of the paper's table 1, `no-growing` its section 6.3 comparison.
"""

import json
import math
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from typing import Any, Literal

from datatools.errors import SettingError
from pggan.config.checks import check_choices, check_least, check_resolution
from pggan.config.schedule import ScheduleConfig

LossName = Literal["wgan-gp", "lsgan"]
AugmentName = Literal["none", "diffaugment", "ada"]
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

    `ema_ramp`: above 0, the half-life of the EMA is at most that share of the images seen, so that the random
    start of a short run is soon forgotten. 0 is the paper's EMA, which decays by `ema_decay` in every minibatch.
    `ema_kimg`: half-lives, in thousands of reals shown, of further EMAs, from which pictures can be made as well.
    `freeze_d`: so many of the discriminator's levels, from the largest resolution on, keep their weights (FreezeD,
    Mo et al. 2020).
    """

    beta1: float = 0.0
    beta2: float = 0.99
    eps: float = 1e-8
    ema_decay: float = 0.999
    ema_ramp: float = 0.0
    ema_kimg: tuple[float, ...] = ()
    freeze_d: int = 0

    def __post_init__(self) -> None:
        check_least(self, 0, "freeze_d")
        if not all(0 < kimg < math.inf for kimg in self.ema_kimg):
            raise SettingError("ema_kimg", f"{self.ema_kimg}: half-lives must be above 0 and finite")
        for name in ("beta1", "beta2", "ema_decay"):
            if not 0 <= (value := getattr(self, name)) < 1:
                raise SettingError(name, f"{value}: must be at least 0 and below 1")
        if not 0 <= self.ema_ramp < math.inf:
            raise SettingError("ema_ramp", f"{self.ema_ramp}: must be at least 0 and finite")

    def decay_at(self, images: int, minibatch: int) -> float:
        """Return the decay of the EMA, in 0..1, for the minibatch that follows `images` seen ones."""
        if self.ema_ramp == 0:
            return self.ema_decay
        half_life = self.ema_ramp * images
        return min(self.ema_decay, 0.5 ** (minibatch / half_life)) if half_life > 0 else 0.0


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


@dataclass(frozen=True)
class Preset:
    """Everything that decides a run's results except the data, the seed and the precision."""

    name: str
    network: NetworkConfig
    schedule: ScheduleConfig
    loss: LossConfig = field(default_factory=LossConfig)
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
        return replace(self, network=replace(self.network, classes=classes))

    def to_json(self) -> dict[str, Any]:
        """Return plain values for json.dump; `stored.preset_from_json` reads them."""
        values: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return values


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
    pairs = zip(flat(first).items(), flat(second).values(), strict=True)
    return tuple((name, before, now) for (name, before), now in pairs if before != now)


def _v2(devices: int, **schedule: Any) -> ScheduleConfig:
    """Return the 2018 schedule: minibatches and rates by number of devices."""
    minibatches = {
        1: ((4, 128), (8, 128), (16, 128), (32, 64), (64, 32), (128, 16), (256, 8), (512, 4)),
        2: ((4, 256), (8, 256), (16, 128), (32, 64), (64, 32), (128, 16), (256, 8)),
        4: ((4, 512), (8, 256), (16, 128), (32, 64), (64, 32), (128, 16)),
        8: ((4, 512), (8, 256), (16, 128), (32, 64), (64, 32)),
    }
    rates = {
        1: ((1024, 0.0015),),
        2: ((512, 0.0015), (1024, 0.002)),
        4: ((256, 0.0015), (512, 0.002), (1024, 0.003)),
        8: ((128, 0.0015), (256, 0.002), (512, 0.003), (1024, 0.003)),
    }
    settings: dict[str, Any] = {
        "resolution": 1024,
        "training_kimg": 600.0,
        "transition_kimg": 600.0,
        "total_kimg": 12000.0,
        "minibatch_base": 4 * devices,
        "minibatch_by_level": minibatches[devices],
        "rate_by_level": rates[devices],
    }
    return ScheduleConfig(**{**settings, **schedule})


def _table1() -> dict[str, Preset]:
    """Return the rows of the paper's table 1, each made from the one that the paper changes."""
    plain_network = NetworkConfig(
        128,
        fmap_base=2048,
        latent_size=128,
        weights="he",
        normalize_latents=False,
        g_activation="relu",
        g_norm="batch",
        g_tanh=True,
        d_norm="layer",
        d_statistics="none",
    )
    schedule = ScheduleConfig(
        128,
        training_kimg=800.0,
        transition_kimg=800.0,
        total_kimg=10000.0,
        minibatch_base=64,
        rate_base=1e-4,
        d_steps=5,
    )
    b = Preset(
        "table1-b",
        plain_network,
        schedule,
        LossConfig(drift_weight=0.0),
        OptimizerConfig(beta2=0.9, ema_decay=0.999**20),
    )
    a = replace(b, name="table1-a", schedule=replace(schedule, start_resolution=128))
    c = replace(
        b,
        name="table1-c",
        schedule=replace(schedule, minibatch_base=16),
        optimizer=replace(b.optimizer, ema_decay=0.999**5),
    )
    d = Preset(
        "table1-d",
        NetworkConfig(128, fmap_base=2048, weights="he", g_norm="none", d_statistics="none"),
        replace(schedule, minibatch_base=16, d_steps=1),
    )
    e_star = replace(d, name="table1-e-star", network=replace(d.network, d_statistics="discrimination"))
    e = replace(d, name="table1-e", network=replace(d.network, d_statistics="stddev", stddev_group=WHOLE_MINIBATCH))
    f = replace(
        e,
        name="table1-f",
        network=replace(e.network, weights="equalized"),
        schedule=replace(e.schedule, rate_base=1e-3),
    )
    g = replace(f, name="table1-g", network=replace(f.network, g_norm="pixel"))
    # the paper gives no numbers for its converged row: more feature maps and twice the images
    h = replace(
        g,
        name="table1-h",
        network=replace(g.network, fmap_base=8192),
        schedule=replace(g.schedule, total_kimg=20000.0),
    )
    return {preset.name: preset for preset in (a, b, c, d, e_star, e, f, g, h)}


def _long(resolution: int, kimg: float, total: float, **more: Any) -> ScheduleConfig:
    """Return a 2017 schedule: phases of `kimg` each way, minibatch 16."""
    return ScheduleConfig(resolution, training_kimg=kimg, transition_kimg=kimg, total_kimg=total, **more)


_PAPER_1024 = NetworkConfig(1024)
_SMALL_BATCHES = ((256, 14), (512, 6), (1024, 3))

_SHORT_RUN = OptimizerConfig(ema_ramp=0.05)  # the paper's EMA remembers the start of a run for dozens of kimg

PRESETS: dict[str, Preset] = {
    "celebahq": Preset(
        "celebahq",
        replace(_PAPER_1024, stddev_group=16),
        _long(1024, 800.0, 19000.0, minibatch_by_level=_SMALL_BATCHES, rampup_kimg=40.0),
    ),
    "celebahq-v2": Preset("celebahq-v2", _PAPER_1024, _v2(1)),
    "lsun-256": Preset(
        "lsun-256", NetworkConfig(256, stddev_group=16), _long(256, 800.0, 20000.0, rampup_kimg=40.0), mirror=False
    ),
    "cifar10": Preset(
        "cifar10",
        NetworkConfig(32, fmap_base=4096, fmap_max=128, latent_size=128, stddev_group=16),
        _long(32, 400.0, 20000.0),
        LossConfig(gradient_target=750.0),
        mirror=False,
    ),
    "no-growing": Preset(
        "no-growing",
        _PAPER_1024,
        _v2(1, start_resolution=1024, training_kimg=0.0, transition_kimg=0.0, total_kimg=10000.0),
    ),
    **_table1(),
    "tiny": Preset(
        "tiny",
        NetworkConfig(32, fmap_base=256, fmap_max=32, latent_size=32),
        # with the paper's minibatch and rate, 8 kimg end in blurs
        _long(32, 1.0, 8.0, minibatch_base=8, rate_base=0.003, tick_kimg_base=0.5, tick_kimg_by_level=()),
        optimizer=_SHORT_RUN,
    ),
    "faces-32": Preset(
        "faces-32",
        NetworkConfig(32, fmap_base=1024, fmap_max=128, latent_size=128),
        _long(32, 15.0, 400.0, tick_kimg_base=5.0, tick_kimg_by_level=()),
        optimizer=_SHORT_RUN,
    ),
    "faces-128": Preset(
        "faces-128",
        NetworkConfig(128, fmap_base=4096, fmap_max=256, latent_size=256),
        _long(
            128,
            60.0,
            1200.0,
            minibatch_base=32,
            minibatch_by_level=((4, 64), (8, 64), (16, 64), (128, 16)),
            tick_kimg_base=20.0,
            tick_kimg_by_level=(),
        ),
        optimizer=_SHORT_RUN,
    ),
}

_BY_DEVICES = (1, 2, 4, 8)


def get_preset(name: str, devices: int = 1) -> Preset:
    """Return the preset of that name; `celebahq-v2`: the row of the largest published number of devices <= `devices`.

    DataError for an unknown name, which lists the known ones.
    """
    name = name.replace("*", "-star")  # the paper's name of the row with minibatch discrimination: e*
    if name not in PRESETS:
        raise SettingError("preset", f"{name}: unknown; choose one of {', '.join(PRESETS)}")
    preset = PRESETS[name]
    if name == "celebahq-v2":
        row = max((count for count in _BY_DEVICES if count <= devices), default=1)
        preset = replace(preset, schedule=_v2(row))
    return preset
