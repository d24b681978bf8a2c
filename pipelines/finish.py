"""After the last shard: join the shards, verify the file, write the report."""

from collections.abc import Iterable
from pathlib import Path

from datatools.errors import DataError
from datatools.files import atomic_path
from datatools.parallel import Report
from datatools.pyramid import join, verify
from datatools.report.summary import BuildSummary, DuplicateFiles
from datatools.report.write import write_report
from datatools.text import counted
from pipelines.cleanup import DONE, disk_use, forget
from pipelines.freshness import load_choice
from pipelines.layout import BuildLayout
from pipelines.timing import read_timings


def mark(path: Path) -> None:
    """Write the file that says a step is done."""
    with atomic_path(path) as temporary:
        temporary.write_text(DONE, encoding="utf-8")


def join_shards(layout: BuildLayout, progress: Report) -> None:
    """Make the finished file of the build shards, which vanish one by one."""
    forget(layout, "verified", "reported", "finished")
    join(
        layout.build_paths(),
        layout.pyramid_path,
        compression=layout.compression,
        settings=layout.as_attributes(),
        progress=progress,
        free_parts=True,
    )


def verify_pyramid(layout: BuildLayout, progress: Report) -> None:
    """Read the finished file back. Raises DataError for a damaged one, and removes it."""
    problems = verify(layout.pyramid_path, progress)
    if problems:
        layout.pyramid_path.unlink()
        raise DataError(
            f"{layout.pyramid_path} did not read back as written "
            f"({problems[0]}; {counted(len(problems), 'problem')}), so it was removed; "
            "check the disk and run the same command again: it makes the faces again, and scores none"
        )


def report_build(layout: BuildLayout, timings: Iterable[Path]) -> None:
    """Write the page about the build. timings: files of how long its tasks took."""
    summary = BuildSummary(
        pyramid=layout.pyramid_path,
        ranking_csv=layout.ranking_csv,
        rejected_csv=layout.rejected_csv,
        photos={record.file_name: record.path for record in layout.tree.records},
        duplicates=tuple(DuplicateFiles(*pair) for pair in load_choice(layout)["duplicates"]),
        stages=read_timings(timings),
        settings={name: str(value) for name, value in layout.as_attributes().items()},
        disk_bytes=disk_use(layout),
        excluded=tuple(sorted(layout.list_names.get(name, name) for name in layout.excluded)),
        list_names=layout.list_names,
        own_pictures=layout.own_pictures,
    )
    write_report(summary, layout.report_dir)
