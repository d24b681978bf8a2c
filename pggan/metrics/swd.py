"""Sliced Wasserstein distance between patches of two sets of images (Karras et al. 2018, section 5).

    images (n, 3, r, r)  ->  patches of every Laplacian level (n 128, 147)  ->  normalized per set  ->  distance

Everything that touches pictures or patches runs on NumPy arrays, chunk by chunk in threads, and on tensors of a device,
by the same code.
"""

import io
import shutil
import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datatools.errors import DataError, reason
from datatools.files import as_data_error
from pggan.metrics.arrays import Array, Bytes, Floats, as_numpy, chunk_length, in_threads, require_rgb
from pggan.metrics.sorting import sort
from pggan.precision import full_products

SMALLEST = 16
"""Size of the last level, the low-pass picture."""
PATCH = 7
VALUES = 3 * PATCH**2
"""Values of a patch, ordered by channel, row, column."""
CHUNK_VALUES = 1 << 19
"""Pictures are filtered so many values at a time: they stay in the CPU's cache."""
CHUNK_PATCHES = 1 << 13
"""Patches that a CPU normalizes at a time."""
BLOCK_BYTES = 256 << 20
"""Projections of both sets that are held at a time."""
REMEDY = "set TMPDIR to a folder on a disk with room"


def levels(resolution: int) -> list[int]:
    """Return the sizes of the levels of pictures of that side: 64 -> [64, 32, 16]. DataError if there are none."""
    if resolution < SMALLEST or resolution & (resolution - 1):
        raise DataError(
            f"images of {resolution} x {resolution} pixels have no sliced Wasserstein distance: "
            f"the side must be a power of two of at least {SMALLEST}"
        )
    return [resolution >> step for step in range(resolution.bit_length() - SMALLEST.bit_length() + 1)]


def laplacian(pictures: Array, smallest: int = SMALLEST) -> dict[int, Array]:
    """Return the levels of pictures (n, 3, r, r) float32 by size, (n, 3, size, size) each; overwrites `pictures`.

    A level is what the next smaller picture, enlarged again, lacks; the last one is the low-pass picture itself. Both
    ways the kernel is the binomial (1 4 6 4 1) / 16, borders are mirrored without repeating the edge (Burt and Adelson
    1983).
    """
    by_size: dict[int, Array] = {}
    while (size := pictures.shape[-1]) > smallest:
        lower = _shrink(pictures)
        _subtract_enlarged(pictures, lower)
        by_size[size] = pictures
        pictures = lower
    by_size[size] = pictures
    return by_size


def _shrink(x: Array) -> Array:
    """Blur and keep even pixels: (..., s, s) -> (..., s/2, s/2), computed for the pixels that are kept."""
    even, odd = x[..., 0::2, :], x[..., 1::2, :]
    rows = 6 * even + 4 * odd
    rows[..., 1:, :] += 4 * odd[..., :-1, :] + even[..., :-1, :]
    rows[..., :-1, :] += even[..., 1:, :]
    rows[..., 0, :] += 4 * odd[..., 0, :] + even[..., 1, :]  # mirrored: row -1 is row 1, row -2 is row 2
    rows[..., -1, :] += even[..., -1, :]
    even, odd = rows[..., 0::2], rows[..., 1::2]
    both = 6 * even + 4 * odd
    both[..., 1:] += 4 * odd[..., :-1] + even[..., :-1]
    both[..., :-1] += even[..., 1:]
    both[..., 0] += 4 * odd[..., 0] + even[..., 1]
    both[..., -1] += even[..., -1]
    both *= 1 / 256
    return both


