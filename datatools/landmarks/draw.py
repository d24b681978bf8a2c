"""Draw landmarks into photos, to look at."""

from collections.abc import Sequence

import cv2
import numpy as np

from datatools.landmarks.base import Face, Picture

LARGEST_SIDE = 1024
"""Larger photos are reduced to it."""
COLOURS = ((255, 64, 64), (64, 255, 64), (255, 255, 64), (64, 160, 255), (255, 64, 255))
"""Of the five points: left eye red, right eye green, nose yellow, left mouth corner blue, right one magenta."""
BOX_COLOUR, OTHER_COLOUR = (255, 255, 255), (160, 160, 160)


def draw_faces(picture: Picture, faces: Sequence[Face], others: Sequence[Face] = ()) -> Picture:
    """Return a copy of a photo, reduced if it is large, with the points and boxes of faces.

    Args:
        picture: (h, w, 3) uint8 RGB.
        faces: those that are used: white boxes, and a point of its own colour for each landmark.
        others: those that are not: grey boxes.
    """
    height, width = picture.shape[:2]
    scale = min(LARGEST_SIDE / max(height, width), 1.0)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    drawn = np.array(cv2.resize(picture, size, interpolation=cv2.INTER_AREA) if scale < 1 else picture, np.uint8)
    for face in others:
        _draw_box(drawn, face, scale, OTHER_COLOUR)
    for face in faces:
        _draw_box(drawn, face, scale, BOX_COLOUR)
        radius = max(round(0.04 * face.eye_distance * scale), 1)
        for (x, y), colour in zip(face.points, COLOURS, strict=True):
            centre = (round((x + 0.5) * scale - 0.5), round((y + 0.5) * scale - 0.5))
            cv2.circle(drawn, centre, radius + 1, (0, 0, 0), -1, cv2.LINE_AA)
            cv2.circle(drawn, centre, radius, colour, -1, cv2.LINE_AA)
    return drawn


def _draw_box(drawn: Picture, face: Face, scale: float, colour: tuple[int, int, int]) -> None:
    x, y, width, height = (value * scale for value in face.box)
    corners = (round(x), round(y)), (round(x + width), round(y + height))
    thickness = max(round(min(width, height) / 150), 1)
    cv2.rectangle(drawn, *corners, (0, 0, 0), thickness + 2)
    cv2.rectangle(drawn, *corners, colour, thickness)
