"""Which photos of CelebA the published CelebA-HQ consists of.

The 30,000 numbers are facts of the data set that its authors published with the paper (Karras et al., "Progressive
Growing of GANs for Improved Quality, Stability, and Variation", ICLR 2018).
"""

from collections.abc import Mapping
from functools import cache
from importlib import resources
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

COUNT = 30_000

_REPORTED = (70, 2815)
_REPEATED = {  # the later one of every pair -> the earlier one
    750: 300,
    2677: 1647,
    5163: 5162,
    5797: 5796,
    15804: 5162,
    16027: 15898,
    16935: 14564,
    17485: 17338,
    23003: 9003,
    27267: 16242,
    29815: 28242,
}
_REPORTED_PAIRS = (234, 3329, 6770, 7384, 7561, 12444, 12885, 13825, 15506, 19199, 20134, 24646)
"""The earlier ones of pairs of neighbours that users of CelebAMask-HQ (the same images) report as duplicates."""
_NOT_ALIGNED = 2110

KNOWN_FLAWS: Mapping[int, str] = MappingProxyType(
    dict.fromkeys(_REPORTED, "reported as flawed by users")
    | {_NOT_ALIGNED: "reported as not aligned by users"}
    | {earlier + 1: f"reported as the same photo as {earlier} by users" for earlier in _REPORTED_PAIRS}
    | {index: f"shows the same photo as {earlier}" for index, earlier in _REPEATED.items()}
)
"""CelebA-HQ index -> why this entry is doubtful. They belong to the published set; exclude them only on purpose.

The repeated photos were found by the perceptual hash of `datatools.faces.duplicates` and confirmed by eye among the 932
published photos that were at hand; the whole set must hold many more. What users report was not confirmed, except for
the pair 5162 and 5163, which is in both lists.
"""


@cache
def published_rows() -> NDArray[np.int32]:
    """Return the zero-based CelebA row of every published image, by CelebA-HQ index: (30000,), read-only."""
    with resources.files("datatools.sources").joinpath("data/celebahq_rows.npy").open("rb") as stream:
        rows: NDArray[np.int32] = np.load(stream, allow_pickle=False)
    rows.setflags(write=False)
    return rows


def published_files() -> list[str]:
    """Return the file name in CelebA of every published image, by CelebA-HQ index."""
    return [f"{row + 1:06d}.jpg" for row in published_rows().tolist()]


@cache
def celebahq_index_by_file() -> Mapping[str, int]:
    """CelebA file name -> CelebA-HQ index, for the 30,000 published photos."""
    return MappingProxyType({name: index for index, name in enumerate(published_files())})
