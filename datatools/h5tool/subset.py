"""The command `h5tool subset`: a pyramid of some images of another."""

from pathlib import Path

import click

from datatools.cli import FiniteNumber, OneLineCommand, PathOption, parse_ranges
from datatools.console import check_printed
from datatools.errors import DataError
from datatools.faces.ranking import read_names
from datatools.progress import Progress
from datatools.pyramid import COMPRESSIONS, Pyramid
from datatools.pyramid.subset import SPLITS, Criteria, select, write_subset
from datatools.text import counted

CHOICES = ("indices", "ranks", "min_score", "splits", "identities", "attributes", "without", "ids", "count")
"""Parameters of `subset` that say which images it takes."""


@click.command("subset", cls=OneLineCommand)
@click.argument("h5", type=PathOption(dir_okay=False))
@click.argument("out", metavar="OUT.h5", type=PathOption(dir_okay=False))
@click.option("--indices", metavar="LIST", help="Images by number, such as 0-99,500.")
@click.option("--rank", "ranks", metavar="LIST", help="Images by rank, such as 1-1000 for the best 1,000.")
@click.option("--min-score", type=FiniteNumber(min=0), help="Images with this score or a better one.")
@click.option("--split", "splits", type=click.Choice(SPLITS), multiple=True, help="Images of CelebA's split.")
@click.option("--identity", "identities", metavar="LIST", help="Images of these persons, such as 7,12-20.")
@click.option("--attribute", "attributes", metavar="NAME", multiple=True, help="Images with the attribute.")
@click.option("--without", metavar="NAME", multiple=True, help="Images that do not have the attribute.")
@click.option("--ids", metavar="FILE", type=PathOption(dir_okay=False), help="Images of these photos, a name per line.")
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
    texts = [f"{name} {_text(given[name])}" for name in CHOICES if name in given]
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
