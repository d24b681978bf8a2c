"""Degradations: a seed reproduces every pixel, targets stay in place, and nothing moves by a part of a pixel."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datatools.restore.base import Picture
from datatools.restore.fit import degrade
from datatools.restore.fit.degrade import (
    GAUSSIAN_SIGMA,
    GRAIN,
    OFF_GRID,
    SCALE,
    Reduction,
    add_grain,
    compress,
    draw_reduction,
    jpeg_pair,
    reduce_picture,
)
from datatools.restore.fit.metrics import psnr_rgb
from tests.support.portraits import Portrait, render

KERNELS = [
    Reduction("bicubic"),
    Reduction("box"),
    Reduction("lanczos"),
    Reduction("gaussian", (0.7, 0.7)),
    Reduction("gaussian", (1.6, 0.6), 0.7),
]
EVERY_KERNEL = pytest.mark.parametrize("reduction", KERNELS, ids=lambda r: f"{r.kernel}-{r.sigma[0]}")


@pytest.fixture(scope="module")
def picture() -> Picture:
    return render(Portrait(4, size=(200, 160), unit=50, centre=(100, 80)))


def test_compression_is_pillows(picture: Picture) -> None:
    assert compress(picture, 30).shape == picture.shape
    assert psnr_rgb(picture, compress(picture, 10)) < psnr_rgb(picture, compress(picture, 60))
    red = np.zeros((16, 16, 3), np.uint8)
    red[:, ::2] = (255, 0, 0)
    full, half = (psnr_rgb(red, compress(red, 95, subsampling=s)) for s in ("4:4:4", "4:2:0"))
    assert full > half + 10


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), size=st.integers(16, 150))
def test_jpeg_pairs_have_the_size_and_a_seed_repeats_them(picture: Picture, seed: int, size: int) -> None:
    given_, clean = jpeg_pair(picture, size, np.random.default_rng(seed))
    assert given_.shape == clean.shape == (size, size, 3)
    assert given_.dtype == clean.dtype == np.uint8
    assert given_.flags.c_contiguous
    assert clean.flags.c_contiguous
    again = jpeg_pair(picture, size, np.random.default_rng(seed))
    assert np.array_equal(given_, again[0])
    assert np.array_equal(clean, again[1])


def best_shift(first: Picture, second: Picture) -> tuple[int, int]:
    """The shift by whole pixels at which two pictures are most alike."""
    reach = 3
    a = first[reach:-reach, reach:-reach].astype(float)
    shifts = [(y, x) for y in range(-reach, reach + 1) for x in range(-reach, reach + 1)]
    return min(shifts, key=lambda s: float(np.abs(a - np.roll(second, s, (0, 1))[reach:-reach, reach:-reach]).mean()))


def test_targets_are_not_shifted(picture: Picture) -> None:
    """Above all those that were compressed twice, moved in between."""
    rng = np.random.default_rng(0)
    pairs = [jpeg_pair(picture, 100, rng) for _ in range(40)]
    assert {best_shift(*pair) for pair in pairs} == {(0, 0)}


def test_some_pairs_are_left_alone_and_most_are_not(picture: Picture) -> None:
    rng = np.random.default_rng(1)
    equal = [np.array_equal(*jpeg_pair(picture, 64, rng)) for _ in range(200)]
    assert 4 <= sum(equal) <= 34  # 16 on average


def test_some_pictures_compressed_once_begin_within_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in photos cut after JPEG and saved without: a network must not rely on the corner, though it mostly can."""

    def marked(picture: Picture, _quality: int, **_: object) -> Picture:
        """White where a block begins."""
        picture = picture.copy()
        picture[::8, ::8] = 255
        return picture

    monkeypatch.setattr(degrade, "compress", marked)
    for share in ("TWICE", "GRAINY", "UNTOUCHED"):
        monkeypatch.setattr(degrade, share, 0.0)
    black, rng = np.zeros((64, 64, 3), np.uint8), np.random.default_rng(2)
    corners = [np.argwhere(jpeg_pair(black, 24, rng)[0][..., 0])[0] for _ in range(2000)]
    within = [tuple(corner % 8) for corner in corners if corner.any()]
    assert len(within) / 2000 == pytest.approx(OFF_GRID * 63 / 64, abs=0.02)
    for axis in (0, 1):
        assert {place[axis] for place in within} == set(range(8))


