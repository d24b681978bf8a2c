"""MTCNN's cascade: windows at several scales, narrowed down by three networks; arrays in, faces out. Loads no torch.

Boxes are (n, 4): left, top, right, bottom in edge coordinates of the photo (its first pixel covers 0 to 1).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from datatools.landmarks.base import Face, Picture

WINDOW, STRIDE = 12, 2
"""Of P-Net, in pixels of the reduced photo."""
REFINE_SIDE, FINISH_SIDE = 24, 48
"""Of the crops that R-Net and O-Net take."""
FACTOR = 0.709
"""From one scale to the next: halves the area, as in the paper."""
OUTSIDE = (128, 128, 128)
"""Colour of what a crop has outside of the photo: what the networks see as zero."""
TOGETHER = 128
"""Boxes that are compared with all others at once: bounds the memory."""
DIGITS = 2
"""Decimals of a point. A file of landmarks has as many, so that it says the same as the detector."""

Boxes = NDArray[np.float64]
Floats = NDArray[np.float32]


class CascadeNetworks(Protocol):
    """What the cascade needs of the networks; see `datatools.landmarks.mtcnn_networks.Networks`."""

    def propose(self, picture: Picture, /) -> tuple[Floats, Floats]:
        """Return the scores (rows, columns) and offsets (rows, columns, 4) of the windows of a picture."""

    def refine(self, crops: Picture, /) -> tuple[Floats, Floats]:
        """Return scores (n,) and offsets (n, 4) of crops (n, 24, 24, 3)."""

    def finish(self, crops: Picture, /) -> tuple[Floats, Floats, Floats]:
        """Return scores (n,), offsets (n, 4) and points (n, 5, 2) of crops (n, 48, 48, 3)."""


@dataclass(frozen=True)
class Settings:
    """What counts as a face.

    Attributes:
        min_face: side of the smallest box to look for in pixels.
        faces_across: the smallest box is at least this fraction, 1 / faces_across, of the longer side of the photo: the
            time for a large photo is that for a small one.
        scores: least scores of P-Net, R-Net and O-Net.
        candidates: most boxes of a photo that go to R-Net, the best ones.
    """

    min_face: float = 32
    faces_across: float = 50
    scores: tuple[float, float, float] = (0.6, 0.7, 0.7)
    candidates: int = 1000


DEFAULTS = Settings()


def detect(pictures: Sequence[Picture], networks: CascadeNetworks, settings: Settings = DEFAULTS) -> list[list[Face]]:
    """Return the faces in each picture, the highest score first."""
    sources = [Halves(picture) for picture in pictures]
    boxes = [_propose(source, networks, settings) for source in sources]
    boxes = _refine(sources, boxes, networks, settings)
    return _finish(sources, boxes, networks, settings)


def scales(width: int, height: int, settings: Settings) -> list[float]:
    """Return the factors by which a photo is reduced for P-Net, the largest first."""
    smallest = max(settings.min_face, WINDOW, max(width, height) / settings.faces_across)
    found, scale = [], WINDOW / smallest
    while min(width, height) * scale >= WINDOW:
        found.append(scale)
        scale *= FACTOR
    return found


def _levels(source: "Halves", settings: Settings) -> Iterator[tuple[Picture, tuple[float, float]]]:
    """Yield a photo at the sizes that P-Net looks at, and width and height of a pixel in pixels of the photo."""
    factors = scales(*source.size, settings)
    if not factors:
        return
    picture, share = source.level(int(-np.log2(factors[0])))  # halving is faster than reducing at once
    height, width = (side / share for side in picture.shape[:2])
    for scale in factors:
        size = (max(round(width * scale), WINDOW), max(round(height * scale), WINDOW))
        level = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
        yield level, (width / size[0], height / size[1])
        picture = level if scale == factors[0] else picture  # a large photo is read once


def _propose(source: "Halves", networks: CascadeNetworks, settings: Settings) -> Boxes:
    """Return the boxes of a photo that P-Net takes for faces."""
    found, scores = [np.empty((0, 4))], [np.empty(0, np.float32)]
    for level, pixel in _levels(source, settings):
        level_scores, offsets = networks.propose(level)
        rows, columns = np.nonzero(level_scores >= settings.scores[0])
        corners = STRIDE * np.stack([columns, rows], axis=1).astype(np.float64)
        boxes = np.concatenate([corners, corners + WINDOW], axis=1) * (*pixel, *pixel)
        kept = suppress(boxes, level_scores[rows, columns], 0.5)
        found.append(_moved(boxes, offsets[rows, columns])[kept])
        scores.append(level_scores[rows, columns][kept])
    all_boxes, all_scores = np.concatenate(found), np.concatenate(scores)
    kept = suppress(all_boxes, all_scores, 0.7)[: settings.candidates]
    return _squared(all_boxes[kept])


def _refine(
    sources: Sequence["Halves"], boxes: Sequence[Boxes], networks: CascadeNetworks, settings: Settings
) -> list[Boxes]:
    """Return the boxes that R-Net takes for faces."""
    crops = [source.crops(found, REFINE_SIDE) for source, found in zip(sources, boxes, strict=True)]
    if not any(map(len, boxes)):
        return list(boxes)
    scores, offsets = networks.refine(np.concatenate(crops))
    results = []
    for found, part in zip(boxes, _parts(boxes), strict=True):
        good = scores[part] >= settings.scores[1]
        kept = suppress(found[good], scores[part][good], 0.7)
        results.append(_squared(_moved(found[good], offsets[part][good])[kept]))
    return results


def _finish(
    sources: Sequence["Halves"], boxes: Sequence[Boxes], networks: CascadeNetworks, settings: Settings
) -> list[list[Face]]:
    """Return the faces that O-Net finds in boxes."""
    if not any(map(len, boxes)):
        return [[] for _ in boxes]
    crops = [source.crops(found, FINISH_SIDE) for source, found in zip(sources, boxes, strict=True)]
    scores, offsets, points = networks.finish(np.concatenate(crops))
    faces = []
    for found, part in zip(boxes, _parts(boxes), strict=True):
        good = scores[part] >= settings.scores[2]
        squares = found[good]
        sides = (squares[:, 2:] - squares[:, :2])[:, None]
        # Points were learned as differences of pixel numbers: the corner in edge coordinates, the point in centre ones.
        placed = squares[:, None, :2] + points[part][good] * sides
        final = _moved(squares, offsets[part][good])
        kept = suppress(final, scores[part][good], 0.7, of_smaller=True)
        faces.append([_face(final[i], placed[i], scores[part][good][i]) for i in kept])
    return faces


def _face(box: Boxes, points: NDArray[np.float64], score: float) -> Face:
    left, top, right, bottom = (round(float(value), DIGITS) for value in box)
    place = (left, top, round(right - left, DIGITS), round(bottom - top, DIGITS))
    return Face(np.round(points, DIGITS), place, round(float(score), 4))


def _parts(boxes: Sequence[Boxes]) -> list[slice]:
    """Return where the boxes of each photo stand among those of all photos."""
    ends = np.cumsum([len(found) for found in boxes])
    return [slice(int(end) - len(found), int(end)) for found, end in zip(boxes, ends, strict=True)]


def _moved(boxes: Boxes, offsets: Floats) -> Boxes:
    """Return boxes whose edges are moved by offsets, which are fractions of width and height."""
    sides = boxes[:, 2:] - boxes[:, :2]
    return boxes + offsets * np.concatenate([sides, sides], axis=1)


def _squared(boxes: Boxes) -> Boxes:
    """Return squares with the centres of boxes and their longer sides."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, keepdims=True) / 2
    return np.concatenate([centres - half, centres + half], axis=1)


