"""The table of presets: the published numbers, and what is checked."""

from dataclasses import replace
from typing import Any

import pytest

from datatools.errors import DataError
from pggan.config.presets import PRESETS, get_preset
from pggan.config.schedule import rounds
from pggan.config.settings import WHOLE_MINIBATCH, LossConfig, NetworkConfig, OptimizerConfig, differences
from pggan.config.style_presets import STYLE_PRESETS

# (minibatch, d_steps, beta2, rate, latent, normalized, average decay, drift, weights, g norm, d norm, statistics)
TABLE_1: dict[str, tuple[Any, ...]] = {
    "a": (64, 5, 0.9, 1e-4, 128, False, 0.999**20, 0.0, "he", "batch", "layer", "none"),
    "b": (64, 5, 0.9, 1e-4, 128, False, 0.999**20, 0.0, "he", "batch", "layer", "none"),
    "c": (16, 5, 0.9, 1e-4, 128, False, 0.999**5, 0.0, "he", "batch", "layer", "none"),
    "d": (16, 1, 0.99, 1e-4, 512, True, 0.999, 0.001, "he", "none", "none", "none"),
    "e*": (16, 1, 0.99, 1e-4, 512, True, 0.999, 0.001, "he", "none", "none", "discrimination"),
    "e": (16, 1, 0.99, 1e-4, 512, True, 0.999, 0.001, "he", "none", "none", "stddev"),
    "f": (16, 1, 0.99, 1e-3, 512, True, 0.999, 0.001, "equalized", "none", "none", "stddev"),
    "g": (16, 1, 0.99, 1e-3, 512, True, 0.999, 0.001, "equalized", "pixel", "none", "stddev"),
    "h": (16, 1, 0.99, 1e-3, 512, True, 0.999, 0.001, "equalized", "pixel", "none", "stddev"),
}


@pytest.mark.parametrize("row", TABLE_1)
def test_table_1_has_the_papers_settings(row: str) -> None:
    preset = get_preset(f"table1-{row}")
    network, schedule, loss, optimizer = preset.network, preset.schedule, preset.loss, preset.optimizer
    found = (
        schedule.minibatch_base,
        schedule.d_steps,
        optimizer.beta2,
        schedule.rate_base,
        network.latent_size,
        network.normalize_latents,
        optimizer.ema_decay,
        loss.drift_weight,
        network.weights,
        network.g_norm,
        network.d_norm,
        network.d_statistics,
    )
    assert found == TABLE_1[row]
    crippled_by_gulrajani = row in "abc"
    assert network.g_activation == ("relu" if crippled_by_gulrajani else "leaky_relu")
    assert network.g_tanh == crippled_by_gulrajani
    assert (network.resolution, network.fmap_max) == (128, 512)
    assert network.fmap_base == (8192 if row == "h" else 2048)
    assert network.stddev_group == (WHOLE_MINIBATCH if network.d_statistics == "stddev" else 4)
    assert schedule.start_resolution == (128 if row == "a" else 4)
    assert (schedule.training_kimg, schedule.transition_kimg) == (800, 800)
    assert schedule.total_kimg == (20000 if row == "h" else 10000)
    assert (schedule.minibatch_by_level, schedule.rate_by_level, schedule.rampup_kimg) == ((), (), 0)
    assert (loss.kind, loss.gradient_weight, loss.gradient_target, loss.gradient_norm) == ("wgan-gp", 10, 1, "full")
    assert (optimizer.beta1, optimizer.eps) == (0.0, 1e-8)


SHORT_RUNS = {"tiny", "faces-32", "faces-128", "style-tiny", "style-faces-32", "style-faces-64"}


