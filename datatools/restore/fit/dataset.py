"""Photos to train the restoration networks on: read once, handed out in random parts."""

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
from datatools.restore.fit.degrade import random_part
from datatools.text import counted

SHARP = 1.0
"""Contrast of the finest octave over the next one's, from which on a photo counts as sharp at the pixel level. Photos
that look sharp there lie between 0.9 and 2, softly focused or enlarged ones below."""

LARGE = 1000
"""Photos with both sides above this are halved half of the time: they hold detail at either size."""


@dataclass(frozen=True)
class Photo:
    """A photo, (h, w, 3) uint8 RGB, its half where that is worth training on, and the chance of being picked."""

    name: str
    pixels: Picture
    half: Picture | None
    sharp: bool

    def versions(self) -> list[Picture]:
        """What is trained on: the half alone of a large photo that is not sharp, both of one that is."""
        if self.half is None:
            return [self.pixels]
        return [self.pixels, self.half] if self.sharp else [self.half]


def picture_files(folders: Sequence[Path], exclude: Sequence[str] = ()) -> list[Path]:
    """List all pictures below the folders, in order; `exclude` holds patterns as `matching` takes them.

    Raises:
        DataError: a folder that is missing, none that holds pictures, or a pattern that excludes nothing.
    """
    found: list[Path] = []
    for folder in folders:
        if not folder.is_dir():
            raise DataError(f"{folder} is no folder; --photos takes folders with photos")
        found += list_pictures(folder, recursive=True).pictures
    left_out = matching(found, exclude, "--exclude")
    kept = [path for path in found if path not in left_out]
    if not kept:
        raise DataError(f"no photos in {', '.join(str(f) for f in folders)}")
    return kept


def matching(files: Sequence[Path], patterns: Sequence[str], option: str) -> set[Path]:
    """Files whose whole path is like one of the patterns, such as `*/face_0?.jpg`.

    Raises:
        DataError: a pattern that matches none; the line names `option`.
    """
    found: set[Path] = set()
    for pattern in patterns:
        those = {path for path in files if fnmatch.fnmatch(path.as_posix(), pattern)}
        if not those:
            raise DataError(f"{option} {pattern} matches no photo: check the pattern, it is for whole paths")
        found |= those
    return found


def sharpness(picture: Picture) -> float:
    """Standard deviation of the finest Laplacian level over that of the next one, of the grey picture."""
    level: NDArray[Any] = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
    deviations = []
    for _ in range(2):
        down = cv2.pyrDown(level)
        deviations.append(float((level - cv2.pyrUp(down, dstsize=level.shape[::-1])).std()))
        level = down
    return deviations[0] / max(deviations[1], 1e-6)


class Photos:
    """Photos in memory, and random parts of them, a photo being picked as often as it has pixels (at most `CAP`)."""

    CAP = 1_500_000
    """Pixels above which a photo is not picked more often: one large photo must not outweigh ten others."""

    def __init__(self, files: Sequence[Path], least: int, keep_size: Collection[Path] = ()) -> None:
        """`least`: smallest side, in pixels, of a photo that is used; `keep_size`: files that are never halved."""
        self.photos: list[Photo] = []
        for path in files:
            try:
                pixels = read_upright(path)
            except ImageError as error:
                pattern = shlex.quote(f"*/{glob.escape(path.name)}")
                raise DataError(f"{path}: {error}; remove it or leave it out with --exclude {pattern}") from error
            large = min(pixels.shape[:2]) >= max(LARGE, 2 * least) and path not in keep_size
            half = halve(pixels) if large else None
            if min(pixels.shape[:2]) >= least:
                self.photos.append(Photo(path.name, pixels, half, sharpness(pixels) >= SHARP))
        if not self.photos:
            raise DataError(
                f"none of the {counted(len(files), 'photo')} is {least} pixels wide and high; give larger ones"
            )
        self.least = min(min((p.pixels if p.half is None else p.half).shape[:2]) for p in self.photos)
        """Largest side of a part that every pick has room for."""
        sizes = np.array([min(p.pixels.shape[0] * p.pixels.shape[1], self.CAP) for p in self.photos], np.float64)
        self.chances = sizes / sizes.sum()

    def __len__(self) -> int:
        return len(self.photos)

    def digest(self) -> str:
        """Of the photos' names: tells other photos from these."""
        return hashlib.sha256("\n".join(sorted(photo.name for photo in self.photos)).encode()).hexdigest()[:16]

    def pick(self, rng: np.random.Generator) -> Picture:
        """One of the versions of a photo, at random."""
        versions = self.photos[int(rng.choice(len(self.photos), p=self.chances))].versions()
        return versions[int(rng.integers(len(versions)))]

    def part(self, size: int, rng: np.random.Generator) -> Picture:
        """A (size, size, 3) part, turned and mirrored at random."""
        return turn(random_part(self.pick(rng), size, rng), int(rng.integers(8)))


def turn(picture: NDArray[np.uint8], way: int) -> NDArray[np.uint8]:
    """One of the eight ways to turn and mirror a square."""
    picture = np.rot90(picture, way % 4)
    return np.ascontiguousarray(picture[:, ::-1] if way >= 4 else picture)


def split(files: Sequence[Path], validation: int) -> tuple[list[Path], list[Path]]:
    """(training, validation): held out are the photos whose names' hashes come first, in any order of the folders."""
    ordered = sorted(files, key=lambda path: hashlib.sha256(path.name.encode()).hexdigest())
    held_out = set(ordered[:validation])
    return [path for path in files if path not in held_out], ordered[:validation]
