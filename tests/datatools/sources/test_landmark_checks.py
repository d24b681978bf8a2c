"""`datatools.sources.landmark_checks`: real rows pass whatever way the head is turned, and every exchange is found."""

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from datatools.sources.celeba import read_tree
from datatools.sources.landmark_checks import common_fault, contradictions, outside

FACE = np.array([[-0.5, -0.5], [0.5, -0.5], [0.0, 0.1], [-0.42, 0.5], [0.42, 0.5]])


def faces(count: int = 12, seed: int = 0) -> NDArray[np.float64]:
    """(count, 5, 2): heads turned to the side and tilted, as in photos in the wild."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        turn, tilt, size = rng.uniform(-1, 1), np.radians(rng.normal(0, 10)), rng.uniform(30, 200)
        points = FACE * [np.cos(turn), 1]
        points[2, 0] += 0.5 * np.sin(turn)
        turned = points @ np.array([[np.cos(tilt), np.sin(tilt)], [-np.sin(tilt), np.cos(tilt)]])
        rows.append((turned + rng.normal(0, 0.02, (5, 2))) * size + rng.uniform(2, 4, 2) * size)
    return np.array(rows)


def turned(points: NDArray[np.float64], degrees: float) -> NDArray[np.float64]:
    angle = np.radians(degrees)
    return points @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])


def aligned(count: int) -> NDArray[np.float64]:
    centre = np.array([(69, 111), (108, 111), (88, 135), (72, 152), (105, 152)], dtype=float)
    return centre + np.random.default_rng(1).integers(-2, 3, (count, 5, 2))


ALIGNED = np.array(
    [
        [69, 109, 106, 113, 77, 142, 73, 152, 108, 154],
        [69, 110, 107, 112, 81, 135, 70, 151, 108, 153],
        [76, 112, 104, 106, 108, 128, 74, 156, 98, 158],
        [72, 113, 108, 108, 101, 138, 71, 155, 101, 151],
        [66, 114, 112, 112, 86, 119, 71, 147, 104, 150],
        [71, 111, 106, 110, 94, 131, 74, 154, 102, 153],
        [70, 112, 108, 111, 85, 135, 72, 152, 104, 152],
        [71, 110, 106, 111, 84, 137, 73, 155, 104, 153],
    ],
    dtype=float,
).reshape(-1, 5, 2)
"""The official landmarks of 000001.jpg to 000008.jpg in the aligned pictures."""


@pytest.mark.parametrize("degrees", [0, 30, 90, 135, 180, 270])
def test_real_rows_pass_one_by_one_and_together(degrees: float, sample_data: Path) -> None:
    for tree in ("celeba_sample", "faces_hq"):
        records = read_tree(sample_data / tree).records
        points = np.array([record.landmarks for record in records])
        assert set(contradictions(turned(points, degrees))) == {""}
        assert {common_fault(turned(record.landmarks[None], degrees)) for record in records} == {None}
        if degrees < 45:
            assert common_fault(turned(points, degrees)) is None


@pytest.mark.parametrize("degrees", [0, 30, 90, 135, 180, 270])
def test_faces_in_any_direction(degrees: float) -> None:
    points = turned(faces(300), degrees)
    assert set(contradictions(points)) == {""}
    assert {common_fault(row[None]) for row in points} == {None}


EXCHANGES = {
    (1, 0, 2, 3, 4): ("left and right eye exchanged", "left and right eye seem to be exchanged"),
    (0, 1, 2, 4, 3): ("corner of the mouth exchanged", "left and right corner seem to be exchanged"),
    (1, 0, 2, 4, 3): ("left and right exchanged (or the photos were mirrored)", "left and right seem to be exchanged"),
    (3, 4, 2, 0, 1): ("eyes and mouth exchanged", "left and right seem to be exchanged"),
    (0, 1, 3, 4, 2): ("in the order left eye, right eye, left mouth corner, right mouth corner, nose", ""),
}


@pytest.mark.parametrize("count", [1, 12])
@pytest.mark.parametrize("order", EXCHANGES)
def test_points_in_another_order(order: tuple[int, ...], count: int) -> None:
    points = faces(count)[:, order]
    fault = common_fault(points)
    assert fault is not None
    assert EXCHANGES[order][0] in fault or count == 1
    assert all(EXCHANGES[order][1] in reason for reason in contradictions(points))


def test_every_other_order_is_found() -> None:
    points = faces(40)
    for order in permutations(range(5)):
        assert (common_fault(points[:, order]) is None) == (order == (0, 1, 2, 3, 4)), order


def test_x_and_y_exchanged() -> None:
    for count in (1, 12):
        assert "x and y exchanged;" in str(common_fault(faces(count)[:, :, ::-1]))


def test_y_from_the_lower_edge() -> None:
    assert "y counted from the lower edge" in str(common_fault(faces() * [1, -1] + [0, 2000]))


def test_a_few_good_rows_do_not_hide_it_and_a_few_bad_ones_are_left_to_themselves() -> None:
    points = faces(20)
    bad = points[:, [1, 0, 2, 3, 4]]
    assert "eye exchanged" in str(common_fault(np.concatenate([bad[:19], points[19:]])))
    mixed = np.concatenate([bad[:8], points[8:]])
    assert common_fault(mixed) is None
    assert [bool(reason) for reason in contradictions(mixed)] == [True] * 8 + [False] * 12


def test_aligned_landmarks() -> None:
    for points in (ALIGNED, aligned(12), aligned(200), *ALIGNED[:, None]):
        assert "landmarks of the aligned pictures (178 x 218 pixels)" in str(common_fault(points))
        assert set(contradictions(points)) == {""}


def test_fractions_of_the_size() -> None:
    for count in (1, 12):
        assert "fractions of the picture's size" in str(common_fault(faces(count) / 1500))


@pytest.mark.parametrize("count", [1, 2, 8, 12, 300])
@pytest.mark.parametrize(("axes", "order"), [((0, 1), "all x before all y"), ((1, 0), "all y before all x")])
def test_one_axis_before_the_other(axes: tuple[int, int], order: str, count: int) -> None:
    rows = np.concatenate([faces(count)[:, :, axis] for axis in axes], axis=1).reshape(-1, 5, 2)
    expected = "expected are x and y of left eye, right eye, nose, left mouth corner, right mouth corner"
    assert str(common_fault(rows)).startswith(f"seems to have {order} in its rows; {expected}")


def test_real_rows_with_all_x_before_all_y(sample_data: Path) -> None:
    points = np.array([record.landmarks for record in read_tree(sample_data / "celeba_sample").records])
    rows = np.concatenate([points[:, :, 0], points[:, :, 1]], axis=1).reshape(-1, 5, 2)
    assert 0.5 < np.mean([bool(reason) for reason in contradictions(rows)]) < 0.9
    assert "all x before all y" in str(common_fault(rows))


def test_more_than_half_of_many_rows_make_no_face() -> None:
    random = np.random.default_rng(3).uniform(0, 500, (200, 5, 2))
    bad = random[[bool(reason) for reason in contradictions(random)]]
    for count, bad_rows, fault in ((8, 5, True), (8, 4, False), (7, 6, False), (40, 21, True), (40, 20, False)):
        found = common_fault(np.concatenate([faces(count)[bad_rows:], bad[:bad_rows]]))
        expected = f"has rows whose five points make no face ({bad_rows} of {count})" if fault else None
        assert found == expected, (count, bad_rows)


@pytest.mark.parametrize("count", [1, 8])
@pytest.mark.parametrize(("place", "shown"), [(0, "(0, 0)"), (1.5, "(1.5, 1.5)"), (40, "(40, 40)")])
def test_all_points_at_the_same_place(place: float, shown: str, count: int) -> None:
    points = np.full((count, 5, 2), float(place))
    assert common_fault(points) == f"has its five points all at the same place, such as {shown}"


def test_rows_that_make_no_face() -> None:
    points = np.random.default_rng(3).uniform(0, 500, (2000, 5, 2))
    bad = points[[bool(reason) for reason in contradictions(points)]]
    assert len(bad) > 1000
    assert common_fault(bad) == "has rows whose five points make no face"
    assert common_fault(np.empty((0, 5, 2))) is None


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ([[0, 0], [1, 0], [0, 40], [-30, 100], [30, 100]], "both eyes are at the same place"),
        ([[-400, 0], [400, 0], [0, 40], [-30, 100], [30, 100]], "the mouth is between the eyes"),
        ([[-40, 0], [40, 0], [0, 400], [-30, 100], [30, 100]], "the nose is not between eyes and mouth"),
        ([[-40, 0], [40, 0], [0, -90], [-30, 100], [30, 100]], "the nose is not between eyes and mouth"),
        ([[7, 7]] * 5, ""),  # has no size: `face_quad` says so
        ([[-20, 0], [20, 0], [30, 60], [12, 100], [-12, 100]], "left and right corner seem to be exchanged"),
        ([[5, 0], [-5, 0], [30, 60], [-30, 100], [30, 100]], ""),  # a full profile: a few pixels decide
    ],
)
def test_one_row(row: list[list[float]], reason: str) -> None:
    (found,) = contradictions(np.array([row], dtype=float))
    assert reason in found
    assert bool(found) == bool(reason)


def test_points_outside_of_the_photo() -> None:
    face = FACE * 100 + [100, 100]
    assert not outside(face, 200, 200)
    assert not outside(face - [80, 0], 200, 200)  # cut off by the edge: the left eye is 30 px outside
    assert outside(face - [110, 0], 200, 200)
    assert outside(face, 100, 120)
    nose_away = face.copy()
    nose_away[2] = 500  # the nose does not decide about the rectangle
    assert not outside(nose_away, 200, 200)
