"""Several seeds in one file: rows of pictures from seed to seed, and grids of mixed styles."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from datatools.errors import DataError
from datatools.images import save_png
from datatools.text import counted
from pggan.media.grids import tile
from pggan.media.latents import Change, slerp
from pggan.media.styles import mixing_grid, places_of, style_generator, w_of
from pggan.media.video import Space, enlarged
from pggan.model.files import Model, render, render_styles


def write_mixed(
    model: Model,
    out: Path,
    rows: Sequence[int],
    columns: Sequence[int],
    layers: Sequence[str],
    zoom: int,
    label: int | None,
) -> str:
    """Write a file with a grid of mixed styles for each of `layers`; return what was written, in words."""
    config = style_generator(model, "mix", ",".join(map(str, rows))).config
    places = {name: places_of(config, name) for name in layers}
    for name, of_columns in places.items():
        grid = tile(mixing_grid(model, rows, columns, of_columns, label), 1 + len(columns))
        save_png(out / f"mix-{name}.png", enlarged(grid, zoom))
    size = f"{counted(len(rows), 'row')} of {counted(len(columns), 'column')}"
    return f"{', '.join(f'mix-{name}.png' for name in places)}, {size},"


def write_strip(
    model: Model,
    out: Path,
    seeds: Sequence[int],
    steps: int,
    zoom: int,
    label: int | None,
    change: Change,
    space: Space,
) -> str:
    """Write a file with a row for each two neighbouring seeds: `steps` pictures at equal distances on their arc.

    Of a model with labels a row keeps the class of its first seed: the network knows nothing between two classes.
    """
    if len(seeds) < 2:
        raise DataError("--slerp: two seeds are needed at least, such as 3,17")
    shares = np.linspace(0, 1, steps, dtype=np.float32)
    rows = []
    for first, second in itertools.pairwise(seeds):
        ends = model.latents([first, second])
        if space == "w":
            generator = style_generator(model, "space", space)
            w = w_of(generator, ends, model.labels(label, [first] * 2)).cpu()
            ws = generator.broadcast(torch.lerp(w[:1], w[1:], torch.from_numpy(shares)[:, None]))
            rows.append(render_styles(generator, ws, model.lod))
            continue
        latents = slerp(ends[:1], ends[1:], torch.from_numpy(shares)[:, None])  # (steps, latent_size)
        rows.append(render(model.ema, change(latents), model.labels(label, [first] * steps), model.lod))
    path = out / f"slerp{seeds[0]:06d}.png"
    save_png(path, enlarged(tile(np.concatenate(rows), steps), zoom))
    return f"{path.name}, {counted(len(rows), 'row')} of {counted(steps, 'picture')},"
