"""Sets of images to measure: a level of a pyramid, a folder of pictures, or the pictures of a network.

    reals = PyramidSet(Path("celebahq.h5"), 128, shuffle=0)
    for images in reals.batches(1000, 64):
        ...  # (n, 3, 128, 128) uint8

Which images come, and in which order, is a pure function of the set; it does not depend on how they come in batches.
"""

import sys
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from datatools.errors import DataError, reason
from datatools.files import list_pictures
from datatools.images import ImageError, image_size, read_bytes, read_upright
from datatools.parallel import map_in_threads
from datatools.pyramid import Pyramid
from datatools.pyramid.labels import Labels
from pggan.model.files import Model, render
from pggan.model.losses import fade
from pggan.pixels import to_bytes, to_floats
from pggan.rng import normals, rng, torch_seed

Bytes = NDArray[np.uint8]

UNLIMITED = sys.maxsize

# Clocks of the random numbers called "metrics"; latents of the image i have i + LATENTS.
ORDER, COINS, CLASSES, LATENTS = 0, 1, 2, 3


class ImageSet(Protocol):
    """Images of one size in a fixed order."""

    @property
    def name(self) -> str:
        """Return the name of the set in messages."""

    @property
    def count(self) -> int:
        """Return the number of images; UNLIMITED for those of a network."""

    @property
    def resolution(self) -> int:
        """Return their side in pixels."""

    @property
    def digest(self) -> str | None:
        """Return what depends on every pixel; None where only reading all images could give it."""

    @property
    def settings(self) -> dict[str, Any]:
        """Return everything else that the images and their order depend on, ready for JSON."""

    def batches(self, count: int, size: int, *, start: int = 0, mirror_seed: int | None = None) -> Iterator[Bytes]:
        """Yield images number `start` to `start + count`, `size` at a time: (n, 3, r, r) uint8.

        With a `mirror_seed` a coin decides for every image whether it is mirrored; it depends on the seed and the
        image's number alone.
        """


class PyramidSet:
    """The level of `resolution` pixels of a pyramid file; None: the largest.

    Args:
        fading: weight of the next smaller level, 0 to 1, as the networks see reals while a level fades in; the images
            are rounded to bytes again, as a network's pictures are.
        shuffle: seed of the order; None: that of the file. Files are often sorted by quality: the first images alone
            do not stand for all.

    Raises DataError for a bad file and for a level that it has not.
    """

    def __init__(
        self, h5: Path, resolution: int | None = None, *, fading: float = 0.0, shuffle: int | None = None
    ) -> None:
        self.pyramid = Pyramid(h5)
        self.level = self.pyramid[self.pyramid.resolution if resolution is None else resolution]
        self.name, self.count, self.resolution = str(h5), len(self.pyramid), self.level.resolution
        self.fading, self.shuffle = fading, shuffle

    @cached_property
    def digest(self) -> str | None:
        """64 hexadecimal digits that depend on every pixel of the level, as it was when its checksums were written.

        A file that was changed since is damaged; `h5tool verify` finds that.
        """
        return self.pyramid.digest(self.resolution)

    @property
    def settings(self) -> dict[str, Any]:
        return {"resolution": self.resolution, "fading": self.fading, "shuffle": self.shuffle}

    def batches(self, count: int, size: int, *, start: int = 0, mirror_seed: int | None = None) -> Iterator[Bytes]:
        order = _order(self.count, self.shuffle)[start : start + count]
        coins = _coins(mirror_seed, start, len(order))
        for some in _slices(len(order), size):
            images = self.level[order[some]]
            if self.fading:
                images = _channels_first(to_bytes(fade(to_floats(torch.from_numpy(images)), self.fading)))
            yield _mirrored(images, coins[some])


class FolderSet:
    """The pictures in a folder, sorted by name and turned as EXIF asks: square RGB pictures of one size.

    Files that are no pictures by their names are left out, subfolders too (`list_pictures`); `below` is the number of
    pictures in these. `shuffle`: as of PyramidSet. Raises DataError, before anything is decoded, for the first picture
    that does not fit: a measurement of some of the pictures would pass for one of all.
    """

    digest = None

    def __init__(self, folder: Path, *, shuffle: int | None = None) -> None:
        files = list_pictures(folder)
        self.paths, self.below = files.pictures, len(files.below)
        if not self.paths:
            what = files.hint or "; name a folder of PNG or JPEG files, or a pyramid file"
            raise DataError(f"{folder}: holds no pictures{what}")
        self.name, self.count, self.shuffle = str(folder), len(self.paths), shuffle
        self.resolution = _side(self.paths[0])
        for path in self.paths[1:]:
            if (side := _side(path)) != self.resolution:
                raise DataError(
                    f"{path}: {side} x {side} pixels, {self.paths[0].name} has {self.resolution}; "
                    "make all pictures of the folder the same size"
                )

    @property
    def settings(self) -> dict[str, Any]:
        return {"resolution": self.resolution, "shuffle": self.shuffle}

    def batches(self, count: int, size: int, *, start: int = 0, mirror_seed: int | None = None) -> Iterator[Bytes]:
        order = _order(self.count, self.shuffle)[start : start + count]
        coins = _coins(mirror_seed, start, len(order))
        pictures = map_in_threads(self._read, order.tolist(), torch.get_num_threads())
        for some in _slices(len(order), size):
            yield _mirrored(np.stack([next(pictures) for _ in order[some]]), coins[some])

    def _read(self, index: int) -> Bytes:
        try:
            return np.ascontiguousarray(read_upright(self.paths[index]).transpose(2, 0, 1))
        except ImageError as error:
            raise DataError(f"{self.paths[index]}: {error}") from error


