"""MTCNN's cascade with networks that find coloured squares: scales, boxes, crops, and which boxes are kept."""

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from datatools.landmarks.cascade import (
    DEFAULTS,
    FINISH_SIDE,
    REFINE_SIDE,
    STRIDE,
    TOGETHER,
    WINDOW,
    Halves,
    Settings,
    detect,
    scales,
    suppress,
)

Floats = NDArray[np.float32]


class SquareFinder:
    """Networks for which a face is a red square with black around it: exact boxes, and points at fixed places."""

    places = np.array([(0.3, 0.35), (0.7, 0.35), (0.5, 0.55), (0.35, 0.75), (0.65, 0.75)], np.float32)

    def propose(self, picture: NDArray[np.uint8]) -> tuple[Floats, Floats]:
        rows, columns = (max((side - WINDOW) // STRIDE + 1, 0) for side in picture.shape[:2])
        windows = sliding_window_view(picture, (WINDOW, WINDOW), axis=(0, 1))[::STRIDE, ::STRIDE]
        crops = windows.transpose(0, 1, 3, 4, 2).reshape(-1, WINDOW, WINDOW, 3)
        scores, offsets = self._boxes(crops)
        return scores.reshape(rows, columns), offsets.reshape(rows, columns, 4)

    def refine(self, crops: NDArray[np.uint8]) -> tuple[Floats, Floats]:
        assert crops.shape[1:] == (REFINE_SIDE, REFINE_SIDE, 3)
        return self._boxes(crops)

    def finish(self, crops: NDArray[np.uint8]) -> tuple[Floats, Floats, Floats]:
        assert crops.shape[1:] == (FINISH_SIDE, FINISH_SIDE, 3)
        scores, offsets = self._boxes(crops)
        sides = (offsets[:, 2:] - offsets[:, :2] + 1)[:, None]
        return scores, offsets, offsets[:, None, :2] + self.places * sides

    def _boxes(self, crops: NDArray[np.uint8]) -> tuple[Floats, Floats]:
        """Return scores, and how far the square's edges are from a frame a tenth of the crop's side inside of it.

        The frame leaves room around the square, so that the next network sees what is black.
        """
        scores, offsets = [], []
        for crop in crops:
            red = crop[..., 0] / 255
            ring = np.concatenate([red[0], red[-1], red[:, 0], red[:, -1]])
            scores.append(1.0 if ring.mean() < 0.1 and red.mean() > 0.2 else 0.0)
            spans = []
            for profile in (red.max(axis=0), red.max(axis=1)):
                inside = np.nonzero(profile > 0.5)[0]
                spans.append((inside[0], inside[-1] + 1) if len(inside) else (0, len(profile)))
            side = len(crop)
            (left, right), (top, bottom) = spans
            room = 0.15 * (right - left) if side < FINISH_SIDE else 0
            offsets.append(
                [(left - room) / side, (top - room) / side, (right + room) / side - 1, (bottom + room) / side - 1]
            )
        return np.array(scores, np.float32), np.array(offsets, np.float32)


def squares(size: tuple[int, int], *boxes: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Return a black picture (width, height) with red squares (x, y, side)."""
    picture = np.zeros((size[1], size[0], 3), np.uint8)
    for x, y, side in boxes:
        picture[y : y + side, x : x + side, 0] = 255
    return picture


@pytest.mark.parametrize("side", [40, 100, 230])
def test_a_face_of_any_size_is_placed_exactly(side: int) -> None:
    (face,) = detect([squares((520, 480), (137, 121, side))], SquareFinder())[0]
    assert face.box == pytest.approx((137, 121, side, side), abs=0.04 * side)
    # a point's place in the box is its coordinate: see the comment in the cascade
    np.testing.assert_allclose(face.points, (137, 121) + SquareFinder.places * side, atol=0.04 * side)
    assert face.score == 1
    assert face.points68 is None


def test_faces_of_several_photos_come_in_their_order() -> None:
    found = detect(
        [squares((200, 150), (20, 30, 60)), squares((90, 90)), squares((260, 140), (30, 40, 50), (150, 30, 80))],
        SquareFinder(),
    )
    assert [len(faces) for faces in found] == [1, 0, 2]
    assert sorted(round(face.box[0], -1) for face in found[2]) == [30, 150]


def test_photos_without_faces_have_none() -> None:
    assert detect([squares((100, 80)), squares((60, 60))], SquareFinder()) == [[], []]
    assert detect([], SquareFinder()) == []


def test_a_tiny_photo_has_no_face() -> None:
    assert detect([squares((9, 200), (0, 20, 9))], SquareFinder()) == [[]]
    assert detect([squares((1, 1))], SquareFinder()) == [[]]


@pytest.mark.parametrize("side", [24, 48])
def test_crops_show_what_lies_in_the_box(side: int) -> None:
    y, x = np.mgrid[:300, :400]
    picture = np.stack([x / 2, y / 2, 0 * x], axis=2).astype(np.uint8)
    boxes = np.array([[40, 30, 40 + side, 30 + side], [101.5, 60.25, 221.5, 180.25], [20, 10, 260, 250]], float)
    for (left, top, right, _), crop in zip(boxes, Halves(picture).crops(boxes, side), strict=True):
        step = (right - left) / side
        columns = left + (np.arange(side) + 0.5) * step - 0.5  # centre coordinates of the crop's pixels in the photo
        rows = top + (np.arange(side) + 0.5) * step - 0.5
        np.testing.assert_allclose(crop[..., 0].mean(axis=0), columns / 2, atol=0.8)
        np.testing.assert_allclose(crop[..., 1].mean(axis=1), rows / 2, atol=0.8)


def test_what_lies_outside_of_the_photo_is_grey() -> None:
    picture = np.full((50, 60, 3), 250, np.uint8)
    (crop, far) = Halves(picture).crops(np.array([[-24, 0, 24, 48], [500, 500, 900, 900]], float), 48)
    assert (crop[:, :23] == 128).all()
    assert (crop[:, 25:] == 250).all()
    assert (far == 128).all()


def test_the_smallest_face_bounds_the_scales() -> None:
    found = scales(640, 480, Settings(min_face=40, faces_across=50))
    assert found[0] == 12 / 40
    assert 480 * found[-1] >= 12 > 480 * found[-1] * 0.709
    assert scales(30, 20, Settings(min_face=40)) == []


def test_a_large_photo_takes_as_long_as_a_small_one() -> None:
    small, large = scales(1600, 1200, DEFAULTS), scales(16000, 12000, DEFAULTS)
    assert len(small) == len(large)
    assert 16000 * large[0] == pytest.approx(1600 * small[0])


def test_of_overlapping_boxes_the_best_is_kept() -> None:
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [20, 0, 30, 10], [2, 2, 6, 6]], float)
    scores = np.array([0.8, 0.9, 0.5, 0.7], np.float32)
    assert suppress(boxes, scores, 0.5).tolist() == [1, 3, 2]
    assert suppress(boxes, scores, 0.95).tolist() == [1, 0, 3, 2]
    assert suppress(boxes, scores, 0.7, of_smaller=True).tolist() == [1, 2]
    assert suppress(np.empty((0, 4)), np.empty(0, np.float32), 0.5).tolist() == []


@pytest.mark.parametrize("of_smaller", [False, True])
def test_of_many_boxes_none_shares_much_with_a_better_one(of_smaller: bool) -> None:
    rng = np.random.default_rng(4)
    corners = rng.uniform(0, 60, (3 * TOGETHER, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(5, 20, (3 * TOGETHER, 2))], axis=1)
    scores = rng.uniform(size=len(boxes)).astype(np.float32)
    expected: list[int] = []
    for number in np.argsort(-scores).tolist():
        if all(shared(boxes[number], boxes[better], of_smaller) <= 0.3 for better in expected):
            expected.append(number)
    assert len(boxes) > TOGETHER > len(expected) > 20
    assert suppress(boxes, scores, 0.3, of_smaller=of_smaller).tolist() == expected


def shared(one: Floats, other: Floats, of_smaller: bool) -> float:
    """Return the intersection of two boxes, as a share of their union or of the smaller one."""
    across = max(min(one[2], other[2]) - max(one[0], other[0]), 0)
    down = max(min(one[3], other[3]) - max(one[1], other[1]), 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return float(across * down / (min(areas) if of_smaller else sum(areas) - across * down))


def test_at_most_so_many_candidates_are_looked_at() -> None:
    networks = SquareFinder()
    picture = squares((300, 300), *[(x, y, 40) for x in (10, 110, 210) for y in (10, 110, 210)])
    assert len(detect([picture], networks)[0]) == 9
    assert len(detect([picture], networks, Settings(candidates=2))[0]) <= 2
