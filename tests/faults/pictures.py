"""Picture files as bytes: odd ones that must decode, and bad ones that must be refused with a reason."""

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def scene(width: int = 120, height: int = 90) -> NDArray[np.uint8]:
    """(height, width, 3) uint8: smooth colours, so that every coding keeps them closely; the corners all differ."""
    y, x = np.mgrid[0:height, 0:width]
    red = 40 + 180 * x / width
    green = 200 - 150 * y / height
    blue = 90 + 60 * np.sin(x / 17 + y / 23)
    return np.rint(np.stack([red, green, blue], axis=-1)).astype(np.uint8)


def encode(image: Image.Image | NDArray[Any], file_format: str, **options: Any) -> bytes:
    """The bytes that Pillow writes."""
    stream = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(stream, format=file_format, **options)
    return stream.getvalue()


def jpeg(pixels: NDArray[np.uint8] | None = None, **options: Any) -> bytes:
    return encode(scene() if pixels is None else pixels, "JPEG", **{"quality": 95, "subsampling": 0} | options)


def truncated_jpeg(**options: Any) -> bytes:
    data = jpeg(**options)
    return data[: len(data) * 6 // 10]


def truncated_png() -> bytes:
    data = encode(scene(), "PNG")
    return data[: len(data) // 2]


def text() -> bytes:
    return b"<!DOCTYPE html>\n<html><body>Quota exceeded</body></html>\n"


def cmyk_jpeg(*, adobe: bool = True) -> bytes:
    """`scene` as CMYK without black; with Adobe's marker (inverted, as Photoshop writes it) or without (plain)."""
    inks = 255 - scene()
    cmyk = np.concatenate([inks, np.zeros_like(inks[..., :1])], axis=-1)
    if adobe:
        return encode(Image.fromarray(cmyk, mode="CMYK"), "JPEG", quality=95)
    # Pillow inverts while writing: undo that beforehand, then cut the marker out.
    data = encode(Image.fromarray(255 - cmyk, mode="CMYK"), "JPEG", quality=95)
    start = data.index(b"\xff\xee")
    length = struct.unpack(">H", data[start + 2 : start + 4])[0]
    return data[:start] + data[start + 2 + length :]


def grey_jpeg() -> bytes:
    return encode(Image.fromarray(scene()).convert("L"), "JPEG", quality=95)


def grey16_png() -> bytes:
    """16-bit grey ramp: value = 256 * column + row, 90 x 120."""
    y, x = np.mgrid[0:90, 0:120]
    return encode((x * 256 + y).astype(np.uint16), "PNG")


def rgb16_png() -> bytes:
    """`scene` with 16 bits per channel; the low bytes are full of other numbers."""
    pixels = scene()
    low = np.arange(pixels.size, dtype=np.uint64).reshape(pixels.shape) * 37 % 256
    samples = (pixels.astype(np.uint16) * 256 + low.astype(np.uint16)).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in samples)
    return _png(pixels.shape[1], pixels.shape[0], depth=16, colour=2, rows=rows)


def palette_alpha_png() -> bytes:
    """Three vertical stripes: opaque red, half transparent blue, fully transparent green; palette with tRNS."""
    indices = np.repeat(np.repeat([[0, 1, 2]], 30, axis=1), 60, axis=0).astype(np.uint8)
    image = Image.fromarray(indices, mode="P")
    image.putpalette([255, 0, 0, 0, 0, 255, 0, 255, 0])
    return encode(image, "PNG", transparency=bytes([255, 128, 0]))


def exif_rotated_jpeg() -> bytes:
    """`scene` with EXIF orientation 6 (viewers turn it by a quarter)."""
    exif = Image.Exif()
    exif[274] = 6
    return jpeg(exif=exif)


def png_bomb(width: int = 30_000, height: int = 30_000) -> bytes:
    """A small, valid 1-bit PNG whose header declares width x height pixels, all black."""
    row = b"\0" * (1 + (width + 7) // 8)
    return _png(width, height, depth=1, colour=0, rows=row * height)


def jpeg_bomb(width: int = 30_000, height: int = 30_000) -> bytes:
    """A small JPEG whose frame header declares width x height pixels."""
    data = bytearray(jpeg())
    start = data.index(b"\xff\xc0")
    data[start + 5 : start + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def _png(width: int, height: int, *, depth: int, colour: int, rows: bytes) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "zero bytes": (lambda: b"", "empty"),
    "text": (text, "DOCTYPE"),
    "binary": (lambda: bytes(range(200, 256)), "c8 c9"),
    "truncated": (truncated_jpeg, "truncated"),
    "truncated, progressive": (lambda: truncated_jpeg(progressive=True), "truncated"),
    "truncated PNG": (truncated_png, "PNG"),
    "JPEG header alone": (lambda: jpeg()[:20], "header"),
    "JPEG magic alone": (lambda: b"\xff\xd8\xff", "header"),
    "PNG bomb": (png_bomb, "30000 x 30000"),
    "JPEG bomb": (jpeg_bomb, "30000 x 30000"),
}
"""Name -> (bytes of the file, a word of the reason with which it is refused)."""

ODD: dict[str, Callable[[], bytes]] = {
    "JPEG": jpeg,
    "progressive JPEG": lambda: jpeg(progressive=True),
    "4:2:0 JPEG": lambda: jpeg(subsampling=2),
    "CMYK, Adobe": cmyk_jpeg,
    "CMYK, plain": lambda: cmyk_jpeg(adobe=False),
    "WebP": lambda: encode(scene(), "WEBP", lossless=True),
    "PNG": lambda: encode(scene(), "PNG"),
    "PNG with alpha": lambda: encode(Image.fromarray(scene()).convert("RGBA"), "PNG"),
    "16-bit PNG": rgb16_png,
    "BMP": lambda: encode(scene(), "BMP"),
    "TIFF": lambda: encode(scene(), "TIFF"),
    "TIFF, LZW": lambda: encode(scene(), "TIFF", compression="tiff_lzw"),
    "PPM": lambda: encode(scene(), "PPM"),
    "EXIF rotation": exif_rotated_jpeg,
}
"""Name -> bytes: each of these shows `scene()`."""
