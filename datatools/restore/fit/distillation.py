"""Knowledge distillation: another network's results as training targets, besides the photos.

A photo has detail that no network can infer from the reduced picture, so gradients towards it are mostly noise. Another
network's result has no such noise, and a network that imitates it needs a fraction of the steps (G. Hinton, O. Vinyals,
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
class TeacherExample:
    """A photo reduced by 4, (h, w, 3), the photo itself, and the teacher's result, (4 h, 4 w, 3); uint8 RGB."""

    small: Picture
    clean: Picture
    target: Picture


class TeacherTargets:
    """Photos reduced by the bicubic kernel and the teacher's results, computed once; `part` cuts examples out."""

    def __init__(
        self, photos: Photos, teacher: nn.Module, device: torch.device, progress: Callable[[], object] = lambda: None
    ) -> None:
        """Run the teacher on all photos; `progress` is called after each.

        Raises:
            DataError: a teacher that does not enlarge by 4.
        """
        if getattr(teacher, "scale", None) != SCALE:
            raise DataError(f"the teacher enlarges {getattr(teacher, 'scale', '?')}x; give one for {SCALE}x")
        self.photos = photos
        self.examples: list[list[TeacherExample]] = []
        for photo in photos.photos:
            self.examples.append([_example(version, teacher, device) for version in photo.versions()])
            progress()

    def part(self, size: int, rng: np.random.Generator) -> TeacherExample:
        """Return a random part with a reduced side of `size` pixels, drawn as `Photos.part` does."""
        versions = self.examples[int(rng.choice(len(self.examples), p=self.photos.chances))]
        example = versions[int(rng.integers(len(versions)))]
        top, left = (int(rng.integers(side - size + 1)) for side in example.small.shape[:2])
        way = int(rng.integers(8))

        def cut(picture: Picture, scale: int) -> Picture:
            rows, columns = (slice(start * scale, (start + size) * scale) for start in (top, left))
            return turn(picture[rows, columns], way)

        return TeacherExample(cut(example.small, 1), cut(example.clean, SCALE), cut(example.target, SCALE))


def load_teacher(name_or_path: str) -> nn.Module:
    """Return a network by name or file. Raise DataError as `load_weights` and `load_model`."""
    if task_of(Path(name_or_path)) is not None:
        return load_weights(Path(name_or_path), "sr")[0]
    return load_model(name_or_path)


def _example(picture: Picture, teacher: nn.Module, device: torch.device) -> TeacherExample:
    height, width = (side // SCALE * SCALE for side in picture.shape[:2])
    clean = picture[:height, :width]
    small = reduce_picture(clean)
    box = (0, 0, small.shape[1], small.shape[0])
    (target,) = restore_parts(teacher, [(small, box)], device=device, precision=best_precision(device))
    return TeacherExample(small, clean, target)