@pytest.mark.parametrize("name", PRESETS)
def test_only_short_runs_ramp_their_ema(name: str) -> None:
    preset = PRESETS[name]
    optimizer, schedule = preset.optimizer, preset.schedule
    slowest = 0.5 ** (16 / 10_000) if name in STYLE_PRESETS else optimizer.ema_decay
    early = [optimizer.decay_at(images, 16) for images in (0, 16, 1000)]
    if name in SHORT_RUNS:
        assert early == [0.0, 0.5 ** (16 / 0.8), 0.5 ** (16 / 50)]
        assert optimizer.decay_at(10**9, 16) == slowest
    else:
        assert early == [slowest] * 3
        return
    kept = 1.0  # share of the EMA at the end that was there when half of the images had been seen
    for state in rounds(schedule, round(schedule.total_kimg * 500)):
        for step in range(schedule.d_steps * schedule.minibatch_repeats):
            kept *= optimizer.decay_at(state.images + step * state.minibatch, state.minibatch)
    assert kept < 1e-3


def test_ema_settings_are_checked() -> None:
    for ramp in (-0.1, float("nan"), float("inf")):
        with pytest.raises(DataError, match="ema_ramp"):
            OptimizerConfig(ema_ramp=ramp)


def test_paper_presets() -> None:
    celebahq, lsun, cifar = PRESETS["celebahq"], PRESETS["lsun-256"], PRESETS["cifar10"]
    assert (celebahq.network.resolution, celebahq.network.fmap_base, celebahq.network.stddev_group) == (1024, 8192, 16)
    assert dict(celebahq.schedule.minibatch_by_level) == {256: 14, 512: 6, 1024: 3}
    assert (celebahq.schedule.total_kimg, lsun.schedule.total_kimg, cifar.schedule.total_kimg) == (19000, 20000, 20000)
    assert (celebahq.mirror, lsun.mirror, cifar.mirror) == (True, False, False)
    assert cifar.loss.gradient_target == 750
    assert (cifar.network.fmap_base, cifar.network.fmap_max, cifar.network.latent_size) == (4096, 128, 128)
    assert (celebahq.optimizer, celebahq.loss) == (OptimizerConfig(0.0, 0.99, 1e-8, 0.999), LossConfig())


@pytest.mark.parametrize(("devices", "row"), [(1, 1), (2, 2), (3, 2), (4, 4), (7, 4), (8, 8), (16, 8)])
def test_v2_takes_the_row_of_its_devices(devices: int, row: int) -> None:
    schedule = get_preset("celebahq-v2", devices).schedule
    assert schedule.minibatch_base == 4 * row
    assert dict(schedule.rate_by_level)[1024] == {1: 0.0015, 2: 0.002, 4: 0.003, 8: 0.003}[row]


def test_other_resolutions_and_classes() -> None:
    faces = PRESETS["celebahq-v2"].with_resolution(256).with_classes(40)
    assert (faces.network.resolution, faces.schedule.resolution, faces.schedule.start_resolution) == (256, 256, 4)
    assert faces.network.classes == 40
    assert PRESETS["no-growing"].with_resolution(256).schedule.start_resolution == 256


def test_lsgan_brings_its_noise() -> None:
    preset = PRESETS["tiny"].with_loss("lsgan")
    assert (preset.loss.kind, preset.network.d_noise) == ("lsgan", 0.2)
    with pytest.raises(DataError, match="d_noise"):
        replace(preset, loss=LossConfig())


def test_differences_are_named() -> None:
    tiny = PRESETS["tiny"]
    changed = replace(tiny, mirror=False, optimizer=replace(tiny.optimizer, beta2=0.9))
    assert differences(tiny, changed) == (("optimizer.beta2", 0.99, 0.9), ("mirror", True, False))
    assert differences(tiny, tiny) == ()


def test_mistakes_are_named() -> None:
    with pytest.raises(DataError, match=r"preset nonsense.*celebahq-v2"):
        get_preset("nonsense")
    with pytest.raises(DataError, match=r"down_step 'sideways'.*fused, unfused"):
        NetworkConfig(32, down_step="sideways")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="resolution 48"):
        NetworkConfig(48)
    with pytest.raises(DataError, match="beta2 "):
        OptimizerConfig(beta2=1.0)
    with pytest.raises(DataError, match="gradient_target "):
        LossConfig(gradient_target=0.0)
    with pytest.raises(DataError, match="differ"):
        replace(PRESETS["tiny"], network=NetworkConfig(64))
