"""Faces that leave their photo: mirrored, blurred and faded to the median, computed where the face is.

The paper pads the enlarged picture by mirroring, blends it towards a Gaussian blur of itself and then towards its
median, and warps the result (appendix C). The blur's sigma is a constant 20.48 px of the *face*, and the mirrored part
is always completely blurred, so all of it can be done on a picture of an eighth of the face's size; only the blending
happens at full size. docs/decisions/output-space.md has the reasoning and the measurements.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from datatools.geometry import FACE_SIZE, FaceFrame
from datatools.images import decode_rgb
from datatools.resample import face_to_picture

CELL = 8.0
"""Size of a cell of the coarse padded picture in face pixels."""

BLUR_SIGMA = 0.02 * FACE_SIZE
"""Sigma of the blur in face pixels."""


@dataclass(frozen=True)
class PaddedPicture:
    """The padded picture on a coarse grid.

    Attributes:
        blurred: (rows, columns, 3) float32, the padded picture after the Gaussian blur.
        blended: (rows, columns, 3) float32, the same after both blends: what the recipe's padded picture looks like.
        median: (3,) per-channel median of the padded picture between the two blends, 0..255.
        origin: (x, y) cells of padding to the left and on top.
        cells: (x, y) size of a cell in pixels of the shrunk photo.
    """

    blurred: NDArray[np.float32]
    blended: NDArray[np.float32]
    median: NDArray[np.float32]
    origin: tuple[int, int]
    cells: tuple[float, float]


def _mask_lines(frame: FaceFrame) -> list[tuple[NDArray[np.float64], float]]:
    """The mask as affine functions of the position in the shrunk photo's crop: mask = max over them.

    Each is 1 at the padding's outer edge and 0 where the photo ends. The exact procedure measures between the centres
    of the first and last pixel.
    """
    width = (frame.crop[2] - frame.crop[0]) * frame.enlarge
    height = (frame.crop[3] - frame.crop[1]) * frame.enlarge
    left, top, right, bottom = frame.pad
    scale = float(frame.enlarge)
    # position p (edge coordinates of the crop, shrunk px) -> column of the padded picture: p * enlarge + pad - 0.5
    return [
        (np.array([-scale / left, 0.0]), 1 - (left - 0.5) / left),
        (np.array([0.0, -scale / top]), 1 - (top - 0.5) / top),
        (np.array([scale / right, 0.0]), 1 - (right + width - 0.5) / right),
        (np.array([0.0, scale / bottom]), 1 - (bottom + height - 0.5) / bottom),
    ]


def _blur_weight(mask: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.clip(3 * mask + 1, 0, 1)


def pad_coarsely(picture: NDArray[np.uint8], frame: FaceFrame, *, cell: float = CELL) -> PaddedPicture:
    """Mirror, blur and blend the crop on a grid of `cell` face pixels (paper, appendix C).

    Args:
        picture: (h, w, 3) uint8, the crop of `frame`, at the shrunk photo's size or any multiple of it.
        frame: with `padded` true.
    """
    crop_width, crop_height = frame.crop[2] - frame.crop[0], frame.crop[3] - frame.crop[1]
    face_per_pixel = frame.zoom * frame.shrink
    columns = max(round(crop_width * face_per_pixel / cell), 1)
    rows = max(round(crop_height * face_per_pixel / cell), 1)
    cell_x, cell_y = crop_width / columns, crop_height / rows
    left, top, right, bottom = (
        round(pad / frame.enlarge / size) for pad, size in zip(frame.pad, (cell_x, cell_y, cell_x, cell_y), strict=True)
    )
    margins = ((top, bottom), (left, right), (0, 0))

    def pad(resized: NDArray[np.uint8]) -> NDArray[np.float32]:
        # A cell's edge is the mirror's axis: half an enlarged pixel beside the exact one, which the blur hides.
        return np.pad(resized, margins, mode="symmetric").astype(np.float32)

    averaged = pad(np.asarray(cv2.resize(picture, (columns, rows), interpolation=cv2.INTER_AREA)))
    # Single pixels, not averages, for the median: averages would lie closer together than the picture's values do.
    sampled = pad(np.asarray(cv2.resize(picture, (columns, rows), interpolation=cv2.INTER_NEAREST)))

    # The cells' own average and the linear interpolation between them blur too: 1/12 and 1/6 of a squared cell.
    sigma = float(np.sqrt(max((BLUR_SIGMA / cell) ** 2 - 1 / 12 - 1 / 6, 0.01)))
    blurred = np.asarray(cv2.GaussianBlur(averaged, (0, 0), sigma, borderType=cv2.BORDER_REFLECT), dtype=np.float32)

    x = (np.arange(blurred.shape[1]) - left + 0.5) * cell_x
    y = (np.arange(blurred.shape[0]) - top + 0.5) * cell_y
    mask = np.full(blurred.shape[:2], -np.inf, dtype=np.float32)
    for slope, offset in _mask_lines(frame):
        np.maximum(mask, (slope[0] * x)[None, :] + (slope[1] * y + offset)[:, None], out=mask)
    blended = sampled + (blurred - sampled) * _blur_weight(mask)[:, :, None]
    median = np.median(blended, axis=(0, 1)).astype(np.float32)
    blended += (median - blended) * np.clip(mask, 0, 1)[:, :, None]
    return PaddedPicture(blurred, blended, median, (left, top), (cell_x, cell_y))


def blend_padding(
    face: NDArray[np.float32], picture: NDArray[np.uint8], frame: FaceFrame, offset: float
) -> NDArray[np.float32]:
    """Blend a resampled face towards the blurred, mirrored photo and its median where it leaves the photo.

    Args:
        face: (1024, 1024, 3) float32, 0..255, as `resample.warp_to_face` gives it.
        picture: (h, w, 3) uint8, the crop that it was resampled from.
        frame: with `padded` true.
        offset: grey levels to take off the unblended part (see `faces.DARKENING`). Blurred parts are so flat that the
            published images' truncation changes nothing there.

    Returns:
        (1024, 1024, 3) float32.
    """
    padded = pad_coarsely(picture, frame)
    quad = frame.quad / frame.shrink - frame.crop[:2]
    to_crop = face_to_picture(quad, 0.5 / frame.enlarge)

    index = np.arange(FACE_SIZE, dtype=np.float64)
    mask = np.full((FACE_SIZE, FACE_SIZE), -np.inf, dtype=np.float32)
    for slope, constant in _mask_lines(frame):
        along_x, along_y, at_origin = slope @ to_crop
        if at_origin + constant + max(along_x, 0) * FACE_SIZE + max(along_y, 0) * FACE_SIZE < -1 / 3:
            continue  # this side's padding is nowhere near the face
        row = (along_x * index).astype(np.float32)
        column = (along_y * index + at_origin + constant).astype(np.float32)
        np.maximum(mask, row[None, :] + column[:, None], out=mask)

    to_cells = to_crop / np.array(padded.cells)[:, None]
    to_cells[:, 2] += np.array(padded.origin) - 0.5
    blurred = cv2.warpAffine(
        padded.blurred,
        to_cells,
        (FACE_SIZE, FACE_SIZE),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    weight = _blur_weight(mask)
    face = np.asarray(cv2.blendLinear(blurred, face - np.float32(offset), weight, 1 - weight), dtype=np.float32)
    weight = np.clip(mask, 0, 1)
    median = np.broadcast_to(padded.median, face.shape)
    return np.asarray(cv2.blendLinear(np.ascontiguousarray(median), face, weight, 1 - weight), dtype=np.float32)


def _preview_cell(frame: FaceFrame, longest: int) -> float:
    """Cell size in face pixels that makes the padded picture's longer side `longest` cells."""
    left, top, right, bottom = frame.pad
    width = (frame.crop[2] - frame.crop[0]) * frame.enlarge + left + right
    height = (frame.crop[3] - frame.crop[1]) * frame.enlarge + top + bottom
    return max(width, height) * frame.enlarged_zoom / longest


