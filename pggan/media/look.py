"""How a model makes pictures: truncation, and the noise maps of style-based networks."""

from typing import Literal

from torch import Tensor

from datatools.errors import SettingError
from pggan.config.style import StyleConfig
from pggan.media.latents import Change, truncation_of
from pggan.model.files import Model
from pggan.model.style import Look, StyleGenerator

NOISE: dict[str, Literal["fixed", "fresh", "none"]] = {"const": "fixed", "random": "fresh", "none": "none"}
"""Noise maps by their names on the command line: the model's own, drawn for each picture, or none."""
ORIGINAL_CUTOFF = 8


def set_look(model: Model, truncation: float, centre: int | None, noise: str) -> Change:
    """Set how the model's EMA makes pictures; return the change that its latents need before.

    Args:
        truncation: 0..1, see `truncation_of`, and `StyleGenerator.truncate` for style-based models.
        centre: seed that truncation pulls to, of models that normalize their latents and are not style-based.
        noise: a key of NOISE; "const" for models that have no noise maps.

    Raises: SettingError for a centre or noise that the model cannot have.
    """
    if isinstance(model.ema, StyleGenerator):
        model.ema.look = look_of(model.ema.config, truncation, centre, noise)
        return identity
    if noise != "const":
        raise SettingError("noise", f"{noise}: the model has no noise maps; it is for style-based models")
    return truncation_of(model, truncation, centre)


def look_of(config: StyleConfig, truncation: float, centre: int | None, noise: str) -> Look:
    """Return how to make pictures. The original StyleGAN truncates its first places alone, as its authors do."""
    if centre is not None:
        raise SettingError(
            "centre", f"{centre}: a style-based model is truncated towards the average of its w; remove it"
        )
    cutoff = ORIGINAL_CUTOFF if config.g_architecture == "stylegan" else None
    return Look(NOISE[noise], truncation, cutoff)


def identity(latents: Tensor) -> Tensor:
    """Return the latents."""
    return latents
