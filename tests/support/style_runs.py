"""Style-based models, and trainings of them, that are small enough for tests."""

from dataclasses import replace

import torch

from pggan.config.settings import OptimizerConfig, Preset
from pggan.config.style import StyleConfig, StyleLossConfig
from pggan.model.files import Model, new_model
from pggan.rng import seeded
from tests.support.pggan_runs import PRESET

SIZES = {"fmap_base": 32, "fmap_max": 8, "latent_size": 8, "mapping_layers": 2}
OPTIMIZER = OptimizerConfig(ema_half_life=0.1)
SKIP = Preset(
    "skip",
    StyleConfig(8, **SIZES),
    replace(PRESET.schedule, resolution=8, start_resolution=8, minibatch_base=8, total_kimg=0.08),
    StyleLossConfig(r1_interval=4, path_interval=2),
    OPTIMIZER,
)
"""Configuration E, in small: both regularizers are due in the first minibatches."""
GROWING = Preset(
    "growing",
    StyleConfig(16, "orig", "orig", growing=True, **SIZES),
    replace(
        PRESET.schedule,
        start_resolution=8,
        training_kimg=0.032,
        transition_kimg=0.064,
        total_kimg=0.16,
        minibatch_base=8,
        minibatch_by_level=((8, 16),),
    ),
    StyleLossConfig(r1_interval=1, path_interval=1, path_weight=0.0),
    OPTIMIZER,
)
"""Configuration B, in small."""


def noisy_style_model(resolution: int = 16) -> Model:
    """A model of configuration E with random weights, and strengths of noise that show."""
    with seeded(5, torch.device("cpu")):
        model = new_model(StyleConfig(resolution, **SIZES))
    for name, parameter in model.ema.named_parameters():
        if name.endswith("noise_strength"):
            parameter.fill_(0.5)
    return model
