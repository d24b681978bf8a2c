"""Photos worked on by the processes of a Dask cluster, on any machines, instead of those of this one."""

import asyncio
import logging
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from datatools.console import say
from datatools.errors import DataError, reason
from datatools.parallel import Report, limit_threads, map_ordered, map_steps
from pipelines.photo_files import Photo, read_photo, shipped

Item = TypeVar("Item")
Result = TypeVar("Result")

CHUNK = 4
"""Photos of a unit of work where each is restored by itself: about as many as a process restores in ten seconds."""

PATIENCE = 60.0
"""Seconds to wait for a scheduler that is busy, and for its first worker."""

CONNECT = 5.0
"""Seconds after the start of a build in which something must listen at the scheduler's address."""


@dataclass(frozen=True)
class Cluster:
    """A Dask cluster.

    Attributes:
        scheduler: its address, such as tcp://host:8786.
        ships_bytes: whether the workers get the photos' bytes from this process, or open the files themselves.
    """

    scheduler: str
    ships_bytes: bool = False

    def check(self) -> None:
        """Raise DataError where no scheduler answers; soon, where nothing listens at its address."""
        with self._client(connect=CONNECT):
            pass

    def map_steps(
        self,
        prepare: Callable[[Item], Any],
        compute: Callable[[list[Any]], list[Any]],
        finish: Callable[[Any, Any], Result],
        items: Iterable[Item],
        path_of: Callable[[Item], Path],
        *,
        size: int,
        progress: Report | None = None,
    ) -> Generator[Result, None, None]:
        """Yield results in the order of `items`, as `datatools.parallel.map_steps` does.

        A worker that ends costs its work under way, which another one repeats; workers may join at any time. Each has
        two chunks at most before their turn. Closing the generator cancels what is under way. Raises what the steps
        raise, and DataError where the scheduler or all workers are gone.
        """
        from distributed import KilledWorker
        from distributed.comm.core import CommClosedError

        work = _Chunk(prepare, compute, finish, size)
        with self._client() as client:
            if not client.nthreads():
                say(
                    f"{self.scheduler} has no workers yet; waiting {PATIENCE:.0f} s for one: "
                    f"dask worker {self.scheduler}"
                )
            try:
                client.wait_for_workers(1, timeout=PATIENCE)
                ahead = 2 * sum(client.nthreads().values())
                chunks = self._chunks(items, path_of, size if size > 1 else CHUNK)
                for results in map_ordered(client.get_executor(pure=False), work, chunks, ahead):
                    for result in results:
                        yield result
                        if progress is not None:
                            progress(1)
            except TimeoutError as error:
                raise DataError(
                    f"--dask-scheduler {self.scheduler} has no workers; start some: dask worker {self.scheduler}"
                ) from error
            except (KilledWorker, CommClosedError) as error:
                raise DataError(
                    f"--dask-scheduler {self.scheduler}: {reason(error)}; look at its workers' logs, then run the same "
                    "command again, finished work is kept"
                ) from error

    def _chunks(
        self, items: Iterable[Item], path_of: Callable[[Item], Path], size: int
    ) -> Iterator[tuple[list[Item], dict[Path, Photo]]]:
        source = iter(items)
        while chunk := list(islice(source, size)):
            yield chunk, {path_of(item): read_photo(path_of(item)) for item in chunk} if self.ships_bytes else {}

    @contextmanager
    def _client(self, connect: float = PATIENCE) -> Iterator[Any]:
        try:
            from distributed import Client
        except ImportError as error:
            raise DataError("--engine dask needs one more package: pip install 'celebahq[cluster]'") from error
        logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what matters is raised
        try:
            with ThreadPoolExecutor(1) as pool:  # a notebook has a loop in its main thread
                pool.submit(asyncio.run, _shake_hands(self.scheduler, connect)).result()
            client = Client(self.scheduler, timeout=PATIENCE, set_as_default=False)
        except (OSError, ValueError, TypeError, RuntimeError) as error:  # the last two for missing encryption
            raise DataError(
                f"--dask-scheduler {self.scheduler}: no Dask scheduler answers there ({reason(error)}); start one "
                "with: dask scheduler"
            ) from error
        with client:
            yield client


async def _shake_hands(address: str, connect_seconds: float) -> None:
    """Return when a scheduler answers; OSError otherwise. Dask's client waits forever for other servers."""
    from distributed import Security
    from distributed.comm.core import connect

    secured = Security().get_connection_args("client")  # as Dask's configuration has it
    try:
        comm = await asyncio.wait_for(connect(address, timeout=connect_seconds, **secured), PATIENCE)
    except TimeoutError as error:
        raise OSError(f"what listens there says nothing for {PATIENCE:.0f} s") from error
    comm.abort()


Workers = int | Cluster
"""Who works on photos: so many processes of this machine, or a cluster."""


def map_photo_steps(
    prepare: Callable[[Item], Any],
    compute: Callable[[list[Any]], list[Any]],
    finish: Callable[[Any, Any], Result],
    items: Iterable[Item],
    path_of: Callable[[Item], Path],
    workers: Workers,
    *,
    size: int,
    progress: Report | None = None,
) -> Generator[Result, None, None]:
    """Yield results in the order of `items`; each is prepared, computed on with `size` - 1 others, and finished."""
    if isinstance(workers, Cluster):
        return workers.map_steps(prepare, compute, finish, items, path_of, size=size, progress=progress)
    return map_steps(prepare, compute, finish, items, workers, size=size, progress=progress)


@dataclass(frozen=True)
class _Chunk:
    """Function object, some items and what is shipped of their photos -> their results; picklable with the steps."""

    prepare: Callable[[Any], Any]
    compute: Callable[[list[Any]], list[Any]]
    finish: Callable[[Any, Any], Any]
    size: int

    def __call__(self, chunk: tuple[list[Any], dict[Path, Photo]]) -> list[Any]:
        limit_threads()
        items, photos = chunk
        results = []
        with shipped(photos):
            for start in range(0, len(items), self.size):
                prepared = [self.prepare(item) for item in items[start : start + self.size]]
                results += [self.finish(*pair) for pair in zip(prepared, self.compute(prepared), strict=True)]
        return results
