"""Pictures of one's own, as viewers show them: upright, in sRGB, from any common format.

    picture = OwnPicture(Path("holiday.heic").read_bytes())
    pixels = picture.decode()  # (H, W, 3) uint8, upright, sRGB

CelebA's photos are not read this way: their landmarks refer to the pixels as stored, and nobody converted their colours
before (`datatools.images.decode_rgb`).
"""

import io
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageCms

from datatools.images import (
    Box,
    Conversion,
    decode_as,
    has_transparency,
    open_header,
    orientation_of,
    to_rgb,
    to_rgba,
    turn_upright,
)

SAME_COLOURS = 2
"""A profile by which no colour differs from sRGB by more than this, of 255, counts as sRGB: pixels stay as stored."""

CACHED_PROFILES = 16

_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}
"""Colour space that a profile is for -> Pillow's mode of the pixels that it converts."""


class OwnPicture:
    """One picture file of which the header has been read.

    Attributes:
        stored_size: (width, height) of the pixels as stored.
        size: (width, height) of the upright picture.
        orientation: EXIF's number, 1 to 8; 1 for TIFF and HEIC files, whose stored pixels count as upright here.
        profile: name of the embedded colour profile that `decode` converts from; "" where pixels stay as stored, since
            there is none, it is sRGB, or it is damaged or for pictures of another kind.

    Raises: ImageError for a file that is no picture of a known format, and for one that is too large.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        image = open_header(data)
        if image.format == "PNG" and "exif" not in image.info and b"eXIf" in data:
            _, image = decode_as(data, 1, None, lambda _: to_rgb)  # the orientation comes after the pixels
        self.stored_size = image.size
        self.orientation = orientation_of(image) if image.format not in {"TIFF", "HEIF"} else 1
        self.size = (image.height, image.width) if self.orientation > 4 else image.size
        transform = _transform_of(image)
        self.profile = "" if transform is None else transform[0]

    def decode(self, *, reduce: int = 1, box: Box | None = None) -> NDArray[np.uint8]:
        """Decode to (H, W, 3) uint8, upright and in sRGB.

        Arguments, conventions and errors are those of `decode_rgb`; `reduce` and `box` refer to the upright picture.
        Colours are converted relative to white, with the black points matched. Transparent pixels are laid over white
        after that.
        """
        if self.orientation == 1:
            return decode_as(self._data, reduce, box, _conversion_of)[0]
        if reduce > 1 and any(side % reduce for side in self.stored_size):
            # The stored picture's blocks would begin at another edge than those of the upright picture.
            whole = Image.fromarray(self.decode()).reduce(reduce)
            return np.array(whole.crop(box) if box else whole)
        width, height = (side // reduce for side in self.size)
        stored = None if box is None else _stored_box(box, (width, height), self.orientation)
        return turn_upright(decode_as(self._data, reduce, stored, _conversion_of)[0], self.orientation)

    def stored_points(self, points: ArrayLike) -> NDArray[np.float64]:
        """Return where points (N, 2) of the upright picture lie in the stored one; (x, y), edges are 0 and the size."""
        across, down = np.array(points, np.float64).T
        if self.orientation in (2, 3, 6, 7):
            across = self.size[0] - across
        if self.orientation in (3, 4, 7, 8):
            down = self.size[1] - down
        return np.stack((down, across) if self.orientation > 4 else (across, down), axis=1)


def decode_own(data: bytes) -> NDArray[np.uint8]:
    """Decode a picture file of one's own to (H, W, 3) uint8, upright and in sRGB; see `OwnPicture.decode`."""
    return OwnPicture(data).decode()


def as_plain_file(data: bytes) -> tuple[bytes, int]:
    """Return a file whose pixels as stored are upright and in sRGB, and the orientation by which the photo was turned.

    The file itself where its pixels are so already; else another of the same picture, without compression, which
    everything that reads stored pixels can use. Raises: as `OwnPicture`.
    """
    picture = OwnPicture(data)
    if picture.orientation == 1 and not picture.profile:
        return data, 1
    pixels = picture.decode()
    return b"P6 %d %d 255\n" % (pixels.shape[1], pixels.shape[0]) + pixels.tobytes(), picture.orientation


