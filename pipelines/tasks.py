"""What depends on what: search for faces -> score shards -> ranking -> build shards -> join -> verify -> report.

Faces are searched for where the source has no landmarks, or these are to be checked. How many shards the other tasks
have depends on the faces, so the build asks for them after the search.

A task's output exists only when it is complete, and its name holds a digest of everything that decides about its
content (`pipelines.layout`): changed options never meet old files, and the same command resumes where it stopped.
Several processes, on several machines, may make one build together: a central scheduler hands its tasks out
(docs/cluster.md).
"""

from collections.abc import Generator
from pathlib import Path

import luigi

from datatools.console import say
from datatools.errors import DataError, system_error
from pipelines.build_shard import chosen_faces, write_build_shard
from pipelines.build_task import BuildTask
from pipelines.cleanup import clean_up, forget_scores
from pipelines.dry_run import print_plan
from pipelines.face_search import FaceSearch
from pipelines.find_faces import join_find_shards, shard_is_fresh, shard_path, write_find_shard
from pipelines.finish import join_shards, mark, report_build, verify_pyramid
from pipelines.freshness import (
    build_shard_is_fresh,
    load_choice,
    pyramid_is_fresh,
    ranking_is_fresh,
    scores_are_fresh,
)
from pipelines.layout import BuildLayout
from pipelines.luigi_setup import check_configuration, has_central_scheduler, keep_lost_log
from pipelines.options import RunOptions
from pipelines.parameters import parameters
from pipelines.preflight import check, check_photos_fit, check_search, claim_output, describe_search
from pipelines.progress import forget_stages
from pipelines.rank import write_ranking
from pipelines.score_shard import write_score_shard
from pipelines.timing import stopwatch


class FindShard(BuildTask):
    """Find the faces in one shard of the photos."""

    index = luigi.IntParameter()

    def __str__(self) -> str:
        return f"FindShard {self.index + 1} of {self.search.shards}"

    @property
    def search(self) -> FaceSearch:
        """Return the search of which this is a part."""
        return search_of(self.layout)

    @property
    def priority(self) -> int:  # type: ignore[override]
        return self.search.shards - self.index  # in order

    @property
    def uses_device(self) -> bool:
        return True

    def output(self) -> luigi.LocalTarget:
        return luigi.LocalTarget(shard_path(self.search, self.index))

    def complete(self) -> bool:
        return shard_is_fresh(self.search, self.index)

    def make(self) -> None:
        search, number, shards = self.search, self.index + 1, self.search.shards
        photos = len(search.names_of(self.index))
        before = sum(len(search.names_of(i)) for i in range(shards) if shard_path(search, i).exists())
        what, name = f"finding faces, shard {number} of {shards}", f"find {number}/{shards}"
        with self.work(what, name, photos, before, len(search.undetected)) as progress:
            write_find_shard(search, self.index, self.photo_workers, progress, progress.resume)


class FindFaces(BuildTask):
    """What was found in all photos -> a table, which people may correct where it is landmarks.csv."""

    def requires(self) -> list[FindShard]:
        return [self.clone(FindShard, index=i) for i in range(search_of(self.layout).shards)]

    def complete(self) -> bool:
        return search_of(self.layout).is_done

    def timing(self) -> Path:
        """Return a path next to what was found, so that both stay for later builds."""
        return search_of(self.layout).found.folder / "time.json"

    def make(self) -> None:
        search = search_of(self.layout)
        with (
            self.work(f"writing {search.found.table}", "landmarks"),
            stopwatch(self.timing(), "find faces", len(search.undetected)) as add_seconds,
        ):
            add_seconds(join_find_shards(search))


def search_of(layout: BuildLayout) -> FaceSearch:
    """Return the search for faces of a build that has one."""
    assert layout.search is not None
    return layout.search


