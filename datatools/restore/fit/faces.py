"""Photos whose published faces are known: parts of them, and the recipe's geometry as a differentiable function.

A network's output for a part of a photo is enlarged and warped as `datatools.faces.recipe.make_face` does it, so that
the loss compares it with the published image itself.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from datatools.errors import DataError
from datatools.faces.geometry import FACE_SIZE
from datatools.faces.recipe import DARKENING, prepare_face
from datatools.faces.resample import face_to_picture
from datatools.images import read_bytes, read_rgb
from datatools.restore import NoRestorer
from datatools.restore.base import Picture, RestorePlan
from datatools.restore.enlarge import LANCZOS_REACH, lanczos_phases
from datatools.sources.records import FaceRecord
from datatools.text import counted

GRID = 8
"""Parts begin at multiples of this many pixels of the photo: JPEG's blocks."""

EDGE = 8
"""Pixels at the edge of a part that are not compared: the network does not see what is beyond it."""

REDUCED = 4
"""Faces are compared as they are, and reduced by this factor."""

VALIDATION_PARTS = 4
"""Parts of each held-out face that are measured."""


@dataclass(frozen=True)
class FacePart:
    """A part of a photo, and the square of the published face that it shows.

    Attributes:
        given: (p, p, 3) uint8.
        target: (n, n, 3) uint8.
        to_given: (2, 3); `to_given` @ (column, row, 1) is the place of a pixel of the target in edge coordinates of
            `given`.
        enlarge: power of two by which the recipe enlarges the photo.
    """

    given: Picture
    target: Picture
    to_given: NDArray[np.float64]
    enlarge: int


@dataclass(frozen=True)
class WithoutNetwork(NoRestorer):
    """Cuts the part out that networks with this margin would need for a face."""

    margin: int = EDGE

    def plan(self, _side: float, /) -> RestorePlan:
        """Return a plan with the margin and no networks."""
        return RestorePlan(margin=self.margin, grid=GRID)


