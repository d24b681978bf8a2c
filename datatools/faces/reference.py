"""The recipe exactly as published, step by step and slow: what the fast one is measured against.

Paper, appendix C, and the constants of the authors' released code; restoration "none". Photos are enlarged by a
power of two with Lanczos-3, padded, warped to 4096 x 4096 with bilinear interpolation (truncated to 8 bits, as Pillow
does it) and reduced to 1024 x 1024.
"""

import io
from dataclasses import dataclass

import numpy as np
import scipy.ndimage
from numpy.typing import ArrayLike, NDArray
from PIL import Image

FILTERS = {"lanczos": Image.Resampling.LANCZOS, "box": Image.Resampling.BOX}


@dataclass(frozen=True)
class ReferenceFace:
    """The face (1024, 1024, 3) uint8 and the sizes met on the way."""

    face: NDArray[np.uint8]
    quad: NDArray[np.float64]
    shrink: int
    enlarge: int
    border: int
    pad: tuple[int, int, int, int]
    padded: bool


def rot90(v: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.array([-v[1], v[0]])


def rectangle(landmarks: ArrayLike) -> NDArray[np.float64]:
    p = np.asarray(landmarks, dtype=np.float64)
    eyes = (p[0] + p[1]) / 2 + 0.5
    mouth = (p[3] + p[4]) / 2 + 0.5
    across = p[1] - p[0]
    down = mouth - eyes
    x = across - rot90(down)
    x *= max(np.hypot(*across) * 2.0, np.hypot(*down) * 1.8) / np.hypot(*x)
    y = rot90(x)
    c = eyes + 0.1 * down
    return np.stack([c - x - y, c - x + y, c + x + y, c + x - y])


def bounds(quad: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.concatenate([np.floor(quad.min(axis=0)), np.ceil(quad.max(axis=0))]).astype(np.int64)


def pad_picture(picture: Image.Image, pad: NDArray[np.int64], blur: float) -> Image.Image:
    """Mirror, blend towards the blur, then towards the median."""
    left, top, right, bottom = (int(side) for side in pad)
    image = np.pad(np.asarray(picture, np.float32), ((top, bottom), (left, right), (0, 0)), "reflect")
    height, width = image.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    inside = np.minimum(np.minimum(x / left, y / top), np.minimum((width - 1 - x) / right, (height - 1 - y) / bottom))
    mask = (1 - inside)[:, :, None]
    image += (scipy.ndimage.gaussian_filter(image, [blur, blur, 0]) - image) * np.clip(3 * mask + 1, 0, 1)
    image += (np.median(image, axis=(0, 1)) - image) * np.clip(mask, 0, 1)
    return Image.fromarray(np.uint8(np.clip(np.round(image), 0, 255)))


def reference_face(data: bytes, landmarks: ArrayLike, final_filter: str = "lanczos") -> ReferenceFace:
    """One photo's bytes and five landmarks to one face, slowly."""
    picture = Image.open(io.BytesIO(data)).convert("RGB")
    source_quad = quad = rectangle(landmarks)
    zoom = 1024 / np.hypot(*(quad[3] - quad[0]))

    shrink = max(int(np.floor(0.5 / zoom)), 1)
    if shrink > 1:
        size = (round(picture.width / shrink), round(picture.height / shrink))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
        quad = quad / shrink
        zoom *= shrink

    border = max(round(102.4 / zoom), 3)
    left, top, right, bottom = (int(v) for v in bounds(quad) + np.array([-1, -1, 1, 1]) * border)
    crop = (max(left, 0), max(top, 0), min(right, picture.width), min(bottom, picture.height))
    picture = picture.crop(crop)
    quad = quad - crop[:2]

    enlarge = 1
    if zoom > 1:
        enlarge = 2 ** int(np.ceil(np.log2(zoom)))
        picture = picture.resize((picture.width * enlarge, picture.height * enlarge), Image.Resampling.LANCZOS)
        quad = quad * enlarge
        zoom /= enlarge

    box = bounds(quad)
    picture_size = np.array(picture.size)
    pad = np.maximum(np.concatenate([border - box[:2], box[2:] - picture_size + border]), 0)
    padded = bool(pad.max() > border - 4)
    if padded:
        pad = np.maximum(pad, round(307.2 / zoom))
        picture = pad_picture(picture, pad, 20.48 / zoom)
        quad = quad + pad[:2]

    # Pillow evaluates an affine transform at pixel centres (+ 0.5); the published positions are i / 4096 and half a
    # picture pixel to the lower right.
    right_step, down_step = (quad[3] - quad[0]) / 4096, (quad[1] - quad[0]) / 4096
    origin = quad[0] + 0.5 - 0.5 * (right_step + down_step)
    matrix = (right_step[0], down_step[0], origin[0], right_step[1], down_step[1], origin[1])
    fine = picture.transform((4096, 4096), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
    face = np.asarray(fine.resize((1024, 1024), FILTERS[final_filter]))
    pads = tuple(int(v) for v in pad) if padded else (0, 0, 0, 0)
    return ReferenceFace(face, source_quad, shrink, enlarge, border, pads, padded)  # type: ignore[arg-type]
