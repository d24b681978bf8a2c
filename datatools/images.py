"""Bytes to RGB arrays and back, safely.

Arrays are (height, width, 3) uint8 RGB. `decode_rgb` gives the pixels that the file stores, since CelebA's landmarks
refer to them; `decode_upright` turns them as EXIF asks. (TIFF and HEIC files are turned by either, as Pillow and
libheif do it.) Colour profiles are ignored here; `datatools.sources.own_pictures` converts them. Every way in which
one file can be bad ends in an `ImageError` whose message is a reason to show to the user.
"""

import errno
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageChops,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from datatools.errors import ArrayError, DataError, one_line, reason
from datatools.files import atomic_path

MAX_PIXELS = 150_000_000
"""Pictures whose header declares more pixels are refused before anything is decoded."""

BAND_PIXELS = 4_000_000
"""Conversion works on bands of about this many stored pixels: temporary copies stay small compared with the picture."""

HEAD = 64
"""Bytes at the beginning of a file that show its format."""

PNG_LEVEL = 3
"""Compression of PNG files, 0 to 9: a higher one takes much longer for little."""

ORIENTATION = 0x0112  # EXIF's tag

Box = tuple[int, int, int, int]
Opener = Callable[[io.BytesIO], Image.Image]
Conversion = Callable[[Image.Image], Image.Image]
"""From a picture of any mode, or a part of it, to mode RGB."""


def _open_heic(stream: io.BytesIO) -> Image.Image:
    try:
        from pillow_heif import HeifImageFile
    except ImportError as error:
        raise ImageError(
            "HEIC pictures need one more package: pip install 'celebahq[heic]'", "unknown-format"
        ) from error
    return HeifImageFile(stream)


def _has_brand(head: bytes, brands: set[bytes]) -> bool:
    """Return whether an ISO base media file (AVIF, HEIC) names one of `brands`: its own, then compatible ones."""
    size = min(int.from_bytes(head[:4], "big"), len(head))
    return head[4:8] == b"ftyp" and any(head[at : at + 4] in brands for at in (8, *range(16, size, 4)))


