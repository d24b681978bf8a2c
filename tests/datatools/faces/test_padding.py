"""Mirror, blur and median: against the exact padding of datatools/faces/reference.py."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from datatools.faces.geometry import FaceFrame, face_frame
from datatools.faces.padding import blend_padding, pad_coarsely, padded_preview, preview_quad
from datatools.images import image_size
from tests.datatools.faces.test_recipe import jpeg_photo, landmarks_for


def cut_off_frame(width: int = 300, height: int = 260) -> FaceFrame:
    frame = face_frame(landmarks_for(70, 60, 40), width, height)
    assert frame.padded
    return frame


def blend(
    warped: NDArray[np.float32], picture: NDArray[np.uint8], frame: FaceFrame, darkening: float
) -> NDArray[np.uint8]:
    face = np.clip(np.rint(warped - darkening), 0, 255).astype(np.uint8)
    blend_padding(face, warped, picture, frame, darkening)
    return face


def crop_of(photo: NDArray[np.uint8], frame: FaceFrame) -> NDArray[np.uint8]:
    left, top, right, bottom = frame.crop
    return photo[top:bottom, left:right]


def test_flat_photos_stay_flat_everywhere() -> None:
    frame = cut_off_frame()
    picture = crop_of(np.full((260, 300, 3), (10, 120, 250), dtype=np.uint8), frame)
    flat = np.broadcast_to(np.float32([10, 120, 250]), (1024, 1024, 3)).copy()
    np.testing.assert_array_equal(blend(flat, picture, frame, darkening=0.0), flat)


def test_the_face_is_darkened_inside_only() -> None:
    frame = cut_off_frame()
    picture = crop_of(np.full((260, 300, 3), 100, dtype=np.uint8), frame)
    blended = blend(np.full((1024, 1024, 3), 100, np.float32), picture, frame, darkening=3.0)
    assert (blended[1000, 1000] == 97).all()  # lower right: inside the photo
    assert (blended[5, 5] == 100).all()  # upper left: outside, blurred


def test_outside_is_smooth_and_inside_untouched() -> None:
    frame = cut_off_frame()
    rng = np.random.default_rng(1)
    picture = crop_of(rng.integers(0, 256, (260, 300, 3), dtype=np.uint8), frame)
    warped = rng.integers(0, 256, (1024, 1024, 3)).astype(np.float32)
    blended = blend(warped, picture, frame, darkening=0.0)
    np.testing.assert_array_equal(blended[-100:, -100:], warped[-100:, -100:])
    assert np.abs(np.diff(blended[:40, :40].astype(int), axis=0)).max() <= 2


def test_coarse_picture_has_the_exact_median() -> None:
    frame = cut_off_frame()
    rng = np.random.default_rng(2)
    y, x = np.mgrid[:260, :300]
    photo = np.stack([x * 255 / 299, y * 255 / 259, (x + y) * 255 / 558], axis=2) + rng.normal(0, 10, (260, 300, 3))
    photo = np.clip(photo, 0, 255).astype(np.uint8)
    coarse = pad_coarsely(crop_of(photo, frame), frame)
    fine = pad_coarsely(crop_of(photo, frame), frame, cell=2.0)
    np.testing.assert_allclose(coarse.median, fine.median, atol=2.0)
    assert coarse.median.shape == (3,)


def test_tiny_photos_are_mirrored_again_and_again() -> None:
    frame = face_frame(landmarks_for(20, 18, 14), 40, 36)
    assert frame.padded
    photo = np.zeros((36, 40, 3), dtype=np.uint8)
    photo[:, 20:] = 255
    padded = pad_coarsely(crop_of(photo, frame), frame)
    assert np.isfinite(padded.blended).all()
    assert padded.blended.min() >= 0
    assert padded.blended.max() <= 255.001


@pytest.mark.parametrize("shift", [0.0, 120.0])
def test_preview_and_its_rectangle(shift: float) -> None:
    data = jpeg_photo(600, 500)
    frame = face_frame(landmarks_for(150 + shift, 130 + shift, 60), *image_size(data))
    preview = padded_preview(data, frame, longest=300)
    assert abs(max(preview.shape[:2]) - 300) <= 2
    quad = preview_quad(frame, longest=300)
    assert quad.min() >= 0
    assert (quad.max(axis=0) <= np.array(preview.shape[1::-1]) + 1).all()
    side = np.hypot(*(quad[3] - quad[0]))
    total = (frame.crop[2] - frame.crop[0]) * frame.enlarge + frame.pad[0] + frame.pad[2]
    assert side == pytest.approx(frame.side * frame.enlarge * preview.shape[1] / total, rel=0.02)


def test_mask_needs_a_padded_frame_to_make_sense() -> None:
    frame = cut_off_frame()
    wider = replace(frame, pad=tuple(side * 2 for side in frame.pad))
    rng = np.random.default_rng(4)
    picture = crop_of(rng.integers(0, 256, (260, 300, 3), dtype=np.uint8), frame)
    # Twice the padding: the blend reaches twice as far into the photo.
    black = np.zeros((1024, 1024, 3), dtype=np.float32)
    near, far = (blend(black, picture, f, darkening=0.0) for f in (frame, wider))
    assert (far > 1).sum() > (near > 1).sum()
