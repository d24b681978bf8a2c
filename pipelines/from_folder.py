"""A build from a folder of one's own photos: `luigi --module pipelines BuildFromFolder --help`.

First faces are found, shard by shard, and written to a table; then follow the tasks of every build. How many shards
these have depends on the faces, so the build asks for them when the table is there.
"""

from collections.abc import Generator
from pathlib import Path
from typing import Any

import luigi

from datatools.console import check_printed, say
from datatools.errors import DataError
from datatools.parallel import check_processes
from datatools.text import counted
from pipelines.build_task import BuildTask
from pipelines.dry_run import print_plan
from pipelines.find_faces import join_find_shards, shard_is_fresh, shard_path, write_find_shard
from pipelines.folder_layout import FolderLayout, FolderOptions
from pipelines.options import check_values
from pipelines.parameters import parameters
from pipelines.preflight import check, check_photos_fit
from pipelines.tasks import Build, BuildShard, Join, Rank, Report, ScoreShard, Verify
from pipelines.timing import stopwatch


class FolderTask(BuildTask):
    """A task of a build from a folder: its requirements are such tasks, too."""

    vars().update(parameters(FolderOptions))
    celeba_dir = None  # no option of these builds

    @property
    def layout(self) -> FolderLayout:
        return self.layout_as(FolderLayout)

    def __str__(self) -> str:
        return super().__str__().removeprefix("Folder")

    def clone(self, cls: Any = None, **kwargs: Any) -> Any:
        """Return a task of this build with these parameters changed; of the class for folders."""
        return super().clone(_FOR_FOLDERS.get(cls, cls), **kwargs)

    def earlier(self) -> list[luigi.Task]:
        return [self.clone(FindFaces)]


_FOR_FOLDERS: dict[Any, Any] = {
    task: type(f"Folder{task.__name__}", (FolderTask, task), {"__module__": __name__, "__doc__": task.__doc__})
    for task in (ScoreShard, Rank, BuildShard, Join, Verify, Report)
}
"""Tasks of every build -> the same with the options of this one."""


class FindShard(FolderTask):
    """Find the faces in one shard of the photos."""

    index = luigi.IntParameter()

    def __str__(self) -> str:
        return f"FindShard {self.index + 1} of {self.layout.find_shards}"

    @property
    def priority(self) -> int:  # type: ignore[override]
        return self.layout.find_shards - self.index  # in order

    def output(self) -> luigi.LocalTarget:
        return luigi.LocalTarget(shard_path(self.layout, self.index))

    def complete(self) -> bool:
        return shard_is_fresh(self.layout, self.index)

    def run(self) -> None:
        layout, number = self.layout, self.index + 1
        photos, shards = len(layout.undetected_of(self.index)), layout.find_shards
        before = sum(len(layout.undetected_of(i)) for i in range(shards) if shard_path(layout, i).exists())
        what, name = f"finding faces, shard {number} of {shards}", f"find {number}/{shards}"
        with self.work(what, name, photos, before, len(layout.undetected)) as progress:
            write_find_shard(layout, self.index, self.job_count, progress, progress.resume)


class FindFaces(FolderTask):
    """What was found in all photos -> landmarks.csv, which people may correct."""

    def requires(self) -> list[luigi.Task]:
        return [self.clone(FindShard, index=i) for i in range(self.layout.find_shards)]

    def complete(self) -> bool:
        return self.layout.faces_are_found

    def timing(self) -> Path:
        """Return a path next to what was found, so that both stay for later builds."""
        return self.layout.work_dir / "landmarks" / "time.json"

    def run(self) -> None:
        layout = self.layout
        with (
            self.work(f"writing {layout.landmarks_csv}", "landmarks"),
            stopwatch(self.timing(), "find faces", len(layout.undetected)) as add_seconds,
        ):
            add_seconds(join_find_shards(layout))


class BuildFromFolder(FolderTask, Build):
    """Photos of your own -> faces.h5, landmarks.csv, ranking.csv, rejected.csv and report/index.html."""

    def requires(self) -> list[luigi.Task]:
        return [] if self.dry_run else [self.clone(FindFaces)]

    def complete(self) -> bool:
        return self.layout.faces_are_found and super().complete()

    def prepare(self) -> None:
        """Check as every build where faces are found already; else what can be checked before that."""
        layout, run = self.layout, self.run_options
        check_values(run)
        check_values(layout)
        _ = layout.restorer, layout.landmark_source, layout.folder_photos, layout.own_attributes
        if layout.faces_are_found:
            super().prepare()
            return
        if run.workers > 1 or self.job_count > 1:
            check_processes()
        if layout.landmark_source.batch_size > 1 and run.workers > 1:
            raise DataError(f"--device {layout.device} works in one process: leave --workers at 1; --jobs are threads")
        source, photos = layout.landmark_source.name, counted(len(layout.undetected), "photo")
        say(f"{photos} to find faces in, by {source}; {layout.landmarks_csv} will have them, to look at and correct")
        if not self.dry_run:
            self.claim(candidates_are_known=False)

    def run(self) -> Generator[luigi.Task, None, None]:
        layout = self.layout
        if self.dry_run:
            if layout.faces_are_found:
                print_plan(layout, self.job_count)
            else:
                say("how many faces there are to make is known once they were found: run without --dry-run")
                check_printed()
            return
        report = self.clone(Report)
        if layout.undetected and not report.complete():
            check(layout, self.run_options)
            check_photos_fit(layout)
        yield report
        self.finish()

    def results(self) -> str:
        """Say where the results are."""
        table = layout.landmarks_csv if (layout := self.layout).landmark_source.reads_pixels else layout.landmarks
        return f"{super().results()}\nfaces    {table}"
