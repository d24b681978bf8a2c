"""The interface of landmark sources: photos are checked, and one of several faces is chosen."""

import numpy as np
import pytest
from numpy.typing import NDArray

from datatools.errors import DataError
from datatools.landmarks import Face, Photo, nearest_face, select_faces
from datatools.landmarks.base import face_of_points, pixels_of

POINTS = np.array([[30, 40], [70, 40], [50, 60], [35, 80], [65, 80]], float)


def face(x: float, y: float, side: float, score: float = 1.0) -> Face:
    """Return a face with its box's upper-left corner at (x, y)."""
    return Face(POINTS * side / 100 + (x, y), (x, y, side, side), score)


def test_a_larger_face_is_more_prominent() -> None:
    small, large = face(10, 40, 50), face(150, 40, 90)
    assert select_faces([small, large], 250, 130) == [large]


def test_of_equal_faces_the_central_one_is_chosen() -> None:
    corner, centre = face(0, 0, 60), face(70, 70, 60)
    assert select_faces([corner, centre], 200, 200) == [centre]


def test_a_doubtful_detection_does_not_win_by_a_little_more_size() -> None:
    doubtful, certain = face(20, 50, 102, 0.7), face(120, 50, 100, 1.0)
    assert select_faces([doubtful, certain], 240, 200) == [certain]


def test_all_faces_come_in_the_order_of_prominence() -> None:
    faces = [face(0, 0, 20), face(80, 80, 60), face(150, 20, 40)]
    assert select_faces(faces, 220, 220, all_faces=True) == [faces[1], faces[2], faces[0]]


@pytest.mark.parametrize(("least", "sizes"), [(0, [60, 40]), (40, [60, 40]), (41, [60]), (61, [])])
def test_small_faces_are_left_out(least: float, sizes: list[float]) -> None:
    faces = [face(150, 20, 40), face(80, 80, 60)]
    assert [found.size for found in select_faces(faces, 220, 220, all_faces=True, min_face=least)] == sizes


def test_the_annotated_face_is_the_one_nearest_to_the_points() -> None:
    faces = [face(0, 0, 60), face(70, 0, 60)]
    assert nearest_face(faces, POINTS * 0.6 + (66, 3)) is faces[1]
    assert nearest_face(faces, POINTS * 0.6 + (300, 3)) is None
    assert nearest_face([], POINTS) is None


def test_the_annotated_face_is_the_one_that_shares_most_with_the_box() -> None:
    faces = [face(0, 0, 60), face(70, 0, 60)]
    assert nearest_face(faces, np.array([40, 0, 80, 60])) is faces[1]
    assert nearest_face(faces, np.array([200, 0, 50, 50])) is None


def test_a_face_known_by_points_gets_a_box_around_them() -> None:
    points = POINTS * 2 + 11
    x, y, width, height = face_of_points(points).box
    assert 1.5 * 80 < width < height < 3 * 80  # the points are 80 px wide and high
    assert (points > (x, y)).all()
    assert (points < (x + width, y + height)).all()
    assert face_of_points(points).eye_distance == 80


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (None, "a.jpg: .* not NoneType"),
        (np.zeros((4, 4, 3)), "not float64"),
        (np.zeros((4, 4), np.uint8), r"not \(4, 4\)"),
        (np.zeros((0, 4, 3), np.uint8), r"not \(0, 4, 3\)"),
    ],
)
def test_what_is_no_photo_is_refused(pixels: NDArray[np.uint8] | None, message: str) -> None:
    with pytest.raises(DataError, match=message):
        pixels_of(Photo("a.jpg", pixels))
