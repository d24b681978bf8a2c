"""Inspect, verify, compare and convert pyramid files, and take pictures out of them."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np

from datatools.cli import FiniteNumber, OneLineGroup, PathOption, parse_ranges, run_command
from datatools.console import check_printed
from datatools.errors import DataError
from datatools.faces.ranking import read_names
from datatools.files import as_data_error
from datatools.h5tool_from_folder import from_folder
from datatools.images import save_png
from datatools.progress import Progress
from datatools.pyramid import COMPRESSIONS, Level, Pyramid, convert, verify
from datatools.pyramid.convert import count_images, labels_path
from datatools.pyramid.format import UNKNOWN
from datatools.pyramid.subset import SPLITS, Criteria, select, write_subset
from datatools.report.sheets import contact_sheet, enlarge, sheet_columns
from datatools.text import counted

EXAMPLES = """
\b
Examples:
  python -m datatools.h5tool inspect celebahq.h5
  python -m datatools.h5tool verify celebahq.h5
  python -m datatools.h5tool compare mine.h5 theirs.h5
  python -m datatools.h5tool extract celebahq.h5 pictures --level 256 --indices 0-99,500
  python -m datatools.h5tool display celebahq.h5 sheet.png --count 48 --level 128
  python -m datatools.h5tool from-folder pictures mine.h5 --resolution 128
  python -m datatools.h5tool subset celebahq.h5 smiling.h5 --attribute Smiling --split train --count 10000
  python -m datatools.h5tool convert celebahq-2017.h5 celebahq.h5
