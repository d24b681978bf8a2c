"""Read photos for training restoration networks, once, and draw random parts and training pairs from them."""

import fnmatch
import glob
import hashlib
import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from datatools.errors import DataError
from datatools.files import list_pictures
from datatools.images import ImageError, read_upright
from datatools.restore.base import Picture, halve
from datatools.restore.fit.degrade import (
    SCALE,
    TRIM,
    compress,
    draw_reduction,
    jpeg_pair,
    random_part,
    reduce_picture,
)
from datatools.restore.fit.settings import FitSettings
from datatools.text import counted

SHARP = 1.0
"""Contrast of the finest octave over that of the next one, from which a photo counts as sharp at the pixel level:
0.9 to 2 for photos that look sharp, less for softly focused or enlarged ones."""

LARGE = 1000
"""Sharp photos with both sides of at least this are used at half their size, too: they have detail at both."""


@dataclass(frozen=True)
class Photo:
    """A photo and the pictures used for training, (h, w, 3) uint8 RGB: itself, its half, or both, largest first."""

    name: str
    versions: list[Picture]


def picture_files(folders: Sequence[Path], exclude: Sequence[str] = ()) -> list[Path]:
    """List all pictures below the folders, in order; `exclude` holds patterns as `matching` takes them.

    Raises:
        DataError: a folder cannot be read, no folder has pictures, or a pattern excludes nothing.
    """
    files = [path for folder in folders for path in list_pictures(folder, recursive=True).pictures]
    excluded = matching(files, exclude, "--exclude")
    files = [path for path in files if path not in excluded]
    if not files:
        raise DataError(f"no photos in {', '.join(str(f) for f in folders)}")
    return files


def matching(files: Sequence[Path], patterns: Sequence[str], option: str) -> set[Path]:
    """Return the files whose whole path matches one of the patterns, such as `*/face_0?.jpg`.

    Raises:
        DataError: a pattern that matches none; the message names `option`.
    """
    matches: set[Path] = set()
    for pattern in patterns:
        new = {path for path in files if fnmatch.fnmatch(path.as_posix(), pattern)}
        if not new:
            raise DataError(f"{option} {pattern} matches no photo: the pattern has to match the whole path")
        matches |= new
    return matches


def sharpness(picture: Picture) -> float:
    """Return the standard deviation of the finest Laplacian level of the grey picture over that of the next one."""
    level: NDArray[Any] = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
    deviations = []
    for _ in range(2):
        down = cv2.pyrDown(level)
        deviations.append(float((level - cv2.pyrUp(down, dstsize=level.shape[::-1])).std()))
        level = down
    return deviations[0] / max(deviations[1], 1e-6)


class Photos:
    """Photos in memory, from which random parts are drawn in proportion to their pixels (at most `CAP`)."""

    CAP = 1_500_000
    """Pixels above which a photo is not drawn more often, so that one large photo does not outweigh ten others."""

    def __init__(self, files: Sequence[Path], least: int, keep_size: Collection[Path] = ()) -> None:
        """Read photos, except those with a side below `least` pixels; those of `keep_size` are never halved.

        Raises:
            DataError: a damaged file, or no photo that is large enough.
        """
        self.photos: list[Photo] = []
        sizes = []
        for path in files:
            try:
                pixels = read_upright(path)
            except ImageError as error:
                pattern = shlex.quote(f"*/{glob.escape(path.name)}")
                raise DataError(f"{path}: {error}; remove it or leave it out with --exclude {pattern}") from error
            height, width = pixels.shape[:2]
            if min(height, width) < least:
                continue
            versions = [pixels]
            if min(height, width) >= max(LARGE, 2 * least) and path not in keep_size:
                versions = [pixels, halve(pixels)] if sharpness(pixels) >= SHARP else [halve(pixels)]
            self.photos.append(Photo(path.name, versions))
            sizes.append(min(height * width, self.CAP))
        if not self.photos:
            raise DataError(
                f"none of the {counted(len(files), 'photo')} is {least} pixels wide and high; give larger ones"
            )
        self.least = min(min(photo.versions[-1].shape[:2]) for photo in self.photos)
        """Smallest side of all pictures that may be drawn."""
        self.chances = np.array(sizes) / sum(sizes)

    def __len__(self) -> int:
        return len(self.photos)

    def digest(self) -> str:
        """Return a hash of the photos' names."""
        return hashlib.sha256("\n".join(sorted(photo.name for photo in self.photos)).encode()).hexdigest()[:16]

    def pick(self, rng: np.random.Generator) -> Picture:
        """Return one of the versions of a photo, at random."""
        versions = self.photos[int(rng.choice(len(self.photos), p=self.chances))].versions
        return versions[int(rng.integers(len(versions)))]

    def part(self, size: int, rng: np.random.Generator) -> Picture:
        """Return a (size, size, 3) part, rotated and mirrored at random."""
        return turn(random_part(self.pick(rng), size, rng), int(rng.integers(8)))


def turn(picture: NDArray[np.uint8], way: int) -> NDArray[np.uint8]:
    """Rotate and mirror a square in one of eight ways."""
    picture = np.rot90(picture, way % 4)
    return np.ascontiguousarray(picture[:, ::-1] if way >= 4 else picture)


def split(files: Sequence[Path], validation: int) -> tuple[list[Path], list[Path]]:
    """Return (training, validation) files; the validation photos are those whose names have the smallest hashes."""
    ordered = sorted(files, key=lambda path: hashlib.sha256(path.name.encode()).hexdigest())
    held_out = set(ordered[:validation])
    return [path for path in files if path not in held_out], ordered[:validation]


def training_pair(photos: Photos, settings: FitSettings, rng: np.random.Generator) -> tuple[Picture, Picture]:
    """Return (input, target) of one training example: (p, p, 3) and (p * scale, p * scale, 3) uint8."""
    if settings.task == "jpeg":
        # room for pictures that are reduced between two compressions; photos without that much are used as they are
        room = min(settings.side() * 2, photos.least)
        return jpeg_pair(photos.part(room, rng), settings.patch, rng)
    clean = photos.part(settings.side(), rng)
    small = reduce_picture(clean, draw_reduction(rng, bicubic=settings.bicubic))
    if settings.variant == "perceptual" and rng.random() < 0.7:
        small = compress(small, int(rng.integers(60, 96)), subsampling=("4:4:4", "4:2:0")[int(rng.integers(2))])
    cut = TRIM // SCALE
    return (
        np.ascontiguousarray(small[cut:-cut, cut:-cut]),
        np.ascontiguousarray(clean[TRIM:-TRIM, TRIM:-TRIM]),
    )
