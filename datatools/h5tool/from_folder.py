"""The command `h5tool from-folder`: a pyramid of the pictures in a folder or zip archive."""

from pathlib import Path

import click

from datatools.cli import OneLineCommand, PathOption
from datatools.errors import DataError
from datatools.parallel import available_cores
from datatools.progress import Progress
from datatools.pyramid import COMPRESSIONS
from datatools.pyramid.convert import labels_path
from datatools.pyramid.folder_labels import read_class_labels
from datatools.pyramid.folder_parts import parts_folder
from datatools.pyramid.folder_source import Skipped, describe_skipped, open_source
from datatools.pyramid.from_folder import FolderOptions, FolderPlan, plan_folder, write_from_folder
from datatools.pyramid.square import CROPS, RESIZE_FILTERS, Crop, ResizeFilter
from datatools.sources.celebahq_names import celebahq_pictures
from datatools.text import byte_size, counted

ESTIMATED_BYTES = 100_000_000
"""Larger pyramids are announced before they are made."""


@click.command("from-folder", cls=OneLineCommand, resumes=True)
@click.argument("source", metavar="DIR", type=PathOption())
@click.argument("out", metavar="OUT.h5", type=PathOption(dir_okay=False))
@click.option("--resolution", type=int, required=True, help="Side of the largest level: a power of two, 4 to 1024.")
@click.option(
    "--crop",
    type=click.Choice(CROPS),
    default="none",
    show_default=True,
    help="none takes square pictures only, center the middle square, wide the middle 4:3 with black bands.",
)
@click.option(
    "--resize-filter",
    type=click.Choice(RESIZE_FILTERS),
    default="box",
    show_default=True,
    help="box averages, lanczos is sharper.",
)
@click.option("--recursive/--no-recursive", default=True, show_default=True, help="Read subfolders, too.")
@click.option("--max-images", type=click.IntRange(min=1), help="Use the first so many usable pictures.")
@click.option(
    "--labels",
    metavar="HOW",
    help="Write classes to OUT-labels.npy: folders, json (the dataset.json in DIR), or a .json or .csv file.",
)
@click.option(
    "--celebahq/--no-celebahq",
    default=None,
    help="Names 00000 to 29999 are CelebA-HQ's indices.  [default: if all are there, or CelebAMask-HQ's mapping is]",
)
@click.option(
    "--celeba-dir",
    type=PathOption(file_okay=False),
    help="CelebA's folder, or its Anno: attributes, identities and split of CelebA-HQ's pictures.",
)
@click.option("--compression", type=click.Choice(COMPRESSIONS), default="none", show_default=True)
@click.option("--jobs", type=click.IntRange(min=1), help="Number of processes.  [default: one per CPU core]")
@click.option("--overwrite", is_flag=True, help="Replace OUT.h5 when it is there already.")
def from_folder(
    source: Path,
    out: Path,
    resolution: int,
    crop: Crop,
    resize_filter: ResizeFilter,
    recursive: bool,
    max_images: int | None,
    labels: str | None,
    celebahq: bool | None,
    celeba_dir: Path | None,
    compression: str,
    jobs: int | None,
    overwrite: bool,
) -> None:
    """Make a pyramid of the pictures in DIR, a folder or a zip archive.

    They are taken in natural order of their names (2.jpg before 10.jpg), turned as EXIF asks, and converted to sRGB.
    Files that cannot be used are left out: no pictures, damaged, not square, too small. A line for each of these kinds
    says how many there are and names one. Run the same command again to resume after an interruption.
    """
    for path in (out, labels_path(out)) if labels and not parts_folder(out).exists() else (out,):
        if path.exists() and not overwrite:
            raise DataError(f"{path}: exists; --overwrite replaces it")
    found = open_source(source, recursive=recursive)
    known = celebahq_pictures(source, [entry.name for entry in found.entries], wanted=celebahq, celeba_dir=celeba_dir)
    options = FolderOptions(
        resolution,
        crop,
        resize_filter,
        compression,
        max_images,
        read_class_labels(labels, found) if labels else None,
        known.pictures if known else {},
        known.attribute_names if known else (),
        jobs or available_cores(),
    )
    plan = plan_folder(found, out, options)
    if known:
        click.echo(f"{counted(len(known.pictures), 'picture')} of CelebA-HQ by name, since {known.reason}")
    _print_plan(plan)
    skipped: list[Skipped] = []
    try:
        with Progress("from-folder", len(plan.entries), "picture") as advance:
            count = write_from_folder(plan, skipped=skipped.append, progress=advance)
    finally:
        for line in describe_skipped(skipped):
            click.echo(line, err=True)
    click.echo(
        f"{out}: {counted(count, 'image')} of {resolution} x {resolution} pixels, "
        f"{counted(len(skipped), 'file')} left out"
    )
    if options.labels is not None:
        click.echo(f"{labels_path(out)}: {counted(len(options.labels.classes), 'class', 'classes')}")


def _print_plan(plan: FolderPlan) -> None:
    if plan.most_bytes > ESTIMATED_BYTES:
        images, size = counted(plan.most_images, "image"), byte_size(plan.most_bytes)
        click.echo(f"up to {images}, {size}, and twice that while building; {byte_size(plan.free)} free")
    if plan.done:
        click.echo(f"resuming: {plan.done:,} of {counted(len(plan.entries), 'picture')} are done")