class ScoreShard(BuildTask):
    """First pass over one shard of candidates: faces, scores, hashes."""

    index = luigi.IntParameter()

    def __str__(self) -> str:
        return f"ScoreShard {self.index + 1} of {self.layout.score_shards}"

    @property
    def priority(self) -> int:  # type: ignore[override]
        return self.layout.score_shards - self.index  # in order

    @property
    def uses_device(self) -> bool:
        return self.layout.score_on == "restored" and self.layout.restore != "none"

    def output(self) -> luigi.LocalTarget:
        return luigi.LocalTarget(self.layout.score_path(self.index))

    def complete(self) -> bool:
        return scores_are_fresh(self.layout, self.index)

    def timing(self) -> Path:
        """Return a path next to the scores, so that both stay for later builds."""
        return self.layout.score_path(self.index).with_suffix(".json")

    def make(self) -> None:
        layout, number = self.layout, self.index + 1
        photos, before = len(layout.shard_candidates(self.index)), layout.scored_photos()
        what, name = f"score shard {number} of {layout.score_shards}", f"score {number}/{layout.score_shards}"
        with self.work(what, name, photos, before, len(layout.candidates)) as progress:
            forget_scores(layout, self.index)
            write_score_shard(layout, self.index, self.photo_workers, progress, progress.resume)


class Rank(BuildTask):
    """All scores -> which faces, in which order; ranking.csv and rejected.csv."""

    def requires(self) -> list[ScoreShard]:
        return [self.clone(ScoreShard, index=i) for i in range(self.layout.score_shards)]

    def output(self) -> luigi.LocalTarget:
        return luigi.LocalTarget(self.layout.ranking_path)

    def complete(self) -> bool:
        return ranking_is_fresh(self.layout)

    def make(self) -> None:
        count = len(self.layout.usable)
        with self.work("ranking", "rank"), stopwatch(self.timing(), "rank", count):
            write_ranking(self.layout)


class BuildShard(BuildTask):
    """Second pass: the chosen faces of one shard as a small pyramid file."""

    index = luigi.IntParameter()

    def __str__(self) -> str:
        return f"BuildShard {self.index + 1} of {self.layout.build_shards}"

    @property
    def priority(self) -> int:  # type: ignore[override]
        return self.layout.build_shards - self.index  # in order

    @property
    def uses_device(self) -> bool:
        return self.layout.restore != "none"

    def requires(self) -> Rank:
        return self.clone(Rank)

    def output(self) -> luigi.LocalTarget:
        return luigi.LocalTarget(self.layout.build_path(self.index))

    def complete(self) -> bool:
        """Return True also where the finished file holds its faces already, as the ranking says."""
        layout = self.layout
        return self.requires().complete() and (build_shard_is_fresh(layout, self.index) or pyramid_is_fresh(layout))

    def make(self) -> None:
        if self.complete():
            return  # Luigi asked before there was a ranking
        layout, number = self.layout, self.index + 1
        chosen, before = chosen_faces(layout, self.index), layout.made_faces()
        what, name = f"build shard {number} of {layout.build_shards}", f"build {number}/{layout.build_shards}"
        with (
            self.work(what, name, len(chosen), before, layout.chosen_count) as progress,
            stopwatch(self.timing(), "build", len(chosen)) as add_seconds,
        ):
            add_seconds(write_build_shard(layout, self.index, chosen, self.photo_workers, progress, progress.resume))


class Join(BuildTask):
    """Build shards -> celebahq.h5."""

    def requires(self) -> list[BuildShard]:
        return [self.clone(BuildShard, index=i) for i in range(self.layout.build_shards)]

    def complete(self) -> bool:
        return ranking_is_fresh(self.layout) and pyramid_is_fresh(self.layout)

    def make(self) -> None:
        if self.complete():
            return  # Luigi asked before there was a ranking
        layout = self.layout
        with (
            self.work(f"joining {layout.pyramid_path}", "join", layout.chosen_count) as progress,
            stopwatch(self.timing(), "join", len(load_choice(layout)["chosen"])),
        ):
            join_shards(layout, progress)


class Verify(BuildTask):
    """Read the whole file back and check every image."""

    def requires(self) -> Join:
        return self.clone(Join)

    def output(self) -> luigi.LocalTarget:
        return luigi.LocalTarget(self.layout.marker("verified"))

    def complete(self) -> bool:
        return bool(self.output().exists() and self.requires().complete())

    def make(self) -> None:
        layout = self.layout
        with (
            self.work(f"verifying {layout.pyramid_path}", "verify", layout.chosen_count) as progress,
            stopwatch(self.timing(), "verify", len(load_choice(layout)["chosen"])),
        ):
            verify_pyramid(layout, progress)
            mark(layout.marker("verified"))


