"""Grids of pictures, as large as a screen, from latents that stay the same for a whole run."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from datatools.errors import DataError
from datatools.images import save_png

SCREEN = (1920, 1080)
COLUMNS = (3, 32)
ROWS = (2, 32)


def grid_size(resolution: int) -> tuple[int, int]:
    """Return (columns, rows) of pictures of that side: as many as fill a 1080p screen, within limits."""
    columns = min(max(SCREEN[0] // resolution, COLUMNS[0]), COLUMNS[1])
    rows = min(max(SCREEN[1] // resolution, ROWS[0]), ROWS[1])
    return columns, rows


def parse_grid(text: str) -> tuple[int, int]:
    """Return (columns, rows) of "8x4", the value of --grid. Raises DataError for other texts."""
    columns, _, rows = text.lower().partition("x")
    if not (columns.isdecimal() and rows.isdecimal() and 0 < int(columns) <= 1000 and 0 < int(rows) <= 1000):
        raise DataError(f"--grid {text!r}: must be columns x rows, such as 8x4")
    return int(columns), int(rows)


def tile(pictures: NDArray[np.uint8] | Sequence[NDArray[np.uint8]], columns: int) -> NDArray[np.uint8]:
    """Arrange (n, r, r, 3) as (rows r, columns r, 3), row by row without gaps; missing ones are black."""
    images = np.asarray(pictures)
    count, side = len(images), images.shape[1]
    rows = -(-count // columns)
    padded = np.zeros((rows * columns, side, side, 3), np.uint8)
    padded[:count] = images
    blocks = padded.reshape(rows, columns, side, side, 3).transpose(0, 2, 1, 3, 4)  # (rows, r, columns, r, 3)
    return np.ascontiguousarray(blocks.reshape(rows * side, columns * side, 3))


def untile(grid: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Return the pictures of a grid without gaps, (n, side, side, 3), row by row; the inverse of `tile`."""
    rows, columns = grid.shape[0] // side, grid.shape[1] // side
    blocks = grid[: rows * side, : columns * side].reshape(rows, side, columns, side, 3)
    return np.ascontiguousarray(blocks.transpose(0, 2, 1, 3, 4).reshape(rows * columns, side, side, 3))


def save_grid(path: Path, pictures: NDArray[np.uint8], columns: int) -> None:
    """Write the pictures as one PNG file, whole or not at all."""
    save_png(path, tile(pictures, columns))


def shrink(picture: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Return the picture, (h, w, 3), reduced to at most `side` pixels in its longer side."""
    height, width = picture.shape[:2]
    factor = side / max(height, width)
    if factor >= 1:
        return picture
    size = (max(round(width * factor), 1), max(round(height * factor), 1))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def snapshot_name(images: int) -> str:
    """Return the file name of the grid of fakes after `images` seen: fakes000012.png, or fakes000012_512.png between.

    Names are distinct, and sorted as text they are in the order of time.
    """
    kimg, rest = divmod(images, 1000)
    return f"fakes{kimg:06d}_{rest:03d}.png" if rest else f"fakes{kimg:06d}.png"
