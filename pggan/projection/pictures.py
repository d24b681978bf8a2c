"""Pictures to project: files, reduced to the model's size, and the model's own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datatools.errors import DataError
from datatools.files import list_pictures
from datatools.images import ImageError, read_bytes
from datatools.pyramid.square import Crop, UnsuitableError, read_square
from pggan.model.files import Model, render
from pggan.projection.results import Group, digest


@dataclass(frozen=True)
class Item:
    """A picture to project. `sha256`: of what decides its pixels. `load`: returns (r, r, 3) uint8."""

    group: Group
    name: str
    sha256: str
    load: Callable[[], NDArray[np.uint8]]


def list_images(folder: Path) -> list[Path]:
    """Return the pictures in a folder. Raises DataError for none, and for two that would have files of one name."""
    listed = list_pictures(folder)
    if not listed.pictures:
        raise DataError(f"{folder}: holds no pictures{listed.hint or '; name a folder of PNG or JPEG files'}")
    names: dict[str, Path] = {}
    for path in listed.pictures:
        if path.stem in names:
            raise DataError(f"{path}: {names[path.stem].name} has the same name but for its ending; rename one of them")
        names[path.stem] = path
    return list(listed.pictures)


def image_items(paths: Sequence[Path], side: int, crop: Crop) -> list[Item]:
    """Return the pictures of files, reduced to that side when they are loaded."""

    def load(path: Path) -> NDArray[np.uint8]:
        try:
            return read_square(read_bytes(path), side, crop)[0]
        except ImageError as error:
            message = str(error)
            if isinstance(error, UnsuitableError) and error.kind == "too small":
                message = f"smaller than the model's pictures of {side} x {side} pixels"
            raise ImageError(f"{path.name}: {message}") from error

    def item(path: Path) -> Item:
        try:
            sha256 = digest(read_bytes(path))
        except ImageError:
            sha256 = ""  # loading says why
        return Item("images", path.stem, sha256, partial(load, path))

    return [item(path) for path in paths]


def own_items(model: Model, count: int, seed: int) -> list[Item]:
    """Return pictures of the model, of seeds from `seed` on, with fresh noise and without truncation."""

    def load(number: int) -> NDArray[np.uint8]:
        labels = model.labels(None, [number])
        return render(model.ema, model.latents([number]), labels, model.lod, noise_seeds=[number])[0]

    return [
        Item("generated", f"seed{number:06d}", digest(str(number).encode()), partial(load, number))
        for number in range(seed, seed + count)
    ]
