"""From a picture file to the square face that a pyramid stores."""

from typing import Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datatools.images import Box, ImageError
from datatools.pyramid.folder_source import SkippedKind
from datatools.pyramid.levels import build_levels
from datatools.sources.own_pictures import OwnPicture

Crop = Literal["none", "center", "wide"]
ResizeFilter = Literal["box", "lanczos"]
CROPS: tuple[Crop, ...] = get_args(Crop)
RESIZE_FILTERS: tuple[ResizeFilter, ...] = get_args(ResizeFilter)


class UnsuitableError(ImageError):
    """A picture that can be read, but is not square or too small."""

    def __init__(self, kind: SkippedKind, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def read_square(
    data: bytes, resolution: int, crop: Crop = "none", resize_filter: ResizeFilter = "box"
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Decode a picture as viewers show it (`datatools.sources.own_pictures`), crop it to a square, and reduce that.

    Args:
        data: the file's bytes.
        resolution: side of the result.
        crop: "none" accepts square pictures only; "center" takes the largest square in the middle; "wide" takes the
            largest part of 4:3 in the middle, and puts black bands above and below it.
        resize_filter: "box" averages: exactly, halves to even, where the side is `resolution` times a power of two;
            else a pixel at the edge of a box counts in part. "lanczos" is sharper: Lanczos-3 as in Pillow.

    Returns: (resolution, resolution, 3) uint8 RGB; (4, 2) its corners in stored pixels, as `Provenance.quad` has them.
    Raises: ImageError for a bad file; UnsuitableError for one that is not square and for one that is smaller: enlarged
        pictures would teach a network to paint blur.
    """
    picture = OwnPicture(data)
    width, height = picture.size
    if crop == "none" and width != height:
        raise UnsuitableError("not square", f"{width} x {height} pixels are not square; crop it, or use --crop center")
    box = crop_box(crop, width, height)
    rows = resolution * 3 // 4 if crop == "wide" else resolution
    if box[2] - box[0] < resolution or box[3] - box[1] < rows:
        small = f"{width} x {height} pixels, smaller than {resolution}; choose a smaller --resolution"
        raise UnsuitableError("too small", small)
    face = _reduced(picture.decode(box=box), resolution, rows, resize_filter)
    above = (resolution - rows) // 2
    if rows < resolution:
        face = np.pad(face, ((above, resolution - rows - above), (0, 0), (0, 0)))
    left, top, right, bottom = box
    band = (right - left) * above / resolution  # in pixels of the picture
    upper, lower = top - band, top - band + (right - left) if crop == "wide" else bottom
    corners = ((left, upper), (left, lower), (right, lower), (right, upper))
    return face, picture.stored_points(corners)


def crop_box(crop: Crop, width: int, height: int) -> Box:
    """Return the part of a picture that is used: (left, top, right, bottom)."""
    across, down = width, height
    if crop == "center":
        across = down = min(width, height)
    elif crop == "wide":
        across = min(width, height * 4 // 3)
        down = across * 3 // 4
    left, top = (width - across) // 2, (height - down) // 2
    return left, top, left + across, top + down


def _reduced(pixels: NDArray[np.uint8], width: int, height: int, resize_filter: ResizeFilter) -> NDArray[np.uint8]:
    if pixels.shape[:2] == (height, width):
        return pixels
    if resize_filter == "lanczos":
        return np.array(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))
    side = pixels.shape[0]
    if width == height and side in [width << k for k in range(10)] and side <= 1024:
        return np.ascontiguousarray(build_levels(pixels, width)[width].transpose(1, 2, 0))
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
