"""The restoration step: what is done to a photo's pixels before the face is resampled.

Paper, appendix C: an artifact remover and a 4x super-resolver run before the face is cut out. Here a restorer sees only
the part of the photo that the face needs and the margin that its networks look at, which gives the same result.

Importing this does not load torch; using a restorer with a network does.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from datatools.errors import DataError
from datatools.images import Box
from datatools.restore.pictures import check_part

Variant = Literal["distortion", "perceptual"]
SuperResolution = Literal["auto", "always", "never"]

DEFAULT_VARIANT: Variant = "distortion"
"""The bundled chain that lies nearer to the published images: docs/restoration.md has the table."""


class Restoration(Protocol):
    """What is done to one photo."""

    @property
    def scale(self) -> int:
        """Integer factor by which it enlarges."""

    @property
    def margin(self) -> int:
        """Pixels of photo that it wants to see around the part that is used (its receptive field)."""

    @property
    def grid(self) -> int:
        """Parts of the photo that it gets have to begin at multiples of this many pixels of the photo."""

    def __call__(self, picture: NDArray[np.uint8], inner: Box) -> NDArray[np.uint8]:
        """(h, w, 3) uint8 RGB -> the part `inner` = (left, top, right, bottom) of it, enlarged by `scale`."""


@dataclass(frozen=True)
class Part:
    """What of a photo is to be restored, and how.

    Attributes:
        restoration: of `Restorer.for_face`.
        picture: (h, w, 3) uint8 RGB, begins at a multiple of the restoration's grid in the photo.
        inner: (left, top, right, bottom) of what is wanted of it.
    """

    restoration: Restoration
    picture: NDArray[np.uint8]
    inner: Box

    def restore(self) -> NDArray[np.uint8]:
        """What is wanted, enlarged by the restoration's scale."""
        return self.restoration(self.picture, self.inner)


class Restorer(Protocol):
    """What `faces.make_face` asks of a restoration step; picklable, so that it reaches worker processes."""

    @property
    def name(self) -> str:
        """What the user calls it (`--restore NAME`)."""

    @property
    def digest(self) -> str:
        """Changes whenever the restored pixels may change; part of the paths of finished work."""

    @property
    def together(self) -> int:
        """Photos that `restore_all` should be given at a time. 1: it gains nothing, spread photos over processes."""

    def for_face(self, side: float, /) -> Restoration:
        """What is done to a photo whose face rectangle has that side in pixels."""

    def restore_all(self, parts: Sequence[Part], /) -> list[NDArray[np.uint8]]:
        """`Part.restore` of several photos, whose restorations are this restorer's, in one go: rounding may differ."""


@dataclass(frozen=True)
class NoRestorer:
    """Leaves the pixels alone: enlargement is the recipe's own, Lanczos-3 by a power of two."""

    name: str = "none"
    digest: str = hashlib.sha256(b"none").hexdigest()
    together: int = 1
    scale: int = 1
    margin: int = 0
    grid: int = 1

    def for_face(self, _side: float, /) -> Restoration:
        return self

    def __call__(self, picture: NDArray[np.uint8], inner: Box) -> NDArray[np.uint8]:
        check_part(picture, inner)
        left, top, right, bottom = inner
        return picture[top:bottom, left:right]

    def restore_all(self, parts: Sequence[Part], /) -> list[NDArray[np.uint8]]:
        return [part.restore() for part in parts]


def get_restorer(
    name: str, *, super_resolution: SuperResolution = "auto", device: str = "cpu", threads: int = 1
) -> Restorer:
    """The restorer of that name.

    Args:
        name: "none"; "bundled" (the default chain of our own networks), "bundled-distortion" or "bundled-perceptual" by
            name; "realesrgan" or "srmd"; or a file with weights (.safetensors, .pth).
        super_resolution: "auto" leaves it out where the face rectangle is 1024 pixels or wider already: the result
            would be averaged away.
        device: "cpu", "cuda", "cuda:1" or "mps"; one that is not there is refused for "none" too.
        threads: of the processor for the networks' arithmetic; 1 suits photos that are spread over processes.

    Raises:
        DataError: an unknown name, a missing package or file, a damaged file, a device that is not there.
    """
    if super_resolution not in get_args(SuperResolution):
        raise DataError(f"--super-resolution {super_resolution}: choose auto, always or never")
    if name == NoRestorer().name:
        if device != "cpu":
            from datatools.restore.devices import choose_device  # loads torch

            choose_device(device)
        return NoRestorer()
    from datatools.restore.restorers import network_restorer  # loads torch

    return network_restorer(name, super_resolution=super_resolution, device=device, threads=threads)
