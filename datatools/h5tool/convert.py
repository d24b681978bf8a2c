"""The command `h5tool convert`: a pyramid of a file of the 2017 layout."""

from pathlib import Path

import click

from datatools.cli import OneLineCommand, PathOption
from datatools.console import check_printed
from datatools.errors import DataError
from datatools.progress import Progress
from datatools.pyramid import COMPRESSIONS, convert
from datatools.pyramid.convert import count_images, labels_path
from datatools.text import counted


@click.command("convert", cls=OneLineCommand)
@click.argument("old", metavar="OLD.h5", type=PathOption(dir_okay=False))
@click.argument("new", metavar="NEW.h5", type=PathOption(dir_okay=False))
@click.option("--compression", type=click.Choice(COMPRESSIONS), default="none", show_default=True)
@click.option("--rebuild-levels", is_flag=True, help="Trust the largest level where smaller ones contradict it.")
@click.option("--overwrite", is_flag=True, help="Replace NEW.h5 when it is there already.")
def convert_command(old: Path, new: Path, compression: str, rebuild_levels: bool, overwrite: bool) -> None:
    """Make a pyramid of a file of the 2017 layout.

    The largest level is copied and the smaller ones are made from it; what OLD.h5 has of them is compared. Where the
    images come from is not known, so their provenance is empty. Labels in OLD-labels.npy become NEW-labels.npy.
    """
    if new.exists() and old.exists() and new.samefile(old):
        raise DataError(f"{new}: is the file to convert; give another name")
    for path in (new, labels_path(new)) if labels_path(old).is_file() else (new,):
        if path.exists() and not overwrite:
            raise DataError(f"{path}: exists; --overwrite replaces it")
    with Progress("convert", count_images(old), "image") as advance:
        found = convert(old, new, compression=compression, rebuild_levels=rebuild_levels, progress=advance)
    for resolution in found.missing:
        click.echo(f"data{resolution}x{resolution}: was not in {old}, made from the largest level")
    for resolution, difference in found.differences.items():
        if difference.images:
            why = "rounding" if not difference.contradicting else f"{difference.contradicting} by more than rounding"
            click.echo(
                f"data{resolution}x{resolution}: {difference.images} of {found.count} images differed from the mean of "
                f"the largest level by up to {difference.largest} ({why}); made anew"
            )
    size = f"{found.resolutions[0]} x {found.resolutions[0]} pixels"
    click.echo(f"{new}: {counted(found.count, 'image')} of {size}, without provenance")
    check_printed()
