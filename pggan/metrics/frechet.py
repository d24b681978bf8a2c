"""Fréchet distance of two normal distributions (Dowson and Landau 1982), the number behind FID (Heusel et al. 2017).

features (n, d), batch by batch  ->  mean and covariance  ->  distance

Own code: torch-fidelity is an optional package, and here the numbers stay real without a full rank.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Gaussian:
    """`mean` (d,) and `covariance` (d, d) of `count` samples."""

    mean: Doubles
    covariance: Doubles
    count: int


class Moments:
    """Mean and unbiased covariance of features (n, d) that come in batches; memory does not grow with them.

    The first batch's mean is subtracted from all features before they are squared, which keeps the digits of small
    variances around large means.
    """

    def __init__(self) -> None:
        self.count = 0
        self._shift = self._sum = self._products = np.zeros(0)

    def add(self, features: NDArray[np.floating]) -> None:
        values = np.asarray(features, np.float64)
        if not len(values):
            return
        if self.count == 0:
            size = values.shape[1]
            self._shift, self._sum, self._products = values.mean(axis=0), np.zeros(size), np.zeros((size, size))
        centred = values - self._shift
        self._sum = self._sum + centred.sum(axis=0)
        self._products = self._products + centred.T @ centred
        self.count += len(values)

    def gaussian(self) -> Gaussian:
        """Return the fitted distribution; ValueError for fewer than two samples."""
        if self.count < 2:
            raise ValueError(f"{self.count} samples have no covariance")
        mean = self._sum / self.count
        covariance = (self._products - self.count * np.outer(mean, mean)) / (self.count - 1)
        return Gaussian(self._shift + mean, covariance, self.count)


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
