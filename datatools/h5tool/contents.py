"""The commands `inspect`, `verify` and `compare` of h5tool: what a pyramid holds, and whether it is whole."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np

from datatools.cli import OneLineCommand, PathOption
from datatools.console import check_printed
from datatools.errors import DataError
from datatools.progress import Progress
from datatools.pyramid import Level, Pyramid, verify
from datatools.pyramid.format import UNKNOWN
from datatools.text import counted

COMPARE_BYTES = 16 << 20


@click.command(cls=OneLineCommand)
@click.argument("h5", type=PathOption(dir_okay=False))
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


@click.command("verify", cls=OneLineCommand)
@click.argument("h5", type=PathOption(dir_okay=False))
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


@click.command(cls=OneLineCommand)
@click.argument("first", metavar="A", type=PathOption(dir_okay=False))
@click.argument("second", metavar="B", type=PathOption(dir_okay=False))
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
