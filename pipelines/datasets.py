"""The paper's other data sets as pyramids: `luigi --module pipelines BuildCIFAR10 --help`, BuildLSUN, BuildCelebA128.

Shards of entries are made side by side (`--workers`), joined, and read back. A shard's name holds a digest of the data
set and its place, so the same command resumes where it stopped.
"""

# ruff: noqa: RUF009 - `option` returns a field of a dataclass

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, cast

import luigi

from datatools.console import say
from datatools.errors import DataError
from datatools.files import as_data_error
from datatools.parallel import end_with_parent
from datatools.sources.celeba_aligned import AlignedCelebA
from datatools.sources.cifar10 import Cifar10
from datatools.sources.lsun import Lsun
from datatools.sources.pictures import PictureSource
from datatools.text import byte_size
from pipelines.dataset_shards import DataSetLayout, finish, lock, write_shard
from pipelines.interruption import interruptible
from pipelines.luigi_setup import check_configuration
from pipelines.options import Compression, check_values, option
from pipelines.parameters import parameters
from pipelines.preflight import free_space

SOURCES: dict[str, Callable[[Path], PictureSource]] = {"celeba128": AlignedCelebA, "cifar10": Cifar10, "lsun": Lsun}
"""Name of the finished file, without its ending -> what opens the data set."""
_locks: dict[Path, Any] = {}


@dataclass(frozen=True)
class DataSetOptions:
    """The options that all these builds share."""

    output_dir: Path = option(Path(), "where the finished file goes")
    max_images: int = option(0, "use only the first entries, this many; 0: all", minimum=0)
    compression: Compression = option("none", "compression of the finished file")
    shard_size: int = option(2000, "entries per unit of work", minimum=1)


@dataclass(frozen=True)
class _SourceOption:
    """A folder of a data set."""

    celeba_dir: Path = option(Path("CelebA"), "CelebA's folder, with Img/img_align_celeba_png or Img/img_align_celeba")
    cifar10_dir: Path = option(
        Path("CIFAR-10"), "folder with cifar-10-batches-bin or cifar-10-batches-py, or its batches"
    )
    lsun_dir: Path = option(Path("LSUN"), "folder of a category's LMDB (data.mdb), or the folder that holds it")
    dry_run: bool = option(False, "print what would be done, and stop")


_FOLDERS = parameters(cast(Any, _SourceOption))


@cache
def open_source(name: str, folder: Path) -> PictureSource:
    """Open a data set once per process."""
    return SOURCES[name](folder)


class _DataSetTask(luigi.Task):
    """A task with the shared options; subclasses know their data set and its folder."""

    vars().update(parameters(cast(Any, DataSetOptions)))  # as if each were written here

    @property
    def source_name(self) -> str:
        raise NotImplementedError

    @property
    def folder(self) -> Path:
        raise NotImplementedError

    @property
    def options(self) -> DataSetOptions:
        """Return the shared options."""
        kinds: dict[str, Any] = {item.name: type(item.default) for item in fields(DataSetOptions)}
        values = {name: kind(getattr(self, name)) for name, kind in kinds.items()}
        return DataSetOptions(**values)

    @property
    def layout(self) -> DataSetLayout:
        source, options = open_source(self.source_name, self.folder), self.options
        count = min(options.max_images or source.count, source.count)
        return DataSetLayout(
            self.source_name, source, options.output_dir, count, options.shard_size, options.compression
        )

    @contextmanager
    def work(self, path: Path) -> Iterator[None]:
        """Wrap the work of `run` that makes `path`: end it on signals, raise DataError for what the system refuses."""
        end_with_parent()
        hint = "; fix that and run the same command again, finished work is kept"
        with interruptible(), as_data_error(path, hint=hint):
            yield


class DataSetShard(_DataSetTask):
    """Some entries of a data set as a small pyramid."""

    name = luigi.Parameter()
    path = luigi.Parameter()
    index = luigi.IntParameter()

    def __str__(self) -> str:
        return f"DataSetShard {self.index + 1} of {self.layout.shards}"

    @property
    def priority(self) -> int:  # type: ignore[override]
        return self.layout.shards - int(self.index)  # in order

    @property
    def source_name(self) -> str:
        return str(self.name)

    @property
    def folder(self) -> Path:
        return Path(self.path)

    def complete(self) -> bool:
        layout = self.layout
        return layout.shard_path(self.index).exists() or layout.is_finished()

    def run(self) -> None:
        layout = self.layout
        with self.work(layout.shard_path(self.index)):
            write_shard(layout, self.index)


class _BuildDataSet(_DataSetTask):
    """A data set -> a pyramid file."""

    dry_run = _FOLDERS["dry_run"]
    file_name: ClassVar[str]
    ignore_unconsumed = frozenset({"workers"})

    @property
    def source_name(self) -> str:
        return self.file_name

    def __str__(self) -> str:
        return str(self.task_family)

    def requires(self) -> list[luigi.Task]:
        if self.dry_run or self.layout.is_finished():
            return []
        shared = {name: value for name, value in self.param_kwargs.items() if name in dict(_DataSetTask.get_params())}
        return [
            DataSetShard(name=self.file_name, path=str(self.folder), index=index, **shared)
            for index in range(self.layout.shards)
        ]

    def complete(self) -> bool:
        return not self.dry_run and self.layout.is_finished()

    def before_work(self) -> None:
        """Find out in the first second whether the build can work; Luigi's worker calls it first of all."""
        try:
            check_configuration(type(self))
            check_values(self.options)
            layout = self.layout
            if self.dry_run:
                free_space(layout.output_dir)  # the plan says it; an error in `run` would be a traceback
                return
            if layout.is_finished():
                say(f"already built\n{layout.results()}")
                return
            with as_data_error(f"--output-dir {layout.output_dir}"):
                layout.work_dir.mkdir(parents=True, exist_ok=True)
                _locks[layout.work_dir] = _locks.get(layout.work_dir) or lock(layout)
            needed, free = layout.bytes_needed(), free_space(layout.output_dir)
            if needed > free:
                raise DataError(
                    f"--output-dir {layout.output_dir}: {byte_size(needed)} of disk are needed, {byte_size(free)} are "
                    "free; free some, choose another folder, or set --max-images"
                )
        except DataError as error:
            # Not an Exception, so that Luigi passes it on instead of printing a traceback and a summary.
            raise SystemExit(f"error: {error}") from error

    def run(self) -> None:
        layout = self.layout
        if self.dry_run:
            for line in layout.plan():
                say(line)
            return
        with self.work(layout.path):
            finish(layout)
        say(layout.results())


class BuildCelebA128(_BuildDataSet):
    """CelebA's aligned images, 128 x 128 around (89, 121) -> celeba128.h5."""

    file_name = "celeba128"
    celeba_dir = _FOLDERS["celeba_dir"]

    @property
    def folder(self) -> Path:
        return Path(self.celeba_dir)


class BuildCIFAR10(_BuildDataSet):
    """CIFAR-10's training pictures -> cifar10.h5 and their labels, cifar10-labels.npy."""

    file_name = "cifar10"
    cifar10_dir = _FOLDERS["cifar10_dir"]

    @property
    def folder(self) -> Path:
        return Path(self.cifar10_dir)


class BuildLSUN(_BuildDataSet):
    """A category of LSUN, the middle of each picture as 256 x 256 -> lsun.h5."""

    file_name = "lsun"
    lsun_dir = _FOLDERS["lsun_dir"]

    @property
    def folder(self) -> Path:
        return Path(self.lsun_dir)
