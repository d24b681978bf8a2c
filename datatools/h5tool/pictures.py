"""The commands `h5tool extract` and `h5tool display`: pictures out of a pyramid."""

from pathlib import Path

import click
import numpy as np

from datatools.cli import OneLineCommand, PathOption, parse_ranges
from datatools.errors import DataError
from datatools.files import as_data_error
from datatools.images import save_png
from datatools.progress import Progress
from datatools.pyramid import Pyramid
from datatools.report.sheets import contact_sheet, enlarge, sheet_columns
from datatools.text import counted

SHEET_TILE = 128  # pixels that a picture on a contact sheet has at least
SHEET_PIXELS = 100_000_000


@click.command(cls=OneLineCommand)
@click.argument("h5", type=PathOption(dir_okay=False))
@click.argument("folder", metavar="DIR", type=PathOption(file_okay=False))
@click.option("--level", type=int, help="Side of the pictures in pixels.  [default: the largest]")
@click.option("--indices", metavar="LIST", help="Which images, such as 0-99,500.  [default: all]")
@click.option("--overwrite", is_flag=True, help="Replace pictures that are there already.")
def extract(h5: Path, folder: Path, level: int | None, indices: str | None, overwrite: bool) -> None:
    """Write images of H5 as PNG files.

    They are called 00000.png, 00001.png ... in DIR, which is made when it is not there.
    """
    pyramid = Pyramid(h5)
    source = pyramid[pyramid.resolution if level is None else level]
    digits = max(5, len(str(len(pyramid) - 1)))
    chosen = range(len(pyramid)) if indices is None else sorted({*parse_ranges(indices, "--indices", len(pyramid))})
    targets = {index: folder / f"{index:0{digits}}.png" for index in chosen}
    there = [target for target in targets.values() if target.exists()]
    if there and not overwrite:
        others, them = (f", and {counted(len(there) - 1, 'other')}", "them") if len(there) > 1 else ("", "it")
        raise DataError(f"{there[0]} exists{others}; --overwrite replaces {them}")
    with as_data_error(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with Progress("extract", len(targets), "picture") as advance:
            for index, target in targets.items():
                save_png(target, pyramid.image(index, source.resolution))
                advance(1)
    click.echo(f"{counted(len(targets), 'picture')} of {source.resolution} x {source.resolution} pixels in {folder}")


@click.command(cls=OneLineCommand)
@click.argument("h5", type=PathOption(dir_okay=False))
@click.argument("out", metavar="OUT.png", type=PathOption(dir_okay=False))
@click.option("--count", type=click.IntRange(1, 1000), default=48, show_default=True, help="How many images.")
@click.option("--level", type=int, help="Side of each picture.  [default: 128, or the nearest level there is]")
def display(h5: Path, out: Path, count: int, level: int | None) -> None:
    """Write a contact sheet.

    Its images are spread evenly over H5. Those of less than 128 pixels are enlarged, every pixel as a square.
    """
    if out.suffix.lower() != ".png":
        raise DataError(f"{out}: contact sheets are written as PNG, give a name that ends in .png")
    pyramid = Pyramid(h5)
    if not len(pyramid):
        raise DataError(f"{h5}: holds no images to show")
    side = min(pyramid.levels, key=lambda resolution: abs(resolution - 128)) if level is None else level
    shown = min(count, len(pyramid))
    tile = max(1, SHEET_TILE // side) * side
    if shown * tile * tile > SHEET_PIXELS:
        raise DataError(
            f"{shown} pictures of {side} x {side} make a sheet of more than {SHEET_PIXELS / 1e6:.0f} megapixels; "
            "give a smaller --count or --level"
        )
    indices = np.unique(np.linspace(0, len(pyramid) - 1, shown).round().astype(int))
    faces = [enlarge(pyramid.image(int(index), side), tile // side) for index in indices]
    with as_data_error(out):
        save_png(out, contact_sheet(faces, sheet_columns(len(faces)), tile))
    click.echo(f"{len(faces)} of {counted(len(pyramid), 'image')} in {out}")
