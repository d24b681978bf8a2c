"""Named settings: a table of presets.

`celebahq` is the paper's own run (appendix A.1), `celebahq-v2` the faster one that its authors published in 2018,
`table1-a` ... `table1-h` are the rows of the paper's table 1, `no-growing` its section 6.3 comparison.
"""

import difflib
from dataclasses import replace
from typing import Any

from datatools.errors import SettingError
from pggan.config.schedule import ScheduleConfig
from pggan.config.settings import WHOLE_MINIBATCH, LossConfig, NetworkConfig, OptimizerConfig, Preset
from pggan.config.style_presets import STYLE_PRESETS


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
    d_network = NetworkConfig(128, fmap_base=2048, weights="he", g_norm="none", d_statistics="none")
    e_network = replace(d_network, d_statistics="stddev", stddev_group=WHOLE_MINIBATCH)
    f_network = replace(e_network, weights="equalized")
    d = Preset(
        "table1-d",
        d_network,
        replace(schedule, minibatch_base=16, d_steps=1),
    )
    e_star = replace(d, name="table1-e-star", network=replace(d_network, d_statistics="discrimination"))
    e = replace(d, name="table1-e", network=e_network)
    f = replace(
        e,
        name="table1-f",
        network=f_network,
        schedule=replace(e.schedule, rate_base=1e-3),
    )
    g = replace(f, name="table1-g", network=replace(f_network, g_norm="pixel"))
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
    **STYLE_PRESETS,
}

_BY_DEVICES = (1, 2, 4, 8)


def get_preset(name: str, devices: int = 1) -> Preset:
    """Return the preset of that name; `celebahq-v2`: the row of the largest published number of devices <= `devices`.

    Raises DataError for an unknown name; it names the closest one, or lists all.
    """
    name = name.replace("*", "-star")  # the paper's name of the row with minibatch discrimination: e*
    if name not in PRESETS:
        close = difflib.get_close_matches(name, PRESETS, 1)
        hint = f"did you mean {close[0]}?" if close else f"choose one of {', '.join(PRESETS)}"
        raise SettingError("preset", f"{name}: unknown; {hint}")
    preset = PRESETS[name]
    if name == "celebahq-v2":
        row = max((count for count in _BY_DEVICES if count <= devices), default=1)
        preset = replace(preset, schedule=_v2(row))
    return preset