class Report(BuildTask):
    """The page to look at."""

    def requires(self) -> list[luigi.Task]:
        return [self.clone(Verify), self.clone(Rank)]

    def output(self) -> luigi.LocalTarget:
        return luigi.LocalTarget(self.layout.marker("reported"))

    def complete(self) -> bool:
        page = self.layout.report_dir / "index.html"
        return bool(self.output().exists() and page.exists() and all(task.complete() for task in self.requires()))

    def make(self) -> None:
        layout = self.layout
        verify, rank = self.requires()
        join = self.clone(Join)
        earlier = [self.clone(FindFaces)] if layout.search else []
        tasks = [*earlier, *rank.requires(), rank, *join.requires(), join, verify]
        with self.work("writing the report", "report"):
            report_build(layout, [task.timing() for task in tasks])
            mark(layout.marker("reported"))


class Build(BuildTask):
    """A whole build, as users start it."""

    dry_run = parameters(RunOptions)["dry_run"]
    ignore_unconsumed = frozenset({"workers"})  # of its section in luigi.cfg; `pipelines.luigi_setup` gives it to Luigi

    def output(self) -> luigi.LocalTarget:
        return luigi.LocalTarget(self.layout.marker("finished"))

    def requires(self) -> list[luigi.Task]:
        if self.dry_run:
            return []
        return [self.clone(FindFaces) if self.layout.search else self.after_search()]

    @property
    def faces_are_found(self) -> bool:
        """Return whether no search for faces has to come first."""
        return not self.layout.search or self.layout.search.is_done

    def after_search(self) -> luigi.Task:
        """Return the task that has all others after the search for faces before it."""
        return self.clone(Report)

    def complete(self) -> bool:
        return not self.dry_run and self.faces_are_found and self.output().exists() and self.after_search().complete()

    def before_work(self) -> None:
        """Find out whether the build can work; Luigi's worker calls it first of all, and after a search by others."""
        try:
            check_configuration(type(self))
            self.prepare()
        except (DataError, OSError) as error:
            # Not an Exception, so that Luigi passes it on instead of printing a traceback and a summary.
            what = system_error(error) if isinstance(error, OSError) else error
            raise SystemExit(f"error: {what}") from error

    def prepare(self) -> None:
        """Check options and source, and claim the output folder. Raises DataError where the build cannot work."""
        search = self.layout.search
        if search is not None and not search.is_done:
            self.prepare_search(search)
            return
        check(self.layout, self.run_options)
        if self.dry_run:
            return
        if self.complete():
            say(f"already built\n{self.results()}")
            return
        self.claim()

    def prepare_search(self, search: FaceSearch) -> None:
        """Check what can be checked before faces are found, and claim the output folder."""
        check_search(self.layout, search, self.run_options)
        say(describe_search(self.layout, search))
        if not self.dry_run:
            self.claim(candidates_are_known=False)

    def claim(self, *, candidates_are_known: bool = True) -> None:
        """Claim the output folder, once in this process; see `claim_output`."""
        if claim_output(self.layout, candidates_are_known=candidates_are_known, shared=has_central_scheduler()):
            forget_stages()
            keep_lost_log(self.layout.work_dir / "log.txt")

    def run(self) -> Generator[luigi.Task, None, None]:
        layout = self.layout
        if self.dry_run:
            print_plan(layout, self.job_count)
            return
        if layout.search is not None:
            report = self.after_search()
            if layout.search.undetected and not report.complete():
                check(layout, self.run_options)
                check_photos_fit(layout)
            yield report
        self.finish()

    def results(self) -> str:
        """Say where the results are."""
        return f"pyramid  {self.layout.pyramid_path}\nreport   {self.layout.report_dir / 'index.html'}"

    def finish(self) -> None:
        """Remove what nobody needs any more, and say where the results are."""
        with self.work("cleaning up", "clean up"):
            clean_up(self.layout)
            mark(self.layout.marker("finished"))
        say(self.results())


class BuildCelebAHQ(Build):
    """CelebA's photos in the wild -> celebahq.h5, ranking.csv, rejected.csv and report/index.html."""
