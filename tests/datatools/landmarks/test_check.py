"""The comparison of annotations with detected faces."""

import numpy as np
import pytest
from numpy.typing import NDArray

from datatools.landmarks import Face
from datatools.landmarks.base import face_of_points
from datatools.landmarks.check import DISTANCE_LIMIT, SHIFT_LIMIT, Verdict, compare
from datatools.sample import portraits

TRUE = portraits()["admiral"].landmarks
HEIGHT, WIDTH = portraits()["admiral"].pixels.shape[:2]
DETECTED = face_of_points(TRUE + np.array([[2, 1], [-1, 2], [1, 1], [3, -2], [0, 2]]), 0.99)
EYE_DISTANCE = DETECTED.eye_distance


def verdict(points: NDArray[np.float64], *faces: Face) -> Verdict:
    return compare(points, faces, WIDTH, HEIGHT).verdict


def test_a_good_row_agrees() -> None:
    comparison = compare(TRUE, [DETECTED], WIDTH, HEIGHT)
    assert (comparison.verdict, comparison.detail, comparison.face) == (Verdict.AGREES, "", DETECTED)


def test_a_row_without_a_detected_face_is_not_judged() -> None:
    assert verdict(TRUE) is Verdict.NOT_DETECTED


@pytest.mark.parametrize("eye", [0, 1])
def test_an_eye_in_the_mouth_is_wrong(eye: int) -> None:
    points = TRUE.copy()
    points[eye] = TRUE[3:].mean(axis=0)
    comparison = compare(points, [DETECTED], WIDTH, HEIGHT)
    assert comparison.verdict is Verdict.WRONG
    assert f"the {['left', 'right'][eye]} eye 1." in comparison.detail
    assert comparison.face is DETECTED


@pytest.mark.parametrize("shift", [(100, 0), (-100, 0), (0, 100), (0, -100), (20, 0)])
def test_shifted_points_are_wrong(shift: tuple[float, float]) -> None:
    assert verdict(TRUE + shift, DETECTED) is Verdict.WRONG


def test_points_that_contradict_themselves_are_wrong_without_a_detector() -> None:
    for order in ([1, 0, 2, 4, 3], [1, 0, 2, 3, 4], [3, 4, 2, 0, 1]):
        assert verdict(TRUE[order]) is Verdict.WRONG
    assert "exchanged" in compare(TRUE[[1, 0, 2, 4, 3]], [], WIDTH, HEIGHT).detail


def test_points_outside_of_the_photo_are_wrong_without_a_detector() -> None:
    comparison = compare(TRUE + np.array([WIDTH, 0]), [], WIDTH, HEIGHT)
    assert (comparison.verdict, comparison.face) == (Verdict.WRONG, None)
    assert "outside" in comparison.detail


def test_another_photos_row_is_wrong() -> None:
    other = portraits()["astronaut"].landmarks
    comparison = compare(other, [DETECTED], WIDTH, HEIGHT)
    assert comparison.verdict is Verdict.WRONG
    assert comparison.face is DETECTED


def test_a_face_elsewhere_does_not_confirm_a_row() -> None:
    far = face_of_points(TRUE * 0.3 + (400, 450), 0.99)
    comparison = compare(TRUE, [far], WIDTH, HEIGHT)
    assert (comparison.verdict, comparison.detail) == (Verdict.WRONG, "the face was detected elsewhere in the photo")


def test_of_several_faces_the_nearest_is_compared() -> None:
    other = face_of_points(TRUE * 0.5 + (300, 0), 0.99)
    assert verdict(TRUE, other, DETECTED) is Verdict.AGREES
    assert compare(TRUE + np.array([20, 0]), [other, DETECTED], WIDTH, HEIGHT).face is DETECTED


@pytest.mark.parametrize("share", [0.9, 1.1])
def test_the_limits_are_fractions_of_the_eye_distance(share: float) -> None:
    exact = Face(TRUE, DETECTED.box)
    unit = exact.eye_distance
    shifted = TRUE + np.array([0, share * SHIFT_LIMIT * unit])
    one = TRUE.copy()
    one[0] -= (0, 2 * share * DISTANCE_LIMIT * unit)  # one of four: half of it counts
    wanted = Verdict.WRONG if share > 1 else Verdict.AGREES
    assert verdict(shifted, exact) is wanted
    assert verdict(one, exact) is wanted


def test_the_nose_does_not_count() -> None:
    points = TRUE.copy()
    points[2] += 0.3 * EYE_DISTANCE
    assert verdict(points, DETECTED) is Verdict.AGREES


def test_a_profile_is_measured_by_its_height() -> None:
    centre = TRUE.mean(axis=0)
    profile = centre + (TRUE - centre) * (0.2, 1)
    moved = profile.copy()
    moved[0] += (0.6 * np.hypot(*(profile[1] - profile[0])), 0)
    assert verdict(moved, face_of_points(profile)) is Verdict.AGREES
