"""Both ways of sorting give the same, whatever the values are."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pggan.metrics import sorting
from pggan.metrics.sorting import bucket_sort, plain_sort, sort

WAYS = (plain_sort, bucket_sort, sort)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("count", [1, 2, 1000, 70_001])
@pytest.mark.parametrize("kind", ["normal", "heavy tails", "few values", "equal", "tiny", "sorted"])
def test_rows(way: Callable[[np.ndarray], None], count: int, kind: str) -> None:
    rng = np.random.default_rng(count)
    values = {
        "normal": rng.normal(size=count),
        "heavy tails": rng.standard_cauchy(size=count),
        "few values": rng.integers(0, 5, count),
        "equal": np.full(count, 0.1),
        "tiny": rng.normal(size=count) * 1e-44,
        "sorted": np.linspace(-1, 1, count),
    }[kind].astype(np.float32)
    found = values.copy()
    way(found)
    assert np.array_equal(found, np.sort(values))


@given(arrays(np.float32, st.integers(1, 300), elements=st.floats(width=32, allow_nan=False)))
def test_any_values(values: np.ndarray) -> None:
    found = values.copy()
    bucket_sort(found)
    assert np.array_equal(found, np.sort(values))


def test_windows_are_used_for_what_a_projection_looks_like(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the comparison above would be of NumPy's sort with itself."""
    widths = []
    monkeypatch.setattr(sorting.np, "bincount", lambda keys: widths.append(len(keys)) or np.array([3]))
    values = np.linspace(1, 0, 500, dtype=np.float32)
    bucket_sort(values)
    assert widths == [500]
    assert (np.diff(values) > 0).all()


@pytest.mark.parametrize("faster", [plain_sort, bucket_sort])
def test_the_faster_way_is_chosen(faster: Callable[[np.ndarray], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sorting, "_seconds", lambda way, _: 1.0 if way is faster else 2.0)
    assert sorting._fastest.__wrapped__() is faster  # not what was found before
