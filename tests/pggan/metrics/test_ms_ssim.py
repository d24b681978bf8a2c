"""MS-SSIM: numbers from float64, its bounds, and pairs that do not depend on batches."""

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from datatools.errors import DataError
from pggan.metrics import ms_ssim as module
from pggan.metrics.ms_ssim import combine, gaussian, ms_ssim, statistics
from tests.support import metrics_reference as reference
from tests.support.paths import GOLDEN

Bytes = NDArray[np.uint8]


def box(images: Bytes) -> Bytes:
    count, _, size, _ = images.shape
    return np.rint(images.reshape(count, 3, size // 4, 4, size // 4, 4).mean(axis=(3, 5))).astype(np.uint8)


def mixed(x: Bytes, y: Bytes) -> Bytes:
    return np.rint(0.6 * x + 0.4 * y).astype(np.uint8)


@cache
def pairs() -> dict[str, tuple[Bytes, Bytes]]:
    a, b = reference.clouds(8, 128, 1), reference.clouds(8, 128, 2, 1.3)
    return {
        "a_m": (a, mixed(a, b)),
        "a_b": (a, b),
        "a_softened": (a, reference.soften(a)),
        "a_m_32": (box(a), mixed(box(a), box(b))),
    }


@pytest.mark.parametrize("name", ["a_m", "a_b", "a_softened", "a_m_32"])
def test_pairs(name: str) -> None:
    with np.load(GOLDEN / "metric_pieces.npz") as file:
        expected = file[f"ms_ssim_{name}"]
    assert np.allclose(ms_ssim(*pairs()[name]), expected, rtol=1e-5, atol=1e-9)


def test_tensors_give_what_arrays_give(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = pairs()["a_m_32"]
    expected = ms_ssim(first, second)
    assert np.array_equal(ms_ssim(torch.from_numpy(first), torch.from_numpy(second)), expected)

    def as_on_a_device(x: Any, y: Any) -> Any:
        return original(torch.from_numpy(x), torch.from_numpy(y))

    original = module._chunk_means
    monkeypatch.setattr(module, "_chunk_means", as_on_a_device)
    assert np.allclose(ms_ssim(first, second), expected, rtol=1e-5)


@settings(max_examples=20)
@given(st.sampled_from([(16, 16), (16, 48), (80, 32)]), st.integers(0, 2**32 - 1))
def test_any_picture_as_in_the_plain_formulation(shape: tuple[int, int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    first = rng.integers(0, 256, (2, 3, *shape), dtype=np.uint8)
    second = np.clip(first + rng.normal(0, rng.uniform(1, 60), first.shape), 0, 255).astype(np.uint8)
    assert np.allclose(ms_ssim(first, second), reference.ms_ssim(first, second), rtol=1e-5, atol=1e-5)


def test_equal_pictures_are_1_also_flat_ones() -> None:
    flat = np.stack([np.full((3, 32, 32), value, np.uint8) for value in (0, 128, 255)])
    images = np.concatenate([flat, reference.clouds(3, 32, 1)])
    assert np.allclose(ms_ssim(images, images), 1, atol=1e-6)


def test_order_within_a_pair_does_not_matter() -> None:
    first, second = pairs()["a_m_32"]
    assert np.allclose(ms_ssim(first, second), ms_ssim(second, first), rtol=1e-6)


def test_opposite_pictures_are_0_not_complex() -> None:
    images = reference.clouds(2, 64, 1)
    assert ms_ssim(images, 255 - images).tolist() == [0, 0]


def test_brightness_counts_at_the_last_scale_alone() -> None:
    dark, bright = np.full((1, 3, 32, 32), 50, np.uint8), np.full((1, 3, 32, 32), 200, np.uint8)
    contrast, similarity = statistics(dark, bright)
    assert np.allclose(contrast, 1, atol=1e-4)
    luminance = (2 * 50 * 200 + 2.55**2) / (50**2 + 200**2 + 2.55**2)
    assert np.allclose(similarity, luminance, atol=1e-4)
    assert combine(contrast, similarity) == pytest.approx(luminance**0.1333, rel=1e-4)


def test_windows() -> None:
    assert gaussian(11)[5] == pytest.approx(0.26601, abs=1e-4)
    assert np.allclose(gaussian(8), gaussian(8)[::-1])
    assert gaussian(8)[3] == gaussian(8)[4]
    assert gaussian(1).tolist() == [1]
    assert gaussian(2).tolist() == [0.5, 0.5]


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_a_pair_does_not_depend_on_its_batch(batch: int) -> None:
    images = reference.clouds(8, 32, 4)
    first, second = images[0::2], images[1::2]
    parts = [ms_ssim(first[start : start + batch], second[start : start + batch]) for start in range(0, 4, batch)]
    assert np.array_equal(np.concatenate(parts), ms_ssim(first, second))
    assert np.array_equal(ms_ssim(torch.from_numpy(first), torch.from_numpy(second)), ms_ssim(first, second))


def test_a_collapsed_set_is_near_1() -> None:
    images = reference.clouds(8, 32, 4)
    same = np.repeat(images[:1], 8, axis=0)
    assert ms_ssim(images[0::2], images[1::2]).mean() < 0.5
    assert ms_ssim(same[0::2], same[1::2]).mean() == pytest.approx(1, abs=1e-6)


def test_mistakes_are_named() -> None:
    images = reference.clouds(2, 32, 1)
    with pytest.raises(DataError, match="multiples of 16"):
        ms_ssim(images[..., :8, :8], images[..., :8, :8])
    with pytest.raises(DataError, match="multiples of 16"):
        ms_ssim(images[..., :20], images[..., :20])
    with pytest.raises(DataError, match="cannot be compared"):
        ms_ssim(images, images[..., :16, :16])
    with pytest.raises(DataError, match="expected RGB bytes"):
        ms_ssim(images[:, :1], images[:, :1])
    with pytest.raises(DataError, match="expected RGB bytes"):
        ms_ssim(images / 255, images / 255)
