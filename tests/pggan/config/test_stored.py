"""Settings in JSON: presets survive it, older versions' files are read, and wrong names are named."""

import json
from dataclasses import replace

import pytest

from datatools.errors import DataError
from pggan.config.presets import PRESETS
from pggan.config.settings import OptimizerConfig
from pggan.config.stored import network_from_json, preset_from_json


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_json(name: str) -> None:
    preset = PRESETS[name]
    assert preset.name == name
    assert preset_from_json(json.loads(json.dumps(preset.to_json()))) == preset
    assert network_from_json(json.loads(json.dumps(preset.to_json()))["network"]) == preset.network


def test_settings_of_older_versions_mean_what_they_meant() -> None:
    values = PRESETS["tiny"].to_json()
    del values["optimizer"]["ema_ramp"], values["optimizer"]["freeze_d"], values["augment"]
    assert preset_from_json(values) == replace(PRESETS["tiny"], optimizer=OptimizerConfig())
    values["optimizer"]["average_decay"] = values["optimizer"].pop("ema_decay") / 2
    assert preset_from_json(values).optimizer == OptimizerConfig(ema_decay=0.999 / 2)
    del values["optimizer"]["beta2"]
    with pytest.raises(DataError, match="missing settings \\['beta2'\\]"):
        preset_from_json(values)


def test_networks_of_older_versions_are_those_of_the_paper() -> None:
    values = PRESETS["tiny"].to_json()
    for name in ("fmap_by_level", "g_first_bias", "pixel_norm"):
        del values["network"][name]
    assert preset_from_json(values) == PRESETS["tiny"]


def test_unknown_and_missing_settings_are_named() -> None:
    values = PRESETS["tiny"].to_json()
    values["network"]["fmap_mux"] = values["network"].pop("fmap_max")
    with pytest.raises(DataError, match=r"fmap_mux.*fmap_max"):
        preset_from_json(values)