"""
COMPARE_BYTES = 16 << 20
SUBSET_OPTIONS = (*("indices", "ranks", "min_score", "splits", "identities", "attributes", "without", "ids", "count"),)
"""Parameters of `subset` that say which images it takes."""
SHEET_TILE = 128  # pixels that a picture on a contact sheet has at least
SHEET_PIXELS = 100_000_000

existing_file = PathOption(dir_okay=False)


@click.group(cls=OneLineGroup, help=__doc__, epilog=EXAMPLES)
def main() -> None:
    pass


main.add_command(from_folder)


@main.command()
@click.argument("h5", type=existing_file)
def inspect(h5: Path) -> None:
    """Print what H5 holds.

    Levels, number of images, provenance, settings. An unfinished or damaged file is an error.
    """
    pyramid = Pyramid(h5)
    click.echo(f"{h5}: complete, {os.path.getsize(h5):,} bytes, compression {pyramid.compression}")
    click.echo(f"images      {len(pyramid)}")
    for resolution in pyramid.levels:
        level = pyramid[resolution]
        name = f"data{resolution}x{resolution}"
        click.echo(f"level       {name:<16}{level.shape} {level.dtype}, {int(np.prod(level.shape)):,} bytes of pixels")
    for name in pyramid.provenance_names:
        click.echo(f"provenance  {name:<16}{_column_summary(pyramid, name)}")
    click.echo(f"attributes  {', '.join(pyramid.attribute_names) or 'none'}")
    for name, value in pyramid.settings.items():
        click.echo(f"setting     {name} = {value}")
    check_printed()


def _column_summary(pyramid: Pyramid, name: str) -> str:
    values = pyramid.provenance(name)
    text = f"{values.shape} {'text' if values.dtype.kind == 'U' else values.dtype}"
    if not len(values):
        return text
    if values.dtype.kind == "U":
        return f"{text}, first {values[0]}" if any(values) else f"{text}, unknown"
    if name in ("celebahq_index", "identity", "split"):
        return f"{text}, known for {np.count_nonzero(values >= 0)}"
    if name == "attributes":
        return f"{text}, known for {np.count_nonzero(values.any(axis=1))}"
    known = values[~np.isnan(values)] if name != "rank" else values[values != UNKNOWN]
    return f"{text}, {known.min():g} to {known.max():g}" if known.size else f"{text}, unknown"


@main.command("verify")
@click.argument("h5", type=existing_file)
def verify_command(h5: Path) -> None:
    """Check every image of H5.

    Layout, checksums, levels against each other. Prints the problems, one a line, and exits with 1 when there are any.
    """
    with Progress("verify", _count_or_zero(h5), "image") as advance:
        problems = verify(h5, advance)
    for problem in problems:
        click.echo(problem)
    if problems:
        raise click.ClickException(f"{h5}: {counted(len(problems), 'problem')}")
    click.echo(f"{h5}: whole and unchanged")
    check_printed()


def _count_or_zero(path: Path) -> int:
    try:
        return len(Pyramid(path))
    except DataError:  # verify reports what is wrong
        return 0


@main.command()
@click.argument("first", metavar="A", type=existing_file)
@click.argument("second", metavar="B", type=existing_file)
def compare(first: Path, second: Path) -> None:
    """Compare two pyramids.

    Image by image and row by row. Settings that differ are listed but are no difference of content. Exits with 1
    when the contents differ.
    """
    a, b = Pyramid(first), Pyramid(second)
    common = min(len(a), len(b))
    differs = (len(a), a.levels) != (len(b), b.levels)
    if len(a) != len(b):
        first_ones = f"the first {common} are" if common != 1 else "the first one is"
        click.echo(f"{len(a)} against {counted(len(b), 'image')}; {first_ones} compared")
    if a.levels != b.levels:
        click.echo(f"levels {a.levels[0]} to {a.levels[-1]} against {b.levels[0]} to {b.levels[-1]}")
    for resolution in (r for r in a.levels if r in b.levels):
        equal, difference = _compare_level(a[resolution], b[resolution], common)
        differs |= equal != common
        click.echo(f"data{resolution}x{resolution}: {difference}")
    for line in _provenance_differences(a, b, common):
        differs = True
        click.echo(line)
    for name in sorted({*a.settings, *b.settings}):
        if a.settings.get(name) != b.settings.get(name):
            click.echo(f"setting {name}: {a.settings.get(name, '(none)')} against {b.settings.get(name, '(none)')}")
    click.echo("different" if differs else "equal")
    check_printed()
    if differs:
        sys.exit(1)


def _compare_level(a: Level, b: Level, count: int) -> tuple[int, str]:
    """Return how many of the first `count` images are equal, and how much the others differ, in words."""
    equal, largest, squares = 0, 0, 0
    batch = max(1, COMPARE_BYTES // (3 * a.resolution**2))
    with Progress(f"level {a.resolution}", count, "image") as advance:
        for start in range(0, count, batch):
            stop = min(start + batch, count)
            difference = np.abs(a[start:stop].astype(np.int16) - b[start:stop])
            equal += int(np.count_nonzero(~difference.any(axis=(1, 2, 3))))
            largest = max(largest, int(difference.max()))
            squares += int(np.square(difference.astype(np.int32)).sum(dtype=np.int64))
            advance(stop - start)
    psnr = f"{10 * np.log10(255**2 * 3 * a.resolution**2 * count / squares):.2f} dB" if squares else "infinite"
    return equal, f"{equal} of {counted(count, 'image')} equal, largest difference {largest}, PSNR {psnr}"


def _provenance_differences(a: Pyramid, b: Pyramid, count: int) -> Iterator[str]:
    if a.attribute_names != b.attribute_names:
        ours, theirs = len(a.attribute_names), counted(len(b.attribute_names), "attribute")
        yield f"provenance: {ours} against {theirs}, or of other names"
    for name in (name for name in a.provenance_names if name in b.provenance_names):
        left, right = a.provenance(name)[:count], b.provenance(name)[:count]
        if left.shape != right.shape:
            yield f"provenance {name}: shape {left.shape} against {right.shape}"
            continue
        same = (left == right) | ((left != left) & (right != right))  # not-a-number equals itself here
        rows = np.flatnonzero(~same.reshape(count, -1).all(axis=1))
        if len(rows):
            row = rows[0]
            differ = "row differs" if len(rows) == 1 else "rows differ"
            yield f"provenance {name}: {len(rows):,} {differ}, the first is {row}: {left[row]} against {right[row]}"


@main.command()
@click.argument("h5", type=existing_file)
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


@main.command()
@click.argument("h5", type=existing_file)
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


@main.command("subset")
@click.argument("h5", type=existing_file)
@click.argument("out", metavar="OUT.h5", type=PathOption(dir_okay=False))
@click.option("--indices", metavar="LIST", help="Images by number, such as 0-99,500.")
@click.option("--rank", "ranks", metavar="LIST", help="Images by rank, such as 1-1000 for the best 1,000.")
@click.option("--min-score", type=FiniteNumber(min=0), help="Images with this score or a better one.")
@click.option("--split", "splits", type=click.Choice(SPLITS), multiple=True, help="Images of CelebA's split.")
@click.option("--identity", "identities", metavar="LIST", help="Images of these persons, such as 7,12-20.")
@click.option("--attribute", "attributes", metavar="NAME", multiple=True, help="Images with the attribute.")
@click.option("--without", metavar="NAME", multiple=True, help="Images that do not have the attribute.")
@click.option("--ids", metavar="FILE", type=existing_file, help="Images of these photos: a file name per line.")
@click.option("--count", type=click.IntRange(1), help="At most this many, the first ones.")
@click.option("--compression", type=click.Choice(COMPRESSIONS), default="none", show_default=True)
@click.option("--overwrite", is_flag=True, help="Replace OUT.h5 when it is there already.")
def subset_command(
    h5: Path,
    out: Path,
    indices: str | None,
    ranks: str | None,
    min_score: float | None,
    splits: tuple[str, ...],
    identities: str | None,
    attributes: tuple[str, ...],
    without: tuple[str, ...],
    ids: Path | None,
    count: int | None,
    compression: str,
    overwrite: bool,
) -> None:
    """Make a pyramid of some images of H5, without building again.

    Images have to meet all the options that are given; a repeated --split means any of them. The order stays.
    """
    if out.exists() and (out.samefile(h5) or not overwrite):
        same = out.samefile(h5)
        raise DataError(f"{out}: {'is the file to take images from' if same else 'exists; --overwrite replaces it'}")
    pyramid = Pyramid(h5)
    criteria = Criteria(
        None if indices is None else parse_ranges(indices, "--indices", len(pyramid)),
        None if ranks is None else parse_ranges(ranks, "--rank"),
        min_score,
        [SPLITS.index(name) for name in splits] or None,
        None if identities is None else parse_ranges(identities, "--identity"),
        attributes,
        without,
        None if ids is None else read_names(ids, "--ids", endings=False),
        count,
    )
    chosen = select(pyramid, criteria)
    given = {name: value for name, value in (click.get_current_context().params).items() if value not in (None, ())}
    texts = [f"{name} {_text(given[name])}" for name in SUBSET_OPTIONS if name in given]
    if not len(chosen):
        raise DataError(f"{h5}: none of its {counted(len(pyramid), 'image')} meets {'; '.join(texts)}")
    with Progress("subset", len(chosen), "image") as advance:
        description = "; ".join(texts) or "all"
        write_subset(pyramid, out, chosen, description=description, compression=compression, progress=advance)
    click.echo(f"{out}: {len(chosen):,} of {counted(len(pyramid), 'image')}")
    check_printed()


def _text(value: object) -> str:
    """Write the value of an option for people; of a path its name."""
    return ", ".join(map(str, value)) if isinstance(value, tuple) else getattr(value, "name", str(value))


@main.command("convert")
@click.argument("old", metavar="OLD.h5", type=existing_file)
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


def script() -> None:
    """Run the console script `celebahq-h5`."""
    run_command(main)


if __name__ == "__main__":
    script()
