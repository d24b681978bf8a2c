"""The rectangle and what follows from it, against golden numbers and by its symmetries."""

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from datatools.faces.geometry import FACE_SIZE, FrameError, face_frame, face_quad, inside_fraction
from datatools.images import image_size
from datatools.sources.celeba import read_tree
from tests.support.paths import GOLDEN

FACE = np.array([[165, 184], [244, 176], [196, 249], [194, 271], [266, 260]], dtype=np.float64)

landmark_arrays = hnp.arrays(np.float64, (5, 2), elements=st.floats(0, 500))


def quads_of(landmarks: NDArray[np.float64]) -> NDArray[np.float64]:
    try:
        return face_quad(landmarks)
    except FrameError:
        assume(False)
        raise


def golden_rows() -> list[dict[str, str]]:
    with (GOLDEN / "crop_index.csv").open() as stream:
        return list(csv.DictReader(stream))


def test_frames_of_real_photos(sample_data: Path) -> None:
    records = {record.file_name: record for record in read_tree(sample_data / "celeba_sample").records}
    rows = golden_rows()
    assert len(rows) == 80
    for row in rows:
        record = records[row["file_name"]]
        frame = face_frame(record.landmarks, *image_size(record.path.read_bytes()))
        corners = [[float(row[corner + axis]) for axis in "xy"] for corner in ("ul", "ll", "lr", "ur")]
        np.testing.assert_allclose(frame.quad, corners, atol=1e-5)
        assert frame.side == pytest.approx(float(row["side"]), abs=1e-5)
        assert [frame.shrink, frame.enlarge, frame.border] == [int(row[k]) for k in ("shrink", "enlarge", "border")]
        assert frame.padded == bool(int(row["padded"]))
        pads = [int(row[f"pad_{side}"]) for side in ("left", "top", "right", "bottom")]
        assert list(frame.pad) == (pads if frame.padded else [0, 0, 0, 0])


def test_known_rectangle() -> None:
    # The first photo of CelebA, whose landmarks are public: row 000001.jpg of the golden numbers.
    row = golden_rows()[0]
    assert row["file_name"] == "000001.jpg"
    quad = face_quad(FACE)
    np.testing.assert_allclose(quad[0], [float(row["ulx"]), float(row["uly"])], atol=1e-5)
    np.testing.assert_allclose(quad[2], [float(row["lrx"]), float(row["lry"])], atol=1e-5)


@given(landmark_arrays)
def test_it_is_a_square(landmarks: NDArray[np.float64]) -> None:
    quad = quads_of(landmarks)
    edges = np.roll(quad, -1, axis=0) - quad
    lengths = np.hypot(*edges.T)
    np.testing.assert_allclose(lengths, lengths[0], rtol=1e-6)
    np.testing.assert_allclose(edges[0] @ edges[1], 0, atol=1e-6 * lengths[0] ** 2)


@given(landmark_arrays, st.floats(-200, 200), st.floats(-200, 200))
def test_it_moves_with_the_landmarks(landmarks: NDArray[np.float64], dx: float, dy: float) -> None:
    quad = quads_of(landmarks)
    np.testing.assert_allclose(face_quad(landmarks + np.array([dx, dy])), quad + np.array([dx, dy]), rtol=0, atol=1e-3)


@given(landmark_arrays)
def test_a_mirrored_face_has_the_mirrored_rectangle(landmarks: NDArray[np.float64]) -> None:
    quad = quads_of(landmarks)
    mirrored = landmarks.copy()
    mirrored[:, 0] = 499 - mirrored[:, 0]  # centre coordinates of a photo 500 px wide
    mirrored = mirrored[[1, 0, 2, 4, 3]]
    expected = quad[[3, 2, 1, 0]]
    expected = np.stack([500 - expected[:, 0], expected[:, 1]], axis=1)  # edge coordinates
    np.testing.assert_allclose(face_quad(mirrored), expected, atol=1e-3)


@given(landmark_arrays, st.floats(0.5, 8))
def test_edge_coordinates_scale_with_the_photo(landmarks: NDArray[np.float64], scale: float) -> None:
    quad = quads_of(landmarks)
    assume(np.hypot(*(quad[3] - quad[0])) > 20)
    scaled = (landmarks + 0.5) * scale - 0.5
    np.testing.assert_allclose(face_quad(scaled), quad * scale, rtol=1e-6, atol=1e-3)


def test_side_is_four_eye_distances_or_3_6_times_eyes_to_mouth() -> None:
    wide = np.array([[100, 100], [200, 100], [150, 120], [120, 140], [180, 140]], dtype=float)
    assert np.hypot(*(face_quad(wide)[3] - face_quad(wide)[0])) == pytest.approx(400)
    long = np.array([[140, 100], [160, 100], [150, 150], [145, 200], [155, 200]], dtype=float)
    assert np.hypot(*(face_quad(long)[3] - face_quad(long)[0])) == pytest.approx(360)


@pytest.mark.parametrize(
    ("landmarks", "reason"),
    [
        (np.zeros((5, 2)), "degenerate"),
        (np.full((5, 2), np.nan), "not finite"),
        (np.full((5, 2), 1e300), "not finite"),
        (FACE[:4], "five landmarks"),
        # eyes and mouth such that across = rot90(down): no direction
        (np.array([[0, 0], [10, 0], [5, 5], [5, -10], [5, -10]], dtype=float), "degenerate"),
        (FACE / 100, "degenerate"),
        (FACE + 5000, "inside"),
        (FACE * 40, "inside"),
    ],
)
def test_unusable_landmarks_are_refused_with_the_reason(landmarks: NDArray[np.float64], reason: str) -> None:
    with pytest.raises(FrameError, match=reason) as caught:
        face_frame(landmarks, 409, 687)
    assert caught.value.fault == ("outside-photo" if reason == "inside" else "bad-landmarks")


def test_inside_fraction() -> None:
    quad = np.array([[-50, 0], [-50, 100], [50, 100], [50, 0]], dtype=float)
    assert inside_fraction(quad, 200, 200) == pytest.approx(0.5)
    assert inside_fraction(quad + 75, 200, 200) == 1.0


def test_shrink_of_huge_faces() -> None:
    frame = face_frame(FACE * 30, 409 * 30, 687 * 30)
    assert frame.shrink == int(np.floor(0.5 * frame.side / FACE_SIZE)) == 4
    assert frame.enlarge == 1
    assert frame.enlarged_zoom == pytest.approx(FACE_SIZE / frame.side * 4)
