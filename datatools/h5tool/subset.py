"""The command `h5tool subset`: a pyramid of some images of another."""

from pathlib import Path
from typing import Any

import click

from datatools.cli import OneLineCommand, PathOption
from datatools.console import check_printed
from datatools.errors import DataError
from datatools.h5tool.selection import chosen_images, selection_options
from datatools.progress import Progress
from datatools.pyramid import COMPRESSIONS, Pyramid
from datatools.pyramid.subset import write_subset
from datatools.text import counted


@click.command("subset", cls=OneLineCommand)
@click.argument("h5", type=PathOption(dir_okay=False))
@click.argument("out", metavar="OUT.h5", type=PathOption(dir_okay=False))
@selection_options
@click.option("--compression", type=click.Choice(COMPRESSIONS), default="none", show_default=True)
@click.option("--overwrite", is_flag=True, help="Replace OUT.h5 when it is there already.")
def subset_command(h5: Path, out: Path, compression: str, overwrite: bool, **selection: Any) -> None:
    """Make a pyramid of some images of H5, without building again.

    Images have to meet all the options that are given; a repeated --split means any of them. The order stays.
    """
    if out.exists() and (out.samefile(h5) or not overwrite):
        same = out.samefile(h5)
        raise DataError(f"{out}: {'is the file to take images from' if same else 'exists; --overwrite replaces it'}")
    pyramid = Pyramid(h5)
    chosen, description = chosen_images(pyramid, selection)
    with Progress("subset", len(chosen), "image") as advance:
        write_subset(pyramid, out, chosen, description=description, compression=compression, progress=advance)
    click.echo(f"{out}: {len(chosen):,} of {counted(len(pyramid), 'image')}")
    check_printed()
