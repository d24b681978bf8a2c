"""Contact sheets: many small pictures in one."""

import math
from collections.abc import Sequence

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from datatools.errors import ArrayError

GAP = 4  # pixels between tiles, and around them
PAPER = 255  # grey level of the gaps


def fit_picture(image: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Scale a picture, sides in proportion, to the largest size within `width` x `height` pixels.

    Args:
        image: (h, w, 3) uint8 RGB; any size from 1 x 1.
    Returns: uint8 RGB with one side equal to the box's; `image` itself where nothing changes.
    """
    rows, columns = image.shape[:2]
    factor = min(width / columns, height / rows)
    size = (max(1, min(width, round(columns * factor))), max(1, min(height, round(rows * factor))))
    return scale_picture(image, *size)


def scale_picture(image: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Scale (h, w, 3) uint8 RGB to `width` x `height` pixels with Lanczos-3; return `image` itself at that size."""
    if image.shape[:2] == (height, width):
        return image
    picture = PIL.Image.fromarray(np.ascontiguousarray(image))
    return np.asarray(picture.resize((width, height), PIL.Image.Resampling.LANCZOS))


def enlarge(image: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """Return (factor * h, factor * w, 3): every pixel of (h, w, 3) as a square of `factor` pixels."""
    return image.repeat(factor, axis=0).repeat(factor, axis=1)


def sheet_columns(count: int) -> int:
    """Return the columns, 1 or more, in which `count` square pictures make a sheet about 3 wide and 2 high.

    Of the numbers of columns that need the same rows it is the least: the last row is as full as can be.
    """
    rows = math.ceil(count / math.ceil(math.sqrt(1.5 * max(count, 1))))
    return math.ceil(count / max(rows, 1)) or 1


def contact_sheet(images: Sequence[NDArray[np.uint8]], columns: int, tile: int) -> NDArray[np.uint8]:
    """Lay pictures out in rows, left to right and top to bottom, on white.

    Args:
        images: (r, r, 3) uint8 RGB each; sizes may differ. Pictures that are not square keep their shape, centred in
            their tile.
        columns: tiles in a row, at least 1; fewer pictures than that make a narrower sheet.
        tile: side of a tile in pixels, at least 1.
    Returns: (rows * (tile + 4) + 4, columns * (tile + 4) + 4, 3) uint8 RGB. No pictures: one blank tile.
    Raises: ValueError for a picture of another shape or type, or a size below 1.
    """
    if columns < 1 or tile < 1:
        raise ValueError(f"columns and tile must be at least 1, got {columns} and {tile}")
    columns = max(1, min(columns, len(images)))
    rows = max(1, math.ceil(len(images) / columns))
    step = tile + GAP
    sheet = np.full((rows * step + GAP, columns * step + GAP, 3), PAPER, np.uint8)
    for number, image in enumerate(images):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise ArrayError(f"picture {number} is {image.dtype} of shape {image.shape}, expected uint8 (r, r, 3)")
        fitted = fit_picture(image, tile, tile)
        height, width = fitted.shape[:2]
        top = GAP + number // columns * step + (tile - height) // 2
        left = GAP + number % columns * step + (tile - width) // 2
        sheet[top : top + height, left : left + width] = fitted
    return sheet
