"""What all tasks of a build share: the options as parameters, and the layout that follows from them."""

from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar, cast

import luigi
import luigi.interface

from datatools.errors import DataError, system_error
from datatools.files import as_data_error
from datatools.parallel import end_with_parent
from pipelines.cluster import Workers
from pipelines.interruption import interruptible
from pipelines.layout import BuildLayout
from pipelines.locks import wait_for_lock
from pipelines.options import BuildOptions, RunOptions
from pipelines.parameters import parameters
from pipelines.preflight import cluster_of, is_shared, job_count
from pipelines.progress import ProgressBar

Layout = TypeVar("Layout", bound=BuildLayout)

_layouts: dict[BuildLayout, BuildLayout] = {}


class BuildTask(luigi.Task):
    """A task with the options of a build as its parameters."""

    vars().update(parameters(BuildOptions))  # as if each were written here
    jobs = parameters(RunOptions)["jobs"]
    engine = parameters(RunOptions)["engine"]
    dask_scheduler = parameters(RunOptions)["dask_scheduler"]
    ship_bytes = parameters(RunOptions)["ship_bytes"]
    retry_count = 3
    """Tries of a task, on whatever machine, before a central scheduler gives it up."""

    @property
    def layout(self) -> BuildLayout:
        """Return what follows from the parameters: the same object for equal ones, since it caches what it finds."""
        return self.layout_as(BuildLayout)

    def layout_as(self, kind: type[Layout]) -> Layout:
        """Return the layout of that class whose options are the parameters."""
        names = (item.name for item in fields(kind) if item.metadata["help"])
        layout = kind(**{name: getattr(self, name) for name in names})
        known: Any = _layouts  # which has layouts of one class under layouts of the same class
        return cast(Layout, known.setdefault(layout, layout))

    @property
    def resources(self) -> dict[str, int]:  # type: ignore[override]
        """Return what the scheduler counts: a task with work for a GPU takes one of them, see docs/gpu.md."""
        return {"gpu": 1} if self.uses_device and self.layout.device != "cpu" else {}

    @property
    def uses_device(self) -> bool:
        """Return whether the task computes networks."""
        return False

    @property
    def run_options(self) -> RunOptions:
        """Return how the work is done."""
        return RunOptions(
            self.jobs,
            luigi.interface.core().workers,
            self.engine,
            self.dask_scheduler,
            self.ship_bytes,
            getattr(self, "dry_run", False),
        )

    @property
    def job_count(self) -> int:
        """Return the processes, or threads, per shard."""
        return job_count(self.layout, self.run_options)

    def run(self) -> Generator[luigi.Task, None, None] | None:
        """Do the task's work, alone, unless it is done: a scheduler that lost a worker for a while asks another one."""
        layout = self.layout
        if not is_shared(layout):
            self.make()
            return None
        with as_data_error(f"--output-dir {layout.output_dir}"):
            locks = layout.work_dir / "locks"
            locks.mkdir(exist_ok=True)
            lock = wait_for_lock(locks / f"{self.task_family}-{getattr(self, 'index', 0)}")
        with closing(lock):
            if not self.complete():
                self.make()
        return None

    def make(self) -> None:
        """Make the task's output."""
        raise NotImplementedError

    @property
    def photo_workers(self) -> Workers:
        """Return who works on a shard's photos."""
        return cluster_of(self.run_options) or self.job_count

    def __str__(self) -> str:
        """Return a short name for log lines: Luigi would list every parameter of every task."""
        return str(self.task_family)

    @contextmanager
    def work(
        self, what: str, name: str, total: int | None = None, before: int = 0, overall: int = 0
    ) -> Iterator[ProgressBar]:
        """Wrap the work of `run`: show its progress, end it on signals, raise DataError for what the system refuses.

        what: begins the error's line. name, total, before, overall: as of `ProgressBar`.
        """
        end_with_parent()
        with interruptible():
            try:
                with ProgressBar(self, name, total, before, overall) as progress:
                    yield progress
            except OSError as error:  # full disk, read-only folder
                raise DataError(
                    f"{what}: {system_error(error)}; fix that and run the same command again, finished work is kept"
                ) from error

    def timing(self) -> Path:
        """Return where this task's duration is noted."""
        return self.layout.work_dir / "times" / f"{self.task_family}-{self.task_id[-10:]}.json"
