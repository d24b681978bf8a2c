"""Nearest neighbours: exact, in any batches, and looking at the face."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from datatools.errors import DataError
from pggan.metrics.neighbours import face_descriptor, nearest
from tests.support.metrics_reference import clouds

SHIFT = torch.tensor(3, dtype=torch.uint8)


def reals() -> NDArray[np.uint8]:
    return clouds(40, 32, 1)


def batches(images: NDArray[np.uint8], size: int) -> list[NDArray[np.uint8]]:
    return [images[start : start + size] for start in range(0, len(images), size)]


def test_copies_are_found_among_others() -> None:
    queries = reals()[[31, 4, 17]]
    found = nearest(queries, batches(reals(), 16), 3)
    assert found.indices[:, 0].tolist() == [31, 4, 17]
    assert found.distances[:, 0].tolist() == [0, 0, 0]
    assert (np.diff(found.distances, axis=1) > 0).all()
    assert found.indices.shape == found.distances.shape == (3, 3)


@pytest.mark.parametrize("size", [1, 7, 100])
def test_brute_force_in_any_batches(size: int) -> None:
    queries = clouds(5, 32, 2)
    mine, others = (face_descriptor(torch.from_numpy(images)).double() for images in (queries, reals()))
    distances = (mine[:, None] - others).square().sum(2).sqrt()
    found = nearest(queries, batches(reals(), size), 6)
    assert found.indices.tolist() == distances.argsort(dim=1)[:, :6].tolist()
    assert np.allclose(found.distances, distances.sort(dim=1).values[:, :6], rtol=1e-5)


def test_of_equally_near_ones_the_earlier_comes_first() -> None:
    twice = np.concatenate([reals()[:5], reals()[:5]])
    for size in (3, 10):
        found = nearest(reals()[2:4], batches(twice, size), 2)
        assert found.indices.tolist() == [[2, 7], [3, 8]]


@pytest.mark.parametrize("side", [8, 32, 256])
def test_the_background_does_not_count(side: int) -> None:
    images = clouds(2, side, 3)
    changed = images.copy()
    changed[..., : side * 5 // 16, :] = 0
    changed[..., -side // 4 :] = 255
    first, second = (face_descriptor(torch.from_numpy(x)) for x in (images, changed))
    assert torch.equal(first, second)
    changed[..., side // 2, side // 2] ^= 255
    assert not torch.equal(first, face_descriptor(torch.from_numpy(changed)))


def test_distances_are_in_steps_of_bytes() -> None:
    """A brighter picture differs in the low-pass level alone, by as much as it is brighter."""
    images = torch.from_numpy(reals()[:2] // 2)
    found = nearest(images + SHIFT, [images], 1)
    assert found.indices.tolist() == [[0], [1]]
    assert np.allclose(found.distances, 3, rtol=1e-4)


def test_another_descriptor() -> None:
    red = np.zeros((4, 3, 8, 8), np.uint8)
    red[:, 0] = np.array([10, 200, 90, 120])[:, None, None]
    found = nearest(red[2:3], [red], 3, descriptor=lambda images: images[:, 0].float().mean(dim=(1, 2))[:, None])
    assert found.indices.tolist() == [[2, 3, 0]]
    assert found.distances.tolist() == [[0, 30, 80]]


def test_mistakes_are_named() -> None:
    images = reals()[:3]
    with pytest.raises(DataError, match="5 nearest of 3"):
        nearest(images, [images], 5)
    with pytest.raises(DataError, match="at least 1"):
        nearest(images, [images], 0)
    with pytest.raises(DataError, match="expected RGB bytes"):
        nearest(images, [images[..., :16, :16]], 1)
    with pytest.raises(DataError, match="power of two"):
        nearest(images[..., :24, :24], [], 1)
    with pytest.raises(DataError, match="power of two"):
        face_descriptor(torch.zeros((1, 3, 4, 4), dtype=torch.uint8))
