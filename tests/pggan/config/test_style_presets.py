"""Presets of the style-based networks: the published schedules, and what does not fit."""

from dataclasses import replace

import numpy as np
import pytest

from datatools.errors import SettingError
from pggan.config.presets import PRESETS
from pggan.config.schedule import minibatches, rounds, state_at
from pggan.config.settings import OptimizerConfig, differences
from pggan.config.stored import network_from_json, preset_from_json
from pggan.config.style_presets import STYLE_PRESETS
from tests.support.paths import ROOT

GOLDEN = np.load(ROOT / "tests" / "golden" / "style_pieces.npz")


def test_growing_follows_the_published_schedule() -> None:
    schedule = PRESETS["stylegan-d"].with_resolution(256).schedule
    states = [state_at(schedule, int(images)) for images in GOLDEN["schedule.256.images"]]
    for name in ("lod", "resolution", "minibatch", "learning_rate", "tick_kimg"):
        assert [getattr(state, name) for state in states] == GOLDEN[f"schedule.256.{name}"].tolist(), name


def test_optimizers_are_reset_where_the_authors_reset_them() -> None:
    found, stage = [], None
    for state in rounds(replace(PRESETS["stylegan-b"].with_resolution(256).schedule, total_kimg=6001.0)):
        if state.stage != stage:
            found.append([state.images, state.lod])
            stage = state.stage
    assert found == GOLDEN["schedule.256.resets"].tolist()


def test_minibatches_are_counted_over_levels() -> None:
    schedule = replace(PRESETS["stylegan-c"].with_resolution(32).schedule, total_kimg=2500.0)
    number = 0
    for state in rounds(schedule):
        assert state.number == number
        number += schedule.minibatch_repeats
    assert minibatches(schedule, state.images) == state.number
    assert next(rounds(schedule, state.images)) == state


def test_average_has_a_half_life_in_images() -> None:
    plain, ramping = OptimizerConfig(ema_half_life=10.0), OptimizerConfig(ema_half_life=10.0, ema_ramp=0.05)
    decays = [plain.decay_at(10**6, int(minibatch)) for minibatch in GOLDEN["average.minibatch"]]
    assert decays == pytest.approx(GOLDEN["average.decay"].tolist(), rel=1e-12)
    decays = [ramping.decay_at(int(images), 32) for images in GOLDEN["average.images"]]
    assert decays == pytest.approx(GOLDEN["average.decay_ramp_0.05_minibatch_32"].tolist(), rel=1e-7)


def test_rows_without_growing_start_whole() -> None:
    for name, preset in STYLE_PRESETS.items():
        assert preset.name == name
        small = preset.with_resolution(16)
        assert small.schedule.start_resolution == (8 if preset.network.growing else 16), name  # type: ignore[union-attr]


def test_json_names_the_family() -> None:
    values = PRESETS["stylegan-f"].to_json()
    assert (values["network"]["family"], values["loss"]["family"]) == ("style", "style")
    assert "family" not in PRESETS["tiny"].to_json()["network"]
    assert preset_from_json(values) == PRESETS["stylegan-f"]
    values["network"]["family"] = "cubist"
    with pytest.raises(Exception, match="unknown family 'cubist'"):
        network_from_json(values["network"])


def test_families_do_not_mix() -> None:
    style, progressive = PRESETS["style-tiny"], PRESETS["tiny"]
    for first, second in ((style, progressive), (progressive, style)):
        with pytest.raises(SettingError, match="choose a preset of the family"):
            replace(first, loss=second.loss)
    changed = {name for name, _, _ in differences(progressive, style)}
    assert {"network.g_architecture", "network.g_norm", "loss.r1_gamma"} <= changed
