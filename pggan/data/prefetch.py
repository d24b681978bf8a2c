"""Reading ahead of the training: results in order, by threads, into memory that is used again.

docs/decisions/data-workers.md says why these are no processes.
"""

import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_ahead(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    threads: int,
    ahead: int,
    start: Callable[[], object] | None = None,
) -> Generator[Result, None, None]:
    """Results of `function` in the order of `items`, computed by `threads` threads, at most `ahead` before their turn.

    `items` is read in the caller's thread, when a result is asked for. Each thread first calls `start`. Raises what
    `function` raises, in place of the result. When the generator is closed, what is being computed is waited for.
    """
    items = iter(items)
    waiting: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(threads, "reader", start)
    try:
        while True:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > ahead:
                    break
            if not waiting:
                return
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


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
        """(count, C, H, W) uint8 of arbitrary content; any thread may ask."""
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
