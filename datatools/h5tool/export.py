"""The command `h5tool export`: pictures of a pyramid in a layout that other projects read."""

from pathlib import Path
from typing import Any

import click

from datatools.cli import OneLineCommand, PathOption
from datatools.console import check_printed
from datatools.exports import NAMES, PICTURE_FORMATS, TARGETS, ExportOptions, ExportPlan, plan_export, write_export
from datatools.exports.base import METADATA_FORMATS, QUALITY
from datatools.h5tool.from_folder import ESTIMATED_BYTES
from datatools.h5tool.selection import chosen_images, selection_options
from datatools.parallel import available_cores
from datatools.progress import Progress
from datatools.pyramid import Pyramid
from datatools.text import byte_size, counted


@click.command("export", cls=OneLineCommand, resumes=True)
@click.argument("h5", type=PathOption(dir_okay=False))
@click.argument("out", type=PathOption())
@click.option("--to", type=click.Choice(TARGETS), required=True, help="Layout of the export.")
@click.option("--level", type=int, help="Side of the pictures in pixels.  [default: the largest]")
@selection_options
@click.option(
    "--picture-format", type=click.Choice(PICTURE_FORMATS), default="png", show_default=True, help="PNG is lossless."
)
@click.option("--quality", type=int, help=f"Quality of JPEG and WebP, 1 to 100.  [default: {QUALITY}]")
@click.option(
    "--names",
    type=click.Choice(NAMES),
    default="index",
    show_default=True,
    help="Name pictures by their number in H5, or by their photo.",
)
@click.option(
    "--labels",
    metavar="HOW",
    default="none",
    show_default=True,
    help="Classes: none, file (<file>-labels.npy), identity, split, or CelebA attributes with commas.",
)
@click.option(
    "--metadata",
    type=click.Choice(METADATA_FORMATS),
    default="jsonl",
    show_default=True,
    help="Format of the table of what is known about each picture.",
)
@click.option("--jobs", type=click.IntRange(min=1), help="Number of processes.  [default: one per CPU core]")
@click.option("--dry-run", is_flag=True, help="Print how much there is to do, and write nothing.")
@click.option("--overwrite", is_flag=True, help="Replace an export that is at OUT already.")
def export_command(
    h5: Path,
    out: Path,
    to: Any,
    level: int | None,
    picture_format: Any,
    quality: int | None,
    names: Any,
    labels: str,
    metadata: Any,
    jobs: int | None,
    dry_run: bool,
    overwrite: bool,
    **selection: Any,
) -> None:
    """Write images of H5 as pictures, in a layout that other programs read.

    OUT is a folder, or an archive for stylegan-zip. Images have to meet all the options that choose some. Run the same
    command again to resume after an interruption. docs/exports.md describes the layouts.
    """
    pyramid = Pyramid(h5)
    chosen, description = chosen_images(pyramid, selection)
    side = pyramid.resolution if level is None else level
    options = ExportOptions(to, side, picture_format, quality, names, labels, metadata, jobs or available_cores())
    plan = plan_export(pyramid, out, chosen, options, selection=description, overwrite=overwrite)
    _print_plan(plan, always=dry_run)
    if dry_run:
        return
    with Progress("export", len(chosen), "picture") as advance:
        write_export(plan, progress=advance)
    click.echo(f"{out}: {counted(len(chosen), 'picture')} of {side} x {side} pixels")
    check_printed()


def _print_plan(plan: ExportPlan, *, always: bool) -> None:
    if always or plan.estimated_bytes > ESTIMATED_BYTES:
        pictures, size = counted(len(plan.chosen), "picture"), byte_size(plan.estimated_bytes)
        twice = ", and twice that while exporting" if plan.layout.copies == 2 else ""
        click.echo(f"about {size} for {pictures}{twice}; {byte_size(plan.free)} free")
    if plan.done:
        click.echo(f"resuming: {plan.done:,} of {counted(len(plan.chosen), 'picture')} are done")