def test_a_picture_too_small_for_the_part(picture: Picture) -> None:
    with pytest.raises(ValueError, match="200 x 160 has no part of 161 x 161"):
        jpeg_pair(picture, 161, np.random.default_rng(0))
    assert jpeg_pair(picture, 160, np.random.default_rng(0))[0].shape == (160, 160, 3)


def test_draws_cover_every_kernel() -> None:
    rng = np.random.default_rng(0)
    drawn = [draw_reduction(rng, bicubic=0.4) for _ in range(1000)]
    share = {kernel: sum(r.kernel == kernel for r in drawn) / 1000 for kernel in ("bicubic", "box", "lanczos")}
    assert 0.35 < share["bicubic"] < 0.45
    assert all(0.15 < share[kernel] < 0.25 for kernel in ("box", "lanczos"))
    gaussian = [r for r in drawn if r.kernel == "gaussian"]
    assert all(GAUSSIAN_SIGMA[0] <= s <= GAUSSIAN_SIGMA[1] for r in gaussian for s in r.sigma)
    assert all(0 <= r.angle <= np.pi for r in gaussian)
    assert 0.2 < np.mean([r.sigma[0] != r.sigma[1] for r in gaussian]) < 0.47
    assert drawn == [draw_reduction(r, bicubic=0.4) for r in [np.random.default_rng(0)] for _ in range(1000)]
    assert {draw_reduction(rng, bicubic=1).kernel for _ in range(50)} == {"bicubic"}


@EVERY_KERNEL
def test_reduction_keeps_flat_pictures_and_sizes(reduction: Reduction) -> None:
    flat = np.full((24, 36, 3), (3, 130, 251), np.uint8)
    small = reduce_picture(flat, reduction)
    assert small.shape == (6, 9, 3)
    assert (small == (3, 130, 251)).all()


@EVERY_KERNEL
@pytest.mark.parametrize("place", [20, 21, 22, 23])
def test_reduction_moves_nothing(reduction: Reduction, place: int) -> None:
    """The centre of a bar 4 pixels wide stays where it is, wherever it lies in the grid of reduced pixels."""
    centres = np.arange(12) * SCALE + (SCALE - 1) / 2
    for axis in (0, 1):
        bar = np.full((48, 48, 3), 30, np.uint8)  # not black or white: Lanczos goes beyond its surroundings
        bar.swapaxes(0, axis)[place : place + 4] = 225
        small = reduce_picture(bar, reduction).astype(float).mean(axis=(1 - axis, 2)) - 30
        found = float((small * centres).sum() / small.sum())
        assert found == pytest.approx(place + 1.5, abs=0.02 * SCALE)


@EVERY_KERNEL
def test_reduction_keeps_a_ramp_where_it_is(reduction: Reduction) -> None:
    """Exact to the last rounding, away from the edges."""
    ramp = np.broadcast_to(np.arange(160, dtype=np.uint8)[None, :, None], (160, 160, 3))
    for picture in (ramp, ramp.transpose(1, 0, 2)):
        small = reduce_picture(np.ascontiguousarray(picture), reduction).astype(float)
        small = small if picture is ramp else small.transpose(1, 0, 2)
        assert np.abs(small[:, 6:-6, 0] - (np.arange(40) * SCALE + 1.5)[None, 6:-6]).max() <= 0.5


def test_bicubic_is_the_default_and_pillows(picture: Picture) -> None:
    assert np.array_equal(reduce_picture(picture), reduce_picture(picture, Reduction("bicubic")))


def spread(small: Picture) -> tuple[float, float, float]:
    """Variance of a bright spot along x and y and the covariance, in reduced pixels."""
    light = small[..., 0].astype(float)
    light /= light.sum()
    y, x = np.mgrid[: light.shape[0], : light.shape[1]] - (light.shape[0] - 1) / 2
    return float((light * x * x).sum()), float((light * y * y).sum()), float((light * x * y).sum())


