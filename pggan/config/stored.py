"""Read the settings that a run or a model file keeps as JSON, those of older versions too."""

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, get_type_hints

from datatools.errors import DataError
from pggan.config.settings import STYLE, AnyLossConfig, AnyNetworkConfig, LossConfig, NetworkConfig, Preset
from pggan.config.style import StyleConfig, StyleLossConfig

T = TypeVar("T")

PLAIN: dict[Any, tuple[tuple[type, ...], str]] = {
    int: ((int,), "a whole number"),
    float: ((int, float), "a finite number"),
    bool: ((bool,), "true or false"),
}
"""Settings' types -> what they may be in JSON, and that in words."""

FAMILIES: dict[Any, tuple[type[Any], type[Any]]] = {
    AnyNetworkConfig: (NetworkConfig, StyleConfig),
    AnyLossConfig: (LossConfig, StyleLossConfig),
}
"""Settings that have a class for each family -> those of the progressive GAN and of style-based networks."""
ADDED_LATER = (
    "ema_ramp",
    "ema_half_life",
    "ema_kimg",
    "freeze_d",
    "augment",
    "fmap_by_level",
    "g_first_bias",
    "pixel_norm",
    "classes",
    "label_layers",
)
"""Settings that older files lack. Their defaults do what the program did before it had them."""
RENAMED = {"average_decay": "ema_decay", "average_ramp": "ema_ramp"}
"""Settings that older files have under another name."""


def _from_json(kind: type[T], values: Mapping[str, Any], where: str) -> T:
    if not isinstance(values, Mapping):
        raise DataError(f"{where}: must be settings by name, not {str(values)[:40]}")
    known = get_type_hints(kind)
    hints = {item.name: known[item.name] for item in fields(kind)}  # type: ignore[arg-type]
    values = {RENAMED.get(name, name): value for name, value in values.items()}
    unknown = sorted(set(values) - set(hints))
    missing = sorted(set(hints) - set(values) - set(ADDED_LATER))
    if unknown or missing:
        raise DataError(f"{where}: unknown settings {unknown}, missing settings {missing}; written by another version?")
    arguments: dict[str, Any] = {}
    for name, hint in hints.items():
        if name not in values:
            continue
        value = values[name]
        if hint in FAMILIES:
            arguments[name] = _of_family(hint, value, f"{where}.{name}")
        elif is_dataclass(hint) and isinstance(hint, type):
            arguments[name] = _from_json(hint, value, f"{where}.{name}")
        elif hint in PLAIN and (type(value) not in PLAIN[hint][0] or not math.isfinite(value)):
            raise DataError(f"{where}: {name} must be {PLAIN[hint][1]}, not {str(value)[:40]}")
        elif isinstance(value, list):  # tables by level are lists of pairs in JSON
            arguments[name] = tuple(tuple(item) if isinstance(item, list) else item for item in value)
        else:
            arguments[name] = value
    return kind(**arguments)


def _of_family(kind: Any, values: Mapping[str, Any], where: str) -> Any:
    """Return the settings of the family that the values name; those of the progressive GAN name none."""
    progressive, style = FAMILIES[kind]
    if not isinstance(values, Mapping) or "family" not in values:
        return _from_json(progressive, values, where)
    if values["family"] != STYLE:
        raise DataError(f"{where}: unknown family {str(values['family'])[:40]!r}; written by a later version?")
    return _from_json(style, {name: value for name, value in values.items() if name != "family"}, where)


def preset_from_json(values: Mapping[str, Any]) -> Preset:
    """Return the preset that `Preset.to_json` wrote; DataError names unknown and missing settings."""
    return _from_json(Preset, values, "preset")


def network_from_json(values: Mapping[str, Any]) -> AnyNetworkConfig:
    """Return the networks' settings from the plain values of `network_to_json`, as a model file holds them."""
    found: AnyNetworkConfig = _of_family(AnyNetworkConfig, values, "network")
    return found
