"""Options that say which images of a pyramid a command takes, the same ones for every command that has them."""

from collections.abc import Callable, Mapping
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from datatools.cli import FiniteNumber, PathOption, parse_ranges
from datatools.errors import DataError
from datatools.faces.ranking import read_names
from datatools.pyramid import Pyramid
from datatools.pyramid.subset import SPLITS, Criteria, select
from datatools.text import counted

OPTIONS = {
    "indices": click.option("--indices", metavar="LIST", help="Images by number, such as 0-99,500."),
    "ranks": click.option("--rank", "ranks", metavar="LIST", help="Images by rank, such as 1-1000 for the best 1,000."),
    "min_score": click.option("--min-score", type=FiniteNumber(min=0), help="Images with this score or a better one."),
    "splits": click.option(
        "--split", "splits", type=click.Choice(SPLITS), multiple=True, help="Images of CelebA's split."
    ),
    "identities": click.option(
        "--identity", "identities", metavar="LIST", help="Images of these persons, such as 7,12-20."
    ),
    "attributes": click.option(
        "--attribute", "attributes", metavar="NAME", multiple=True, help="Images with the attribute."
    ),
    "without": click.option("--without", metavar="NAME", multiple=True, help="Images that do not have the attribute."),
    "ids": click.option(
        "--ids", metavar="FILE", type=PathOption(dir_okay=False), help="Images of these photos, a name per line."
    ),
    "count": click.option("--count", type=click.IntRange(1), help="At most this many, the first ones."),
}
"""The options by their parameters' names, in the order of the help text."""


def selection_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of OPTIONS; it passes their values to `chosen_images`."""
    for option in reversed(OPTIONS.values()):
        command = option(command)
    return command


def chosen_images(pyramid: Pyramid, values: Mapping[str, Any]) -> tuple[NDArray[np.intp], str]:
    """Return the indices of the images that meet all options, and these options in words.

    values: the value of each option of OPTIONS, by its parameter's name.
    Raises DataError for a bad value, and where no image is left.
    """
    indices, ranks, identities, ids = (values[name] for name in ("indices", "ranks", "identities", "ids"))
    criteria = Criteria(
        None if indices is None else parse_ranges(indices, "--indices", len(pyramid)),
        None if ranks is None else parse_ranges(ranks, "--rank"),
        values["min_score"],
        [SPLITS.index(name) for name in values["splits"]] or None,
        None if identities is None else parse_ranges(identities, "--identity"),
        values["attributes"],
        values["without"],
        None if ids is None else read_names(ids, "--ids", endings=False),
        values["count"],
    )
    chosen = select(pyramid, criteria)
    texts = [f"{name} {_text(values[name])}" for name in OPTIONS if values[name] not in (None, ())]
    if not len(chosen):
        raise DataError(f"{pyramid.path}: none of its {counted(len(pyramid), 'image')} meets {'; '.join(texts)}")
    return chosen, "; ".join(texts) or "all"


def _text(value: object) -> str:
    """Write the value of an option for people; of a path its name."""
    return ", ".join(map(str, value)) if isinstance(value, tuple) else getattr(value, "name", str(value))
