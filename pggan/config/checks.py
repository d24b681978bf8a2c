"""Checks that the settings share."""

from typing import Any, Literal, get_args, get_origin, get_type_hints

from datatools.errors import SettingError


def check_choices(config: object) -> None:
    """Raise SettingError for a text that is not among the choices of its field."""
    for name, hint in get_type_hints(type(config)).items():
        value = getattr(config, name)
        if get_origin(hint) is Literal and value not in get_args(hint):
            raise SettingError(name, f"{value!r}: must be one of {', '.join(get_args(hint))}")


def check_least(config: Any, least: float, *names: str) -> None:
    """Raise SettingError for the first of the named settings that is not at least `least`."""
    for name in names:
        value = getattr(config, name)
        if not value >= least:
            raise SettingError(name, f"{value}: must be at least {least:g}")


def check_resolution(name: str, value: int) -> None:
    """Raise SettingError for a side that networks cannot have."""
    if value < 4 or value & (value - 1):
        raise SettingError(name, f"{value}: must be a power of two of at least 4")
