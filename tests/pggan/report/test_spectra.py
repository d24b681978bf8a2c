"""Spectra find the frequency of a pattern, what blur takes away, and what noise adds."""

import numpy as np
import pytest
from numpy.typing import NDArray

from pggan.media.grids import tile, untile
from pggan.report.pictures import reduced
from pggan.report.spectra import radial_spectrum, spectrum_figure


def noise(count: int = 8, side: int = 32, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def test_a_pattern_has_its_power_at_its_frequency() -> None:
    wave = np.sin(2 * np.pi * 6 * np.arange(32) / 32)
    picture = np.broadcast_to((127.5 + 100 * wave)[None, :, None], (32, 32, 3)).round().astype(np.uint8)
    for pictures in (picture[None], picture.transpose(1, 0, 2)[None]):
        power = radial_spectrum(pictures)
        assert power.shape == (16,)
        assert np.argmax(power) + 1 == 6
        assert power[[0, 1, 2, 9, 10, 15]].max() < 1e-3 * power[5]


def test_noise_is_white_with_its_own_variance() -> None:
    pictures = noise(64)
    power = radial_spectrum(pictures)
    variance = (pictures.mean(axis=3) / 255).var()
    assert power.mean() == pytest.approx(variance, rel=0.05)
    assert power[2:].std() < 0.1 * power.mean()


def test_the_caption_tells_blur_from_noise() -> None:
    reals = noise(16, seed=1)
    assert "have 1.00 times" in spectrum_figure(reals, reals).caption
    half = reduced(reals, 2)
    blurred = half.repeat(2, axis=1).repeat(2, axis=2)
    share = float(spectrum_figure(blurred, reals).caption.split(" have ")[1].split()[0])
    assert 0.1 < share < 0.7
    plain = np.full_like(reals, 128)
    assert " have 0.00 times" in spectrum_figure(plain, reals).caption


def test_a_grid_comes_apart_as_it_was_put_together() -> None:
    pictures = noise(6, 8)
    assert np.array_equal(untile(tile(pictures, 3), 8), pictures)
