"""Enlargement and warp: positions to a hundredth of a pixel, and the filters' effect on known pictures."""

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from datatools.faces.geometry import FACE_SIZE
from datatools.faces.resample import FINAL_FILTERS, FinalFilter, enlarge_lanczos, face_to_picture, warp_to_face


def smooth_picture(height: int, width: int, scale: float = 1.0) -> NDArray[np.uint8]:
    """A picture that any good interpolation can follow: waves of 20 px and more, at `scale` pixels per unit."""
    y, x = ((np.arange(n) + 0.5) / scale for n in (height, width))
    waves = [
        128 + 90 * np.sin(x / 5.0)[None, :] * np.cos(y / 7.0)[:, None],
        128 + 90 * np.cos(x / 9.0 + 1)[None, :] * np.sin(y / 4.0)[:, None],
        128 + 90 * np.sin((x[None, :] + y[:, None]) / 6.0),
    ]
    return np.rint(np.stack(waves, axis=2)).astype(np.uint8)


def square(x: float, y: float, side: float, angle: float = 0.0) -> NDArray[np.float64]:
    """Upper-left, lower-left, lower-right, upper-right corner of a square about (x, y)."""
    right = side / 2 * np.array([np.cos(angle), np.sin(angle)])
    down = np.array([-right[1], right[0]])
    centre = np.array([x, y])
    return np.stack([centre - right - down, centre - right + down, centre + right + down, centre + right - down])


@pytest.mark.parametrize("factor", [1, 2, 4, 8])
def test_enlargement_is_lanczos_3(factor: int) -> None:
    rng = np.random.default_rng(5)
    picture = rng.integers(0, 256, (31, 40, 3), dtype=np.uint8)
    expected = np.asarray(
        Image.fromarray(picture).resize((40 * factor, 31 * factor), Image.Resampling.LANCZOS), dtype=int
    )
    enlarged = enlarge_lanczos(picture, factor).astype(int)
    assert enlarged.shape == expected.shape
    inner = (slice(3 * factor, -3 * factor),) * 2  # borders are repeated here, and cut off there
    difference = np.abs(enlarged[inner] - expected[inner])
    assert difference.max() <= 1  # Pillow's fixed-point coefficients
    assert difference.mean() < 0.1


def test_positions_are_the_published_ones() -> None:
    quad = square(300, 200, 512)
    matrix = face_to_picture(quad, half_pixel=0.5)
    # 4096 sub-samples, the first at the very corner, + half a picture pixel: face pixel 0 averages i = 0..3
    step = 512 / 4096
    np.testing.assert_allclose(matrix @ [0, 0, 1], quad[0] + 1.5 * step + 0.5)
    np.testing.assert_allclose(matrix @ [1023, 0, 1], quad[0] + [(4 * 1023 + 1.5) * step + 0.5, 1.5 * step + 0.5])
    finer = face_to_picture(quad, half_pixel=0.5, size=4096)
    np.testing.assert_allclose(finer @ [0, 0, 1], quad[0] + 0.5)


@pytest.mark.parametrize("final_filter", FINAL_FILTERS)
@pytest.mark.parametrize(
    ("side", "enlarge", "angle"),
    [(60.0, 32, 0.0), (160.0, 8, 0.3), (330.0, 4, -0.5), (400.0, 4, 0.2), (900.0, 2, 0.0), (1500.0, 1, 0.1)],
)
def test_the_picture_arrives_where_it_should(
    side: float, enlarge: int, angle: float, final_filter: FinalFilter
) -> None:
    scale = max(side / 60, 1)  # the same waves per face, so that fine pictures are fine
    size = int(side * 1.6) + 12
    picture = smooth_picture(size, size, scale)
    half_pixel = 0.5 / enlarge
    quad = square(size / 2, size / 2, side, angle)
    face = warp_to_face(picture, quad, enlarge=enlarge, half_pixel=half_pixel, final_filter=final_filter)
    assert face.shape == (FACE_SIZE, FACE_SIZE, 3)
    index = np.arange(0, FACE_SIZE, 37)
    grid = np.stack([*np.meshgrid(index, index), np.ones((len(index),) * 2, int)], axis=-1)
    x, y = np.moveaxis(grid @ face_to_picture(quad, half_pixel).T, -1, 0) / scale
    expected = np.stack(
        [
            128 + 90 * np.sin(x / 5.0) * np.cos(y / 7.0),
            128 + 90 * np.cos(x / 9.0 + 1) * np.sin(y / 4.0),
            128 + 90 * np.sin((x + y) / 6.0),
        ],
        axis=2,
    )
    error = face[np.ix_(index, index)] - expected
    # 90 / 4 grey levels per unit of x at most: a shift of 0.02 units would show as 0.45 somewhere
    assert np.sqrt((error**2).mean()) < 0.6
    assert abs(error.mean()) < 0.05


@pytest.mark.parametrize("final_filter", FINAL_FILTERS)
def test_flat_pictures_stay_flat(final_filter: FinalFilter) -> None:
    picture = np.full((200, 200, 3), (0, 100, 255), dtype=np.uint8)
    for side, enlarge in ((100.0, 16), (140.0, 8), (180.0, 1)):
        face = warp_to_face(
            picture, square(100, 100, side), enlarge=enlarge, half_pixel=0.5 / enlarge, final_filter=final_filter
        )
        np.testing.assert_allclose(face, np.broadcast_to(picture[0, 0], face.shape), atol=1e-3)


def test_box_is_softer_than_lanczos() -> None:
    rng = np.random.default_rng(3)
    picture = rng.integers(0, 256, (800, 800, 3), dtype=np.uint8)
    faces = {
        name: warp_to_face(picture, square(400, 400, 700), enlarge=2, half_pixel=0.25, final_filter=name)
        for name in FINAL_FILTERS
    }
    assert faces["box"].std() < faces["lanczos"].std() - 1
