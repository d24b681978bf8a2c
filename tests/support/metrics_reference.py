"""Sliced Wasserstein distance and MS-SSIM as the papers describe them, directly in NumPy and SciPy, float64.

Slow and plain on purpose: the tests compare pggan.metrics with it, and benchmarks/metrics.py measures against it.
`clouds` and `soften` make the pictures of the golden numbers.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, signal

Floats = NDArray[np.floating]
Bytes = NDArray[np.uint8]

BINOMIAL = np.array([1, 4, 6, 4, 1]) / 16
SCALE_WEIGHTS = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333])


def clouds(count: int, size: int, seed: int, slope: float = 1.0, contrast: float = 50.0) -> Bytes:
    """(count, 3, size, size): pictures of random phase whose amplitudes fall with frequency to the power of `slope`."""
    noise = np.random.default_rng(seed).normal(size=(count, 3, size, size))
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :])
    frequency[0, 0] = 1
    spectrum = np.fft.rfft2(noise) / frequency**slope
    spectrum[:, :, 0, 0] = 0
    x = np.fft.irfft2(spectrum, s=(size, size))
    x = x / x.std(axis=(1, 2, 3), keepdims=True) * contrast + 127.5
    x[:, 1] = 0.7 * x[:, 0] + 0.3 * x[:, 1]
    x[:, 2] = 0.7 * x[:, 1] + 0.3 * x[:, 2]
    return np.clip(np.rint(x), 0, 255).astype(np.uint8)


def soften(images: Bytes) -> Bytes:
    """A 3 x 3 box filter with mirrored borders."""
    return np.rint(ndimage.uniform_filter(images.astype(np.float64), (0, 0, 3, 3), mode="mirror")).astype(np.uint8)


def blur(x: Floats, gain: float = 1.0) -> Floats:
    for axis in (2, 3):
        x = ndimage.convolve1d(x, BINOMIAL * gain, axis=axis, mode="mirror")
    return x


def laplacian(images: NDArray, smallest: int = 16) -> dict[int, Floats]:
    """(n, 3, r, r) -> level by size, (n, 3, size, size) each, the last one the low-pass picture."""
    levels = {}
    picture: Floats = images.astype(np.float64) if images.dtype == np.uint8 else images
    while picture.shape[2] > smallest:
        lower = blur(picture)[:, :, ::2, ::2]
        spread = np.zeros_like(picture)
        spread[:, :, ::2, ::2] = lower
        levels[picture.shape[2]] = picture - blur(spread, 2.0)
        picture = lower
    levels[picture.shape[2]] = picture
    return levels


def gather(level: Floats, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Floats:
    """Patches around centres (n, p) of a level (n, 3, s, s), (n p, 3, 7, 7)."""
    count = len(level)
    image, channel, y, x = np.ogrid[:count, :3, -3:4, -3:4]
    image = np.arange(count)[:, None, None, None, None]
    channel = channel[:, None]
    y = rows[:, :, None, None, None] + y[:, None]
    x = columns[:, :, None, None, None] + x[:, None]
    return level[image, channel, y, x].reshape(-1, 3, 7, 7)


def normalize(patches: Floats) -> Floats:
    """(N, 3, 7, 7) -> (N, 147): mean 0 and standard deviation 1 of every channel."""
    centred = patches - patches.mean(axis=(0, 2, 3), keepdims=True)
    return (centred / centred.std(axis=(0, 2, 3), keepdims=True)).reshape(len(patches), -1)


def sliced_distance(a: Floats, b: Floats, directions: Floats) -> float:
    """Mean over directions (147, k) of the one-dimensional Wasserstein distances of (N, 147) and (N, 147)."""
    return float(np.mean(np.abs(np.sort(a @ directions, axis=0) - np.sort(b @ directions, axis=0))))


def swd(a: Bytes, b: Bytes, seed: int, *, patches: int = 128, dtype: type = np.float64) -> dict[int, float]:
    """Distance by level, times 1000, in passes of 64 images; `dtype` is what is computed with."""
    rng = np.random.default_rng(seed)
    parts: list[dict[int, list[Floats]]] = [{}, {}]
    for images, found in zip((a, b), parts, strict=True):
        for start in range(0, len(images), 64):
            for size, level in laplacian(images[start : start + 64].astype(dtype)).items():
                rows, columns = rng.integers(3, size - 3, (2, len(level), patches))
                found.setdefault(size, []).append(gather(level, rows, columns))
    distances = {}
    for size in list(parts[0]):
        first, second = (normalize(np.concatenate(found.pop(size))) for found in parts)
        repeats = []
        for _ in range(4):
            directions = rng.normal(size=(147, 128))
            directions = (directions / np.linalg.norm(directions, axis=0)).astype(dtype)
            repeats.append(sliced_distance(first, second, directions))
        distances[size] = 1e3 * float(np.mean(repeats))
    return distances


def gaussian(size: int, sigma: float) -> Floats:
    """(1, 1, size, size), sum 1, centred in the window."""
    x = np.arange(size) - (size - 1) / 2
    bell = np.exp(-(x**2) / (2 * sigma**2))
    window = np.outer(bell, bell)
    return (window / window.sum())[None, None]


def halve(x: Floats) -> Floats:
    return (x[:, :, ::2, ::2] + x[:, :, 1::2, ::2] + x[:, :, ::2, 1::2] + x[:, :, 1::2, 1::2]) / 4


def ms_ssim(first: Bytes, second: Bytes) -> Floats:
    """Multi-scale structural similarity of n pairs of pictures (n, 3, h, w), (n,)."""
    x, y = first.astype(np.float64), second.astype(np.float64)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    product = np.ones(len(x))
    for scale, weight in enumerate(SCALE_WEIGHTS):
        size = min(11, *x.shape[2:])
        window = gaussian(size, 1.5 * size / 11)
        mx, my, xx, yy, xy = (signal.fftconvolve(z, window, "valid") for z in (x, y, x * x, y * y, x * y))
        cs = (2 * (xy - mx * my) + c2) / (xx - mx**2 + yy - my**2 + c2)
        ssim = cs * (2 * mx * my + c1) / (mx**2 + my**2 + c1)
        mean = (ssim if scale == 4 else cs).mean(axis=(1, 2, 3))
        product *= np.maximum(mean, 0) ** weight
        if scale < 4:
            x, y = (halve(z) for z in (x, y))
    return product
