"""Presets of the style-based networks: StyleGAN2's table 1 (configurations A to F), its table 2, and small ones.

Minibatches, rates and lengths are those of the authors' code. Each minibatch is the same for 1, 2, 4 and 8 devices,
which share it; the authors compute 4 samples at a time.
"""

from dataclasses import replace

from pggan.config.schedule import ScheduleConfig
from pggan.config.settings import OptimizerConfig, Preset
from pggan.config.style import CONFIGURATIONS, Architecture, StyleConfig, StyleLossConfig, table2_pair

TICK_KIMG = ((8, 28.0), (16, 24.0), (32, 20.0), (64, 16.0), (128, 12.0), (256, 8.0), (512, 6.0), (1024, 4.0))
GROWING = ScheduleConfig(
    1024,
    start_resolution=8,
    training_kimg=600.0,
    transition_kimg=600.0,
    total_kimg=25000.0,
    minibatch_base=32,
    minibatch_by_level=((4, 256), (8, 256), (16, 128), (32, 64)),
    rate_base=0.001,
    rate_by_level=((128, 0.0015), (256, 0.002), (512, 0.003), (1024, 0.003)),
    tick_kimg_base=28.0,
    tick_kimg_by_level=TICK_KIMG,
)
WHOLE = ScheduleConfig(
    1024,
    start_resolution=1024,
    training_kimg=0.0,
    transition_kimg=0.0,
    total_kimg=25000.0,
    minibatch_base=32,
    rate_base=0.002,
    tick_kimg_base=28.0,
    tick_kimg_by_level=TICK_KIMG,
)
OPTIMIZER = OptimizerConfig(ema_half_life=10.0)
SHORT_RUN = replace(OPTIMIZER, ema_ramp=0.05)
ARCHITECTURES: tuple[Architecture, ...] = ("orig", "skip", "resnet")


def _published(name: str, network: StyleConfig, loss: StyleLossConfig) -> Preset:
    return Preset(name, network, GROWING if network.growing else WHOLE, loss, OPTIMIZER)


def _small(name: str, network: StyleConfig, gamma: float, schedule: ScheduleConfig) -> Preset:
    """Return a preset with the networks of configuration E; the weight of R1 falls with the number of pixels."""
    size = network.resolution
    schedule = replace(schedule, resolution=size, start_resolution=size, tick_kimg_by_level=())
    return Preset(name, network, schedule, StyleLossConfig(r1_gamma=gamma), SHORT_RUN)


STYLE_PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        *(_published(f"stylegan-{row}", *settings) for row, settings in CONFIGURATIONS.items()),
        *(_published(f"stylegan2-{row}", *CONFIGURATIONS[row]) for row in ("e", "f")),
        *(_published(f"stylegan2-table2-{g}-{d}", *table2_pair(g, d)) for g in ARCHITECTURES for d in ARCHITECTURES),
        _small(
            "style-tiny",
            StyleConfig(32, fmap_base=512, fmap_max=32, latent_size=32, mapping_layers=2),
            0.1,
            replace(WHOLE, total_kimg=8.0, minibatch_base=8, tick_kimg_base=0.5),
        ),
        _small(
            "style-faces-32",
            StyleConfig(32, fmap_base=1024, fmap_max=128, latent_size=128, mapping_layers=4),
            0.1,
            replace(WHOLE, total_kimg=400.0, minibatch_base=16, tick_kimg_base=5.0),
        ),
        _small(
            "style-faces-64",
            StyleConfig(64, fmap_base=2048, fmap_max=128, latent_size=128, mapping_layers=4),
            0.3,
            replace(WHOLE, total_kimg=800.0, minibatch_base=16, tick_kimg_base=10.0),
        ),
    )
}
