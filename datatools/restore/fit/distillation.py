"""Training towards what another network makes of a picture, beside the true one.

The true picture is full of what no network can know from the small one; steps towards it are mostly noise. Another
network's result is without that noise, and a student comes near it in a fraction of the steps (G. Hinton, O. Vinyals,
J. Dean, "Distilling the Knowledge in a Neural Network", 2015).
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from datatools.errors import DataError
from datatools.restore.base import Picture
from datatools.restore.external import load_model
from datatools.restore.fit.dataset import Photos, turn
from datatools.restore.fit.degrade import SCALE, reduce_picture
from datatools.restore.tiling import best_precision, restore_parts
from datatools.restore.weights import load_weights, task_of


@dataclass(frozen=True)
class Lesson:
    """A photo in three forms: reduced by 4, (h, w, 3); as it is and as the teacher has it, (4 h, 4 w, 3); uint8 RGB."""

    small: Picture
    clean: Picture
    taught: Picture


class Lessons:
    """Photos reduced once by the bicubic kernel, and what a teacher makes of them: parts of these cost nothing."""

    def __init__(
        self, photos: Photos, teacher: nn.Module, device: torch.device, progress: Callable[[], object] = lambda: None
    ) -> None:
        """`progress` is called after every photo. Raises DataError for a teacher that does not enlarge by 4."""
        if getattr(teacher, "scale", None) != SCALE:
            raise DataError(f"the teacher enlarges {getattr(teacher, 'scale', '?')}x; needed is one for {SCALE}x")
        self.photos = photos
        self.lessons: list[list[Lesson]] = []
        for photo in photos.photos:
            self.lessons.append([_lesson(version, teacher, device) for version in photo.versions()])
            progress()

    def part(self, size: int, rng: np.random.Generator) -> Lesson:
        """A part with a reduced side of `size` pixels, at random as `Photos.part` gives them."""
        versions = self.lessons[int(rng.choice(len(self.lessons), p=self.photos.chances))]
        lesson = versions[int(rng.integers(len(versions)))]
        top, left = (int(rng.integers(side - size + 1)) for side in lesson.small.shape[:2])
        way = int(rng.integers(8))

        def cut(picture: Picture, scale: int) -> Picture:
            rows, columns = (slice(start * scale, (start + size) * scale) for start in (top, left))
            return turn(picture[rows, columns], way)

        return Lesson(cut(lesson.small, 1), cut(lesson.clean, SCALE), cut(lesson.taught, SCALE))


def load_teacher(name_or_path: str) -> nn.Module:
    """A network by name or file, of ours or of others. Raises DataError as `load_weights` and `load_model`."""
    if task_of(Path(name_or_path)) is not None:
        return load_weights(Path(name_or_path), "sr")[0]
    return load_model(name_or_path)


def _lesson(picture: Picture, teacher: nn.Module, device: torch.device) -> Lesson:
    height, width = (side // SCALE * SCALE for side in picture.shape[:2])
    clean = picture[:height, :width]
    small = reduce_picture(clean)
    box = (0, 0, small.shape[1], small.shape[0])
    (taught,) = restore_parts(teacher, [(small, box)], device=device, precision=best_precision(device))
    return Lesson(small, clean, taught)
