"""Read the settings that a run or a model file keeps as JSON, those of older versions too."""

import math
from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any, TypeVar, get_type_hints

from datatools.errors import DataError
from pggan.config.settings import NetworkConfig, Preset

T = TypeVar("T")

PLAIN: dict[Any, tuple[tuple[type, ...], str]] = {
    int: ((int,), "a whole number"),
    float: ((int, float), "a finite number"),
    bool: ((bool,), "true or false"),
}
"""Settings' types -> what they may be in JSON, and that in words."""

ADDED_LATER = ("ema_ramp", "ema_kimg", "freeze_d", "augment", "fmap_by_level", "g_first_bias", "pixel_norm")
"""Settings that older files lack. Their defaults do what the program did before it had them."""
RENAMED = {"average_decay": "ema_decay", "average_ramp": "ema_ramp"}
"""Settings that older files have under another name."""


def _from_json(kind: type[T], values: Mapping[str, Any], where: str) -> T:
    if not isinstance(values, Mapping):
        raise DataError(f"{where}: must be settings by name, not {str(values)[:40]}")
    hints = get_type_hints(kind)
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
        if is_dataclass(hint) and isinstance(hint, type):
            arguments[name] = _from_json(hint, value, f"{where}.{name}")
        elif hint in PLAIN and (type(value) not in PLAIN[hint][0] or not math.isfinite(value)):
            raise DataError(f"{where}: {name} must be {PLAIN[hint][1]}, not {str(value)[:40]}")
        elif isinstance(value, list):  # tables by level are lists of pairs in JSON
            arguments[name] = tuple(tuple(item) if isinstance(item, list) else item for item in value)
        else:
            arguments[name] = value
    return kind(**arguments)


def preset_from_json(values: Mapping[str, Any]) -> Preset:
    """Return the preset that `Preset.to_json` wrote; DataError names unknown and missing settings."""
    return _from_json(Preset, values, "preset")


def network_from_json(values: Mapping[str, Any]) -> NetworkConfig:
    """Return the networks' settings from the plain values of `asdict(config)`, as a model file holds them."""
    return _from_json(NetworkConfig, values, "network")
