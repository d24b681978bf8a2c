"""The parts of faces that show what restoration did."""

import io

import numpy as np
import PIL.Image
import pytest

from datatools.faces.geometry import FrameError, face_quad
from datatools.faces.recipe import make_face, reduce_face
from datatools.report.restoration_strips import PART, eye_and_cheek, make_restoration_strip, restoration_candidates
from datatools.restore import NoRestorer

LANDMARKS = np.array([[130, 150], [170, 150], [150, 170], [135, 190], [165, 190]], np.float64)


def photo() -> bytes:
    values = np.random.default_rng(0).integers(0, 256, (36, 30, 3), np.uint8)
    stream = io.BytesIO()
    PIL.Image.fromarray(values).resize((300, 360), PIL.Image.Resampling.BICUBIC).save(stream, "PNG")
    return stream.getvalue()


@pytest.mark.parametrize("resolution", [64, 256, 512, 1024])
def test_both_sides_show_the_same_part_of_the_face_at_its_own_size(resolution: int) -> None:
    data = photo()
    plain = make_face(data, LANDMARKS, NoRestorer(), final_filter="box")
    brighter = np.clip(reduce_face(plain.face, resolution).astype(int) + 3, 0, 255).astype(np.uint8)
    strip = make_restoration_strip(data, LANDMARKS, brighter, "box")
    side = min(resolution, PART)
    assert strip.before.shape == strip.after.shape == (side, side, 3)
    assert strip.side == pytest.approx(plain.frame.side)
    assert strip.difference == pytest.approx(3, abs=0.2)  # less where the picture is white
    left, top = eye_and_cheek(plain.frame.quad, LANDMARKS, resolution)
    assert np.array_equal(strip.after, brighter[top : top + side, left : left + side])
    assert np.array_equal(np.clip(strip.before.astype(int) + 3, 0, 255), strip.after)


@pytest.mark.parametrize("angle", [0.0, 0.4, -0.7])
@pytest.mark.parametrize("nose", [-8.0, 8.0])
def test_the_part_shows_the_eye_and_the_cheek_that_face_the_camera(angle: float, nose: float) -> None:
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    upright = np.array([[-20, -20], [20, -20], [nose, 0], [-15, 20], [15, 20]], np.float64)
    landmarks = upright @ turn.T + 200
    left, top = eye_and_cheek(face_quad(landmarks), landmarks, 1024)
    # The rectangle's side is 160, its centre in the upright face (0, -16).
    farther = int(nose < 0)
    eye, mouth = ((point + np.array([0, 16])) / 160 * 1024 + 512 for point in (upright[farther], upright[3 + farther]))
    assert left + 60 < eye[0] < left + PART - 60
    assert top + 30 < eye[1] < top + 100
    assert top + PART - 20 < mouth[1] < top + PART + 60


def test_the_part_stays_on_the_face() -> None:
    landmarks = LANDMARKS * [1, 0.01] + [0, 100]  # flat: all at one height
    for resolution in (4, 256, 257, 300, 1024):
        left, top = eye_and_cheek(face_quad(LANDMARKS + np.array([3000, -2000])), landmarks, resolution)
        assert min(left, top) >= 0
        assert max(left, top) <= max(resolution - PART, 0)


def test_candidates_are_told_apart_by_size_and_score() -> None:
    sides = np.array([50, 10, 40, 20, 30])
    square = np.array([[0, 0], [0, 1], [1, 1], [1, 0]])
    found = restoration_candidates(sides[:, None, None] * square[None].astype(float), np.array([4, 2, 0, 1, 3]))
    assert [(why, int(faces[0])) for why, faces in found] == [
        ("Smallest rectangle", 1),
        ("Small rectangle", 1),
        ("Middling rectangle", 4),
        ("Large rectangle", 0),
        ("High score", 4),
        ("Low score", 3),
    ]
    assert restoration_candidates(np.zeros((0, 4, 2)), np.zeros(0, np.int64)) == []


def test_landmarks_outside_of_the_photo_are_refused() -> None:
    with pytest.raises(FrameError):
        make_restoration_strip(photo(), LANDMARKS + 5000, np.zeros((64, 64, 3), np.uint8), "lanczos")
