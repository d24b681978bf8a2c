"""Some images of a pyramid as a pyramid of their own: copied with levels, checksums and provenance."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datatools.errors import DataError, reason
from datatools.files import atomic_path, open_array
from datatools.pyramid.convert import labels_path
from datatools.pyramid.format import CHECKSUMS, PROVENANCE, images_per_chunk, level_name, no_progress
from datatools.pyramid.join import copy_chunk
from datatools.pyramid.reader import Pyramid
from datatools.pyramid.writer import FileLayout, new_file
from datatools.text import counted

SPLITS = ("train", "validation", "test")
BUILD_DIGEST = "build_digest"


@dataclass(frozen=True)
class Criteria:
    """What images have to be; all that is given has to hold.

    Attributes:
        indices: their places in the file.
        ranks: their ranks, 1 the best.
        min_score: their least score.
        splits: indices of SPLITS.
        identities: numbers of persons.
        attributes: attributes that they have.
        without: attributes that they do not have.
        names: names of their photos.
        count: so many of them at most, the first ones.
    """

    indices: Collection[int] | None = None
    ranks: Collection[int] | None = None
    min_score: float | None = None
    splits: Collection[int] | None = None
    identities: Collection[int] | None = None
    attributes: Sequence[str] = ()
    without: Sequence[str] = ()
    names: Collection[str] | None = None
    count: int | None = None


def select(pyramid: Pyramid, criteria: Criteria) -> NDArray[np.intp]:
    """Return the indices of the images that meet the criteria, in the order of the file.

    Raises DataError for an attribute that the file does not have.
    """
    mask = np.ones(len(pyramid), dtype=bool)
    places = np.arange(len(pyramid))
    listed: dict[str, Collection[Any] | None] = {
        "rank": criteria.ranks,
        "split": criteria.splits,
        "identity": criteria.identities,
        "file_name": criteria.names,
    }
    if criteria.indices is not None:
        mask &= np.isin(places, list(criteria.indices))
    for column, values in listed.items():
        if values is not None:
            mask &= np.isin(pyramid.provenance(column), list(values))
    if criteria.min_score is not None:
        mask &= pyramid.provenance("score") >= criteria.min_score  # never true of an unknown one
    for names, sign in ((criteria.attributes, 1), (criteria.without, -1)):
        for name in names:
            mask &= pyramid.attribute(name) == sign
    return np.flatnonzero(mask)[: criteria.count]


def write_subset(
    pyramid: Pyramid,
    out: str | Path,
    indices: Sequence[int] | NDArray[np.intp],
    *,
    description: str,
    compression: str = "none",
    progress: Callable[[int], object] | None = None,
) -> None:
    """Write the images at `indices`, in that order, as the pyramid `out`: same bytes as one writer of these faces.

    The settings are those of the pyramid, but for the digest of its build, which becomes `subset_of`; `description`
    becomes `subset`. Labels of the pyramid (`<stem>-labels.npy`) are copied, too. Images and checksums are copied as
    they are, so that a damaged one shows in `verify`. `progress` is called with the number of images newly done.

    Raises: DataError for no index, one that the file does not have, damaged labels, a disk that cannot be written.
    """
    out, rows = Path(out), np.asarray(indices, dtype=np.intp)
    if not len(rows):
        raise DataError(f"{out}: no image of {pyramid.path} is chosen")
    if rows.min() < 0 or rows.max() >= len(pyramid):
        raise DataError(f"{pyramid.path}: holds images 0 to {len(pyramid) - 1}, not {rows.min()} to {rows.max()}")
    labels = _labels(pyramid, rows)
    kept = {name: value for name, value in pyramid.settings.items() if name != BUILD_DIGEST}
    origin = pyramid.settings.get(BUILD_DIGEST) or pyramid.digest(pyramid.resolution)[:16]
    settings = {**kept, "subset_of": origin, "subset": description}
    with pyramid, new_file(out, FileLayout(len(rows), pyramid.levels, compression), settings) as target:
        source = pyramid.handles()
        for resolution, checksums in target.checksums.items():
            checksums[:] = pyramid.table(f"{CHECKSUMS}/{level_name(resolution)}")[rows]
        for index in rows.tolist():
            for resolution in pyramid.levels:
                if compression == pyramid.compression != "none" and images_per_chunk(resolution) == 1:
                    copy_chunk(target, source, resolution, index)
                else:
                    target.write(resolution, target.done, pyramid[resolution][index])
            target.done += 1
            (progress or no_progress)(1)
        columns = {name: pyramid.table(f"{PROVENANCE}/{name}")[rows] for name in pyramid.provenance_names}
        tables = {name: _shortened(values) for name, values in columns.items()}
        checksums = pyramid.table(f"{CHECKSUMS}/{PROVENANCE}")[rows]
        target.finish(tables, pyramid.attribute_names, checksums)
    if labels is not None:
        with atomic_path(labels_path(out)) as temporary, temporary.open("wb") as stream:
            np.save(stream, labels)


def _shortened(values: NDArray) -> NDArray:
    """Return a column whose text is as long as its longest value, as a writer makes it."""
    return values.astype(f"S{max(1, *map(len, values.tolist()))}") if values.dtype.kind == "S" else values


def _labels(pyramid: Pyramid, rows: NDArray[np.intp]) -> NDArray | None:
    """Return the rows of the labels next to the pyramid; None where there are none."""
    path = labels_path(pyramid.path)
    if not path.is_file():
        return None
    try:
        labels = open_array(path)
        if len(labels) != len(pyramid):
            raise ValueError(f"they are {len(labels):,} for {counted(len(pyramid), 'image')}")
    except (OSError, ValueError, TypeError) as error:
        raise DataError(
            f"{path}: the labels cannot be used ({reason(error)}); move the file away to continue without it"
        ) from error
    chosen: NDArray = np.array(labels[rows])
    return chosen
