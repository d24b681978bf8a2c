"""Check what landmarks mean: rows that contradict themselves, and files that hold something else.

All limits are far from real rows. Measured on 250 of them (212 photos of CelebA, five with the official landmarks, and
38 other portraits; profiles and heads tilted by up to 27 degrees among them): the eyes agree with the way from eyes to
mouth to at least 0.991, and with the corners of the mouth to at least 0.988; the eye distance is 0.36 to 1.31 of the
distance from eyes to mouth; the nose lies at 0.16 to 0.82 of that way. None of it depends on how the head is tilted.
"""

from itertools import permutations, product

import numpy as np
from numpy.typing import NDArray

POINTS = ("left eye", "right eye", "nose", "left mouth corner", "right mouth corner")
"""The order of a row (left and right as seen in the picture)."""

ALIGNED_SIZE = (178, 218)
"""(width, height) of CelebA's aligned pictures, `img_align_celeba`."""

NEARLY_ALL = 0.9
"""Share of the rows that makes a fault one of the file."""

MIN_AGREEMENT = 0.7
"""Least agreement of two vectors: 1 when parallel, 0.7 at a right angle, 0 when opposite, if they are equally long. A
vector less than a sixth as long as the other, as the eyes in full profile, never disagrees: a few pixels turn it."""

EYE_DISTANCE = (0.03, 4.0)
"""Bounds of the eye distance, in distances from eyes to mouth."""

NOSE = (-0.25, 1.25)
"""Bounds of the nose's place on the way from eyes (0) to mouth (1): heads that look up or down reach about 0 and 1."""

MAX_OUTSIDE = 0.5
"""How far eyes and mouth may be outside of the photo, in eye distances or distances from eyes to mouth, whichever is
longer. In 250 real rows none of the points is outside."""

_CLEAR_AGREEMENT, _CLEAR_NOSE = 0.85, (0.1, 0.95)
"""The same, for the question in which order the points make faces: narrow, but every real row is inside."""

_ALIGNED_CENTRE, _ALIGNED_SPREAD = (88.5, 132.0), 4.0
"""Where the middle between eyes and mouth lies in aligned pictures, and how far from it their rows may be, in pixels.
They were aligned by a similarity: eight official rows are within 1.5; the nearest of 212 wild photos is 4.3 away."""


_MANY = 10
"""So many photos are not all turned by more than 45 degrees, where one may be."""

_MANY_CONTRADICT = 8
"""Of so many rows, less than half contradict themselves by accident; of fewer, NEARLY_ALL have to."""

_EXCHANGES: dict[tuple[int, ...], str] = {
    (1, 0, 2, 3, 4): "left and right eye exchanged",
    (0, 1, 2, 4, 3): "left and right corner of the mouth exchanged",
    (1, 0, 2, 4, 3): "left and right exchanged (or the photos were mirrored)",
    (3, 4, 2, 0, 1): "eyes and mouth exchanged (or y counted from the lower edge)",
}
"""For each of `POINTS`, where it stands in the row -> what happened."""


class _Shapes:
    """Rows as vectors: eyes, mouth, the way between them, all (N, 2)."""

    def __init__(self, points: NDArray[np.float64]) -> None:
        eyes, mouth = (points[:, 0] + points[:, 1]) / 2, (points[:, 3] + points[:, 4]) / 2
        self.across = points[:, 1] - points[:, 0]
        self.smile = points[:, 4] - points[:, 3]
        self.down = mouth - eyes
        self.centre = (eyes + mouth) / 2
        self.upright = np.stack([self.down[:, 1], -self.down[:, 0]], axis=1)  # where `across` points in a face
        self.eye_distance, self.height = np.hypot(*self.across.T), np.hypot(*self.down.T)
        with np.errstate(divide="ignore", invalid="ignore"):
            self.nose = ((points[:, 2] - eyes) * self.down).sum(axis=1) / self.height**2

    @property
    def are_upright(self) -> NDArray[np.bool_]:
        """Return (N,) whether the faces are turned by less than 45 degrees."""
        return np.asarray(self.down[:, 1] > np.abs(self.down[:, 0]))

    @property
    def are_clear(self) -> NDArray[np.bool_]:
        """Return (N,) whether the points clearly make a face."""
        eyes = np.minimum(_agreement(self.across, self.upright), _agreement(self.across, self.smile))
        return np.asarray((eyes >= _CLEAR_AGREEMENT) & (self.nose >= _CLEAR_NOSE[0]) & (self.nose <= _CLEAR_NOSE[1]))


