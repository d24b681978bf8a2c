"""The levels are what the paper's averaging gives, to the last bit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from datatools.errors import DataError
from datatools.pyramid import build_levels, level_resolutions


def slow_level(face: NDArray[np.uint8], resolution: int) -> NDArray[np.uint8]:
    """rint of the mean of each block of the top level, in float64, where all these sums and quotients are exact."""
    step = face.shape[0] // resolution
    blocks = face.astype(np.float64).reshape(resolution, step, resolution, step, 3)
    return np.rint(blocks.mean(axis=(1, 3))).transpose(2, 0, 1).astype(np.uint8)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(2, 8),
    st.sampled_from([1, 4]),
    st.sampled_from([(0, 256), (0, 2), (127, 129), (254, 256), (255, 256)]),
    st.integers(0, 2**32 - 1),
)
def test_levels_equal_a_slow_exact_average(log2: int, min_level: int, span: tuple[int, int], seed: int) -> None:
    side = 1 << log2
    face = np.random.default_rng(seed).integers(*span, (side, side, 3), dtype=np.uint8)
    levels = build_levels(face, min_level)
    assert list(levels) == [1 << k for k in range(log2, min_level.bit_length() - 2, -1)]
    for resolution, level in levels.items():
        assert level.shape == (3, resolution, resolution)
        assert level.dtype == np.uint8
        assert level.flags.c_contiguous
        np.testing.assert_array_equal(level, slow_level(face, resolution))


@pytest.mark.parametrize("brightest", [False, True])
def test_full_size_equals_the_slow_average(brightest: bool) -> None:
    """The sums of 1024 x 1024 bytes, which only the largest type holds."""
    face = np.full((1024, 1024, 3), 255, np.uint8)
    if not brightest:
        face = np.random.default_rng(7).integers(0, 256, face.shape, dtype=np.uint8)
    for resolution, level in build_levels(face, min_level=1).items():
        np.testing.assert_array_equal(level, slow_level(face, resolution))


@pytest.mark.parametrize(("total", "expected"), [(1, 0), (2, 0), (3, 1), (5, 1), (6, 2), (10, 2), (14, 4)])
def test_halves_go_to_the_even_number(total: int, expected: int) -> None:
    """Four bytes of that sum: x.5 goes to the even neighbour, 0.5 to 0, 1.5 and 2.5 to 2, 3.5 to 4."""
    block = np.array([[total // 4, total // 4], [total // 4, total - 3 * (total // 4)]], np.uint8)
    face = np.repeat(np.tile(block, (2, 2))[..., None], 3, axis=2)
    assert (build_levels(face, min_level=1)[2] == expected).all()


def test_levels_are_not_rounded_on_the_way_down() -> None:
    """Means of 0.5, 0.5, 0.5, 1.25 are 0, 0, 0, 1 one level down; two levels down it is 1, not the mean of those."""
    corner = np.array([[2, 0, 2, 0], [0, 0, 0, 0], [2, 0, 5, 0], [0, 0, 0, 0]], np.uint8)
    levels = build_levels(np.repeat(corner[..., None], 3, axis=2), min_level=1)
    np.testing.assert_array_equal(levels[2][0], [[0, 0], [0, 1]])
    assert (levels[1] == 1).all()


@pytest.mark.parametrize("shape", [(64, 32, 3), (64, 64), (64, 64, 4)])
def test_a_face_of_wrong_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="a face is"):
        build_levels(np.zeros(shape, np.uint8))


def test_a_face_of_wrong_type_is_refused() -> None:
    with pytest.raises(ValueError, match="float64"):
        build_levels(np.zeros((8, 8, 3)))


@pytest.mark.parametrize(("resolution", "min_level"), [(300, 4), (2, 1), (2048, 4), (64, 3), (64, 128)])
def test_impossible_level_sizes_are_a_users_error(resolution: int, min_level: int) -> None:
    with pytest.raises(DataError, match="power of two"):
        level_resolutions(resolution, min_level)


def test_level_sizes() -> None:
    assert level_resolutions(1024) == (1024, 512, 256, 128, 64, 32, 16, 8, 4)
    assert level_resolutions(8, 1) == (8, 4, 2, 1)
