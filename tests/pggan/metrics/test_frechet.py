"""The Fréchet distance of normal distributions, against closed forms."""

import numpy as np
import pytest
from scipy import linalg

from pggan.metrics.frechet import Gaussian, fit, frechet_distance


def rotation(size: int, seed: int) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(size, size)))[0]


def test_of_one_dimension() -> None:
    a, b = Gaussian(np.array([1.0]), np.array([[4.0]])), Gaussian(np.array([4.0]), np.array([[25.0]]))
    assert frechet_distance(a, b) == pytest.approx((1 - 4) ** 2 + (2 - 5) ** 2)


def test_covariances_with_common_axes() -> None:
    """Then it is the distance of the means and of the standard deviations along the axes."""
    axes = rotation(12, 0)
    rng = np.random.default_rng(1)
    deviations = rng.uniform(0, 3, (2, 12))
    means = rng.normal(size=(2, 12))
    a, b = (Gaussian(m, (axes * d**2) @ axes.T) for m, d in zip(means, deviations, strict=True))
    expected = np.square(means[0] - means[1]).sum() + np.square(deviations[0] - deviations[1]).sum()
    assert frechet_distance(a, b) == pytest.approx(expected)
    assert frechet_distance(b, a) == pytest.approx(expected)


def test_any_covariances_against_the_matrix_root() -> None:
    rng = np.random.default_rng(2)
    parts = rng.normal(size=(2, 8, 8))
    a, b = (Gaussian(rng.normal(size=8), part @ part.T) for part in parts)
    root = linalg.sqrtm(a.covariance @ b.covariance).real
    expected = np.square(a.mean - b.mean).sum() + np.trace(a.covariance + b.covariance - 2 * root)
    assert frechet_distance(a, b) == pytest.approx(expected)


def test_equal_distributions_also_without_full_rank() -> None:
    values = np.random.default_rng(3).normal(size=(5, 20))
    found = fit(values)
    assert frechet_distance(found, found) == pytest.approx(0, abs=1e-6)
    moved = Gaussian(found.mean + 2, found.covariance)
    assert frechet_distance(found, moved) == pytest.approx(20 * 2**2)


def test_moments_are_those_of_all_samples_however_they_come() -> None:
    values = np.random.default_rng(4).normal(1e4, 0.01, (50, 6))  # small variances around large means
    for batch in (1, 7, 50):
        found = fit(values, batch)
        assert np.allclose(found.mean, values.mean(axis=0), rtol=1e-12)
        assert np.allclose(found.covariance, np.cov(values, rowvar=False), rtol=1e-7, atol=1e-12)


def test_samples_of_known_distributions() -> None:
    """What is estimated from many samples comes near to what they were drawn from."""
    rng = np.random.default_rng(5)
    found = frechet_distance(fit(rng.normal(0, 1, (40000, 3))), fit(rng.normal(1, 3, (40000, 3))))
    assert found == pytest.approx(3 * (1 + 4), rel=0.03)


def test_one_sample_has_no_covariance() -> None:
    with pytest.raises(ValueError, match="1 samples"):
        fit(np.zeros((1, 3)))
    with pytest.raises(ValueError, match="0 samples"):
        fit(np.zeros((0, 3)))
