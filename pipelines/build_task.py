"""What all tasks of a build share: the command line's options, and the settings that they stand for."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import luigi
import luigi.interface

from datatools.errors import DataError
from datatools.faces.ranking import Order, Selection
from datatools.faces.resample import FinalFilter
from datatools.parallel import end_with_parent
from datatools.restore import SuperResolution
from pipelines.interruption import interruptible
from pipelines.parameters import Choice, Number, PathText, Text
from pipelines.preflight import count_jobs
from pipelines.progress import ProgressBar
from pipelines.settings import BuildSettings, Compression, Duplicates, ScoreOn
from pipelines.shards import Recipe, one_line_errors

_settings: dict[BuildSettings, BuildSettings] = {}


class BuildTask(luigi.Task):
    """Parameters that all tasks of a build share."""

    celeba_dir = PathText(default="CelebA", description="CelebA's folder, with Img/img_celeba (or img_celeba) and Anno")
    output_dir = PathText(default=".", description="where celebahq.h5, ranking.csv, rejected.csv and report/ go")
    selection = Choice(
        default="score",
        choices=["score", "official", "all"],
        description="score: the best --count faces; official: the photos of the published CelebA-HQ; all: every face",
    )
    count = Number(default=30000, description="number of images (at most, for --selection official)")
    shard_size = Number(default=1000, description="photos per unit of work")
    resolution = Choice(default="1024", choices=["256", "512", "1024"], description="largest level of the file")
    restore = PathText(
        default="bundled",
        description="restoration before the face is cut out: bundled, bundled-distortion, bundled-perceptual, none, "
        "realesrgan, or a weight file",
    )
    super_resolution = Choice(
        default="auto",
        choices=["auto", "always", "never"],
        description="part of the restoration; auto: where the face has less than 1024 pixels in the photo",
    )
    device = Text(default="cpu", description="where the restoration is computed: cpu, cuda, cuda:1, mps")
    score_on = Choice(
        default="original",
        choices=["original", "restored"],
        description="the face that is scored. original: made without networks, so that only chosen photos are "
        "restored; restored: restore every photo, then score (paper)",
    )
    final_filter = Choice(
        default="lanczos", choices=["lanczos", "box"], description="lanczos (data set) or box (paper)"
    )
    compression = Choice(default="none", choices=["none", "gzip", "lzf"], description="of the finished file")
    min_level = Choice(default="4", choices=["4", "1"], description="smallest level; 1 for readers of 2017")
    order = Choice(
        default="auto",
        choices=["auto", "rank", "source", "official"],
        description="of the images; auto: official for --selection official, else rank (best first)",
    )
    exclude = PathText(default="", description="text file of photos not to use, or known-flaws")
    duplicates = Choice(
        default="report",
        choices=["report", "drop"],
        description="list photos that occur twice, or keep the better only",
    )
    jobs = Number(
        default=0,
        significant=False,
        description="processes per shard, threads with a GPU; 0: as many as fill the machine",
    )

    @property
    def settings(self) -> BuildSettings:
        """The parameters as a frozen value; the same object for equal parameters, since it caches what it finds."""
        settings = BuildSettings(
            celeba_dir=Path(self.celeba_dir),
            output_dir=Path(self.output_dir),
            selection=cast(Selection, self.selection),
            count=self.count,
            shard_size=self.shard_size,
            resolution=int(self.resolution),
            restore=self.restore,
            super_resolution=cast(SuperResolution, self.super_resolution),
            device=self.device,
            score_on=cast(ScoreOn, self.score_on),
            final_filter=cast(FinalFilter, self.final_filter),
            compression=cast(Compression, self.compression),
            min_level=int(self.min_level),
            order=cast(Order, self.order),
            exclude=self.exclude,
            duplicates=cast(Duplicates, self.duplicates),
        )
        return _settings.setdefault(settings, settings)

    def __str__(self) -> str:
        """Short, for log lines: Luigi would list every parameter of every task."""
        return str(self.task_family)

    @property
    def score_recipe(self) -> Recipe:
        """Recipe of the faces that are scored."""
        return replace(self.recipe, restorer=self.settings.score_restorer)

    @property
    def recipe(self) -> Recipe:
        """Recipe of the faces in the finished file."""
        return Recipe(self.settings.restorer, self.settings.final_filter, self.settings.resolution)

    @property
    def job_count(self) -> int:
        """Processes per shard; threads of the one process that has the GPU, where that restores photos together."""
        workers = luigi.interface.core().workers
        if self.settings.restorer.batch_size > 1 and workers > 1:
            raise DataError(f"--device {self.device} works in one process: leave --workers at 1; --jobs are threads")
        return self.jobs or count_jobs(workers)

    def shared(self) -> dict[str, Any]:
        """This task's parameters that its requirements have too."""
        names = dict(BuildTask.get_params())
        return {name: value for name, value in self.param_kwargs.items() if name in names}

    @contextmanager
    def work(self, what: str) -> Iterator[None]:
        """Wrap the work of `run`: signals break it off, and the system's errors become one line that names `what`."""
        end_with_parent()
        with interruptible(), one_line_errors(what):
            yield

    def timing(self) -> Path:
        """Where this task's duration is noted."""
        return self.settings.work_dir / "times" / f"{self.task_family}-{self.task_id[-10:]}.json"

    def progress(self, what: str, total: int | None, before: int = 0, overall: int = 0) -> ProgressBar:
        return ProgressBar(self, what, total, before, overall)
