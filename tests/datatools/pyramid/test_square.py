"""datatools.pyramid.square: crops, filters, and where the face lies in the stored picture."""

import io

import numpy as np
import pytest
from PIL import Image

from datatools.pyramid.square import Crop, UnsuitableError, crop_box, read_square
from tests.faults import pictures


@pytest.mark.parametrize(
    ("crop", "size", "box"),
    [
        ("none", (40, 40), (0, 0, 40, 40)),
        ("center", (50, 40), (5, 0, 45, 40)),
        ("center", (40, 51), (0, 5, 40, 45)),
        ("wide", (40, 30), (0, 0, 40, 30)),
        ("wide", (80, 30), (20, 0, 60, 30)),
        ("wide", (40, 50), (0, 10, 40, 40)),
    ],
)
def test_crops_lie_in_the_middle(crop: Crop, size: tuple[int, int], box: tuple[int, ...]) -> None:
    assert crop_box(crop, *size) == box


def test_the_middle_square_of_a_turned_picture() -> None:
    exif = Image.Exif()
    exif[274] = 6
    stored = pictures.scene(24, 16)
    face, quad = read_square(pictures.encode(stored, "PNG", exif=exif), 16, "center")
    np.testing.assert_array_equal(face, np.rot90(stored, -1)[4:20])
    assert quad.tolist() == [[4, 16], [20, 16], [20, 0], [4, 0]]


def test_wide_pictures_get_black_bands() -> None:
    pixels = pictures.scene(64, 48)
    face, quad = read_square(pictures.encode(pixels, "PNG"), 32, "wide")
    assert face.shape == (32, 32, 3)
    assert not face[:4].any()
    assert not face[28:].any()
    means = pixels.reshape(24, 2, 32, 2, 3).mean(axis=(1, 3))
    assert np.abs(face[4:28] - means).max() <= 0.5
    assert quad.tolist() == [[0, -8], [0, 56], [64, 56], [64, -8]]


@pytest.mark.parametrize(
    ("crop", "size", "kind"),
    [
        ("none", (40, 32), "not square"),
        ("none", (31, 31), "too small"),
        ("center", (60, 31), "too small"),
        ("wide", (31, 31), "too small"),
        ("wide", (100, 23), "too small"),
    ],
)
def test_unsuitable_pictures_are_refused(crop: Crop, size: tuple[int, int], kind: str) -> None:
    with pytest.raises(UnsuitableError, match=f"{size[0]} x {size[1]} pixels") as caught:
        read_square(pictures.encode(pictures.scene(*size), "PNG"), 32, crop)
    assert caught.value.kind == kind


def test_lanczos_is_pillows_and_sharper() -> None:
    stripes = np.repeat(np.tile(np.repeat([0, 200], 4), 8)[None, :, None], 64, axis=0).repeat(3, axis=2)
    data = pictures.encode(stripes.astype(np.uint8), "PNG")
    sharp, _ = read_square(data, 16, resize_filter="lanczos")
    with Image.open(io.BytesIO(data)) as image:
        np.testing.assert_array_equal(sharp, np.asarray(image.resize((16, 16), Image.Resampling.LANCZOS)))
    soft, _ = read_square(pictures.encode(pictures.scene(50, 50), "PNG"), 16)
    sharper, _ = read_square(pictures.encode(pictures.scene(50, 50), "PNG"), 16, resize_filter="lanczos")
    assert not np.array_equal(soft, sharper)
    assert np.abs(soft.astype(int) - sharper).max() < 16