def _subtract_enlarged(x: Array, lower: Array) -> None:
    """Subtract from (..., s, s) the picture (..., s/2, s/2) with zeros between its pixels, blurred, times 4."""
    wide = x[..., 0::2, :] * 0  # (..., s/2, s): filled below
    inner = 6 * lower
    inner[..., 1:] += lower[..., :-1]
    inner[..., :-1] += lower[..., 1:]
    inner[..., 0] += lower[..., 1]
    inner[..., -1] += lower[..., -1]
    wide[..., 0::2] = inner
    wide[..., 1:-1:2] = 4 * (lower[..., :-1] + lower[..., 1:])
    wide[..., -1] = 8 * lower[..., -1]
    wide *= 1 / 64
    x[..., 0::2, :] -= 6 * wide
    x[..., 2::2, :] -= wide[..., :-1, :]
    x[..., 0:-2:2, :] -= wide[..., 1:, :]
    x[..., 0, :] -= wide[..., 1, :]
    x[..., -2, :] -= wide[..., -1, :]
    wide *= 4
    x[..., 1::2, :] -= wide
    x[..., 1:-1:2, :] -= wide[..., 1:, :]
    x[..., -1, :] -= wide[..., -1, :]


def patches(level: Array, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Array:
    """Return patches of 7 x 7 pixels around centres (n, p) in a level (n, 3, s, s): (n p, 147)."""
    top, left = rows - PATCH // 2, columns - PATCH // 2
    if isinstance(level, Tensor):
        # (n, s-6, s-6, 3, 7, 7): a view
        windows = level.unfold(2, PATCH, 1).unfold(3, PATCH, 1).permute(0, 2, 3, 1, 4, 5)
        corners = torch.from_numpy(np.stack([top, left])).to(level.device)  # one copy for both
        numbers = torch.arange(len(rows), device=level.device)[:, None]
        return windows[numbers, corners[0], corners[1]].reshape(-1, VALUES)
    windows = np.lib.stride_tricks.sliding_window_view(level, (3, PATCH, PATCH), axis=(1, 2, 3))[:, 0]
    return windows[np.arange(len(rows))[:, None], top, left].reshape(-1, VALUES)


def descriptor_bytes(count: int, resolution: int, patches: int) -> int:
    """Return the bytes that the descriptors of a set take, all levels together."""
    return 4 * VALUES * patches * count * len(levels(resolution))


def require_room(folder: Path, needed: int) -> None:
    """Raise DataError where fewer bytes are free."""
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise DataError(f"{folder}: no temporary files can be written: {reason(error)}; {REMEDY}") from error
    if free < needed:
        raise DataError(f"{folder}: descriptors need {needed / 1e9:.1f} GB, {free / 1e9:.1f} are free; {REMEDY}")


class Descriptors(AbstractContextManager["Descriptors"]):
    """Patches of a set of images, gathered while the images stream by, and handed out level by level.

        with Descriptors(16384, 256, seed, folder=Path("/tmp")) as gathered:
            for images in batches:
                gathered.add(images)

    Where an image's patches lie depends on the seed and the image's place in the set, not on how the images come in
    batches. Sets that are compared get different seeds: with equal ones the distance would be smaller.

    Args:
        count: images of the set.
        resolution: their side, see `levels`.
        seed: decides about the centres of the patches: uniform over all places where a patch fits.
        patches: per image and level.
        folder: where to keep the descriptors, 588 bytes per patch, in files without a name that vanish with the
            process; None: in memory. A level of the paper's 16,384 images takes 1.2 GB.
        device: where the images are filtered.

    Raises DataError for impossible sizes and where the folder has no room.
    """

    def __init__(
        self,
        count: int,
        resolution: int,
        seed: int,
        *,
        patches: int = 128,
        folder: Path | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        if count < 1 or patches < 1:
            raise DataError(f"{count} images with {patches} patches each: at least one of both is needed")
        self.count, self.resolution, self.patches, self.sizes = count, resolution, patches, levels(resolution)
        self.device = torch.device(device)
        self.added = 0
        self._centres = {size: _rng(seed, "patches", size) for size in self.sizes}
        self._folder = folder
        self._files: dict[int, IO[bytes]] = {}
        if folder is not None:
            require_room(folder, descriptor_bytes(count, resolution, patches))
        try:
            for size in self.sizes:
                file = io.BytesIO() if folder is None else TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115
                self._files[size] = file
        except OSError as error:
            self.close()
            raise DataError(f"{folder}: no temporary files can be written: {reason(error)}; {REMEDY}") from error

    def add(self, images: Tensor | Bytes) -> None:
        """Add the set's next images, (n, 3, r, r) uint8."""
        require_rgb(images, self.resolution)
        if self.added + len(images) > self.count:
            raise DataError(f"{self.added + len(images)} images were given: {self.count} are expected")
        shape = (len(images), self.patches, 2)
        centres = {size: rng.integers(3, size - 3, shape) for size, rng in self._centres.items()}
        gathered_by_size = {size: np.empty((len(images) * self.patches, VALUES), np.float32) for size in self.sizes}
        step = chunk_length(3 * self.resolution**2, CHUNK_VALUES, self.device)

        def chunk(start: int) -> None:
            some = images[start : start + step]
            places = {size: values[start : start + step] for size, values in centres.items()}
            if self.device.type == "cpu":
                gathered = _all_patches(laplacian(as_numpy(some).astype(np.float32)), places)
            else:
                gathered = _all_patches(laplacian(torch.as_tensor(some).to(self.device).float()), places)
            for size, values in gathered.items():
                gathered_by_size[size][start * self.patches : (start + step) * self.patches] = values

        in_threads(chunk, range(0, len(images), step), self.device)
        for size, values in gathered_by_size.items():
            left = values.data.cast("B")
            with as_data_error(self._folder, "written", f"; {REMEDY}"):
                while left:
                    left = left[self._files[size].write(left) :]
        self.added += len(images)

    def level(self, size: int) -> Floats:
        """Return all patches of one level, (count * patches, 147) float32, not normalized; the caller owns them."""
        if self.added < self.count:
            raise DataError(f"{self.added} images were given: {self.count} are needed; lower the number of images")
        file = self._files[size]
        file.seek(0)
        if isinstance(file, io.BytesIO):
            return np.frombuffer(file.getbuffer(), np.float32).reshape(-1, VALUES).copy()
        return np.fromfile(file, np.float32).reshape(-1, VALUES)

    def close(self) -> None:
        for file in self._files.values():
            file.close()

    def __exit__(self, *_: object) -> None:
        self.close()


def _all_patches(pyramid: dict[int, Array], centres: dict[int, NDArray[np.int64]]) -> dict[int, Floats]:
    """Return by size the patches around centres (n, p, 2) of every level."""
    by_size = {}
    for size, level in pyramid.items():
        gathered = patches(level, centres[size][..., 0], centres[size][..., 1])
        by_size[size] = gathered.cpu().numpy() if isinstance(gathered, Tensor) else gathered
    return by_size


def normalize(descriptors: Array, out: Array | None = None) -> Array:
    """Normalize patches (N, 147) to mean 0 and standard deviation 1 per colour channel, over patches and pixels.

    Into `out` where it is given, which may be `descriptors`. A channel without any contrast stays 0.
    """
    target = descriptors * 0 if out is None else out
    device = _device_of(descriptors)
    step = chunk_length(VALUES, CHUNK_PATCHES * VALUES, device)
    starts = range(0, len(descriptors), step)

    def moments(start: int) -> NDArray[np.float64]:
        part = descriptors[start : start + step]
        if isinstance(part, Tensor):
            return torch.stack([part.double().sum(0), part.double().square().sum(0)]).cpu().numpy()
        return np.stack([part.sum(0, dtype=np.float64), np.square(part).sum(0, dtype=np.float64)])

    sums = np.sum(in_threads(moments, starts, device), axis=0).reshape(2, 3, -1).sum(-1)  # (2, 3): channels
    mean, square = sums / (len(descriptors) * PATCH**2)
    deviation = np.sqrt(np.maximum(square - mean**2, 0))
    scale = np.where(deviation > 1e-6 * np.sqrt(square), 1 / np.maximum(deviation, 1e-12), 0)
    shift, factor = (np.repeat(values, PATCH**2).astype(np.float32) for values in (mean, scale))

    def apply(start: int) -> None:
        part, into = (array[start : start + step] for array in (descriptors, target))
        if isinstance(part, Tensor):
            into.copy_((part - torch.from_numpy(shift).to(part)) * torch.from_numpy(factor).to(part))
        else:
            np.multiply(np.subtract(part, shift, out=into), factor, out=into)

    in_threads(apply, starts, device)
    return target


def sliced_distance(a: Array, b: Array, directions: NDArray[np.floating]) -> float:
    """Return the mean absolute difference of sorted projections.

    Args:
        a, b: normalized patches (N, 147) of two sets. directions: (147, k).
    """
    if a.shape != b.shape:
        raise ValueError(f"sets of {len(a)} and {len(b)} patches: both must have as many")
    axes = np.ascontiguousarray(directions.T, np.float32)  # (k, 147)
    step = max(BLOCK_BYTES // (8 * len(a)), 1)
    total = 0.0
    for start in range(0, len(axes), step):
        some = axes[start : start + step]
        if isinstance(a, Tensor):
            with full_products():  # a run may allow TF32, whose errors are as large as small distances
                first, second = ((torch.from_numpy(some).to(x) @ x.T).sort(dim=1).values for x in (a, b))
            total += float((first - second).abs().mean(1).double().sum())
        else:
            total += _summed_distances(some @ a.T, some @ b.T)
    return total / len(axes)


def _summed_distances(first: Floats, second: Floats) -> float:
    """Return the sum of distances of projections (k, N), which are overwritten."""

    def distance(row: int) -> float:
        a, b = first[row], second[row]
        sort(a)
        sort(b)
        return float(np.abs(np.subtract(a, b, out=a), out=a).mean(dtype=np.float64))

    return sum(in_threads(distance, range(len(first))))


def swd(
    a: Descriptors,
    b: Descriptors,
    seed: int,
    repeats: int = 4,
    directions: int = 128,
    progress: Callable[[], object] = lambda: None,
) -> dict[int, float]:
    """Return the distance of two sets, times 1000, by size of level: mean over `repeats` of random unit `directions`.

    Level by level: the descriptors of one and a block of projections are in memory, 2.7 GB for 16,384 images.
    `progress` is called after every one of the `repeats`.

    Raises DataError where the sets differ in count, size or patches.
    """
    if (a.count, a.resolution, a.patches) != (b.count, b.resolution, b.patches):
        raise DataError(
            f"sets that are compared must be alike, not {a.count} images of {a.resolution} pixels, {a.patches} patches "
            f"each, and {b.count} of {b.resolution}, {b.patches} each"
        )
    distances_by_size = {}
    for size in a.sizes:
        rng = _rng(seed, "directions", size)
        first, second = (_prepared(x, size) for x in (a, b))
        distances = []
        for _ in range(repeats):
            distances.append(sliced_distance(first, second, unit_directions(rng, directions)))
            progress()
        distances_by_size[size] = 1e3 * float(np.mean(distances))
    return distances_by_size


def unit_directions(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    """Return unit vectors uniform over the sphere, (147, count)."""
    normals = rng.standard_normal((VALUES, count))
    return normals / np.linalg.norm(normals, axis=0)


def _prepared(gathered: Descriptors, size: int) -> Any:
    level: Any = gathered.level(size)
    if gathered.device.type != "cpu":
        level = torch.from_numpy(level).to(gathered.device)
    return normalize(level, out=level)


def _device_of(x: Floats | Tensor) -> torch.device:
    return x.device if isinstance(x, Tensor) else torch.device("cpu")


def _rng(seed: int, purpose: str, size: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence([seed, zlib.crc32(f"swd-{purpose}".encode()), size]))