def suppress(boxes: Boxes, scores: Floats, limit: float, *, of_smaller: bool = False) -> NDArray[np.intp]:
    """Return the numbers of the boxes to keep, the best score first: none shares much with one before it.

    Args:
        boxes: (n, 4).
        scores: (n,).
        limit: largest intersection that is kept, as a share of the union.
        of_smaller: of the smaller box instead: a box within another one goes, too.
    """
    order = np.argsort(-scores, kind="stable")
    left, top, right, bottom = np.ascontiguousarray(boxes.T)
    areas = (right - left) * (bottom - top)
    kept: list[np.intp] = []
    while len(order):
        best = order[:TOGETHER]
        across = np.minimum(right[best, None], right[order]) - np.maximum(left[best, None], left[order])
        down = np.minimum(bottom[best, None], bottom[order]) - np.maximum(top[best, None], top[order])
        shared = np.maximum(across, 0) * np.maximum(down, 0)  # (best, others)
        one, other = areas[best, None], areas[order]
        apart = shared <= limit * (np.minimum(one, other) if of_smaller else one + other - shared)
        remain = np.ones(len(order), bool)
        for place, number in enumerate(best):
            if remain[place]:
                kept.append(number)
                remain &= apart[place]
        order = order[TOGETHER:][remain[TOGETHER:]]
    return np.array(kept, np.intp)


class Halves:
    """A photo and its halves, quarters ...: crops come from the one in which they are one to two times too large."""

    def __init__(self, picture: Picture) -> None:
        self._levels = [picture]

    @property
    def size(self) -> tuple[int, int]:
        """Return (width, height) of the photo."""
        height, width = self._levels[0].shape[:2]
        return width, height

    def crops(self, boxes: Boxes, side: int) -> Picture:
        """Return the parts in boxes, (n, side, side, 3); what lies outside of the photo is grey."""
        crops = np.empty((len(boxes), side, side, 3), np.uint8)
        for crop, (left, top, right, bottom) in zip(crops, boxes, strict=True):
            halvings = max(int(np.log2(max((right - left) / side, 1))), 0)
            level, factor = self.level(halvings)
            step_x, step_y = (right - left) * factor / side, (bottom - top) * factor / side
            # pixel centres of the crop -> centre coordinates of the level
            matrix = np.array(
                [
                    [step_x, 0, left * factor + (step_x - 1) / 2],
                    [0, step_y, top * factor + (step_y - 1) / 2],
                ]
            )
            flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            crop[:] = cv2.warpAffine(
                level, matrix, (side, side), flags=flags, borderMode=cv2.BORDER_CONSTANT, borderValue=OUTSIDE
            )
        return crops

    def level(self, halvings: int) -> tuple[Picture, float]:
        """Return the photo halved that often, or as often as possible, and its share of the size."""
        while len(self._levels) <= halvings and min(self._levels[-1].shape[:2]) >= 2:
            last = self._levels[-1]
            height, width = last.shape[0] // 2, last.shape[1] // 2
            half = cv2.resize(last[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA)
            self._levels.append(np.asarray(half))
        number = min(halvings, len(self._levels) - 1)
        return self._levels[number], 2.0**-number