def padded_preview(data: bytes, frame: FaceFrame, longest: int = 512) -> NDArray[np.uint8]:
    """The padded picture as the recipe sees it, for the eye: (h, w, 3) uint8, about `longest` pixels long.

    Args:
        data: the photo file's bytes.
        frame: padded or not; without padding this is the crop.
    """
    photo = decode_rgb(data)
    left, top, right, bottom = (edge * frame.shrink for edge in frame.crop)
    picture = photo[top:bottom, left:right]
    if frame.padded:
        padded = pad_coarsely(picture, frame, cell=_preview_cell(frame, longest))
        return np.clip(np.rint(padded.blended), 0, 255).astype(np.uint8)
    scale = longest / max(picture.shape[:2])
    size = (max(round(picture.shape[1] * scale), 1), max(round(picture.shape[0] * scale), 1))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(picture, size, interpolation=method), dtype=np.uint8)


def preview_quad(frame: FaceFrame, longest: int = 512) -> NDArray[np.float64]:
    """The face's corners in edge coordinates of `padded_preview`: (4, 2)."""
    scale = frame.enlarged_zoom / _preview_cell(frame, longest)  # preview pixels per enlarged pixel
    quad = (frame.quad / frame.shrink - frame.crop[:2]) * frame.enlarge
    return np.asarray((quad + frame.pad[:2]) * scale)
