"""The interface of restorers, and what they take: pictures and the wanted part of one. Does not load torch."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from datatools.errors import ArrayError, DataError
from datatools.images import Box

Picture = NDArray[np.uint8]
"""(h, w, 3) RGB."""

SuperResolution = Literal["auto", "always", "never"]


@dataclass(frozen=True)
class Step:
    """One network of a restorer, by where its weights are: each process that uses it loads it.

    Attributes:
        source: "jpeg" or "sr" for this project's weights in `where`, "external" for other projects' weights.
        where: file or name.
        digest: of the weights.
        strength: share of its change that an artifact remover makes.
        upright: the network sees the picture in one orientation only, even if it usually averages over several.
    """

    source: str
    where: str
    digest: str
    strength: float = 1.0
    upright: bool = False


@dataclass(frozen=True)
class RestorePlan:
    """What a restorer does to one photo.

    Attributes:
        steps: networks that run, in this order.
        scale: integer factor by which the photo is enlarged.
        margin: pixels of the photo that `run` needs around the wanted part, for networks what counts of their receptive
            field.
        grid: crops of the photo have to begin at multiples of this many pixels.
        halvings: how often the networks' result is halved to be enlarged by `scale`.
        enlargement_share: share of the network's enlargement; the rest is Lanczos-3.
    """

    steps: tuple[Step, ...] = ()
    scale: int = 1
    margin: int = 0
    grid: int = 1
    halvings: int = 0
    enlargement_share: float = 1.0


Crop = tuple[RestorePlan, Picture, Box]
"""A plan, a crop (h, w, 3) uint8 RGB of a photo that begins at a multiple of the plan's grid, and the wanted part
(left, top, right, bottom) of that crop in its pixels."""


NAMES = ("bundled", "bundled-distortion", "bundled-perceptual", "none", "realesrgan")
"""The restorers that have a name; any other one is a weight file."""


class Restorer(Protocol):
    """What `faces.recipe.make_face` needs of a restorer; picklable, so that it reaches worker processes."""

    @property
    def name(self) -> str:
        """Return the name under which the user asks for it (`--restore NAME`)."""

    @property
    def digest(self) -> str:
        """Return a hash that changes whenever the restored pixels may change; part of finished work's paths."""

    @property
    def uses_torch(self) -> bool:
        """Return whether torch computes the pixels, so that its version is recorded."""

    @property
    def batch_size(self) -> int:
        """Return how many photos to give to `run` at once. 1: more gain nothing, so spread photos over processes."""

    def plan(self, side: float, /) -> RestorePlan:
        """Return what is done to a photo whose face rectangle has that side in pixels."""

    def run(self, crops: Sequence[Crop], /) -> list[Picture]:
        """Restore the wanted parts of crops, each enlarged by its plan's scale.

        Raises:
            DataError: a crop that is not an (h, w, 3) uint8 array, or a part that does not lie within it.
        """


@dataclass(frozen=True)
class NoRestorer:
    """Changes no pixels; the recipe itself enlarges with Lanczos-3 by a power of two."""

    name: str = "none"
    digest: str = hashlib.sha256(b"none").hexdigest()
    uses_torch: bool = False
    batch_size: int = 1

    def plan(self, _side: float, /) -> RestorePlan:
        """Return a plan without networks."""
        return RestorePlan()

    def run(self, crops: Sequence[Crop], /) -> list[Picture]:
        """Cut the wanted parts out."""
        return [cut(crop, box) for _, crop, box in crops]


def check_picture(picture: Picture) -> None:
    """Raise DataError for anything but an (h, w, 3) uint8 array with at least one pixel."""
    if not isinstance(picture, np.ndarray) or picture.dtype != np.uint8:
        kind = picture.dtype if isinstance(picture, np.ndarray) else type(picture).__name__
        raise ArrayError(f"a picture to restore has to be an array of uint8, 0..255, not {kind}")
    if picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
        raise ArrayError(f"a picture to restore has the shape (height, width, 3), not {picture.shape}")


def check_part(picture: Picture, box: Box) -> None:
    """Raise DataError as `check_picture`, and for a part (left, top, right, bottom) that is empty or not within it."""
    check_picture(picture)
    height, width = picture.shape[:2]
    left, top, right, bottom = box
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        raise DataError(f"the part {box} does not lie within the picture of {width} x {height} pixels")


def cut(picture: Picture, box: Box) -> Picture:
    """Return a part of a picture without copying it. Raise DataError as `check_part`."""
    check_part(picture, box)
    left, top, right, bottom = box
    return picture[top:bottom, left:right]


def grow_box(box: Box, margin: int, grid: int, size: tuple[int, int]) -> Box:
    """Enlarge a box by a margin, begin it at multiples of `grid`, and cut it at the edges of a picture of `size`."""
    left, top, right, bottom = box
    return (
        max(left - margin, 0) // grid * grid,
        max(top - margin, 0) // grid * grid,
        min(right + margin, size[0]),
        min(bottom + margin, size[1]),
    )


def halve(picture: Picture) -> Picture:
    """Return the box average of 2 x 2 pixels; an odd last row or column is left out."""
    height, width = picture.shape[0] // 2, picture.shape[1] // 2
    return np.asarray(cv2.resize(picture[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA))