@dataclass(frozen=True)
class PublishedFace:
    """A photo and its published face.

    Attributes:
        name: of the photo.
        photo: (h, w, 3) uint8, the part of the photo that the face needs.
        published: (1024, 1024, 3) uint8.
        to_photo: (2, 3), as `FacePart.to_given`, for the whole face.
        enlarge: as in `FacePart`.
    """

    name: str
    photo: Picture
    published: Picture
    to_photo: NDArray[np.float64]
    enlarge: int

    def part(self, patch: int, rng: np.random.Generator) -> FacePart:
        """Return a random part of `patch` x `patch` pixels of the photo, and as much of the face as lies within it."""
        step = np.abs(self.to_photo[:, :2]).sum(axis=1).max()  # photo pixels per pixel of the face
        size = min(int((patch - 2 * EDGE - GRID) / step), FACE_SIZE) // REDUCED * REDUCED
        first = rng.integers((FACE_SIZE - size) // REDUCED + 1, size=2) * REDUCED  # (column, row)
        to_given = self.to_photo.copy()
        to_given[:, 2] += self.to_photo[:, :2] @ first
        corners = to_given @ np.array([[0, size, 0, size], [0, 0, size, size], [1, 1, 1, 1]])
        height, width = self.photo.shape[:2]
        start = np.floor((corners.min(axis=1) - EDGE) / GRID).astype(int) * GRID
        left, top = np.clip(start, 0, (width - patch, height - patch))
        to_given[:, 2] -= (left, top)
        target = self.published[first[1] : first[1] + size, first[0] : first[0] + size]
        return FacePart(self.photo[top : top + patch, left : left + patch], target, to_given, self.enlarge)


def read_face(record: FaceRecord, published: Path, patch: int) -> PublishedFace | None:
    """Return a photo and its published face; None for one that the recipe pads or does not enlarge.

    Args:
        record: of the photo.
        published: the published image.
        patch: side of the parts that will be drawn; smaller photos are extended by their last row and column.

    Raises:
        DataError: a photo that gives no face, a published image that is not a picture of 1024 x 1024.
    """
    found = prepare_face(read_bytes(record.path), record.landmarks, WithoutNetwork())
    frame, (_, pixels, wanted) = found.frame, found.crop
    target = read_rgb(published)
    if target.shape != (FACE_SIZE, FACE_SIZE, 3):
        raise DataError(f"{published} has {target.shape[1]} x {target.shape[0]} pixels; 1024 x 1024 are needed")
    if frame.padded or frame.enlarge == 1:
        return None
    rows, columns = (max(-(-size // GRID) * GRID, patch) - size for size in pixels.shape[:2])
    photo = np.pad(pixels, ((0, rows), (0, columns), (0, 0)), mode="edge")
    quad = frame.quad - np.array(found.origin) + np.array(wanted[:2])
    return PublishedFace(
        record.file_name, photo, target, face_to_picture(quad, 0.5 * frame.shrink / frame.enlarge), frame.enlarge
    )


class PublishedFaces:
    """Published faces in memory, from which parts are drawn."""

    def __init__(self, pairs: Sequence[tuple[FaceRecord, Path]], patch: int) -> None:
        """Read the faces. Raise DataError as `read_face`, and if the recipe enlarges none of them."""
        found = [read_face(record, path, patch) for record, path in pairs]
        self.patch = patch
        self.faces = [face for face in found if face is not None]
        if not self.faces:
            raise DataError(
                f"--pairs: of {counted(len(pairs), 'pair')} none can be used: a network learns from faces that lie "
                "within their photos and have less than 1024 pixels there"
            )

    def __len__(self) -> int:
        return len(self.faces)

    def digest(self) -> str:
        """Return a hash of the photos' names."""
        return hashlib.sha256("\n".join(sorted(face.name for face in self.faces)).encode()).hexdigest()[:16]

    def parts(self, count: int, rng: np.random.Generator) -> list[FacePart]:
        """Return random parts."""
        return [self.faces[int(rng.integers(len(self.faces)))].part(self.patch, rng) for _ in range(count)]


class FaceValidation:
    """Fixed parts of published faces that are not used for training."""

    def __init__(self, faces: PublishedFaces) -> None:
        self.digest = faces.digest()
        rng = np.random.default_rng(0)
        self.pairs = [face.part(faces.patch, rng) for face in faces.faces for _ in range(VALIDATION_PARTS)]

    def measure(
        self, restore: Callable[[Tensor], Tensor], as_tensor: Callable[[NDArray[np.uint8]], Tensor]
    ) -> dict[str, float]:
        """Return means over the parts: "psnr" and, without a network, "baseline", of faces reduced by `REDUCED`, in dB;
        "contrast", the standard deviation of the face over that of the published one.
        """
        scores = []
        for part in self.pairs:
            given, target = as_tensor(part.given[None]), as_tensor(part.target[None])
            faces = [warp_part(picture, part) for picture in (restore(given), given)]
            small = functional.avg_pool2d(target, REDUCED)
            errors = [float((functional.avg_pool2d(face, REDUCED) - small).square().mean()) for face in faces]
            psnr = [-10 * math.log10(error + 1e-10) for error in errors]
            scores.append((*psnr, float(faces[0].std() / target.std().clamp_min(1e-6))))
        names = ("psnr", "baseline", "contrast")
        return {name: float(np.mean(values)) for name, values in zip(names, zip(*scores, strict=True), strict=True)}


def enlarge_tensor(pictures: Tensor, factor: int) -> Tensor:
    """Enlarge (n, 3, h, w) by an integer with Lanczos-3, as `enlarge_lanczos` without rounding."""
    if factor == 1:
        return pictures
    taps = torch.from_numpy(np.stack(lanczos_phases(factor))).to(pictures)  # (factor, 7)
    for _ in range(2):  # rows, then columns: each pass enlarges the last axis and swaps the two
        n, channels, height, width = pictures.shape
        rows = pictures.reshape(n * channels * height, 1, width)
        # the edge row is mirrored with itself: torch's padding mirrors without it
        rows = torch.cat([rows[:, :, :LANCZOS_REACH].flip(2), rows, rows[:, :, -LANCZOS_REACH:].flip(2)], dim=2)
        phases = functional.conv1d(rows, taps[:, None])  # (n * channels * height, factor, width)
        pictures = phases.transpose(1, 2).reshape(n, channels, height, width * factor).transpose(2, 3)
    return pictures


def warp_part(pictures: Tensor, part: FacePart) -> Tensor:
    """Return the face that a network's output for `part.given` becomes.

    Args:
        pictures: (1, 3, scale * p, scale * p) floats, 0..1.
        part: see `FacePart`.

    Returns:
        (1, 3, n, n), of the size of `part.target`.
    """
    size, side = part.target.shape[0], part.given.shape[0]
    scale = pictures.shape[3] // side
    enlarged = enlarge_tensor(pictures, max(part.enlarge // scale, 1))
    matrix = torch.from_numpy(part.to_given * (2 / side)).to(pictures)  # to -1..1, from edge to edge
    rows, columns = torch.meshgrid(*[torch.arange(size).to(pictures)] * 2, indexing="ij")
    places = torch.stack([columns, rows, torch.ones_like(rows)], dim=2) @ matrix.T - 1  # (n, n, 2)
    face = functional.grid_sample(enlarged, places[None], padding_mode="border", align_corners=False)
    return face - DARKENING["lanczos"] / 255
