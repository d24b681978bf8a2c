"""The pictures that show how a photo became a face, and what restoration did."""

import io
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest

from datatools.faces.geometry import FrameError, face_quad
from datatools.faces.padding import preview_quad
from datatools.faces.recipe import make_face, reduce_face
from datatools.report.strips import (
    FRAME_COLOUR,
    LANDMARK_COLOUR,
    OUTSIDE,
    PANEL,
    PART,
    draw_points,
    draw_rectangle,
    eye_and_cheek,
    make_restoration_strip,
    make_strip,
    photo_panel,
    restoration_candidates,
    strip_candidates,
)
from datatools.restore import NoRestorer, get_restorer
from datatools.sources.celeba import read_tree

LANDMARKS = np.array([[130, 150], [170, 150], [150, 170], [135, 190], [165, 190]], np.float64)


def jpeg(width: int, height: int, value: int = 90) -> bytes:
    stream = io.BytesIO()
    PIL.Image.new("RGB", (width, height), (value, value, value)).save(stream, format="JPEG")
    return stream.getvalue()


def box_of(image: np.ndarray, colour: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the pixels that are close to the colour."""
    rows, columns = np.nonzero(np.abs(image.astype(int) - colour).max(axis=2) < 40)
    return int(columns.min()), int(rows.min()), int(columns.max()), int(rows.max())


def square(left: float, top: float, side: float) -> np.ndarray:
    return np.array([[left, top], [left, top + side], [left + side, top + side], [left + side, top]])


def test_the_rectangle_is_drawn_on_its_edge_coordinates() -> None:
    image = np.full((100, 140, 3), 90, np.uint8)
    drawn = draw_rectangle(image, square(20, 30, 50))
    np.testing.assert_allclose(box_of(drawn, FRAME_COLOUR), (19, 29, 70, 80), atol=1)
    assert np.all(image == 90)  # the original is left alone
    assert np.all(drawn[50:60, 40:50] == 90)


def test_rectangles_and_points_far_outside_leave_the_picture_alone() -> None:
    image = np.full((40, 40, 3), 90, np.uint8)
    np.testing.assert_array_equal(draw_rectangle(image, square(1e9, -1e9, 10)), image)
    np.testing.assert_array_equal(draw_points(image, np.array([[1e12, -1e12]])), image)


@pytest.mark.parametrize("size", [(300, 360), (178, 218), (1600, 1920)])
def test_the_photo_panel_shows_the_rectangle_where_it_is(size: tuple[int, int]) -> None:
    width, height = size
    factor = width / 300
    quad, landmarks = face_quad((LANDMARKS + 0.5) * factor - 0.5), (LANDMARKS + 0.5) * factor - 0.5
    panel = photo_panel(jpeg(width, height), quad, landmarks)
    assert max(panel.shape[:2]) == PANEL
    scale = PANEL / height
    assert panel.shape[1] == pytest.approx(width * scale, abs=1)
    expected = np.concatenate([quad.min(0), quad.max(0)]) * scale
    np.testing.assert_allclose(box_of(panel, FRAME_COLOUR), expected - (0, 0, 1, 1), atol=2)
    eyes = box_of(panel, LANDMARK_COLOUR)
    np.testing.assert_allclose(eyes[:2], (landmarks.min(0) + 0.5) * scale - 2, atol=2)


def test_grey_is_added_where_the_rectangle_leaves_the_photo() -> None:
    quad = square(-60, 20, 200)
    panel = photo_panel(jpeg(300, 360), quad, LANDMARKS)
    left = round(60 * PANEL / 365)
    assert np.all(panel[-40:, : left - 2] == OUTSIDE)
    assert np.all(np.abs(panel[-20:-2, left + 8 :].astype(int) - 90) <= 2)
    np.testing.assert_allclose(box_of(panel, FRAME_COLOUR)[0], 4, atol=2)  # the whole line is on the panel


def test_a_rectangle_far_outside_does_not_shrink_the_photo_to_nothing() -> None:
    panel = photo_panel(jpeg(300, 300), square(-5000, -5000, 12000), LANDMARKS)
    assert np.mean(np.abs(panel.astype(int) - 90).max(axis=2) < 10) > 0.15


def test_candidates_name_each_kind_of_photo() -> None:
    sides = np.array([100.0, 40, 900, 300, 300, 310])
    lefts = np.array([5.0, 5, 5, -150, -30, 5])
    quads = np.stack([square(left, 10, side) for left, side in zip(lefts, sides, strict=True)])
    candidates = strip_candidates(quads, np.array([5, 4, 3, 2, 1, 0]))
    first = {why: int(faces[0]) for why, faces in candidates}
    assert list(first.values()) == [3, 4, 1, 1, 2, 2]
    assert strip_candidates(np.empty((0, 4, 2)), np.empty(0, np.int64)) == []
    one = strip_candidates(quads[:1], np.array([0]))
    assert len(one) == 4  # nothing leaves its photo
    assert all(faces.tolist() == [0] for _, faces in one)


def test_a_strip_has_three_panels_and_refuses_senseless_landmarks() -> None:
    face = np.full((64, 64, 3), 7, np.uint8)
    frame, (_, padded, panel) = make_strip(jpeg(300, 360), LANDMARKS, face)
    assert panel.shape == (PANEL, PANEL, 3)
    assert frame.photo_size == (300, 360)
    assert max(padded.shape[:2]) == pytest.approx(PANEL, rel=0.03)
    assert frame.side == pytest.approx(np.hypot(*(face_quad(LANDMARKS)[3] - face_quad(LANDMARKS)[0])))
    with pytest.raises(FrameError):
        make_strip(jpeg(300, 360), LANDMARKS + 5000, face)


def cut_out(panel: np.ndarray, quad: np.ndarray) -> np.ndarray:
    """What a rectangle drawn on a panel holds, without its rim: (48, 48, 3) float."""
    axes = np.stack([quad[3] - quad[0], quad[1] - quad[0]], axis=1) / 256
    offset = quad[0] + axes @ [0.5, 0.5] - 0.5
    cut = cv2.warpAffine(
        panel, np.column_stack([axes, offset]), (256, 256), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    )
    return cut.reshape(64, 4, 64, 4, 3).mean(axis=(1, 3))[8:-8, 8:-8]


def test_the_rectangle_on_real_photos_holds_the_face(sample_data: Path) -> None:
    worst = {False: 100.0, True: 100.0}
    for record in read_tree(sample_data / "celeba_sample").records[:24]:
        data = record.path.read_bytes()
        result = make_face(data, record.landmarks, get_restorer("none"))
        _, (_, padded, _) = make_strip(data, record.landmarks, result.face)
        face = result.face.reshape(64, 16, 64, 16, 3).mean(axis=(1, 3))[8:-8, 8:-8]
        held = cut_out(padded, preview_quad(result.frame, longest=PANEL))
        decibels = 10 * np.log10(255**2 / np.mean((face - held) ** 2))
        worst[result.frame.padded] = min(worst[result.frame.padded], decibels)
    # Moved by 2 % of its side, the rectangle holds less than 27 dB on each of them. The padded preview is coarse.
    assert 38 < worst[False] < 100
    assert 23 < worst[True] < 100


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
    frame, (before, after) = make_restoration_strip(data, LANDMARKS, brighter, "box")
    side = min(resolution, PART)
    assert before.shape == after.shape == (side, side, 3)
    assert frame.side == pytest.approx(plain.frame.side)
    assert np.abs(before.astype(int) - after).mean() == pytest.approx(3, abs=0.2)  # less where the picture is white
    left, top = eye_and_cheek(plain.frame.quad, LANDMARKS, resolution)
    assert np.array_equal(after, brighter[top : top + side, left : left + side])
    assert np.array_equal(np.clip(before.astype(int) + 3, 0, 255), after)


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
        ("Medium-sized rectangle", 4),
        ("Large rectangle", 0),
        ("High score", 4),
        ("Low score", 3),
    ]
    assert restoration_candidates(np.zeros((0, 4, 2)), np.zeros(0, np.int64)) == []


def test_landmarks_outside_of_the_photo_are_refused() -> None:
    with pytest.raises(FrameError):
        make_restoration_strip(photo(), LANDMARKS + 5000, np.zeros((64, 64, 3), np.uint8), "lanczos")