def _agreement(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (N,) how much of two vectors' length is left in their sum: 0..1; 1 where both are zero."""
    total = np.hypot(*one.T) + np.hypot(*other.T)
    return np.divide(np.hypot(*(one + other).T), total, out=np.ones(len(one)), where=total > 0)


def contradictions(points: NDArray[np.float64]) -> list[str]:
    """Find the rows whose points do not make a face.

    Args:
        points: (N, 5, 2) finite positions in the order of `POINTS`.

    Returns:
        N reasons; "" for rows without a contradiction, and for those whose points are all (nearly) the same.
    """
    reasons = np.full(len(points), "", dtype=object)
    for rows, reason in reversed(_contradicting(_Shapes(points))):
        reasons[rows] = reason
    return list(reasons)


def _contradicting(shapes: _Shapes) -> list[tuple[NDArray[np.bool_], str]]:
    """Return which rows contradict themselves, (N,), with the reason; the first that fits a row is its reason."""
    different = ~(shapes.eye_distance + shapes.height < 1e-6)
    least, most = EYE_DISTANCE
    ratio = np.divide(shapes.eye_distance, shapes.height, out=np.full(len(different), np.inf), where=shapes.height > 0)
    across = _agreement(shapes.across, shapes.upright) < MIN_AGREEMENT
    smile = _agreement(shapes.across, shapes.smile) < MIN_AGREEMENT
    nose = (shapes.nose < NOSE[0]) | (shapes.nose > NOSE[1])
    return [
        (rows & different, reason)
        for rows, reason in (
            (ratio < least, "both eyes are at the same place"),
            (ratio > most, "the mouth is between the eyes"),
            (across & smile, "the eyes contradict the mouth: left and right eye seem to be exchanged"),
            (across, "the eyes contradict the way to the mouth: left and right seem to be exchanged"),
            (smile, "the corners of the mouth contradict the eyes: left and right corner seem to be exchanged"),
            (nose, "the nose is not between eyes and mouth"),
        )
    ]


def outside(points: NDArray[np.float64], width: int, height: int) -> bool:
    """Return whether eyes or mouth lie further outside of a photo than a face that its edge cuts off has them.

    Args:
        points: (5, 2) in the order of `POINTS`.
        width, height: of the photo in pixels.
    """
    shapes = _Shapes(points[None])
    beyond = np.maximum(-points, points - (width - 1, height - 1))[[0, 1, 3, 4]].max()
    return bool(beyond > MAX_OUTSIDE * max(shapes.eye_distance[0], shapes.height[0]))


def common_fault(points: NDArray[np.float64]) -> str | None:
    """Find out whether nearly all rows show that they mean something else than landmarks of photos in the wild.

    Args:
        points: (N, 5, 2) finite positions in the order of `POINTS`.

    Returns:
        The likely reason, as the end of a sentence that begins with the file's name; None for rows as they should be.
    """
    if not len(points):
        return None
    if _nearly_all(np.abs(points - points[:, :1]).max(axis=(1, 2)) < 1e-6):
        return f"has its five points all at the same place, such as ({points[0, 0, 0]:g}, {points[0, 0, 1]:g})"
    if _nearly_all(np.abs(points).max(axis=(1, 2)) <= 1.5):
        return "holds fractions of the picture's size (all values are at most 1.5), where pixels are expected"
    shapes = _Shapes(points)
    aligned = np.abs(shapes.centre - _ALIGNED_CENTRE).max(axis=1) <= _ALIGNED_SPREAD
    if _nearly_all(aligned & (np.abs(shapes.height - 41) <= 12) & (np.abs(shapes.eye_distance - 38) <= 20)):
        return "holds the landmarks of the aligned pictures (178 x 218 pixels), not those of the photos in the wild"
    clear, upright = shapes.are_clear, shapes.are_upright
    if len(points) >= _MANY:
        if _nearly_all(clear & ~upright):
            return "shows its faces on their side or upside down: columns are exchanged, or the photos were turned"
        clear &= upright
    if clear.mean() < 0.5:
        order = _likely_order(points)
        if order:
            return order
    bad = np.any([rows for rows, _ in _contradicting(shapes)], axis=0)
    if _nearly_all(bad):
        return "has rows whose five points make no face"
    if len(points) >= _MANY_CONTRADICT and 2 * bad.sum() > len(points):
        return f"has rows whose five points make no face ({bad.sum():,} of {len(points):,})"
    return None


def _nearly_all(rows: NDArray[np.bool_]) -> bool:
    return bool(rows.mean() >= NEARLY_ALL)


def _upright_faces(points: NDArray[np.float64]) -> bool:
    """Return whether nearly all rows are clearly upright faces."""
    shapes = _Shapes(points)
    return _nearly_all(shapes.are_clear & shapes.are_upright)


def _likely_order(points: NDArray[np.float64]) -> str | None:
    """Return how the columns seem to be exchanged, where nearly all rows become upright faces by it."""
    expected = f"expected are x and y of {', '.join(POINTS)}, as seen in the picture"
    points = points[:: max(len(points) // 1000, 1)]
    one_axis_first = points.reshape(-1, 2, 5).transpose(0, 2, 1)
    for axes, order_text in (((0, 1), "all x before all y"), ((1, 0), "all y before all x")):
        if _upright_faces(one_axis_first[:, :, axes]):
            return f"seems to have {order_text} in its rows; {expected}"
    likely = [(False, order) for order in _EXCHANGES] + [(True, tuple(range(5)))]
    others = product((False, True), permutations(range(5)))
    for swapped, order in likely + sorted(others, key=lambda other: sum(i != n for n, i in enumerate(other[1]))):
        if _upright_faces((points[:, :, ::-1] if swapped else points)[:, order]):
            break
    else:
        return None
    stands = ", ".join(POINTS[order.index(place)] for place in range(5))
    in_order = stands == ", ".join(POINTS)
    points_text = _EXCHANGES.get(order, "" if in_order else f"the points in the order {stands}")
    exchanges = " and ".join(filter(None, ["x and y exchanged" if swapped else "", points_text]))
    return f"seems to have {exchanges}; {expected}"
