"""Command line: `python -m datatools.landmarks`."""

from collections import Counter
from pathlib import Path

import click

from datatools.cli import FiniteNumber, NameOrPath, OneLineCommand, PathOption, run_command
from datatools.errors import DataError
from datatools.files import as_data_error, check_writable
from datatools.landmarks import DETECTORS, SOURCES, get_detector, get_landmark_source
from datatools.landmarks.annotations import ENDING, write_annotations
from datatools.landmarks.check import ACTIONS, Action, finds_itself
from datatools.landmarks.find import Options, PhotoFolder, Result, Work, find_all, list_photos
from datatools.landmarks.table import check_name, write_table
from datatools.parallel import available_cores
from datatools.progress import Progress
from datatools.sources.celeba import read_tree
from datatools.text import counted

EXAMPLES = """
\b
Examples:
  python -m datatools.landmarks photos --out faces.csv --draw look
  python -m datatools.landmarks photos --landmarks faces.csv --draw look
  python -m datatools.landmarks photos --landmarks mtcnn --all-faces --min-face 100 --out faces.csv
  python -m datatools.landmarks CelebA --check-landmarks report
  python -m datatools.landmarks CelebA --check-landmarks repair --out repaired.csv
"""
SHOWN = 100
"""Lines about wrong landmarks that are printed."""


@click.command(cls=OneLineCommand, context_settings={"show_default": True}, epilog=EXAMPLES)
@click.argument("photos", type=PathOption(file_okay=False), metavar="DIR")
@click.option(
    "--landmarks",
    "name",
    type=NameOrPath(),
    default="auto",
    metavar="NAME|FILE",
    help=f"Where landmarks come from: {', '.join(SOURCES)}, or a file of landmarks (.csv).",
)
@click.option("--out", type=PathOption(dir_okay=False), help="File of landmarks to write: .csv, or .txt as CelebA's.")
@click.option("--draw", type=PathOption(file_okay=False), metavar="DIR", help="Folder for pictures with the points.")
@click.option("--all-faces", is_flag=True, help="Keep every face, not the most prominent one alone.")
@click.option("--min-face", type=FiniteNumber(min=0), default=0.0, help="Least width and height of a face in pixels.")
@click.option(
    "--check-landmarks",
    "action",
    type=click.Choice(ACTIONS),
    help="Compare landmarks with a detector: report wrong ones, reject them, or repair them.",
)
@click.option("--check-with", type=click.Choice(DETECTORS), default="auto", help="Detector for --check-landmarks.")
@click.option("--detector", default="sfd", help="face-alignment's detector: sfd, blazeface or yunet.")
@click.option("--device", default="cpu", help="Device of the detector: cpu, cuda, cuda:1, mps, or auto.")
@click.option("--workers", type=click.IntRange(min=1), help="Processes.  [default: one per CPU core]")
def main(
    *,
    photos: Path,
    name: str,
    out: Path | None,
    draw: Path | None,
    all_faces: bool,
    min_face: float,
    action: Action | None,
    check_with: str,
    detector: str,
    device: str,
    workers: int | None,
) -> None:
    """Find the faces in the photos of DIR and its subfolders, and write their landmarks to a file.

    The file can be corrected by hand and used with --landmarks FILE. docs/landmarks.md describes it.
    """
    if out is None and draw is None and action is None:
        raise click.UsageError("nothing to do: add --out FILE.csv, --draw DIR or --check-landmarks report")
    if out is not None:
        with as_data_error(out):
            check_writable(out)
    folder = list_photos(photos)
    for photo in folder.names if out is not None else ():
        check_name(photo)
    source = get_landmark_source(name, photos, device=device, detector=detector)
    if action and source.reads_pixels:
        raise click.UsageError(f"--check-landmarks: {finds_itself(source.name)}")
    check = get_detector(check_with, device=device, detector=detector) if action else None
    described = f"landmarks of {counted(len(folder.names), 'photo')} in {folder.folder} by {source.name}"
    click.echo(f"{described}, checked by {check.name}" if check else described)
    work = Work(folder, source, Options(all_faces, min_face, check, action or "report", draw))
    results = _run(work, workers or available_cores())
    for line in summary(results):
        click.echo(line)
    if out is not None:
        _write(out, folder, [result for result in results if not result.error])
    if not any(result.faces for result in results):
        raise DataError(_no_faces(folder, results))


def _write(out: Path, folder: PhotoFolder, results: list[Result]) -> None:
    """Write the faces to a file, in CelebA's format or as a table."""
    faces = {result.name: result.faces for result in results}
    if out.suffix.lower() == ENDING:
        records = read_tree(folder.folder).records if not folder.own else ()
        write_annotations(out, faces, {record.path.name: record.file_name for record in records})
        count = sum(bool(found) for found in faces.values())
    else:
        write_table(out, faces, {result.name: result.source for result in results})
        count = sum(map(len, faces.values()))
    click.echo(f"{out}: {counted(count, 'face')}")


def _run(work: Work, workers: int) -> list[Result]:
    """Return the results of all photos; print a line for each photo with wrong landmarks."""
    results, lines = [], 0
    with Progress("landmarks", len(work.photos.names), "photo") as progress:
        for result in find_all(work, workers, progress):
            results.append(result)
            for detail in result.wrong:
                lines += 1
                if lines <= SHOWN:
                    progress.say(f"{result.name}: {detail}")
    if lines > SHOWN:
        click.echo(f"... and {lines - SHOWN:,} more")
    return results


def summary(results: list[Result]) -> list[str]:
    """Return what was found, as lines for people."""
    unusable = Counter(result.error for result in results if result.error)
    faceless = [result.name for result in results if not result.error and not result.faces]
    with_faces = len(results) - len(faceless) - unusable.total()
    lines = [f"{counted(with_faces, 'photo')} with a face"]
    if faceless:
        lines.append(f"{counted(len(faceless), 'photo')} without, such as {faceless[0]}")
    for error, count in unusable.most_common():
        first = next(result.name for result in results if result.error == error)
        lines.append(f"{counted(count, 'photo')} not used, such as {first}: {error}")
    wrong = sum(len(result.wrong) for result in results)
    unchecked = sum(result.unchecked for result in results)
    if wrong:
        lines.append(f"{counted(wrong, 'wrong row')} of landmarks")
    if unchecked:
        lines.append(f"{counted(unchecked, 'row')} not checked: the detector found no face")
    return lines


def _no_faces(folder: PhotoFolder, results: list[Result]) -> str:
    errors = sum(bool(result.error) for result in results)
    return f"no faces in {folder.folder}: {counted(len(results), 'photo')}, {errors:,} of them cannot be used"


def script() -> None:
    """Run the console script `celebahq-landmarks`."""
    run_command(main)


if __name__ == "__main__":
    script()
