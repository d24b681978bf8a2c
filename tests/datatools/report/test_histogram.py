"""The histogram of scores."""

from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from datatools.report.histogram import BARS, bar_edges, log_axis_start, score_histogram

SIZE = (400, 300)


@given(
    scores=hnp.arrays(np.float64, st.integers(1, 60), elements=st.floats(-1e6, 1e6)),
    pick=st.integers(0, 59),
)
def test_edges_rise_evenly_and_one_lies_on_the_cut(scores: np.ndarray, pick: int) -> None:
    cut = float(scores[pick % len(scores)])
    edges = bar_edges(scores, cut)
    widths = np.diff(edges)
    assert np.all(widths > 0)
    np.testing.assert_allclose(widths, widths[0], rtol=1e-4)
    assert BARS <= len(widths) <= BARS + 2
    if edges[0] < cut < edges[-1]:
        assert np.abs(edges - cut).min() <= 1e-9 * max(1.0, abs(cut))


def test_a_long_tail_is_shown() -> None:
    scores = np.random.default_rng(3).lognormal(sigma=1.0, size=2000)
    edges = bar_edges(scores, None)
    assert edges[0] == scores.min()
    assert edges[-1] >= np.quantile(scores, 0.995)


def skewed() -> np.ndarray:
    """Scores as CelebA's photos have them: half of them in the first hundredth of the range, some as good as 0."""
    scores = np.random.default_rng(5).lognormal(mean=-3.7, sigma=2.6, size=2000)
    return np.concatenate([scores[scores < 7], [0.0, 1e-9]])


def test_scores_of_many_magnitudes_are_spread_over_a_logarithmic_axis() -> None:
    scores = skewed()
    linear = np.histogram(scores, bar_edges(scores, None))[0]
    assert linear.max() > len(scores) / 2  # one bar
    start = log_axis_start(scores)
    assert start == 0.0001
    places = np.log10(np.maximum(scores, start))
    assert np.histogram(places, bar_edges(places, None))[0].max() < len(scores) / 10
    cut = float(np.quantile(scores, 0.9))
    plot, outside = score_histogram(scores[scores >= cut], scores[scores < cut], cut, *SIZE)
    assert outside == 0
    text = plot.decode()
    for words in ("quality score, logarithmic", "<!-- 0.001 -->", "<!-- 0.1 -->", f"cut at {cut:.4f}"):
        assert words in text


@pytest.mark.parametrize(
    "scores",
    [[1.0], [0.0, 0.0], [3.0] * 50, np.linspace(0, 6, 100), [-1.0, 0.001, 0.002, 6.0], [0.5, 1.0, 2.0, 4.0]],
)
def test_other_scores_keep_their_linear_axis(scores: list[float]) -> None:
    assert log_axis_start(np.array(scores)) is None
    plot, _ = score_histogram(np.array(scores), np.empty(0), None, *SIZE)
    assert "logarithmic" not in plot.decode()


@pytest.mark.parametrize("cut", [0.0, 1e-9, 0.5])
def test_a_cut_may_lie_anywhere_on_a_logarithmic_axis(cut: float) -> None:
    scores = skewed()
    chosen, others = scores[scores >= cut], scores[scores < cut]
    assert score_histogram(chosen, others, cut, *SIZE)[1] == 0


def test_far_outliers_do_not_stretch_the_axis_and_are_counted() -> None:
    scores = np.concatenate([np.linspace(0, 1, 1001), [-500.0, 900.0]])
    edges = bar_edges(scores, None)
    assert -2 < edges[0] <= 0
    assert 1 <= edges[-1] < 3
    assert score_histogram(scores, np.empty(0), None, *SIZE)[1] == 2


@pytest.mark.parametrize(
    ("chosen", "others", "cut"),
    [([1.0], [], None), ([], [2.0], None), ([1.0] * 9, [1.0], 1.0), ([3, 4, 5.5], [1, 2.5], 3.0)],
)
def test_a_plot_is_svg_of_the_asked_size_and_always_the_same(
    chosen: list[float], others: list[float], cut: float | None
) -> None:
    plot, outside = score_histogram(np.array(chosen), np.array(others), cut, *SIZE)
    assert outside == 0
    assert score_histogram(np.array(chosen), np.array(others), cut, *SIZE) == (plot, 0)
    text = plot.decode()
    root = ElementTree.fromstring(text)
    assert root.attrib["viewBox"] == "0 0 300 225"  # points: 0.75 of CSS pixels
    assert ("cut at" in text) == (cut is not None)  # the text stays in comments, glyphs are drawn
    assert ("not chosen (" in text) == bool(others)
