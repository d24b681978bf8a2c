"""Settings of the style-based networks: tables 1 and 2, and what is refused."""

from dataclasses import replace

import pytest

from datatools.errors import SettingError
from pggan.config.style import CONFIGURATIONS, StyleConfig, StyleLossConfig, table2_pair


def test_feature_maps_are_those_of_the_tables() -> None:
    maps = {name: [network.fmaps(r) for r in (1024, 64, 32, 4, 2)] for name, (network, _) in CONFIGURATIONS.items()}
    assert maps["a"] == maps["e"] == [16, 256, 512, 512, 512]
    assert maps["f"] == [32, 512, 512, 512, 512]


def test_places_are_two_for_each_level() -> None:
    config = StyleConfig(1024)
    assert [config.places(r) for r in config.levels] == [2, 4, 6, 8, 10, 12, 14, 16, 18]


def test_configurations_add_their_regularizers_one_by_one() -> None:
    terms = {name: (loss.r1_gamma, loss.r1_interval, loss.path_weight) for name, (_, loss) in CONFIGURATIONS.items()}
    assert terms["a"] == terms["b"] == (10, 1, 0)
    assert terms["c"] == (10, 16, 0)
    assert terms["d"] == terms["f"] == (10, 16, 2)
    assert terms["e"] == (100, 16, 2)
    assert [network.growing for network, _ in CONFIGURATIONS.values()] == [True, True, True, True, False, False]


def test_pairs_of_table_2_are_configuration_e_with_other_networks() -> None:
    network, loss = table2_pair("skip", "resnet")
    assert (network, loss) == CONFIGURATIONS["e"]
    assert table2_pair("orig", "skip") == (
        replace(network, g_architecture="orig", d_architecture="skip"),
        CONFIGURATIONS["e"][1],
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"g_architecture": "dense"}, "'dense': must be one of stylegan, orig, skip, resnet"),
        ({"resolution": 24}, "24: must be a power of two of at least 4"),
        ({"mapping_layers": 0}, "0: must be at least 1"),
        ({"growing": True}, "skip: only stylegan and orig can grow; set growing to false"),
        ({"growing": True, "g_architecture": "orig"}, "resnet: only stylegan and orig can grow"),
    ],
)
def test_impossible_networks_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        StyleConfig(**{"resolution": 32, **settings})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mixing": 1.5}, "1.5: must be 0 to 1"),
        ({"path_decay": float("nan")}, "nan: must be at least 0"),
        ({"r1_interval": 0}, "0: must be at least 1"),
        ({"r1_gamma": -1.0}, "-1.0: must be at least 0"),
    ],
)
def test_impossible_losses_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        StyleLossConfig(**settings)  # type: ignore[arg-type]