# Plugins are called directly rather than through `Image.open`, whose decompression bomb warning hangs on a process-wide
# setting that starts below MAX_PIXELS and that user code may have changed.
_FORMATS: tuple[tuple[Callable[[bytes], bool], Opener], ...] = (
    (lambda head: head.startswith(b"\xff\xd8\xff"), JpegImagePlugin.JpegImageFile),
    (lambda head: head.startswith(b"\x89PNG\r\n\x1a\n"), PngImagePlugin.PngImageFile),
    (lambda head: head[:4] == b"RIFF" and head[8:12] == b"WEBP", WebPImagePlugin.WebPImageFile),
    (lambda head: head.startswith(b"BM"), BmpImagePlugin.BmpImageFile),
    (lambda head: head[:4] in {b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"}, TiffImagePlugin.TiffImageFile),
    (lambda head: head[:6] in {b"GIF87a", b"GIF89a"}, GifImagePlugin.GifImageFile),
    (lambda head: head[:1] == b"P" and head[1:2] in b"123456" and head[2:3].isspace(), PpmImagePlugin.PpmImageFile),
    (lambda head: _has_brand(head, {b"avif", b"avis"}), AvifImagePlugin.AvifImageFile),
    (lambda head: _has_brand(head, {b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1"}), _open_heic),
)


ImageFault = Literal["empty-photo", "unknown-format", "damaged-photo", "too-large", "unknown-samples", "not-readable"]


FAULTS_OF_FILES = frozenset(
    {errno.ENOENT, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG}
    | {errno.EINVAL}  # a place before the beginning of a damaged archive
)
"""What the system says of a file that cannot be read; all else it says of the disk, or of itself."""


class ImageError(DataError):
    """One file cannot be used as a picture; the message is the reason, in one line. fault: what is wrong with it."""

    def __init__(self, message: str, fault: ImageFault = "damaged-photo") -> None:
        super().__init__(message)
        self.fault: ImageFault = fault


def image_size(data: bytes) -> tuple[int, int]:
    """Return (width, height) of the stored pixels, from the header alone.

    Raises ImageError for an unknown format, a damaged header and more than MAX_PIXELS.
    """
    return open_header(data).size


def decode_rgb(data: bytes, *, reduce: int = 1, box: Box | None = None) -> NDArray[np.uint8]:
    """Decode a JPEG, PNG, WebP, AVIF, HEIC, BMP, TIFF, GIF or PPM file to (H, W, 3) uint8 RGB.

    reduce  1, 2, 4 or 8: decode at that fraction of the size; exactly ceil(w / reduce) x ceil(h / reduce) pixels. JPEG
            files are decoded by the smaller inverse DCT (fast, little memory), others by a box average.
    box     (left, top, right, bottom) in pixels of the reduced picture: only this part is returned, and copied.

    Grey and 1-bit become RGB, of 16-bit samples the high byte is kept, transparent pixels are laid over white, CMYK
    becomes RGB without a profile (JPEG: inverted if an Adobe marker says so), of several frames the first is taken.

    Memory: about 4 bytes per (reduced) pixel plus 3 per pixel returned; a progressive JPEG needs up to 6 per stored
    pixel. Damage inside a JPEG that leaves its length whole cannot always be told from content and may pass.
    Raises ImageError for bad files (a truncated one too: nothing is filled up with grey), ValueError for bad arguments.
    """
    return decode_as(data, reduce, box, lambda _: to_rgb)[0]


def decode_upright(data: bytes) -> tuple[NDArray[np.uint8], int]:
    """Decode a picture and turn it as EXIF asks.

    Returns: (H, W, 3) uint8 RGB as viewers show it; the orientation, 1 to 8. One that is missing, damaged or not one of
        these counts as 1.
    Raises: ImageError, see `decode_rgb`.
    """
    pixels, image = decode_as(data, 1, None, lambda _: to_rgb)
    orientation = orientation_of(image)
    return turn_upright(pixels, orientation), orientation


def orientation_of(image: Image.Image) -> int:
    """Return the EXIF orientation of a picture, 1 to 8. One that is missing, damaged or another number counts as 1."""
    try:
        orientation = int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # damaged EXIF data raise whatever the damage leads to; the pixels are whole
        return 1
    return orientation if 1 <= orientation <= 8 else 1


def turn_upright(stored: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Turn an array (H, W, ...) of stored pixels as EXIF's `orientation`, 1 to 8, asks: a contiguous (H, W, ...) array,
    (W, H, ...) from 5 on."""
    if orientation in (5, 6, 7, 8):
        stored = stored.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        stored = stored[::-1]
    if orientation in (2, 3, 6, 7):
        stored = stored[:, ::-1]
    return np.ascontiguousarray(stored)


def decode_as(
    data: bytes, reduce: int, box: Box | None, conversion_of: Callable[[Image.Image], Conversion]
) -> tuple[NDArray[np.uint8], Image.Image]:
    """Do the work of `decode_rgb` with another conversion to RGB, which depends on the loaded picture.

    Returns: the pixels; the loaded picture, which has the file's EXIF data.
    """
    if reduce not in (1, 2, 4, 8):
        raise ValueError(f"reduce must be 1, 2, 4 or 8, not {reduce}")
    image = open_header(data)
    width, height = -(-image.width // reduce), -(-image.height // reduce)
    left, top, right, bottom = box or (0, 0, width, height)
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        raise ValueError(f"box {box} does not lie within the picture of {width} x {height} pixels")
    if reduce > 1 and image.format == "JPEG" and min(image.size) >= reduce:
        # Pillow takes the largest reduction that keeps at least this size, which is exactly `reduce`. Of a picture
        # smaller than that it would do a part only.
        image.draft(None, (image.width // reduce, image.height // reduce))
        if image.size == (width, height):
            reduce = 1
    # Pillow reads every CMYK JPEG as inverted; files without Adobe's marker are not.
    plain_cmyk = image.format == "JPEG" and image.mode == "CMYK" and "adobe" not in image.info
    try:
        image.load()
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise whatever the damage leads to
        raise ImageError(f"the {image.format} picture cannot be decoded: {one_line(error)}") from error
    convert = conversion_of(image)
    return _to_array(image, reduce, (left, top, right, bottom), convert, plain_cmyk=plain_cmyk), image


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """Decode the file at `path`, see `decode_rgb`. Raises ImageError, also where the file cannot be read."""
    return decode_rgb(read_bytes(path))


def read_upright(path: Path) -> NDArray[np.uint8]:
    """Decode the file at `path` as viewers show it, see `decode_upright`. Raises ImageError as `read_rgb` does."""
    return decode_upright(read_bytes(path))[0]


def read_bytes(path: Path) -> bytes:
    """Return the file's bytes.

    Raises ImageError where this file cannot be read. Raises DataError where its disk fails: that is no fault of the
    picture, and must not become a finished result.
    """
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise not_readable(error, path) from error


def not_readable(error: Exception, path: Path, where: str = "") -> DataError:
    """Return the ImageError of a picture that cannot be read, or the DataError of the disk that has `path`."""
    if isinstance(error, OSError) and error.errno and error.errno not in FAULTS_OF_FILES:
        return DataError(f"{path} cannot be read: {reason(error)}; fix that and run the same command again")
    return ImageError(f"cannot be read{where}: {reason(error)}", "not-readable")


def save_png(path: Path, array: NDArray[np.uint8]) -> None:
    """Write (H, W, 3) uint8 RGB as PNG, whole or not at all."""
    _save(path, array, format="PNG", compress_level=PNG_LEVEL)


def save_jpeg(path: Path, array: NDArray[np.uint8], quality: int = 90) -> None:
    """Write (H, W, 3) uint8 RGB as JPEG, whole or not at all."""
    _save(path, array, format="JPEG", quality=quality)


def encode_png(array: NDArray[np.uint8]) -> bytes:
    """Return the bytes of a PNG file of (H, W, 3) uint8 RGB."""
    return _encode(array, format="PNG", compress_level=PNG_LEVEL)


def encode_webp(array: NDArray[np.uint8], quality: int = 90) -> bytes:
    """Return the bytes of a WebP file of (H, W, 3) uint8 RGB, lossy at any quality."""
    return _encode(array, format="WEBP", quality=quality)


def encode_jpeg(array: NDArray[np.uint8], quality: int = 90) -> bytes:
    """Return the bytes of a JPEG file of (H, W, 3) uint8 RGB."""
    return _encode(array, format="JPEG", quality=quality)


def _save(path: Path, array: NDArray[np.uint8], **options: Any) -> None:
    data = _encode(array, **options)
    with atomic_path(Path(path)) as temporary:
        temporary.write_bytes(data)


def _encode(array: NDArray[np.uint8], **options: Any) -> bytes:
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
        raise ArrayError(f"expected (H, W, 3) uint8, found {array.shape} {array.dtype}")
    encoded = io.BytesIO()  # Pillow's own writing to a file does not say why it failed
    Image.fromarray(array).save(encoded, **options)
    return encoded.getvalue()


def open_header(data: bytes) -> Image.Image:
    """Read the header only. Raises ImageError for unknown formats, damaged headers and too many pixels."""
    if not data:
        raise ImageError("the file is empty (zero bytes)", "empty-photo")
    opener = next((opener for accepts, opener in _FORMATS if accepts(data[:HEAD])), None)
    if opener is None:
        raise ImageError(f"not a picture of a known format: {_describe_start(data)}", "unknown-format")
    try:
        image = opener(io.BytesIO(data))
    except (MemoryError, ImageError):
        raise
    except Exception as error:
        raise ImageError(f"damaged header: {one_line(error)}") from error
    width, height = image.size
    if width < 1 or height < 1:
        raise ImageError(f"damaged header: {width} x {height} pixels")
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"{width} x {height} pixels are {width * height / 1e6:.0f} megapixels; "
            f"at most {MAX_PIXELS / 1e6:.0f} are accepted",
            "too-large",
        )
    return image


def _to_array(image: Image.Image, reduce: int, box: Box, convert: Conversion, *, plain_cmyk: bool) -> NDArray[np.uint8]:
    """Copy `box` (reduced pixels) of a loaded picture to (H, W, 3), band by band."""
    left, top, right, bottom = box
    array = np.empty((bottom - top, right - left, 3), dtype=np.uint8)
    rows = max(BAND_PIXELS // ((right - left) * reduce * reduce), 1)
    for start in range(top, bottom, rows):
        stop = min(start + rows, bottom)
        source = (
            left * reduce,
            start * reduce,
            min(right * reduce, image.width),
            min(stop * reduce, image.height),
        )
        # A plain small picture goes to NumPy without a copy in between.
        band = image if source == (0, 0, *image.size) else image.crop(source)
        band = convert(ImageChops.invert(band) if plain_cmyk else band)
        array[start - top : stop - top] = np.asarray(band if reduce == 1 else band.reduce(reduce))
    return array


def has_transparency(image: Image.Image) -> bool:
    """Return whether a picture may have transparent pixels."""
    return image.mode in {"RGBA", "RGBa", "LA", "La", "PA"} or "transparency" in image.info


def to_rgba(image: Image.Image) -> Image.Image:
    """Convert a picture with transparency to RGBA."""
    if image.mode in {"RGBa", "La"}:  # premultiplied, as TIFF files may have it
        image = image.convert(image.mode.upper())
    return image.convert("RGBA")


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert a picture of any mode to RGB; see `decode_rgb` for the conventions."""
    mode = image.mode
    if mode == "RGB" and "transparency" not in image.info:
        return image
    if mode == "F":
        message = "floating-point samples: their range is unknown, so they cannot be turned into 8 bits"
        raise ImageError(message, "unknown-samples")
    if mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            message = "32-bit samples beyond 65535: their range is unknown, they cannot be turned into 8 bits"
            raise ImageError(message, "unknown-samples")
        return Image.fromarray((values.astype(np.uint16) >> 8).astype(np.uint8)).convert("RGB")
    if has_transparency(image):
        canvas = Image.new("RGBA", image.size, "white")
        canvas.alpha_composite(to_rgba(image))
        image = canvas
    try:
        return image.convert("RGB")
    except ValueError as error:
        raise ImageError(f"pictures of mode {mode} cannot be turned into RGB", "unknown-samples") from error


def _describe_start(data: bytes) -> str:
    start = data[:24]
    if all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in start):
        return f"it begins with the text {start.decode('ascii').strip()!r}"
    return f"it begins with the bytes {start[:8].hex(' ')}"
