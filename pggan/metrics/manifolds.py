"""Distances to nearest neighbours among features, and what is made of them.

Precision and recall: Kynkäänniemi et al. 2019; density and coverage: Naeem et al. 2020.

features (n, d)  ->  radii (n,): a ball around each that reaches to its k-th nearest neighbour
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pggan.metrics.arrays import Floats

VALUES = 1 << 25
"""Distances in memory at a time."""


def radii(features: Floats, k: int) -> NDArray[np.float64]:
    """Return the distance of each feature (n, d) to its k-th nearest other one, (n,); n is larger than k."""
    near = [distances.kthvalue(k + 1, dim=1).values for distances in _distances(features, features)]  # itself is first
    return torch.cat(near).numpy()


def precision_and_recall(fakes: Floats, reals: Floats, k: int) -> tuple[float, float]:
    """Return the share of fakes (n, d) in a ball of any real (m, d), and of reals in one of any fake, 0 to 1 each.

    n and m are larger than k.
    """
    return _share_within(fakes, reals, k), _share_within(reals, fakes, k)


def _share_within(features: Floats, others: Floats, k: int) -> float:
    reach = torch.from_numpy(radii(others, k))
    within = [(distances <= reach).any(dim=1) for distances in _distances(features, others)]
    return float(torch.cat(within).double().mean())


def density_coverage(fakes: Floats, reals: Floats, k: int) -> tuple[float, float]:
    """Return density, at least 0, and coverage, 0 to 1, of fakes (n, d) among reals (m, d); m is larger than k.

    Density: the number of reals' balls that a fake lies in, over k, on average; about 1 for equal distributions.
    Coverage: the share of reals whose ball has a fake in it.
    """
    reach = torch.from_numpy(radii(reals, k))
    inside, covered = 0, torch.zeros(len(reals), dtype=torch.bool)
    for distances in _distances(fakes, reals):
        within = distances < reach
        inside += int(within.sum())
        covered |= within.any(dim=0)
    return inside / (k * len(fakes)), float(covered.double().mean())


def _distances(a: Floats, b: Floats) -> Iterator[Tensor]:
    """Yield Euclidean distances of some rows of a at a time to all of b, float64."""
    others = torch.from_numpy(b).double()
    for rows in torch.from_numpy(a).split(max(VALUES // len(b), 1)):
        yield torch.cdist(rows.double(), others)