class ModelSet:
    """Pictures of a model's EMA, at the resolution that it had grown to; a style-based one has fresh noise for each.

    Latents and noise of an image depend on the seed and its number alone; the pictures do but for rounding.

    Args:
        labels: (n, classes), whose rows are drawn at random for a network of classes, as for its training; None: every
            class equally often.
    """

    digest = None
    count = UNLIMITED

    def __init__(self, model: Model, seed: int = 0, labels: Labels | None = None) -> None:
        self.model, self.seed = model, seed
        self.name = "the model"
        self.resolution = model.level.resolution
        classes = model.config.classes
        self.labels = np.eye(classes, dtype=np.float32) if classes and labels is None else labels

    @property
    def settings(self) -> dict[str, Any]:
        return {"resolution": self.resolution, "lod": self.model.lod, "seed": self.seed}

    def batches(self, count: int, size: int, *, start: int = 0, mirror_seed: int | None = None) -> Iterator[Bytes]:
        coins, shape = _coins(mirror_seed, start, count), (self.model.config.latent_size,)
        rows = None
        if self.labels is not None:
            rows = rng(self.seed, "metrics", CLASSES).integers(0, len(self.labels), start + count)[start:]
        for some in _slices(count, size):
            numbers = range(start + some.start, start + some.stop)
            latents = [normals(self.seed, "metrics", LATENTS + number, shape) for number in numbers]
            labels = None if rows is None or self.labels is None else torch.from_numpy(self.labels[rows[some]])
            noise = [torch_seed(self.seed, "metrics-noise", number) for number in numbers]
            pictures = render(self.model.ema, torch.stack(latents), labels, self.model.lod, noise_seeds=noise)
            yield _mirrored(_channels_first(pictures), coins[some])


def open_set(path: Path, resolution: int | None = None, *, fading: float = 0.0, shuffle: int | None = None) -> ImageSet:
    """Open a pyramid file at that resolution, or a folder of pictures, which has one size and does not fade."""
    if not path.is_dir():
        return PyramidSet(path, resolution, fading=fading, shuffle=shuffle)
    if fading:
        raise DataError(f"{path}: reals of a level that fades in are taken from a pyramid file, not from a folder")
    return FolderSet(path, shuffle=shuffle)


def _why(path: Path, error: Exception) -> str:
    """Return why a picture could not be opened, without its name, which Pillow's messages have."""
    if not getattr(error, "strerror", None):
        try:
            image_size(read_bytes(path))
        except ImageError as image_error:
            return str(image_error)
    return reason(error)


def _side(path: Path) -> int:
    """Return the side of a square RGB picture, from its header."""
    try:
        with Image.open(path) as picture:
            mode, (width, height) = picture.mode, picture.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: cannot be read as a picture: {_why(path, error)}") from error
    if mode != "RGB":
        raise DataError(f"{path}: a picture of mode {mode}, not RGB; convert it first")
    if width != height:
        raise DataError(f"{path}: {width} x {height} pixels; pictures that are measured are square, crop them first")
    return width


def _order(count: int, shuffle: int | None) -> NDArray[np.int64]:
    return np.arange(count) if shuffle is None else rng(shuffle, "metrics", ORDER).permutation(count)


def _coins(seed: int | None, start: int, count: int) -> NDArray[np.bool_]:
    if seed is None:
        return np.zeros(count, bool)
    return rng(seed, "metrics", COINS).random(start + count)[start:] < 0.5


def _mirrored(images: Bytes, coins: NDArray[np.bool_]) -> Bytes:
    if coins.any():
        images[coins] = images[coins][..., ::-1]
    return images


def _channels_first(pictures: Bytes) -> Bytes:
    return np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))


def _slices(count: int, size: int) -> Iterator[slice]:
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))
