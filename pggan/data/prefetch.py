"""Memory for minibatches that are read ahead of their turn, used again and again.

docs/decisions/data-workers.md says why threads read them, not processes.
"""

import weakref

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Buffers:
    """Memory for minibatches, taken again as soon as nobody holds the minibatch that was in it.

    The system clears new memory page by page; memory used a moment ago is mapped and often still in the cache.

    Args:
        shape: of one image, (C, H, W).
        pinned: page-locked memory, which CUDA copies from without waiting. PyTorch itself uses that again, after the
            copies that are under way.
    """

    def __init__(self, shape: tuple[int, ...], *, pinned: bool = False) -> None:
        self.shape = shape
        self.pinned = pinned
        self._free: list[NDArray[np.uint8]] = []  # the last one returned is the first one taken

    def take(self, count: int) -> Tensor:
        """Return (count, C, H, W) uint8 of arbitrary content; any thread may ask."""
        if self.pinned:
            return torch.empty(count, *self.shape, dtype=torch.uint8, pin_memory=True)
        shape = (count, *self.shape)
        try:
            memory = self._free.pop()
        except IndexError:
            memory = np.empty(shape, np.uint8)
        if memory.shape != shape:
            memory = np.empty(shape, np.uint8)
        handed_out = memory.view()
        # The tensor's storage, which all its views share, holds `handed_out` and nobody else does.
        weakref.finalize(handed_out, self._free.append, memory).atexit = False
        return torch.from_numpy(handed_out)
