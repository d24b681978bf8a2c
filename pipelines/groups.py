"""Photos in groups, for a GPU: threads prepare and finish photos while it computes on another group.

One process holds the GPU, since its memory has room for few copies of the networks, and a forked process cannot use it.
Which photos are a group follows from their order alone, never from timing, so that the same photos give the same bytes.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from pipelines.processes import Progress, settle

Item = TypeVar("Item")
Prepared = TypeVar("Prepared")
Middle = TypeVar("Middle")
Result = TypeVar("Result")


def map_in_groups(
    prepare: Callable[[Item], Prepared],
    compute: Callable[[list[Prepared]], list[Middle]],
    finish: Callable[[Prepared, Middle], Result],
    items: Iterable[Item],
    *,
    size: int,
    threads: int,
    progress: Progress | None = None,
) -> Generator[Result, None, None]:
    """Results in the order of `items`: each is prepared, computed on with `size` - 1 others, and finished.

    Threads run `prepare` and `finish`; the caller's thread runs `compute`. Three groups exist at a time: one is
    prepared, one computed on, one finished. Raises what the functions raise.
    """
    settle()
    source = iter(items)
    pool = ThreadPoolExecutor(threads)
    try:
        preparing = _submit(pool, prepare, source, size)
        finishing: deque[Future[Result]] = deque()
        while preparing:
            following = _submit(pool, prepare, source, size)
            prepared = [future.result() for future in preparing]
            computed = compute(prepared)
            finished = deque(pool.submit(finish, *pair) for pair in zip(prepared, computed, strict=True))
            yield from _results(finishing, progress)  # of the group before, which threads finished meanwhile
            finishing, preparing = finished, following
        yield from _results(finishing, progress)
    finally:
        pool.shutdown(cancel_futures=True)


def _submit(
    pool: ThreadPoolExecutor, prepare: Callable[[Item], Prepared], source: Iterator[Item], size: int
) -> list[Future[Prepared]]:
    return [pool.submit(prepare, item) for item in islice(source, size)]


def _results(finishing: deque[Future[Result]], progress: Progress | None) -> Iterator[Result]:
    while finishing:
        yield finishing.popleft().result()  # not kept any longer than until it is taken
        if progress is not None:
            progress(1)
