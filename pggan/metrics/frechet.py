"""Fréchet distance of two normal distributions (Dowson and Landau 1982), the number behind FID (Heusel et al. 2017).

features (n, d)  ->  mean and covariance  ->  distance

Own code: torch-fidelity is an optional package, and here the numbers stay real without a full rank.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]
ROWS = 10_000


@dataclass(frozen=True)
class Gaussian:
    """`mean` (d,) and `covariance` (d, d)."""

    mean: Doubles
    covariance: Doubles


def fit(features: NDArray[np.floating], rows: int = ROWS) -> Gaussian:
    """Return the mean and unbiased covariance of features (n, d); ValueError for fewer than two samples.

    `rows` features are in memory as float64 at a time. The mean of the first ones is subtracted from all before they
    are squared, which keeps the digits of small variances around large means.
    """
    count = len(features)
    if count < 2:
        raise ValueError(f"{count} samples have no covariance")
    shift = features[:rows].astype(np.float64).mean(axis=0)
    total, products = np.zeros(len(shift)), np.zeros((len(shift), len(shift)))
    for start in range(0, count, rows):
        centred = features[start : start + rows].astype(np.float64) - shift
        total += centred.sum(axis=0)
        products += centred.T @ centred
    mean = total / count
    return Gaussian(shift + mean, (products - count * np.outer(mean, mean)) / (count - 1))


def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """Return |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)), at least 0; 0 for equal distributions.

    The root's trace comes from eigenvalues of the symmetric S1^(1/2) S2 S1^(1/2), which are those of S1 S2: they are
    real and stay so where a covariance has no full rank, as with fewer samples than features.
    """
    values, vectors = np.linalg.eigh(a.covariance)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    product = root @ b.covariance @ root
    shared = np.sqrt(np.maximum(np.linalg.eigvalsh((product + product.T) / 2), 0)).sum()
    apart = np.square(a.mean - b.mean).sum()
    return max(float(apart + np.trace(a.covariance) + np.trace(b.covariance) - 2 * shared), 0.0)
