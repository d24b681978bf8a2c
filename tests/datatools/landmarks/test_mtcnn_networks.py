"""MTCNN's networks against a plain formulation in NumPy, with the weights in Keras's layout."""

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from datatools.landmarks.mtcnn_networks import BATCH, Networks, Pool, ProposalNet, fill, load_networks, refinement_net
from datatools.landmarks.mtcnn_weights import read_weights

Array = NDArray[np.float64]


def convolved(x: Array, weights: Iterator[NDArray[np.float32]]) -> Array:
    """Return a convolution with PReLU of a picture (h, w, c)."""
    kernel, bias, slope = (next(weights).astype(float) for _ in range(3))
    windows = sliding_window_view(x, kernel.shape[:2], axis=(0, 1))  # (rows, columns, in, y, x)
    return prelu(np.einsum("rcixy,xyio->rco", windows.swapaxes(0, 0), kernel, optimize=True) + bias, slope)


def prelu(x: Array, slope: Array) -> Array:
    return np.where(x > 0, x, x * slope.reshape(-1))


def pooled(x: Array, window: int, stride: int) -> Array:
    """Return max-pooling whose windows may stick out at the right and at the bottom."""
    rows, columns = (-(-(side - window) // stride) + 1 for side in x.shape[:2])
    return np.array(
        [
            [
                x[r * stride : r * stride + window, c * stride : c * stride + window].max(axis=(0, 1))
                for c in range(columns)
            ]
            for r in range(rows)
        ]
    )


def softmax(logits: Array) -> Array:
    exponents = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponents / exponents.sum(axis=-1, keepdims=True)


def plain_crop_net(crop: NDArray[np.uint8], name: str, pools: Sequence[tuple[int, int] | None]) -> list[Array]:
    """Return the heads' results of R-Net or O-Net for a crop."""
    weights = iter(read_weights(name))
    x = (crop.astype(float) - 127.5) / 128
    for pool in pools:
        x = convolved(x, weights)
        x = pooled(x, *pool) if pool else x
    features = x.swapaxes(0, 1).reshape(-1) @ next(weights) + next(weights)
    features = prelu(features, next(weights))
    rest = list(weights)
    return [features @ weight + bias for weight, bias in zip(rest[::2], rest[1::2], strict=True)]


@pytest.mark.parametrize(("window", "stride"), [(2, 2), (3, 2)])
@pytest.mark.parametrize("size", [(3, 3), (10, 7), (8, 9)])
def test_pooling_has_torchs_values(window: int, stride: int, size: tuple[int, int]) -> None:
    maps = torch.from_numpy(np.random.default_rng(3).normal(size=(2, 3, *size)))
    expected = torch.nn.functional.max_pool2d(maps, window, stride, ceil_mode=True)
    assert torch.equal(Pool(window, stride)(maps), expected)


@pytest.fixture(scope="module")
def networks() -> Networks:
    return load_networks("cpu")


def test_onet_equals_the_plain_formulation(networks: Networks) -> None:
    crops = np.random.default_rng(1).integers(0, 256, (3, 48, 48, 3), np.uint8)
    scores, offsets, points = networks.finish(crops)
    for i, crop in enumerate(crops):
        box, marks, logits = plain_crop_net(crop, "onet", [(3, 2), (3, 2), (2, 2), None])
        np.testing.assert_allclose(offsets[i], box, atol=1e-5)
        np.testing.assert_allclose(points[i], marks.reshape(2, 5).T, atol=1e-5)  # all x, then all y
        np.testing.assert_allclose(scores[i], softmax(logits)[1], atol=1e-5)


def test_rnet_equals_the_plain_formulation(networks: Networks) -> None:
    crops = np.random.default_rng(2).integers(0, 256, (3, 24, 24, 3), np.uint8)
    scores, offsets = networks.refine(crops)
    for i, crop in enumerate(crops):
        box, logits = plain_crop_net(crop, "rnet", [(3, 2), (3, 2), None])
        np.testing.assert_allclose(offsets[i], box, atol=1e-5)
        np.testing.assert_allclose(scores[i], softmax(logits)[1], atol=1e-5)


@pytest.mark.parametrize("size", [(12, 12), (31, 44)])
def test_pnet_equals_the_plain_formulation(networks: Networks, size: tuple[int, int]) -> None:
    picture = np.random.default_rng(3).integers(0, 256, (*size, 3), np.uint8)
    weights = iter(read_weights("pnet"))
    x = pooled(convolved((picture.astype(float) - 127.5) / 128, weights), 2, 2)
    x = convolved(convolved(x, weights), weights)
    rest = [array.reshape(-1, array.shape[-1]).astype(float) for array in weights]
    scores, offsets = networks.propose(picture)
    assert scores.shape == (-(-(size[0] - 2) // 2) - 4, -(-(size[1] - 2) // 2) - 4)
    np.testing.assert_allclose(offsets, x @ rest[0] + rest[1], atol=1e-5)
    np.testing.assert_allclose(scores, softmax(x @ rest[2] + rest[3])[..., 1], atol=1e-5)


def test_many_crops_give_the_same_as_few(networks: Networks) -> None:
    crops = np.random.default_rng(4).integers(0, 256, (BATCH + 3, 24, 24, 3), np.uint8)
    scores, offsets = networks.refine(crops)
    assert len(scores) == len(offsets) == BATCH + 3
    np.testing.assert_allclose(scores[-3:], networks.refine(crops[-3:])[0], atol=1e-6)


def test_weights_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"weights of the shape \(28, 3, 3, 3\)"):
        fill(ProposalNet(), read_weights("rnet"))
    with pytest.raises(ValueError, match="more arrays than layers"):
        fill(refinement_net(), [*read_weights("rnet"), np.zeros(1, np.float32)])
