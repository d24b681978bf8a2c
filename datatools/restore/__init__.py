"""The restoration step: what is done to a photo's pixels before the face is resampled.

Paper, appendix C: an artifact remover and a 4x super-resolver run before the face is cut out. Here a restorer sees only
the part of the photo that the face needs plus its `margin`, which gives the same result.
"""

import hashlib
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from datatools.errors import DataError


class Restorer(Protocol):
    """What `faces.make_face` asks of a restoration step."""

    @property
    def name(self) -> str:
        """What the user calls it (`--restore NAME`)."""

    @property
    def digest(self) -> str:
        """Changes whenever the restored pixels may change; part of the paths of finished work."""

    @property
    def scale(self) -> int:
        """Integer factor by which it enlarges."""

    @property
    def margin(self) -> int:
        """Pixels of photo that it wants to see around the part that is used (its receptive field)."""

    def __call__(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(h, w, 3) uint8 RGB -> (h * scale, w * scale, 3) uint8 RGB."""


class NoRestorer:
    """Leaves the pixels alone: enlargement is the recipe's own, Lanczos-3 by a power of two."""

    name = "none"
    digest = hashlib.sha256(b"none").hexdigest()
    scale = 1
    margin = 0

    def __call__(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return picture


_RESTORERS: dict[str, type[NoRestorer]] = {NoRestorer.name: NoRestorer}


def get_restorer(name: str) -> Restorer:
    """The restorer of that name. Raises DataError for an unknown one."""
    if name not in _RESTORERS:
        raise DataError(f"unknown restorer {name!r}; known: {', '.join(sorted(_RESTORERS))}")
    return _RESTORERS[name]()
