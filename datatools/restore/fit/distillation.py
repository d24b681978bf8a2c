"""Knowledge distillation: another network's results as training targets, besides the photos.

A photo has detail that no network can infer from the reduced picture, so gradients towards it are mostly noise. Another
network's result has no such noise, and a network that imitates it needs a fraction of the steps (G. Hinton, O. Vinyals,
J. Dean, "Distilling the Knowledge in a Neural Network", 2015).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from datatools.restore.base import Picture
from datatools.restore.fit.dataset import Photos, turn
from datatools.restore.fit.degrade import SCALE, reduce_picture
from datatools.restore.networks import PictureNetwork
from datatools.restore.tiling import best_precision, restore


@dataclass(frozen=True)
class TeacherExample:
    """A photo reduced by 4, (h, w, 3), the photo itself, and the teacher's result, (4 h, 4 w, 3); uint8 RGB."""

    small: Picture
    clean: Picture
    target: Picture


class TeacherTargets:
    """Photos reduced by the bicubic kernel and the teacher's results, computed once; `part` cuts examples out."""

    def __init__(
        self,
        photos: Photos,
        teacher: PictureNetwork,
        device: torch.device,
        progress: Callable[[], object] = lambda: None,
    ) -> None:
        """Run the teacher, a 4x network, on all photos; `progress` is called after each."""
        self.photos = photos
        self.examples: list[list[TeacherExample]] = []
        for photo in photos.photos:
            self.examples.append([_example(version, teacher, device) for version in photo.versions])
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


def _example(picture: Picture, teacher: PictureNetwork, device: torch.device) -> TeacherExample:
    height, width = (side // SCALE * SCALE for side in picture.shape[:2])
    clean = picture[:height, :width]
    small = reduce_picture(clean)
    target = restore(teacher, small, device=device, precision=best_precision(device))
    return TeacherExample(small, clean, target)