def _stored_box(box: Box, size: tuple[int, int], orientation: int) -> Box:
    """Return a box of the upright picture, which has `size` = (width, height), in the stored picture."""
    across, down = [box[0], box[2]], [box[1], box[3]]
    if orientation in (2, 3, 6, 7):
        across = [size[0] - across[1], size[0] - across[0]]
    if orientation in (3, 4, 7, 8):
        down = [size[1] - down[1], size[1] - down[0]]
    if orientation > 4:
        across, down = down, across
    return across[0], down[0], across[1], down[1]


def _conversion_of(image: Image.Image) -> Conversion:
    """Return what converts a picture, or a band of it, to sRGB."""
    found = _transform_of(image)
    if found is None:
        return to_rgb
    _, mode, transform = found

    def convert(band: Image.Image) -> Image.Image:
        alpha = None
        if has_transparency(band):
            band = to_rgba(band)
            alpha = band.getchannel("A")
            band = band.convert("RGB")
        if mode != "CMYK":
            band = to_rgb(band)
        colours: Any = ImageCms.applyTransform(band.getchannel(0) if mode == "L" else band, transform)
        if alpha is None:
            return colours
        colours.putalpha(alpha)
        return to_rgb(colours)

    return convert


def _transform_of(image: Image.Image) -> tuple[str, str, ImageCms.ImageCmsTransform] | None:
    """Return name, mode and transform of a picture's profile; None where no colour has to change."""
    profile = image.info.get("icc_profile")
    found = _transform(profile) if isinstance(profile, bytes) and profile else None
    if found is None:
        return None
    grey, inks = image.mode in {"1", "L", "LA", "La"} or image.mode.startswith("I"), image.mode == "CMYK"
    fits = found[1] == ("CMYK" if inks else "L" if grey else "RGB")
    return found if fits else None


@lru_cache(CACHED_PROFILES)
def _transform(profile: bytes) -> tuple[str, str, ImageCms.ImageCmsTransform] | None:
    """Return name, mode and transform to sRGB of a profile; None where it cannot be used, or is sRGB."""
    try:
        opened = ImageCms.getOpenProfile(io.BytesIO(profile))
        mode = _MODES.get(opened.profile.xcolor_space.strip())
        if mode is None:
            return None
        flags = ImageCms.Flags.BLACKPOINTCOMPENSATION
        if mode == "L":
            flags |= ImageCms.Flags.NOOPTIMIZE  # whose coarse table is up to 10 of 255 off in the darks
        srgb, intent = ImageCms.createProfile("sRGB"), ImageCms.Intent.RELATIVE_COLORIMETRIC
        transform = ImageCms.buildTransform(opened, srgb, mode, "RGB", intent, flags)
        name = " ".join((opened.profile.profile_description or "").split()) or "without a name"
    except (OSError, ValueError, TypeError, ImageCms.PyCMSError):  # damaged
        return None
    return (name, mode, transform) if mode == "CMYK" or _changes_colours(mode, transform) else None


def _changes_colours(mode: str, transform: ImageCms.ImageCmsTransform) -> bool:
    """Return whether a transform changes some grey, or some colour of a grid, by more than SAME_COLOURS."""
    steps = np.arange(0, 256, 1 if mode == "L" else 17, dtype=np.uint8)
    grid = steps[None] if mode == "L" else np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(1, -1, 3)
    colours = np.asarray(ImageCms.applyTransform(Image.fromarray(grid), transform), dtype=np.int16)
    return bool(np.abs(colours - grid.reshape(1, -1, grid.shape[-1] if mode == "RGB" else 1)).max() > SAME_COLOURS)
