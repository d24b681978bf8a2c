"""Batches of the pyramid's current level: a pure function of (seed, images seen).

The i-th image of a run (i counts from 0 over all epochs) is image `Order.at(i)` of the file, mirrored or not.
Small levels are read into memory when their turn comes; larger ones are read ahead by threads.
"""

import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datatools.errors import DataError
from datatools.parallel import map_in_threads
from datatools.pyramid import Pyramid
from datatools.pyramid.labels import read_labels
from pggan.config.schedule import ScheduleConfig, rounds
from pggan.data.prefetch import Buffers
from pggan.pixels import to_floats
from pggan.rng import rng
from pggan.transfer import to_device

MEMORY_BYTES = 512 << 20
"""A level of at most so many bytes is held in memory."""
BATCHES_AHEAD = 2
"""Batches that are read before their turn, for every thread that reads: more do not fit into the CPU's cache."""

Places = tuple[NDArray[np.int64], NDArray[np.bool_]]
"""Index in the file, whether mirrored; each (n,)."""


@lru_cache(maxsize=2)  # a batch touches two epochs at most, unless the file is tiny
def _epoch(seed: int, count: int, mirror: bool, epoch: int) -> Places:
    draw = rng(seed, "order", epoch)
    return draw.permutation(count), draw.random(count) < 0.5 if mirror else np.zeros(count, bool)


@dataclass(frozen=True)
class Order:
    """Which image comes when: every epoch a new permutation, and, with `mirror`, a coin for every image."""

    seed: int
    count: int
    mirror: bool

    def at(self, positions: NDArray[np.int64]) -> Places:
        """Return where the images at `positions`, (n,), lie in the file."""
        epochs, inside = np.divmod(positions, self.count)
        indices = np.empty(len(positions), np.int64)
        flips = np.empty(len(positions), bool)
        for epoch in np.unique(epochs):
            permutation, coins = _epoch(self.seed, self.count, self.mirror, int(epoch))
            chosen = epochs == epoch
            indices[chosen], flips[chosen] = permutation[inside[chosen]], coins[inside[chosen]]
        return indices, flips


@dataclass(frozen=True)
class Request:
    """A request for the images at `positions` of the run, in the level of `resolution` pixels."""

    resolution: int
    positions: NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    """`images` (n, 3, r, r) uint8 as stored; `flips` (n,) bool: which are to be mirrored; `indices` (n,) in the file.

    `seconds`: time spent reading. Mirroring is left to `as_floats`: on a CPU it costs more than reading.
    """

    images: Tensor
    flips: Tensor
    indices: Tensor
    seconds: float


def requests(schedule: ScheduleConfig, images: int, rows: Callable[[int], NDArray[np.int64]]) -> Iterator[Request]:
    """Yield what a device reads in every step of the discriminator, from `images` seen to the end of the run.

    `rows`: minibatch -> the positions in it that the device handles.
    """
    for state in rounds(schedule, images):
        mine = rows(state.minibatch)
        for step in range(schedule.d_steps * schedule.minibatch_repeats):
            yield Request(state.resolution, state.images + step * state.minibatch + mine)


class Source:
    """A pyramid file as training sees it: levels, labels, and a digest that tells files apart.

    Args:
        path: the pyramid.
        labels: "none"; "file": `<stem>-labels.npy` in the same folder; or names of CelebA attributes separated by
            commas: every combination of them is a class.
    """

    def __init__(self, path: Path, labels: str = "none") -> None:
        self.pyramid = Pyramid(path)
        self.count = len(self.pyramid)
        if self.count == 0:
            raise DataError(f"{path}: holds no images to train on")
        self.labels = read_labels(self.pyramid, labels)

    @property
    def resolution(self) -> int:
        """Side of the largest level."""
        return self.pyramid.resolution

    @property
    def classes(self) -> int:
        return 0 if self.labels is None else self.labels.shape[1]

    def digest(self) -> str:
        """Return 64 hexadecimal digits that depend on every pixel of the largest level and on the labels."""
        return self.pyramid.digest(self.resolution, b"" if self.labels is None else self.labels.tobytes())


class Reader:
    """Reader of images of the level of `resolution` pixels, from memory when `small`; threads may share it.

    `pinned`: into page-locked memory.
    """

    def __init__(self, source: Source, resolution: int, *, small: bool, pinned: bool) -> None:
        self.buffers = Buffers((3, resolution, resolution), pinned=pinned)
        self.level = source.pyramid[resolution]
        self.array = self.level[:] if small else None

    def read(self, places: Places) -> Batch:
        start = time.perf_counter()
        indices, flips = places
        images = self.buffers.take(len(indices))
        out: NDArray[np.uint8] = images.numpy()
        if self.array is not None:
            np.take(self.array, indices, axis=0, out=out, mode="clip")  # "raise" would make a copy first
        else:
            for place, index in enumerate(indices.tolist()):
                self.level.read_into(index, out[place : place + 1])
        seconds = time.perf_counter() - start
        return Batch(images, torch.from_numpy(flips), torch.from_numpy(indices), seconds)


def stream(
    source: Source,
    order: Order,
    wanted: Iterable[Request],
    *,
    workers: int,
    pin_memory: bool = False,
    memory_bytes: int | None = None,
) -> Iterator[Batch]:
    """Yield one batch for every request, in order; requests of a level follow each other.

    `workers` threads read levels of more than `memory_bytes` (None: MEMORY_BYTES) ahead; 0 reads them when they are
    requested. The memory of a batch is used again once nothing refers to its images.
    """
    limit = MEMORY_BYTES if memory_bytes is None else memory_bytes
    for resolution, group in itertools.groupby(wanted, key=lambda request: request.resolution):
        small = source.count * 3 * resolution**2 <= limit
        reader = Reader(source, resolution, small=small, pinned=pin_memory)
        places = (order.at(request.positions) for request in group)
        # Even a level in memory is read ahead for CUDA, whose steps are over before a CPU has read a batch.
        if workers == 0 or (small and not pin_memory):
            yield from map(reader.read, places)
        else:
            # A thread of its own would take the first device's page-locked memory.
            start = partial(torch.cuda.set_device, torch.cuda.current_device()) if pin_memory else None
            yield from map_in_threads(reader.read, places, workers, ahead=BATCHES_AHEAD * workers, start=start)


def as_floats(batch: Batch, device: torch.device) -> Tensor:
    """Return a batch's images, mirrored as its `flips` say, (n, 3, r, r) float32 in -1..1 on `device`."""
    images = to_device(batch.images, device)
    if batch.flips.any():
        flips = to_device(batch.flips, device).view(-1, 1, 1, 1)
        images = torch.where(flips, images.flip(3), images)
    return to_floats(images)
