"""What a source of finished pictures gives: square pictures and where they come from, in a fixed order."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class SourcePicture:
    """A picture of a data set, cut as the paper cuts it.

    Attributes:
        file_name: its name in the data set; a base name.
        md5: 32 hexadecimal digits, of its stored bytes.
        pixels: (r, r, 3) uint8 RGB.
        quad: (4, 2) corners in the stored picture: upper-left, lower-left, lower-right, upper-right.
        label: its class, None without.
        celebahq_index, attributes, identity, split: as in `FaceRecord`.
    """

    file_name: str
    md5: str
    pixels: NDArray[np.uint8]
    quad: NDArray[np.float64]
    label: int | None = None
    celebahq_index: int = -1
    attributes: tuple[int, ...] | None = None
    identity: int | None = None
    split: int | None = None


@dataclass(frozen=True, slots=True)
class Unusable:
    """An entry of a data set that gives no picture, and why."""

    file_name: str
    reason: str


class PictureSource(Protocol):
    """A data set of pictures, opened.

    Attributes:
        title: its name, for people.
        count: number of entries, some of which may be unusable.
        resolution: side of the pictures in pixels.
        classes: names of the classes that labels count; () without labels.
        attribute_names: meaning of `SourcePicture.attributes`.
        settings: how the pictures were cut, for the file.
        digest: a text that changes with the entries.
    """

    @property
    def title(self) -> str: ...
    @property
    def count(self) -> int: ...
    @property
    def resolution(self) -> int: ...
    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def attribute_names(self) -> tuple[str, ...]: ...
    @property
    def settings(self) -> Mapping[str, str | int]: ...
    @property
    def digest(self) -> str: ...

    def entries(self, start: int, stop: int) -> Iterator[SourcePicture | Unusable]:
        """Yield the entries from `start` on, `stop` excluded."""
        ...


def square(left: float, top: float, side: float) -> NDArray[np.float64]:
    """Return the corners of an upright square, (4, 2), as `SourcePicture.quad` has them."""
    right, bottom = left + side, top + side
    return np.array([(left, top), (left, bottom), (right, bottom), (right, top)], np.float64)
