"""Pictures for benchmarks that need some, for those who have no photos: parts of two portraits in the public domain."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from datatools.pyramid import PyramidWriter
from datatools.pyramid.format import UNKNOWN_ORIGIN
from datatools.sample import portraits, write_sample


def sample_tree(folder: Path) -> Path:
    """Write the tree of `python -m datatools.sample` and return its folder."""
    write_sample(folder)
    return folder


def parts(count: int, side: int) -> Iterator[NDArray[np.uint8]]:
    """Yield squares of the portraits of random size and place, (side, side, 3) uint8, as compressible as photos."""
    rng = np.random.default_rng(0)
    pictures = [portrait.pixels for portrait in portraits().values()]
    for index in range(count):
        picture = pictures[index % len(pictures)]
        size = int(rng.integers(min(picture.shape[:2]) // 4, min(picture.shape[:2])))
        top, left = (int(rng.integers(length - size + 1)) for length in picture.shape[:2])
        part = picture[top : top + size, left : left + size]
        yield cv2.resize(part, (side, side), interpolation=cv2.INTER_AREA if size > side else cv2.INTER_CUBIC)


def sample_pyramid(path: Path, count: int, side: int) -> Path:
    """Write such parts as a pyramid and return its path."""
    with PyramidWriter(path, count, resolution=side) as writer:
        for part in parts(count, side):
            writer.append(part, UNKNOWN_ORIGIN)
    return path
