"""The recipe: one photo and five landmarks become one 1024 x 1024 face (paper, appendix C)."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from datatools.faces.geometry import FACE_SIZE, FaceFrame, face_frame
from datatools.faces.padding import blend_padding
from datatools.faces.resample import FinalFilter, warp_to_face
from datatools.images import Box, decode_rgb, image_size
from datatools.restore import Crop, Restorer
from datatools.restore.base import grow_box

DARKENING: dict[FinalFilter, float] = {"lanczos": 0.44, "box": 0.25}
"""Grey levels taken off before the one final rounding, so that faces have the mean of the published ones.

The authors' resampler truncated its 4096 x 4096 picture to 8 bits: half a level, less where the picture is flat and
bilinear interpolation gives whole numbers. Their box filter rounds .5 up, twice, which gives a quarter level back.
Both values are measured against the exact procedure (`python benchmarks/crop.py`)."""

LEAST_DECODED_SIDE = 1400.0
"""Photos are decoded at a half, quarter or eighth while the rectangle keeps at least this side in pixels: the warp
samples 2048 x 2048 points, which more pixels would not change."""

MARGIN = 4
"""Pixels around the rectangle that interpolation may touch."""


@dataclass(frozen=True)
class FaceResult:
    """A finished face: (1024, 1024, 3) uint8 RGB, and where it came from."""

    face: NDArray[np.uint8]
    frame: FaceFrame


@dataclass(frozen=True)
class FacePart:
    """The part of a photo that its face needs, before its restoration.

    Attributes:
        crop: the restorer's plan, the pixels that it needs, and the wanted part of them.
        frame: where the face lies in the photo.
        origin: (left, top) of the wanted part in pixels of the photo.
        reduce: the photo is decoded at 1 / reduce of its size.
    """

    crop: Crop
    frame: FaceFrame
    origin: tuple[int, int]
    reduce: int


def decode_scale(frame: FaceFrame) -> int:
    """Return the reduction (1, 2, 4 or 8) at which the photo is decoded for this face."""
    reduce = 1
    while reduce < 8 and frame.side / (2 * reduce) >= LEAST_DECODED_SIDE:
        reduce *= 2
    return reduce


def _needed_box(frame: FaceFrame, reduce: int) -> Box:
    """Return the part of the reduced photo that the face needs: (left, top, right, bottom)."""
    if frame.padded:
        low = np.array(frame.crop[:2]) * frame.shrink / reduce
        high = np.array(frame.crop[2:]) * frame.shrink / reduce
        margin = 0
    else:
        low, high = frame.quad.min(axis=0) / reduce, frame.quad.max(axis=0) / reduce
        margin = MARGIN
    left, top, right, bottom = (int(edge) for edge in (*np.floor(low + 1e-6), *np.ceil(high - 1e-6)))
    return grow_box((left, top, right, bottom), margin, 1, _reduced_size(frame, reduce))


def _reduced_size(frame: FaceFrame, reduce: int) -> tuple[int, int]:
    width, height = (-(-size // reduce) for size in frame.photo_size)
    return width, height


def prepare_face(data: bytes, landmarks: ArrayLike, restorer: Restorer) -> FacePart:
    """Do the first half of `make_face`, up to the restoration; arguments and errors are the same."""
    width, height = image_size(data)
    frame = face_frame(landmarks, width, height)
    reduce = decode_scale(frame)
    plan = restorer.plan(frame.side / reduce)
    box = _needed_box(frame, reduce)
    crop_box = grow_box(box, plan.margin, plan.grid, _reduced_size(frame, reduce))
    wanted = (box[0] - crop_box[0], box[1] - crop_box[1], box[2] - crop_box[0], box[3] - crop_box[1])
    crop = (plan, decode_rgb(data, reduce=reduce, box=crop_box), wanted)
    return FacePart(crop, frame, (box[0] * reduce, box[1] * reduce), reduce)


def finish_face(part: FacePart, restored: NDArray[np.uint8], *, final_filter: FinalFilter = "lanczos") -> FaceResult:
    """Do the second half of `make_face`, after the restoration.

    Args:
        part: of `prepare_face`.
        restored: (h, w, 3) uint8 RGB, the result of `Restorer.run` for `part.crop`.
        final_filter: as in `make_face`.
    """
    frame, plan = part.frame, part.crop[0]
    scale = plan.scale / part.reduce  # pixels of `restored` per photo pixel
    warped = warp_to_face(
        restored,
        (frame.quad - np.array(part.origin)) * scale,
        enlarge=max(frame.enlarge // plan.scale, 1),
        half_pixel=0.5 * scale * frame.shrink / frame.enlarge,
        final_filter=final_filter,
    )
    darkening = DARKENING[final_filter]
    face = np.asarray(cv2.add(warped, np.full(4, -darkening), dtype=cv2.CV_8U), dtype=np.uint8)  # rounds and clips
    if frame.padded:
        blend_padding(face, warped, restored, frame, darkening)
    return FaceResult(face, frame)


def make_face(
    data: bytes, landmarks: ArrayLike, restorer: Restorer, *, final_filter: FinalFilter = "lanczos"
) -> FaceResult:
    """Cut one face out of a photo (paper, appendix C).

    Args:
        data: the photo file's bytes.
        landmarks: (5, 2) left eye, right eye, nose, left and right mouth corner in centre coordinates of the stored
            pixels (EXIF rotation is ignored, as CelebA's annotations do).
        restorer: see `datatools.restore.get_restorer`.
        final_filter: "lanczos" (published data set) or "box" (paper).

    Raises:
        datatools.images.ImageError: the file is no usable picture.
        datatools.faces.geometry.FrameError: the landmarks give no usable rectangle.
    """
    part = prepare_face(data, landmarks, restorer)
    (restored,) = restorer.run([part.crop])
    return finish_face(part, restored, final_filter=final_filter)


def reduce_face(face: NDArray[np.uint8], resolution: int) -> NDArray[np.uint8]:
    """Box-reduce a (1024, 1024, 3) face to a smaller power of two: the level of the pyramid, rounded half to even."""
    factor = FACE_SIZE // resolution
    if factor == 1:
        return face
    blocks = face.reshape(resolution, factor, resolution, factor, 3)
    return np.rint(blocks.mean(axis=(1, 3), dtype=np.float64)).astype(np.uint8)
