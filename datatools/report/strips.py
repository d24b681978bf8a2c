"""Before and after: the pictures that show how a photo became a face.

Three panels: the photo with its landmarks and the rectangle, the padded picture that the face is cut from with the same
rectangle, and the face.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from datatools.faces.geometry import FaceFrame, face_frame
from datatools.faces.padding import padded_preview, preview_quad
from datatools.images import decode_rgb, image_size
from datatools.report.sheets import fit_picture, scale_picture

PANEL = 480  # longest side of a panel in pixels
OUTSIDE = 214  # grey level around a photo that its rectangle leaves
FRAME_COLOUR = (255, 196, 0)
LANDMARK_COLOUR = (0, 220, 255)


@dataclass(frozen=True)
class Strip:
    """A photo's panels and what its rectangle says. photo, padded: (h, w, 3) uint8 RGB; face: (r, r, 3) uint8 RGB."""

    photo: NDArray[np.uint8]
    padded: NDArray[np.uint8]
    face: NDArray[np.uint8]
    photo_size: tuple[int, int]
    frame: FaceFrame


def strip_candidates(quads: NDArray[np.float64], best_first: NDArray[np.int64]) -> list[tuple[str, NDArray[np.int64]]]:
    """What to show: for each strip why it is interesting, and the faces that would do, best suited first.

    Args:
        quads: (n, 4, 2) rectangles in the photos' edge coordinates (upper left, lower left, lower right, upper right).
        best_first: (n,) faces by falling score.
    Returns: at most six (reason, faces); the lists may share faces. How far rectangles leave the photo is judged at its
        left and top edges alone, which needs no photo.
    """
    if not len(quads):
        return []
    sides = np.hypot(*(quads[:, 3] - quads[:, 0]).T)
    overhang = -quads.min(axis=(1, 2)) / np.maximum(sides, 1e-6)
    padded = np.flatnonzero(overhang > 0)
    padded = padded[np.argsort(-overhang[padded], kind="stable")]
    small_first = np.argsort(sides, kind="stable")
    middle = best_first[np.argsort(np.abs(np.arange(len(best_first)) - len(best_first) // 2), kind="stable")]
    strips = [
        ("Farthest over the photo's edge", padded),
        ("Over the photo's edge", padded[len(padded) // 2 :]),
        ("Smallest rectangle", small_first),
        ("Small rectangle", small_first[len(sides) // 10 :]),
        ("Largest rectangle", small_first[::-1]),
        ("Median score", middle),
    ]
    return [(why, faces) for why, faces in strips if len(faces)]


def make_strip(data: bytes, landmarks: NDArray[np.float64], face: NDArray[np.uint8]) -> Strip:
    """Draw the panels of one photo.

    Args:
        data: the photo file's bytes. landmarks: (5, 2) in centre coordinates of the stored photo.
        face: (r, r, 3) uint8 RGB.
    Raises: ImageError, FrameError (both DataError) for a photo or landmarks that give no face.
    """
    width, height = image_size(data)
    frame = face_frame(landmarks, width, height)
    padded = padded_preview(data, frame, longest=PANEL)
    return Strip(
        photo=photo_panel(data, frame.quad, landmarks),
        padded=draw_rectangle(padded, preview_quad(frame, longest=PANEL)),
        face=fit_picture(face, PANEL, PANEL),
        photo_size=(width, height),
        frame=frame,
    )


def photo_panel(
    data: bytes, quad: NDArray[np.float64], landmarks: NDArray[np.float64], longest: int = PANEL
) -> NDArray[np.uint8]:
    """The whole photo with rectangle and landmarks.

    Where the rectangle leaves the photo, grey is added: up to half of the photo's longer side.

    Args: as in `make_strip`; quad: (4, 2) edge coordinates of the stored photo.
    Returns: (h, w, 3) uint8 RGB, max(h, w) = longest.
    """
    size = np.array(image_size(data), np.float64)  # width, height
    reduce = max((k for k in (2, 4, 8) if size.max() / k >= longest), default=1)
    most = size.max() / 2
    rim = 0.01 * size.max()  # room for the line itself
    before = np.clip(rim - quad.min(axis=0), 0, most)
    after = np.clip(quad.max(axis=0) + rim - size, 0, most)
    canvas_size = before + size + after
    scale = longest / canvas_size.max()
    canvas_width, canvas_height = np.maximum(np.rint(canvas_size * scale), 1).astype(int)
    width, height = np.maximum(np.rint(size * scale), 1).astype(int)
    photo = scale_picture(decode_rgb(data, reduce=reduce), int(width), int(height))
    left, top = np.rint(before * scale).astype(int)
    left, top = min(left, canvas_width - width), min(top, canvas_height - height)
    canvas = np.full((canvas_height, canvas_width, 3), OUTSIDE, np.uint8)
    canvas[top : top + height, left : left + width] = photo
    to_canvas = np.array([width, height]) / size
    drawn = draw_rectangle(canvas, quad * to_canvas + (left, top))
    return draw_points(drawn, (landmarks + 0.5) * to_canvas + (left, top))


def draw_rectangle(image: NDArray[np.uint8], quad: NDArray[np.float64]) -> NDArray[np.uint8]:
    """A copy of `image` (h, w, 3) with the quad (4, 2; edge coordinates), bright on a dark rim: seen on any photo."""
    drawn = np.ascontiguousarray(image).copy()
    corners = _fixed_point(quad)
    for colour, width in (((20, 20, 20), 5), (FRAME_COLOUR, 2)):
        cv2.polylines(drawn, [corners], True, colour, width, cv2.LINE_AA, _FRACTION_BITS)
    return drawn


def draw_points(image: NDArray[np.uint8], points: NDArray[np.float64]) -> NDArray[np.uint8]:
    """A copy of `image` (h, w, 3) with a dot at each of the points (n, 2; edge coordinates)."""
    drawn = np.ascontiguousarray(image).copy()
    for x, y in _fixed_point(points).tolist():
        for colour, radius in (((20, 20, 20), 3.5), (LANDMARK_COLOUR, 2.2)):
            cv2.circle(drawn, (x, y), int(radius * 2**_FRACTION_BITS), colour, -1, cv2.LINE_AA, _FRACTION_BITS)
    return drawn


_FRACTION_BITS = 4  # OpenCV draws at 16ths of a pixel


def _fixed_point(points: NDArray[np.float64]) -> NDArray[np.int32]:
    """Edge coordinates as OpenCV's fixed-point centre coordinates; far ones are pulled in to what integers hold."""
    return np.rint(np.clip(points - 0.5, -30000, 30000) * 2**_FRACTION_BITS).astype(np.int32)
