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

from datatools.faces.geometry import FACE_SIZE, FaceFrame
from datatools.faces.resample import face_to_picture
from datatools.images import decode_rgb

CELL = 8.0
"""Size of a cell of the coarse padded picture in face pixels."""

BLUR_SIGMA = 0.02 * FACE_SIZE
"""Sigma of the blur in face pixels."""


@dataclass(frozen=True)
class PaddedPicture:
    """The padded picture on a coarse grid.

    Attributes:
        outside: (rows, columns, 3) float32, what the photo is blended towards: its blur, and farther out its median.
            The median has no weight before the blur has all of it, so that one blend does for both.
        blended: (rows, columns, 3) float32, what the recipe's padded picture looks like.
        median: (3,) per-channel median of the padded picture between the two blends, 0..255.
        origin: (x, y) cells of padding to the left and on top.
        cells: (x, y) size of a cell in pixels of the shrunk photo.
    """

    outside: NDArray[np.float32]
    blended: NDArray[np.float32]
    median: NDArray[np.float32]
    origin: tuple[int, int]
    cells: tuple[float, float]


def _mask_lines(frame: FaceFrame) -> list[tuple[NDArray[np.float64], float]]:
    """Return the mask as affine functions of the position in the shrunk photo's crop: mask = max over them.

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
        # A cell's edge is the mirror's axis: half an enlarged pixel off the exact one, which the blur hides.
        return np.pad(resized, margins, mode="symmetric").astype(np.float32)

    averaged = pad(np.asarray(cv2.resize(picture, (columns, rows), interpolation=cv2.INTER_AREA)))
    # Single pixels, not averages, for the median: averages would lie closer together than the picture's values do.
    sampled = pad(np.asarray(cv2.resize(picture, (columns, rows), interpolation=cv2.INTER_NEAREST)))

    # The average over a cell and the linear interpolation between them blur too: 1/12 and 1/6 of a squared cell.
    sigma = float(np.sqrt(max((BLUR_SIGMA / cell) ** 2 - 1 / 12 - 1 / 6, 0.01)))
    blurred = np.asarray(cv2.GaussianBlur(averaged, (0, 0), sigma, borderType=cv2.BORDER_REFLECT), dtype=np.float32)

    x = (np.arange(blurred.shape[1]) - left + 0.5) * cell_x
    y = (np.arange(blurred.shape[0]) - top + 0.5) * cell_y
    mask = np.full(blurred.shape[:2], -np.inf, dtype=np.float32)
    for slope, offset in _mask_lines(frame):
        np.maximum(mask, (slope[0] * x)[None, :] + (slope[1] * y + offset)[:, None], out=mask)
    weight = _blur_weight(mask)[:, :, None]
    median = np.median(sampled + (blurred - sampled) * weight, axis=(0, 1)).astype(np.float32)
    outside = blurred + (median - blurred) * np.clip(mask, 0, 1)[:, :, None]
    return PaddedPicture(outside, sampled + (outside - sampled) * weight, median, (left, top), (cell_x, cell_y))


def _reached_part(mask_lines: list[tuple[float, float, float]]) -> tuple[slice, slice]:
    """Return rows and columns of the face that the blend may touch (mask > -1/3), from every 16th pixel."""
    index = np.arange(-16, FACE_SIZE + 17, 16)
    mask = np.max([a * index[None, :] + b * index[:, None] + c for a, b, c in mask_lines], axis=0)
    rows, columns = np.nonzero(mask > -1 / 3)
    low = np.maximum(index[[rows.min(), columns.min()]] - 16, 0)
    high = np.minimum(index[[rows.max(), columns.max()]] + 16, FACE_SIZE)
    return slice(int(low[0]), int(high[0])), slice(int(low[1]), int(high[1]))


def blend_padding(
    face: NDArray[np.uint8], warped: NDArray[np.float32], picture: NDArray[np.uint8], frame: FaceFrame, darkening: float
) -> None:
    """Blend a face towards the blurred, mirrored photo and its median where it leaves the photo; changes `face`.

    Args:
        face: (1024, 1024, 3) uint8, the finished face as it is without padding.
        warped: (1024, 1024, 3) float32, the same as `resample.warp_to_face` gave it.
        picture: (h, w, 3) uint8, the crop that it was resampled from.
        frame: with `padded` true.
        darkening: grey levels to take off the unblended part (see `faces.DARKENING`). Blurred parts are so flat that
            the published images' truncation changes nothing there.
    """
    padded = pad_coarsely(picture, frame)
    to_crop = face_to_picture(frame.quad / frame.shrink - frame.crop[:2], 0.5 / frame.enlarge)
    lines = []
    for slope, constant in _mask_lines(frame):
        along_x, along_y, at_origin = slope @ to_crop
        if at_origin + constant + FACE_SIZE * (max(along_x, 0) + max(along_y, 0)) > -1 / 3:
            lines.append((float(along_x), float(along_y), float(at_origin + constant)))
    if not lines:
        return
    rows, columns = _reached_part(lines)
    x = np.arange(columns.start, columns.stop, dtype=np.float32)[None, :]
    y = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None]
    mask = np.float32(lines[0][0]) * x + (np.float32(lines[0][1]) * y + np.float32(lines[0][2]))
    for along_x, along_y, constant in lines[1:]:
        np.maximum(mask, np.float32(along_x) * x + (np.float32(along_y) * y + np.float32(constant)), out=mask)

    to_cells = to_crop / np.array(padded.cells)[:, None]
    to_cells[:, 2] += np.array(padded.origin) - 0.5 + to_cells[:, :2] @ [columns.start, rows.start]
    outside = cv2.warpAffine(
        padded.outside,
        to_cells,
        (x.shape[1], y.shape[0]),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    weight = _blur_weight(mask)
    # The darkening fades with the photo: where the weight is 1 nothing is taken off.
    blended = cv2.blendLinear(np.asarray(outside), warped[rows, columns] - np.float32(darkening), weight, 1 - weight)
    face[rows, columns] = cv2.add(blended, np.zeros(4), dtype=cv2.CV_8U)


def _preview_cell(frame: FaceFrame, longest: int) -> float:
    """Return the cell size in face pixels that makes the padded picture's longer side `longest` cells."""
    left, top, right, bottom = frame.pad
    width = (frame.crop[2] - frame.crop[0]) * frame.enlarge + left + right
    height = (frame.crop[3] - frame.crop[1]) * frame.enlarge + top + bottom
    return max(width, height) * frame.enlarged_zoom / longest


def padded_preview(data: bytes, frame: FaceFrame, longest: int = 512) -> NDArray[np.uint8]:
    """Return the padded picture for people to look at: (h, w, 3) uint8, about `longest` pixels long.

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
    """Return the face's corners in edge coordinates of `padded_preview`: (4, 2)."""
    scale = frame.enlarged_zoom / _preview_cell(frame, longest)  # preview pixels per enlarged pixel
    quad = (frame.quad / frame.shrink - frame.crop[:2]) * frame.enlarge
    return np.asarray((quad + frame.pad[:2]) * scale)
