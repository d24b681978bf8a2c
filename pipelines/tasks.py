"""What depends on what: score shards -> ranking -> build shards -> join -> verify -> report.

A task's output exists only when it is complete, and its name holds a digest of everything that decides about its
content (`pipelines.settings`): changed settings never meet old files, and the same command goes on where it stopped.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import luigi
import luigi.interface

from datatools.console import check_printed, say
from datatools.errors import DataError
from datatools.faces.duplicates import find_duplicates
from datatools.faces.ranking import rank_faces, write_ranking_csv, write_rejected_csv
from datatools.files import atomic_path
from datatools.parallel import check_processes
from datatools.pyramid import Provenance, join, verify
from datatools.report.summary import BuildSummary, DuplicateFiles, StageTime
from datatools.report.write import check_replaceable, write_report
from datatools.sources.records import RejectionKind
from datatools.text import counted
from pipelines.build_task import BuildTask
from pipelines.freshness import (
    build_shard_is_fresh,
    forget_scores,
    pyramid_is_fresh,
    ranking_is_fresh,
    read_ranking,
    scores_are_fresh,
)
from pipelines.luigi_setup import check_configuration, keep_lost_log
from pipelines.parameters import Flag
from pipelines.preflight import check_space, clean_up, describe_plan, leftovers, lock_output, notes
from pipelines.progress import forget_stages
from pipelines.settings import BuildSettings, NoPhotosError
from pipelines.shards import (
    ChosenFace,
    pyramid_length,
    read_score_shards,
    stopwatch,
    write_build_shard,
    write_score_shard,
)

_locks: dict[Path, IO[bytes]] = {}  # open for as long as this process lives


class ScoreShard(BuildTask):
    """First pass over one shard of candidates: faces, scores, hashes."""

    index = luigi.IntParameter()

    def __str__(self) -> str:
        return f"ScoreShard {self.index + 1} of {self.settings.score_shards}"

    @property
    def priority(self) -> int:  # type: ignore[override]
        return self.settings.score_shards - self.index  # in order

    def output(self) -> luigi.LocalTarget:
        return luigi.LocalTarget(self.settings.score_path(self.index))

    def complete(self) -> bool:
        return scores_are_fresh(self.settings, self.index)

    def timing(self) -> Path:
        """Beside the scores, with which it stays for later builds."""
        return self.settings.score_path(self.index).with_suffix(".json")

    def run(self) -> None:
        settings = self.settings
        records = settings.shard_candidates(self.index)
        path, faces_path = settings.score_path(self.index), settings.faces_path(self.index)
        before = sum(
            len(settings.shard_candidates(i)) for i in range(settings.score_shards) if settings.score_path(i).exists()
        )
        with (
            self.work(f"score shard {self.index + 1} of {settings.score_shards}"),
            self.progress(
                f"score {self.index + 1}/{settings.score_shards}", len(records), before, len(settings.candidates)
            ) as progress,
        ):
            for folder in (path.parent, faces_path.parent):
                folder.mkdir(parents=True, exist_ok=True)
            forget_scores(settings, self.index)
            faces, recipe = faces_path if settings.keep_faces else None, self.score_recipe
            write_score_shard(path, faces, records, recipe, self.job_count, progress, progress.resume)


class Rank(BuildTask):
    """All scores -> which faces, in which order; ranking.csv and rejected.csv."""

    def requires(self) -> list[ScoreShard]:
        return [ScoreShard(index=i, **self.shared()) for i in range(self.settings.score_shards)]

    def output(self) -> luigi.LocalTarget:
        return luigi.LocalTarget(self.settings.ranking_path)

    def complete(self) -> bool:
        return ranking_is_fresh(self.settings)

    def run(self) -> None:
        settings = self.settings
        with (
            self.work("ranking"),
            self.progress("rank", None),
            stopwatch(self.timing(), "rank", len(settings.candidates)),
        ):
            settings.forget("ranking", "reported", "finished")
            shards = [settings.score_path(index) for index in range(settings.score_shards)]
            table = read_score_shards(shards, settings.shard_size)
            rejections = settings.early_rejections + table.rejections
            if not len(table.position):
                raise DataError(
                    f"none of {counted(len(settings.candidates), 'photo')} gave a face; "
                    f"{self.write_rejected(rejections)} tells why of each"
                )
            records = [settings.candidates[i] for i in table.position]
            pairs = find_duplicates(table.hash)
            ranking = rank_faces(
                records,
                table.score,
                selection=settings.selection,
                count=settings.count,
                order=settings.order,
                drop=pairs if settings.duplicates == "drop" else (),
            )
            self.write_rejected(rejections)
            write_ranking_csv(
                settings.output_dir / "ranking.csv", records, table.score, ranking, (*rejections, *settings.left_out)
            )
            if len(ranking.chosen) < settings.chosen_count:
                dropped = sum(r is not None and r.kind is RejectionKind.DUPLICATE for r in ranking.rejections)
                say(
                    f"warning: {counted(len(ranking.chosen), 'image')} instead of {settings.chosen_count:,}: "
                    f"{counted(len(table.rejections), 'photo')} could not be used (rejected.csv), "
                    f"{counted(dropped, 'photo')} dropped as duplicate{'' if dropped == 1 else 's'} (ranking.csv)",
                    sys.stderr,
                )
            content = {
                "chosen": [int(table.position[i]) for i in ranking.chosen],
                "rank": [int(ranking.rank[i]) for i in ranking.chosen],
                "score": [float(table.score[i]) for i in ranking.chosen],
                "source_md5": [str(table.source_md5[i]) for i in ranking.chosen],
                "quad": [table.quad[i].tolist() for i in ranking.chosen],
                "duplicates": [(records[p.first].file_name, records[p.second].file_name, p.distance) for p in pairs],
            }
            with atomic_path(Path(self.output().path)) as temporary:
                temporary.write_text(json.dumps(content), encoding="utf-8")

    def write_rejected(self, rejections: Any) -> Path:
        path = self.settings.output_dir / "rejected.csv"
        write_rejected_csv(path, rejections)
        return path


class BuildShard(BuildTask):
    """Second pass: the chosen faces of one shard as a small pyramid file."""

    index = luigi.IntParameter()

    def __str__(self) -> str:
        return f"BuildShard {self.index + 1} of {self.settings.build_shards}"

    @property
    def priority(self) -> int:  # type: ignore[override]
        return self.settings.build_shards - self.index  # in order

    def requires(self) -> Rank:
        return Rank(**self.shared())

    def output(self) -> luigi.LocalTarget:
        return luigi.LocalTarget(self.settings.build_path(self.index))

    def complete(self) -> bool:
        """Also where the finished file holds its faces already, which is known only when there is a ranking."""
        settings = self.settings
        return self.requires().complete() and (build_shard_is_fresh(settings, self.index) or pyramid_is_fresh(settings))

    def chosen(self) -> Iterator[ChosenFace]:
        settings = self.settings
        ranking = read_ranking(settings)
        size = settings.shard_size
        for i in range(self.index * size, min((self.index + 1) * size, len(ranking["chosen"]))):
            position = ranking["chosen"][i]
            record = settings.candidates[position]
            provenance = Provenance(
                file_name=record.file_name,
                source_md5=ranking["source_md5"][i],
                score=ranking["score"][i],
                rank=ranking["rank"][i],
                celebahq_index=record.celebahq_index,
                quad=ranking["quad"][i],
                landmarks=record.landmarks,
                attributes=record.attributes,
                identity=record.identity,
                split=record.split,
            )
            yield ChosenFace(record, provenance, shard=position // size, row=position % size)

    def kept_faces(self, shard: int) -> Path | None:
        path = self.settings.faces_path(shard)
        return path if path.exists() else None

    def run(self) -> None:
        if self.complete():
            return  # Luigi asked before there was a ranking
        settings = self.settings
        path = Path(self.output().path)
        chosen = list(self.chosen())
        size = settings.shard_size
        before = sum(
            min(size, settings.chosen_count - i * size)
            for i in range(settings.build_shards)
            if settings.build_path(i).exists()
        )
        what = f"build {self.index + 1}/{settings.build_shards}"
        with (
            self.work(f"build shard {self.index + 1} of {settings.build_shards}"),
            self.progress(what, len(chosen), before, settings.chosen_count) as progress,
        ):
            path.parent.mkdir(parents=True, exist_ok=True)
            with stopwatch(self.timing(), "build", len(chosen)) as add_seconds:
                earlier = write_build_shard(
                    path,
                    chosen,
                    self.kept_faces,
                    self.recipe,
                    self.job_count,
                    min_level=settings.min_level,
                    compression=settings.compression,
                    attribute_names=settings.tree.attribute_names,
                    progress=progress,
                    resume=progress.resume,
                )
                add_seconds(earlier)


class Join(BuildTask):
    """Build shards -> celebahq.h5."""

    def requires(self) -> list[BuildShard]:
        return [BuildShard(index=i, **self.shared()) for i in range(self.settings.build_shards)]

    def complete(self) -> bool:
        return ranking_is_fresh(self.settings) and pyramid_is_fresh(self.settings)

    def run(self) -> None:
        if self.complete():
            return  # Luigi asked before there was a ranking
        settings = self.settings
        with (
            self.work(f"joining {settings.pyramid_path}"),
            self.progress("join", settings.chosen_count) as progress,
            stopwatch(self.timing(), "join", lambda: pyramid_length(settings.pyramid_path)),
        ):
            settings.forget("verified", "reported", "finished")
            join(
                [settings.build_path(index) for index in range(settings.build_shards)],
                settings.pyramid_path,
                compression=settings.compression,
                settings=settings.as_attributes(),
                progress=progress,
            )


class Verify(BuildTask):
    """Read the whole file back and check every image."""

    def requires(self) -> Join:
        return Join(**self.shared())

    def output(self) -> luigi.LocalTarget:
        return luigi.LocalTarget(self.settings.marker("verified"))

    def complete(self) -> bool:
        return bool(self.output().exists() and self.requires().complete())

    def run(self) -> None:
        settings = self.settings
        with (
            self.work(f"verifying {settings.pyramid_path}"),
            self.progress("verify", settings.chosen_count) as progress,
            stopwatch(self.timing(), "verify", lambda: pyramid_length(settings.pyramid_path)),
        ):
            problems = verify(settings.pyramid_path, progress)
            if problems:
                shards = [settings.build_path(index) for index in range(settings.build_shards)]
                for path in (settings.pyramid_path, *(path for path in shards if path.exists() and verify(path))):
                    path.unlink()
                raise DataError(
                    f"{settings.pyramid_path} did not read back as written "
                    f"({problems[0]}; {counted(len(problems), 'problem')}), "
                    "so it was removed; check the disk and run the same command again, finished work is kept"
                )
            with atomic_path(Path(self.output().path)) as temporary:
                temporary.write_text("{}\n", encoding="utf-8")


class Report(BuildTask):
    """The page to look at."""

    def requires(self) -> list[luigi.Task]:
        return [Verify(**self.shared()), Rank(**self.shared())]

    def output(self) -> luigi.LocalTarget:
        return luigi.LocalTarget(self.settings.marker("reported"))

    def complete(self) -> bool:
        page = self.settings.output_dir / "report" / "index.html"
        return bool(self.output().exists() and page.exists() and all(task.complete() for task in self.requires()))

    def run(self) -> None:
        settings = self.settings
        with self.work("writing the report"), self.progress("report", None):
            ranking = read_ranking(settings)
            summary = BuildSummary(
                pyramid=settings.pyramid_path,
                ranking_csv=settings.output_dir / "ranking.csv",
                rejected_csv=settings.output_dir / "rejected.csv",
                photos={record.file_name: record.path for record in settings.tree.records},
                duplicates=tuple(DuplicateFiles(*pair) for pair in ranking["duplicates"]),
                stages=self.stages(),
                settings={name: str(value) for name, value in settings.as_attributes().items()},
                disk_bytes=disk_use(settings),
            )
            write_report(summary, settings.output_dir / "report")
            with atomic_path(Path(self.output().path)) as temporary:
                temporary.write_text("{}\n", encoding="utf-8")

    def stages(self) -> tuple[StageTime, ...]:
        """Seconds of work per stage; shards that ran side by side are added up."""
        totals: dict[str, tuple[float, int]] = {}
        verify, rank = self.requires()
        build = Join(**self.shared())
        tasks = [*rank.requires(), rank, *build.requires(), build, verify]
        for path in (task.timing() for task in tasks):
            if path.exists():
                timing = json.loads(path.read_text(encoding="utf-8"))
                seconds, images = totals.get(timing["stage"], (0.0, 0))
                totals[timing["stage"]] = (seconds + timing["seconds"], images + timing["images"])
        return tuple(StageTime(stage, seconds, images) for stage, (seconds, images) in totals.items())


def disk_use(settings: BuildSettings) -> dict[str, int]:
    """Bytes of what a build leaves beside its report, by name; to be called when the report alone is missing."""
    folder = settings.output_dir
    files = (settings.pyramid_path, folder / "ranking.csv", folder / "rejected.csv")
    marks = [settings.marker("reported"), settings.marker("finished")]
    gone = {*leftovers(settings), *marks}
    work = sum(path.stat().st_size for path in settings.work_dir.rglob("*") if path.is_file() and path not in gone)
    return {
        **{path.name: path.stat().st_size for path in files},
        "work/": work + len("{}\n") * len(marks),
    }


def results(settings: BuildSettings) -> str:
    """Where the outcome is, for the end of a build."""
    return f"pyramid  {settings.pyramid_path}\nreport   {settings.output_dir / 'report' / 'index.html'}"


class BuildCelebAHQ(BuildTask):
    """CelebA's photos in the wild -> celebahq.h5, ranking.csv, rejected.csv and report/index.html."""

    dry_run = Flag(description="say what would be done, with disk and time, and stop")
    ignore_unconsumed = frozenset({"workers"})  # of its section in luigi.cfg; `pipelines.luigi_setup` gives it to Luigi

    def requires(self) -> list[luigi.Task]:
        return [] if self.dry_run else [Report(**self.shared())]

    def output(self) -> luigi.LocalTarget:
        return luigi.LocalTarget(self.settings.marker("finished"))

    def complete(self) -> bool:
        """Luigi asks this first of all: the place to find out in the first second whether the build can work."""
        try:
            return self.check()
        except DataError as error:
            # Not an Exception, so that Luigi passes it on instead of printing a traceback and a summary.
            raise SystemExit(f"error: {error}") from error

    def check(self) -> bool:
        """Whether there is nothing to do; raises DataError when there is, and it cannot work."""
        check_configuration(type(self))
        settings = self.settings
        if self.jobs < 0:
            raise DataError(f"--jobs {self.jobs}: a number of processes, or 0 for as many as fill the machine")
        if luigi.interface.core().workers < 1:
            raise DataError(f"--workers {luigi.interface.core().workers}: at least 1 is needed")
        try:
            settings.check()
        except NoPhotosError as error:
            raise DataError(f"{error}{self.list_rejected()}") from error
        if self.job_count > 1 and settings.score_restorer.batch_size == 1:
            check_processes()
        if self.dry_run:
            return False
        if self.output().exists() and self.requires()[0].complete():
            say(f"already built\n{results(settings)}")
            return True
        if settings.work_dir not in _locks:
            check_replaceable(settings.output_dir / "report")
            check_space(settings)
            for note in notes(settings):
                say(note)
            forget_stages()
            _locks[settings.work_dir] = lock_output(settings)
            keep_lost_log(settings.work_dir / "log.txt")
        return False

    def list_rejected(self) -> str:
        """Write rejected.csv when there is too little to build, over nothing of an earlier build; say where it is."""
        settings = self.settings
        if self.dry_run or settings.pyramid_path.exists() or not settings.early_rejections:
            return ""
        path = settings.output_dir / "rejected.csv"
        try:
            with lock_output(settings):
                settings.forget("ranking")
                write_rejected_csv(path, settings.early_rejections)
        except (DataError, OSError):  # another build is running there, or the folder cannot be written
            return ""
        return f"; {path} lists the rejected entries"

    def run(self) -> None:
        settings = self.settings
        if self.dry_run:
            say(describe_plan(settings, self.job_count))
            check_printed()
            check_space(settings)
            return
        with self.work("cleaning up"):
            clean_up(settings)
            with atomic_path(Path(self.output().path)) as temporary:
                temporary.write_text("{}\n", encoding="utf-8")
        say(results(settings))
