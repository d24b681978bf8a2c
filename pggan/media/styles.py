"""Pictures made of styles: grids that mix those of two seeds, and ways through w."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from torch import Tensor

from datatools.errors import SettingError
from pggan.config.style import StyleConfig
from pggan.model.files import Model, render_styles
from pggan.model.style import StyleGenerator
from pggan.rng import normals

KEYS_CLOCK = 1 << 20  # draws of the purpose "grid", after those of the films through the latents
COARSE, MIDDLE = 8, 32  # the largest levels of coarse and of middle styles, as in the StyleGAN paper
SMALL = 32  # of such models coarse are the styles of the first level, and fine those of the last


def style_generator(model: Model, setting: str, value: object) -> StyleGenerator:
    """Return the model's generator; SettingError, of the setting that needs it, for a progressive GAN."""
    if not isinstance(model.ema, StyleGenerator):
        raise SettingError(setting, f"{value}: the model has no styles; it is for style-based models")
    return model.ema


@torch.no_grad()
def w_of(generator: StyleGenerator, latents: Tensor, labels: Tensor | None) -> Tensor:
    """Return w (n, W) on the generator's device."""
    device = generator.w_average.device
    return generator.map(latents.to(device), None if labels is None else labels.to(device))


def places_of(config: StyleConfig, layers: str) -> range:
    """Return the places of "coarse", "middle" or "fine" styles, or of the first and last place such as "2-5" or "3".

    Coarse are those up to 8 x 8, middle 16 x 16 and 32 x 32, fine the others; of models of up to 32 pixels the first
    level's, those between, and the last level's. Raises SettingError for what the model does not have.
    """
    levels, count = config.levels, config.places(config.resolution)
    coarse, middle = (COARSE, MIDDLE) if config.resolution > SMALL else (levels[0], levels[-1] // 2)
    ends = {"coarse": (0, coarse), "middle": (coarse, middle), "fine": (middle, levels[-1])}
    if layers in ends:
        after, last = (config.places(r) if r else 0 for r in ends[layers])
        found = range(after, last)
    else:
        first_text, _, last_text = layers.partition("-")
        if not first_text.isdecimal() or not (last_text or first_text).isdecimal():
            raise SettingError("layers", f"{layers!r}: must be coarse, middle, fine, or places such as 0-3")
        found = range(int(first_text), int(last_text or first_text) + 1)
    if not found or found[-1] >= count:
        size = f"{config.resolution} x {config.resolution}"
        raise SettingError(
            "layers", f"{layers}: a model of {size} pixels does not have them; its places are 0-{count - 1}"
        )
    return found


def mixing_grid(
    model: Model, rows: Sequence[int], columns: Sequence[int], places: range, label: int | None = None
) -> NDArray[np.uint8]:
    """Return pictures ((1 + rows) (1 + columns), r, r, 3), row by row, with the styles of rows and columns mixed.

    The first row and the first column are the seeds' own pictures, the corner is black. The others have the styles of
    their row's seed, but at `places` those of their column's.
    """
    generator = style_generator(model, "mix", ",".join(map(str, rows)))
    seeds = [*columns, *rows]
    ws = generator.broadcast(w_of(generator, model.latents(seeds), model.labels(label, seeds)))
    of_columns, of_rows = ws[: len(columns)], ws[len(columns) :]
    mixed = of_rows[:, None].repeat(1, len(columns), 1, 1)  # (rows, columns, places, W)
    mixed[:, :, places.start : places.stop] = of_columns[:, places.start : places.stop]
    lines = torch.cat([of_rows[:, None], mixed], dim=1)  # (rows, 1 + columns, places, W)
    made = render_styles(generator, torch.cat([of_columns, lines.flatten(0, 1)]), model.lod)
    return np.concatenate([np.zeros_like(made[:1]), made])


class StyleLoop:
    """A closed way through w for each of `cells` pictures: a periodic cubic spline through w of `keys` latents.

    Each way is a function of (seed, its number) alone. `labels`: (cells, classes), None without classes.
    """

    def __init__(self, generator: StyleGenerator, cells: int, seed: int, keys: int, labels: Tensor | None) -> None:
        size = generator.config.latent_size
        drawn = torch.stack([normals(seed, "grid", KEYS_CLOCK + cell, (keys, size)) for cell in range(cells)], dim=1)
        of_keys = None if labels is None else labels.repeat(keys, 1)
        ws = w_of(generator, drawn.flatten(0, 1), of_keys).cpu().numpy().reshape(keys, cells, size)
        closed = np.concatenate([ws, ws[:1]]).astype(np.float64)
        self.spline = CubicSpline(np.linspace(0.0, 1.0, keys + 1), closed, bc_type="periodic")

    def __call__(self, times: NDArray[np.float64]) -> Tensor:
        """Return w (n, cells, W) float32 at times 0..1; times 0 and 1 are the same."""
        return torch.from_numpy(self.spline(times).astype(np.float32))
