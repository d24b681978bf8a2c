"""Curves: readable whatever the numbers are, and the same for the same numbers."""

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from pggan.config.schedule import Stage
from pggan.report.plots import SHADE, Line, draw, limits

PHASES = tuple(
    Stage(1000 * first, 1000 * end, resolution, fading, 1, 1.0)
    for first, end, resolution, fading in ((0, 10, 4, False), (10, 20, 8, True), (20, 40, 8, False), (40, 60, 16, True))
)


def line(values: list[float], label: str = "a") -> Line:
    return Line(label, np.arange(1.0, len(values) + 1), np.array(values))


def test_far_values_do_not_flatten_the_others() -> None:
    values = np.sin(np.arange(100.0))
    assert limits(values) == pytest.approx((-1.1, 1.1), abs=0.02)
    low, high = limits(np.append(values, [1e6]))
    assert low == pytest.approx(-1.2, abs=0.05)
    assert 2 < high < 4


@pytest.mark.parametrize("value", [0.0, 3.0, -1e9])
def test_an_axis_of_one_value_has_a_length(value: float) -> None:
    low, high = limits(np.array([value, value]))
    assert low < value < high


def test_what_fades_in_within_the_curve_is_shaded() -> None:
    assert draw([line([1.0] * 9)], PHASES).count(SHADE.encode()) == 0
    assert draw([line([1.0] * 30)], PHASES).count(SHADE.encode()) == 1
    assert draw([line([1.0] * 50)], PHASES).count(SHADE.encode()) == 2


def test_equal_numbers_give_equal_pictures() -> None:
    lines = [line([1.0, 2.0, 4.0]), line([3.0, float("nan"), 2.0], "b")]
    first = draw(lines, PHASES)
    assert first == draw(lines, PHASES)
    assert first != draw(lines, PHASES, logarithmic=True)
    assert first != draw(lines, PHASES, mark=1.5)
    assert ElementTree.fromstring(first).attrib["width"] == "408pt"  # 544 pixels


@pytest.mark.parametrize("values", [[5.0], [0.0, 0.0], [-1.0, 2.0], [float("nan"), 1e-30], [1e30, -1e30]])
def test_any_finite_number_can_be_drawn(values: list[float]) -> None:
    for options in ({}, {"logarithmic": True}, {"from_zero": True}, {"mark": 1.0}):
        assert ElementTree.fromstring(draw([line(values)], (), **options)).tag.endswith("svg")
