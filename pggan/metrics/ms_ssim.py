"""Multi-scale structural similarity (Wang et al. 2003) within one set of images (Odena et al. 2017).

    pairs of images  ->  means of contrast and structure at five scales  ->  a number per pair  ->  mean over the pairs

Own code: this variant shrinks the window with the picture; the usual packages refuse pictures below 161 pixels.

Pictures of a varied set are hardly alike; a mean near 1 says that the generator makes the same picture over and over.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datatools.errors import DataError
from pggan.metrics.arrays import Array, Bytes, as_numpy, chunk_length, in_threads, require_rgb

SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
WINDOW, SIGMA = 11, 1.5
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
SMALLEST = 1 << (len(SCALE_WEIGHTS) - 1)
"""Sides must be multiples of it, so that the last scale has a pixel."""
CENTRE = 127.5
"""Subtracted from the pixels before they are squared: small squares lose fewer digits in float32."""
CHUNK_VALUES = 1 << 17
"""Pictures are compared so many values at a time: they stay in the CPU's cache."""

Means = NDArray[np.float64]


def ms_ssim(first: Tensor | Bytes, second: Tensor | Bytes, *, device: str | torch.device = "cpu") -> Means:
    """Return the similarity of n pairs of pictures (n, 3, h, w) uint8: (n,) values from 0 to 1, 1 for equal pictures.

    Raises DataError for other shapes, and for sides that are no multiples of 16.
    """
    return combine(*statistics(first, second, device=device))


def statistics(
    first: Tensor | Bytes, second: Tensor | Bytes, *, device: str | torch.device = "cpu"
) -> tuple[Means, Means]:
    """Return means over pixels and channels of n pairs of pictures at the five scales.

    Two arrays (n, 5): of contrast times structure, and of that times luminance. Between the scales lies a 2 x 2 box.
    """
    require_rgb(first)
    require_rgb(second)
    if first.shape != second.shape:
        raise DataError(f"pictures of shapes {tuple(first.shape)} and {tuple(second.shape)} cannot be compared")
    count, _, height, width = first.shape
    if height % SMALLEST or width % SMALLEST or not (height and width):
        raise DataError(f"pictures of {width} x {height} pixels: MS-SSIM needs sides that are multiples of {SMALLEST}")
    where = torch.device(device)
    step = chunk_length(3 * height * width, CHUNK_VALUES, where)

    def chunk(start: int) -> Means:
        some = first[start : start + step], second[start : start + step]
        if where.type == "cpu":
            x, y = (as_numpy(images).astype(np.float32) for images in some)
            return _chunk_means(x, y)
        p, q = (torch.as_tensor(images).to(where).float() for images in some)
        return _chunk_means(p, q)

    means = np.concatenate([np.zeros((0, 2, 5)), *in_threads(chunk, range(0, count, step), where)])
    return means[:, 0], means[:, 1]


def combine(contrast: Means, similarity: Means) -> Means:
    """Multiply (n, 5) means over the scales, raised to their weights: (n,). Luminance counts at the last scale alone.

    Negative means count as 0.
    """
    means = np.concatenate([contrast[:, :-1], similarity[:, -1:]], axis=1)
    return np.prod(np.maximum(means, 0) ** np.array(SCALE_WEIGHTS), axis=1)


def _chunk_means(x: Array, y: Array) -> Means:
    """Return (n, 2, 5) for pictures 0..255, float32."""
    x -= CENTRE
    y -= CENTRE
    scales = []
    for scale in range(len(SCALE_WEIGHTS)):
        if scale:
            x, y = _halve(x), _halve(y)
        scales.append(_means(x, y))
    return np.stack(scales, axis=2)


def _means(x: Array, y: Array) -> Means:
    """Return (n, 2) of one scale, for pictures less CENTRE."""
    weights = gaussian(min(WINDOW, *x.shape[-2:]))
    mx, my, products = _blur(x, weights), _blur(y, weights), _blur(x * y, weights)
    squares = x * x
    squares += y * y
    squares = _blur(squares, weights)
    own = mx * mx
    own += my * my
    squares -= own  # the two variances, summed
    squares += C2
    products -= mx * my  # the covariance
    products *= 2
    products += C2
    products /= squares
    mx += CENTRE
    my += CENTRE
    luminance = mx * my
    luminance *= 2
    luminance += C1
    mx *= mx
    my *= my
    mx += my
    mx += C1
    luminance /= mx
    luminance *= products
    return np.stack([_picture_means(products), _picture_means(luminance)], axis=1)


def _picture_means(x: Array) -> Means:
    if isinstance(x, Tensor):
        return x.double().mean(dim=(1, 2, 3)).cpu().numpy()
    return x.mean(axis=(1, 2, 3), dtype=np.float64)


def gaussian(size: int) -> NDArray[np.float64]:
    """Return weights (size,) of sum 1; smaller windows are narrower in proportion, even ones lie between pixels."""
    x = np.arange(size) - (size - 1) / 2
    bell = np.exp(-(x**2) / (2 * (SIGMA * size / WINDOW) ** 2))
    return bell / bell.sum()


def _blur(x: Array, weights: NDArray[np.float64]) -> Array:
    """Return weighted means of all windows inside the picture: rows first, then columns; equal weights at once."""
    half, odd = divmod(len(weights), 2)
    rows, columns = x.shape[-2] - len(weights) + 1, x.shape[-1] - len(weights) + 1
    tall = x[..., half : half + rows, :] * float(weights[half] if odd else 0)
    for near in range(half):
        far = len(weights) - 1 - near
        both = x[..., near : near + rows, :] + x[..., far : far + rows, :]
        both *= float(weights[near])
        tall += both
    out = tall[..., half : half + columns] * float(weights[half] if odd else 0)
    for near in range(half):
        far = len(weights) - 1 - near
        both = tall[..., near : near + columns] + tall[..., far : far + columns]
        both *= float(weights[near])
        out += both
    return out


def _halve(x: Array) -> Array:
    rows = x[..., 0::2, :] + x[..., 1::2, :]
    out = rows[..., 0::2] + rows[..., 1::2]
    out *= 0.25
    return out
