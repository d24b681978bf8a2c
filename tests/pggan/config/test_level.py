"""Levels: one conversion between level of detail, resolution and weights."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pggan.config.level import Level


def test_level_of_lod() -> None:
    for lod, resolution, alpha, stage in (
        (0.0, 32, 1.0, (0, 0)),
        (0.25, 32, 0.75, (0, 1)),
        (1.25, 16, 0.75, (1, 2)),
        (3.0, 4, 1.0, (3, 3)),
    ):
        level = Level(32, lod)
        assert (level.resolution, level.alpha, level.below, level.stage) == (resolution, alpha, 1 - alpha, stage)
    with pytest.raises(ValueError, match="lod 4"):
        Level(32, 4.0)
    with pytest.raises(ValueError, match="lod -1"):
        Level(32, -1.0)


@given(st.integers(2, 10), st.integers(0, 8), st.floats(0, 1, exclude_max=True))
def test_weights_sum_to_one_and_whole_levels_have_whole_lods(most: int, down: int, below: float) -> None:
    down = min(down, most - 2)
    assume(int(down + below) == down)  # not rounded up to the next level
    whole = Level.whole(2**most, 2 ** (most - down))
    assert (whole.lod, whole.resolution, whole.below) == (down, 2 ** (most - down), 0.0)
    level = Level(2**most, down + below)
    assert level.alpha + level.below == 1.0
    assert level.resolution == 2 ** (most - down)
