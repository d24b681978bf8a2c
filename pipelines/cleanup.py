"""What is removed: results that are about to be replaced, and what a finished build no longer needs."""

import re
from pathlib import Path

from datatools.files import partial_path
from pipelines.layout import BuildLayout
from pipelines.score_shard import stamps_path

DONE = "{}\n"
"""Content of a file that says a step is done."""

_SHARD = r"\d{5}-[0-9a-f]{16}"
LEFTOVERS = {
    "": r"(ranking|verified|reported|finished)-[0-9a-f]{16}\.json|\..*-[0-9a-f]{16}\.json\.partial",
    "scores": rf"\.{_SHARD}\.(npz|json|csv|stamps)\.partial|\.{_SHARD}\.npz\.unfinished|{_SHARD}\.csv",
    "faces": rf"{_SHARD}-\d+\.rgb|\.{_SHARD}-\d+\.rgb\.(partial|unfinished)",
    "build": rf"{_SHARD}\.h5(\.joined)?|\.{_SHARD}\.h5\.joined\.partial|\.{_SHARD}\.(h5|rgb)\.(partial|unfinished)",
    **dict.fromkeys(("landmarks", "checks"), rf"{_SHARD}\.json|\.({_SHARD}|found)\.json\.(partial|unfinished)"),
    "locks": r"[A-Za-z]+-\d+",
    "times": r"\.?[A-Za-z]+-[0-9a-f]{10}\.(json|csv)(\.partial)?",
}
"""Folder in the work folder -> names of files in it that a finished build no longer needs.

Timings were .csv files in versions before."""


def forget(layout: BuildLayout, *steps: str) -> None:
    """Remove what says that steps are done, for this build and others: what they made is about to be replaced."""
    for step in steps:
        for path in layout.work_dir.glob(f"{step}-*.json"):
            path.unlink(missing_ok=True)  # shards that run side by side forget the same


def forget_scores(layout: BuildLayout, index: int) -> None:
    """Remove what follows from the scores of a shard that is about to be made, and what of it cannot be used."""
    forget(layout, "ranking")
    path = layout.score_path(index)
    unused = set(layout.work_dir.glob(f"faces/{path.stem}-*.rgb"))
    if layout.keep_faces and not path.exists():
        unused.discard(layout.faces_path(index))  # of a run that was killed before it wrote the scores
    for file in (*unused, stamps_path(path), path):
        file.unlink(missing_ok=True)


def leftovers(layout: BuildLayout) -> list[Path]:
    """List the files that a finished build no longer needs; scores stay, so that other choices are cheap.

    The output folder may be any, and hold a folder "work" of the user's: nothing is listed but files with our names.
    """
    needed = {layout.ranking_path, layout.marker("verified"), layout.marker("reported")}
    files = [partial_path(path) for path in (layout.pyramid_path, layout.ranking_csv, layout.rejected_csv)]
    files += layout.output_dir.glob(f".{layout.pyramid_path.name}.*.joining")
    for name, pattern in LEFTOVERS.items():
        files += [path for path in (layout.work_dir / name).glob("*") if re.fullmatch(pattern, path.name)]
    return [path for path in files if path not in needed and path.exists()]


def clean_up(layout: BuildLayout) -> None:
    """Remove the leftovers of a finished build, and folders that are empty without them."""
    for path in leftovers(layout):
        path.unlink()
    for name in filter(None, LEFTOVERS):
        folder = layout.work_dir / name
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def disk_use(layout: BuildLayout) -> dict[str, int]:
    """Return the bytes of what a build leaves, its report aside, by name; call it when only the report is missing."""
    marks = [layout.marker("reported"), layout.marker("finished")]
    gone = {*leftovers(layout), *marks}
    work = sum(path.stat().st_size for path in layout.work_dir.rglob("*") if path.is_file() and path not in gone)
    files = (layout.pyramid_path, layout.ranking_csv, layout.rejected_csv)
    return {**{path.name: path.stat().st_size for path in files}, "work/": work + len(DONE) * len(marks)}
