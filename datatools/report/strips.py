"""Pictures that show how a photo became a face, and what restoration did to it.

A strip has three panels: the photo with its landmarks and the rectangle, the padded picture that the face is cut from
with the same rectangle, and the face. A restoration strip shows a part of a face without restoration and with it, at
its own size.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from datatools.faces.geometry import FaceFrame, face_frame
from datatools.faces.padding import padded_preview, preview_quad
from datatools.faces.recipe import make_face, reduce_face
from datatools.faces.resample import FinalFilter
from datatools.images import decode_rgb, image_size
from datatools.report.sheets import fit_picture, scale_picture
from datatools.restore import NoRestorer

PANEL = 480  # longest side of a panel in pixels
PART = 256  # side of the part of a face that is shown before and after restoration
OUTSIDE = 214  # grey level around a photo that its rectangle leaves
FRAME_COLOUR = (255, 196, 0)
LANDMARK_COLOUR = (0, 220, 255)


Image = NDArray[np.uint8]
"""(h, w, 3) RGB."""
Candidates = list[tuple[str, NDArray[np.int64]]]
"""The title of each strip to show, and the faces that suit it, the best first."""


def strip_candidates(quads: NDArray[np.float64], best_first: NDArray[np.int64]) -> Candidates:
    """Return at most six candidates for strips, which may share faces.

    How far rectangles leave the photo is judged at its left and top edges alone, which needs no photo.

    Args:
        quads: (n, 4, 2) rectangles in the photos' edge coordinates (upper left, lower left, lower right, upper right).
        best_first: (n,) faces by falling score.
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


def make_strip(
    data: bytes, landmarks: NDArray[np.float64], face: NDArray[np.uint8]
) -> tuple[FaceFrame, tuple[Image, Image, Image]]:
    """Draw the three panels of one photo; return its frame and them.

    Args:
        data: the photo file's bytes. landmarks: (5, 2) in centre coordinates of the stored photo.
        face: (r, r, 3) uint8 RGB.
    Raises: ImageError, FrameError (both DataError) for a photo or landmarks that give no face.
    """
    frame = face_frame(landmarks, *image_size(data))
    padded = padded_preview(data, frame, longest=PANEL)
    return frame, (
        photo_panel(data, frame.quad, landmarks),
        draw_rectangle(padded, preview_quad(frame, longest=PANEL)),
        fit_picture(face, PANEL, PANEL),
    )


def photo_panel(
    data: bytes, quad: NDArray[np.float64], landmarks: NDArray[np.float64], longest: int = PANEL
) -> NDArray[np.uint8]:
    """Return the whole photo with rectangle and landmarks.

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
    """Return a copy of `image` (h, w, 3) with the quad (4, 2; edge coordinates), bright on a dark rim."""
    drawn = np.ascontiguousarray(image).copy()
    corners = _fixed_point(quad)
    for colour, width in (((20, 20, 20), 5), (FRAME_COLOUR, 2)):
        cv2.polylines(drawn, [corners], True, colour, width, cv2.LINE_AA, _FRACTION_BITS)
    return drawn


def draw_points(image: NDArray[np.uint8], points: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return a copy of `image` (h, w, 3) with a dot at each of the points (n, 2; edge coordinates)."""
    drawn = np.ascontiguousarray(image).copy()
    for x, y in _fixed_point(points).tolist():
        for colour, radius in (((20, 20, 20), 3.5), (LANDMARK_COLOUR, 2.2)):
            cv2.circle(drawn, (x, y), int(radius * 2**_FRACTION_BITS), colour, -1, cv2.LINE_AA, _FRACTION_BITS)
    return drawn


_FRACTION_BITS = 4  # OpenCV draws at 16ths of a pixel


def _fixed_point(points: NDArray[np.float64]) -> NDArray[np.int32]:
    """Return edge coordinates as OpenCV's fixed-point centre coordinates, clipped to what its integers hold."""
    return np.rint(np.clip(points - 0.5, -30000, 30000) * 2**_FRACTION_BITS).astype(np.int32)


def restoration_candidates(quads: NDArray[np.float64], best_first: NDArray[np.int64]) -> Candidates:
    """Return at most six candidates for restoration strips, which share faces. Args: as of `strip_candidates`."""
    count = len(quads)
    if not count:
        return []
    by_side = np.argsort(np.hypot(*(quads[:, 3] - quads[:, 0]).T), kind="stable")
    nearest_to_middle = np.argsort(np.abs(np.arange(count) - count // 2), kind="stable")
    return [
        ("Smallest rectangle", by_side),
        ("Small rectangle", by_side[count // 10 :]),
        ("Medium-sized rectangle", by_side[nearest_to_middle]),
        ("Large rectangle", by_side[::-1]),
        ("High score", best_first),
        ("Low score", best_first[::-1]),
    ]


def make_restoration_strip(
    data: bytes, landmarks: NDArray[np.float64], face: NDArray[np.uint8], final_filter: FinalFilter
) -> tuple[FaceFrame, tuple[Image, Image]]:
    """Make the face again without restoration, and cut the same part out of both.

    Args:
        data: the photo file's bytes. landmarks: (5, 2) in centre coordinates of the stored photo.
        face: (r, r, 3) uint8 RGB, the restored one, r a power of two up to 1024. final_filter: that it was made with.
    Returns: the frame; the part without restoration and with it, (s, s, 3) with s = min(256, r).
    Raises: ImageError, FrameError (both DataError) for a photo or landmarks that give no face.
    """
    resolution = face.shape[0]
    plain = make_face(data, landmarks, NoRestorer(), final_filter=final_filter)
    left, top = eye_and_cheek(plain.frame.quad, landmarks, resolution)
    before, after = (
        np.ascontiguousarray(picture[top : top + PART, left : left + PART])
        for picture in (reduce_face(plain.face, resolution), face)
    )
    return plain.frame, (before, after)


def eye_and_cheek(quad: NDArray[np.float64], landmarks: NDArray[np.float64], resolution: int) -> tuple[int, int]:
    """Return left and top of the part of a face that shows an eye and the skin below it.

    It is the eye farther from the nose: that side of the face is turned to the camera.

    Args: quad (4, 2), landmarks (5, 2) of one photo, as in `geometry`; resolution: the face's side in pixels.
    """
    right, down = quad[3] - quad[0], quad[1] - quad[0]
    points = (landmarks + 0.5 - quad[0]) @ np.stack([right / (right @ right), down / (down @ down)], axis=1)
    eyes, nose, mouth = points[:2], points[2], points[3:]
    nearer = int(np.argmax(np.abs(eyes[:, 0] - nose[0])))
    centre = (eyes[nearer] + (mouth[nearer] - eyes[nearer]) / 3) * resolution
    left, top = np.clip(np.rint(centre - PART / 2), 0, max(resolution - PART, 0)).astype(int)
    return int(left), int(top)