def test_gaussians_are_as_wide_as_they_say() -> None:
    spot = np.zeros((80, 80, 3), np.uint8)
    spot[38:42, 38:42] = 255
    spot[36:44, 36:44] = 255
    own = 8 * 8 / 12 / SCALE**2  # the variance of the spot itself
    for sigma in (0.8, 1.4):
        x, y, across = spread(reduce_picture(spot, Reduction("gaussian", (sigma, sigma))))
        assert x == pytest.approx(sigma**2 + own, rel=0.08)
        assert y == pytest.approx(x, rel=0.01)
        assert across == pytest.approx(0, abs=0.01)


def test_gaussians_have_a_direction() -> None:
    spot = np.zeros((80, 80, 3), np.uint8)
    spot[36:44, 36:44] = 255
    x, y, across = spread(reduce_picture(spot, Reduction("gaussian", (1.6, 0.6), 0.0)))
    assert x > 2.5 * y
    assert across == pytest.approx(0, abs=0.01)
    x, y, across = spread(reduce_picture(spot, Reduction("gaussian", (1.6, 0.6), np.pi / 2)))
    assert y > 2.5 * x
    x, y, across = spread(reduce_picture(spot, Reduction("gaussian", (1.6, 0.6), np.pi / 4)))
    assert x == pytest.approx(y, rel=0.01)
    assert across > 0.5  # along the diagonal where x and y grow together


@pytest.mark.parametrize("size", [(6, 8), (8, 6), (0, 4), (3, 3)])
def test_sides_that_are_no_multiples(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="not multiples"):
        reduce_picture(np.zeros((*size, 3), np.uint8))


def test_an_unknown_kernel() -> None:
    with pytest.raises(ValueError, match=r"'hamming'.*bicubic.*gaussian"):
        reduce_picture(np.zeros((8, 8, 3), np.uint8), Reduction("hamming"))


@EVERY_KERNEL
def test_the_smallest_picture(reduction: Reduction) -> None:
    assert reduce_picture(np.full((4, 4, 3), 9, np.uint8), reduction).tolist() == [[[9, 9, 9]]]


def test_grain_has_the_strength_asked_for_and_no_drift() -> None:
    grey = np.full((96, 96, 3), 128, np.uint8)
    strengths = []
    for seed in range(40):
        grained = add_grain(grey, np.random.default_rng(seed))
        assert grained.shape == grey.shape
        assert abs(float(grained.mean()) - 128) < 1.5
        strengths.append(float(grained.std()))
    assert GRAIN[0] * 0.8 < min(strengths) < 2
    assert GRAIN[1] * 0.7 < max(strengths) < GRAIN[1] * 1.2
    assert np.array_equal(add_grain(grey, np.random.default_rng(5)), add_grain(grey, np.random.default_rng(5)))


def test_grain_belongs_to_the_wanted_picture() -> None:
    """What should come out has the grain as well: it is JPEG's work that is to be undone, not the photographer's."""
    grey = np.full((64, 64, 3), 128, np.uint8)
    wanted = [jpeg_pair(grey, 32, np.random.default_rng(seed))[1] for seed in range(60)]
    grainy = [picture for picture in wanted if picture.std() > 0.3]
    assert 5 <= len(grainy) <= 25
    assert all(np.array_equal(picture, np.full_like(picture, 128)) for picture in wanted if picture.std() == 0)


def test_blocks_mostly_begin_at_the_corner() -> None:
    """As they do in a photo that was compressed once and never cut."""
    y, x = np.mgrid[:96, :96]
    picture = np.stack([128 + 60 * np.sin(x / 5 + y / 9 + c) for c in range(3)], axis=2).astype(np.uint8)
    on_grid = 0
    for seed in range(60):
        given, _ = jpeg_pair(picture, 64, np.random.default_rng(seed))
        steps = np.abs(np.diff(given.astype(float), n=2, axis=1)).mean(axis=(0, 2))
        on_grid += int(np.argmax([steps[k::8].mean() for k in range(8)])) in (
            6,
            7,
        )  # second differences across column 8
    assert on_grid >= 40
