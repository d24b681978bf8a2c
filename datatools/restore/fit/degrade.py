"""Degrade photos for training as data sets do: random JPEG compression and reduction.

All random numbers come from a `numpy.random.Generator`, so that a seed reproduces every pixel. Pictures are
(h, w, 3) uint8 RGB.
"""

import io
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from datatools.restore.base import Picture

SCALE = 4
"""Factor of `reduce_picture`: the super-resolver's, too."""

TRIM = 16
"""Pixels of the large picture cut from every side after a reduction, whose kernel reached beyond the part's edges."""

LOWEST_QUALITY, HIGHEST_QUALITY = 10, 95
UNTOUCHED = 0.08
"""Share of the training pairs without compression: the artifact remover has to learn when to do nothing."""
TWICE = 1 / 3
"""Share of the compressed pictures that is compressed twice, on different grids of blocks."""
RESCALED = 0.4
"""Share of the pictures compressed twice that is reduced in between."""
OFF_GRID = 0.1
"""Share of the pictures compressed once whose blocks begin anywhere, as in photos cropped after JPEG."""
GRAINY = 0.2
"""Share of the pictures that gets film grain or sensor noise before compression. Grain belongs to the photo: a remover
that is trained only on clean photos treats it as an artifact."""
GRAIN = (0.5, 8.0)
"""Standard deviation of the grain, in grey levels."""
GRAIN_SIZE = 1.2
"""Largest standard deviation of the blur that makes grain coarse, in pixels."""
SHIFTS = 8
"""A picture compressed twice is shifted by 0..7 pixels in between: JPEG's blocks are 8 pixels wide."""

GAUSSIAN_SIGMA = (0.6, 1.6)
"""Standard deviation of Gaussian reduction kernels, in pixels of the reduced picture."""


@dataclass(frozen=True)
class Reduction:
    """How a picture is made four times smaller.

    Attributes:
        kernel: "bicubic", "box", "lanczos" (all antialiased, as Pillow does them) or "gaussian".
        sigma: of a Gaussian along its two axes, in pixels of the reduced picture.
        angle: of a Gaussian's first axis, in radians.
    """

    kernel: str = "bicubic"
    sigma: tuple[float, float] = (1.0, 1.0)
    angle: float = 0.0


