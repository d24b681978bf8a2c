"""Contact sheets: order, size, and what does not fit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datatools.report.sheets import GAP, PAPER, contact_sheet, enlarge, fit_picture, sheet_columns


def flat(value: int, height: int = 16, width: int | None = None) -> np.ndarray:
    return np.full((height, width or height, 3), value, np.uint8)


def tile_of(sheet: np.ndarray, row: int, column: int, tile: int) -> np.ndarray:
    top, left = GAP + row * (tile + GAP), GAP + column * (tile + GAP)
    return sheet[top : top + tile, left : left + tile]


@given(count=st.integers(1, 20), columns=st.integers(1, 7), tile=st.integers(1, 24), side=st.sampled_from([1, 4, 16]))
def test_every_picture_is_at_its_place(count: int, columns: int, tile: int, side: int) -> None:
    sheet = contact_sheet([flat(10 * i, side) for i in range(count)], columns, tile)
    used = min(columns, count)
    rows = -(-count // used)
    assert sheet.shape == (GAP + rows * (tile + GAP), GAP + used * (tile + GAP), 3)
    assert sheet.dtype == np.uint8
    for i in range(rows * used):
        assert np.all(tile_of(sheet, i // used, i % used, tile) == (10 * i if i < count else PAPER))
    assert np.all(sheet[:GAP] == PAPER)
    assert np.all(sheet[:, -GAP:] == PAPER)


def test_a_picture_of_tile_size_is_copied_unchanged() -> None:
    face = np.random.default_rng(1).integers(0, 256, (32, 32, 3), np.uint8)
    np.testing.assert_array_equal(tile_of(contact_sheet([face], 5, 32), 0, 0, 32), face)


def test_channels_stay_in_order() -> None:
    red = np.zeros((64, 64, 3), np.uint8)
    red[..., 0] = 200
    np.testing.assert_array_equal(tile_of(contact_sheet([red], 1, 20), 0, 0, 20)[10, 10], [200, 0, 0])


def test_pictures_that_are_not_square_are_centred_whole() -> None:
    tile = tile_of(contact_sheet([flat(0, 10, 20)], 1, 40), 0, 0, 40)
    assert np.all(tile[10:30] == 0)
    assert np.all(tile[:10] == PAPER)
    assert np.all(tile[30:] == PAPER)


def test_no_pictures_make_a_blank_tile() -> None:
    sheet = contact_sheet([], 8, 12)
    assert sheet.shape == (12 + 2 * GAP, 12 + 2 * GAP, 3)
    assert np.all(sheet == PAPER)


def test_a_channels_first_face_or_floats_are_refused() -> None:
    with pytest.raises(ValueError, match=r"picture 1 is uint8 of shape \(3, 8, 8\)"):
        contact_sheet([flat(0), np.zeros((3, 8, 8), np.uint8)], 2, 8)
    with pytest.raises(ValueError, match="picture 0 is float64"):
        contact_sheet([np.zeros((8, 8, 3))], 2, 8)  # type: ignore[list-item]
    with pytest.raises(ValueError, match="at least 1, got 0 and 8"):
        contact_sheet([], 0, 8)


@given(height=st.integers(1, 300), width=st.integers(1, 300), box=st.integers(1, 64))
def test_fitted_pictures_fill_the_box_and_never_leave_it(height: int, width: int, box: int) -> None:
    fitted = fit_picture(flat(7, height, width), box, box)
    assert max(fitted.shape[:2]) == box
    assert min(fitted.shape[:2]) >= 1
    assert np.all(fitted == 7)


def test_sheets_are_somewhat_wider_than_high() -> None:
    assert [sheet_columns(count) for count in (0, 1, 2, 3, 4, 6, 12, 24, 48, 1000)] == [1, 1, 2, 3, 2, 3, 4, 6, 8, 39]
    for count in range(4, 1001):
        columns = sheet_columns(count)
        rows = -(-count // columns)
        assert 0.99 <= columns / rows <= 2
        assert rows * columns - count < rows  # no column could be left out


def test_enlarged_pixels_are_squares() -> None:
    image = np.random.default_rng(2).integers(0, 256, (2, 3, 3), np.uint8)
    large = enlarge(image, 4)
    assert large.shape == (8, 12, 3)
    np.testing.assert_array_equal(large[1::4, 2::4], image)
    np.testing.assert_array_equal(large.reshape(2, 4, 3, 4, 3).std(axis=(1, 3)), np.zeros((2, 3, 3)))