def compress(picture: Picture, quality: int, *, subsampling: str = "4:2:0") -> Picture:
    """Compress with Pillow's JPEG encoder and decode; `subsampling` of the colours is "4:4:4" or "4:2:0"."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=quality, subsampling=subsampling)
    return np.array(Image.open(buffer).convert("RGB"))


def _compress_randomly(picture: Picture, rng: np.random.Generator) -> Picture:
    quality = int(rng.integers(LOWEST_QUALITY, HIGHEST_QUALITY + 1))
    return compress(picture, quality, subsampling=("4:4:4", "4:2:0")[int(rng.integers(2))])


def jpeg_pair(picture: Picture, size: int, rng: np.random.Generator) -> tuple[Picture, Picture]:
    """Return a (size, size, 3) part of a picture after JPEG compression, and the same part before it.

    Quality is uniform in 10..95, colours have full or half resolution; a third of the pictures is compressed twice,
    shifted and sometimes reduced in between; some are not compressed. Some get grain, which both parts have.

    Raises:
        ValueError: a picture smaller than `size`.
    """
    height, width = picture.shape[:2]
    if min(height, width) < size:
        raise ValueError(f"a picture of {width} x {height} has no part of {size} x {size}")
    if rng.random() < GRAINY:
        picture = add_grain(picture, rng)
    if rng.random() < UNTOUCHED:
        clean = random_part(picture, size, rng)
        return clean, clean
    if rng.random() >= TWICE:
        room = min(height - size, width - size, SHIFTS - 1)
        clean = random_part(picture, size + room, rng)
        shift = (int(rng.integers(room + 1)), int(rng.integers(room + 1)))
        degraded = _compress_randomly(clean, rng)
        if rng.random() >= OFF_GRID:
            shift = (0, 0)
        return _at(degraded, shift, size), _at(clean, shift, size)
    factor = float(rng.uniform(0.5, 1.0)) if rng.random() < RESCALED else 1.0
    source = min(int(np.ceil((size + SHIFTS) / factor)), height, width)
    clean = random_part(picture, source, rng)
    degraded = _compress_randomly(clean, rng)
    if factor < 1 and source > size:
        target = max(size, round(source * factor))
        clean, degraded = (
            np.array(Image.fromarray(p).resize((target, target), Image.Resampling.BICUBIC)) for p in (clean, degraded)
        )
    room = min(clean.shape[0] - size, SHIFTS - 1)
    shift = (int(rng.integers(room + 1)), int(rng.integers(room + 1)))
    degraded = _compress_randomly(_at(degraded, shift, size), rng)
    return degraded, _at(clean, shift, size)


def add_grain(picture: Picture, rng: np.random.Generator) -> Picture:
    """Return the picture with noise of random strength and coarseness, mostly the same in all three colours."""
    noise = rng.standard_normal(picture.shape, np.float32) * np.float32(rng.uniform(0, 0.6))
    noise += rng.standard_normal((*picture.shape[:2], 1), np.float32)
    if (blur := float(rng.uniform(-0.5, GRAIN_SIZE))) > 0.2:
        noise = np.asarray(cv2.GaussianBlur(noise, (0, 0), blur), np.float32)
    return np.clip(np.rint(picture + noise * (rng.uniform(*GRAIN) / noise.std())), 0, 255).astype(np.uint8)


def random_part(picture: Picture, size: int, rng: np.random.Generator) -> Picture:
    """Return a (size, size, 3) part at a random place."""
    top = int(rng.integers(picture.shape[0] - size + 1))
    left = int(rng.integers(picture.shape[1] - size + 1))
    return _at(picture, (top, left), size)


def _at(picture: Picture, corner: tuple[int, int], size: int) -> Picture:
    return np.ascontiguousarray(picture[corner[0] : corner[0] + size, corner[1] : corner[1] + size])


def draw_reduction(rng: np.random.Generator, *, bicubic: float = 0.25) -> Reduction:
    """Return a random kernel: bicubic with the given probability, else box, Lanczos-3 or Gaussian.

    A third of the Gaussians is elliptical.
    """
    if rng.random() < bicubic:
        return Reduction("bicubic")
    kernel = ("box", "lanczos", "gaussian")[int(rng.integers(3))]
    if kernel != "gaussian":
        return Reduction(kernel)
    first, second = (float(v) for v in rng.uniform(*GAUSSIAN_SIGMA, size=2))
    if rng.random() >= 1 / 3:
        second = first
    return Reduction(kernel, (first, second), float(rng.uniform(0, np.pi)))


def reduce_picture(picture: Picture, reduction: Reduction | None = None) -> Picture:
    """Reduce (4 h, 4 w, 3) to (h, w, 3), the result's pixel (0, 0) covering the first 4 x 4 pixels; None: bicubic.

    Raises:
        ValueError: sides that are not multiples of 4, or an unknown kernel.
    """
    reduction = reduction or Reduction()
    height, width = picture.shape[:2]
    if height % SCALE or width % SCALE or not height or not width:
        raise ValueError(f"a picture of {width} x {height} cannot be reduced by {SCALE}: its sides are not multiples")
    if reduction.kernel == "gaussian":
        return _reduce_gaussian(picture, reduction)
    if reduction.kernel not in ("bicubic", "box", "lanczos"):
        raise ValueError(f"unknown kernel {reduction.kernel!r}; known: bicubic, box, lanczos, gaussian")
    size = (width // SCALE, height // SCALE)
    return np.array(Image.fromarray(picture).resize(size, Image.Resampling[reduction.kernel.upper()]))


def _reduce_gaussian(picture: Picture, reduction: Reduction) -> Picture:
    sigma = np.array(reduction.sigma) * SCALE
    radius = int(np.ceil(3 * sigma.max()))
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1].astype(np.float64)
    cos, sin = np.cos(reduction.angle), np.sin(reduction.angle)
    along, across = (cos * x + sin * y) / sigma[0], (cos * y - sin * x) / sigma[1]
    kernel = np.exp(-(along**2 + across**2) / 2)
    blurred = cv2.filter2D(picture.astype(np.float32), -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT)
    # the centre of a block of 4 x 4 lies between its four middle pixels
    middle = sum(blurred[i::SCALE, j::SCALE] for i in (1, 2) for j in (1, 2)) / 4
    return np.clip(np.rint(middle), 0, 255).astype(np.uint8)
