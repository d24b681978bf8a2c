"""A pyramid as a PyTorch data set.

faces = Faces("celebahq.h5", 256, split="train", target_type="identity")
loader = torch.utils.data.DataLoader(faces, batch_size=32, shuffle=True, num_workers=4)
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from torch.utils.data import Dataset

from datatools.errors import DataError, SettingError
from datatools.pyramid import Pyramid
from datatools.pyramid.format import UNKNOWN
from datatools.pyramid.landmarks import landmarks_in_pictures
from datatools.text import counted

Split = Literal["train", "valid", "test", "all"]
TargetType = Literal["attr", "identity", "landmarks"]

SPLITS: tuple[str, ...] = get_args(Split)
"""Names of torchvision's CelebA; the place of each one but "all" is its number in the pyramid."""
TARGET_TYPES: tuple[str, ...] = get_args(TargetType)


class Faces(Dataset[tuple[Any, Any]]):
    """Pictures and targets of a pyramid, with the arguments of torchvision's `CelebA`.

    `faces[i]` is (picture, target). The picture is a uint8 tensor (3, resolution, resolution), RGB, unless `transform`
    makes something else of it. The target is that of `target_type`, a tuple for several ones, None for an empty list:

    - "attr": (K,) int64, 1 for attributes that the face has, 0 for others; `attr_names` names them.
    - "identity": int64 scalar, CelebA's number of the person.
    - "landmarks": (10,) float32, x and y of left eye, right eye, nose, left and right corner of the mouth, in pixels
      of the picture; the centre of its first pixel is (0, 0).

    A data set may be passed to worker processes, forked or spawned: each opens the file itself at its first read.

    Args:
        path: a pyramid file.
        resolution: side of the pictures, one of its levels.
        split: images of CelebA's split; "all" for those of none, too.
        target_type: one of TARGET_TYPES, or a list of these.
        transform: called with each picture.
        target_transform: called with each target.
        indices: numbers of images in the file, in the order to use; of these, those in `split` are taken.
        pil: give `transform` a PIL image, as torchvision does, not a tensor.

    Raises: DataError for a level, a split or targets that the file does not have for every image that is used.
    """

    def __init__(
        self,
        path: str | Path,
        resolution: int,
        split: Split = "train",
        target_type: TargetType | Sequence[TargetType] = "attr",
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[Any], Any] | None = None,
        *,
        indices: ArrayLike | None = None,
        pil: bool = False,
    ) -> None:
        if split not in SPLITS:
            raise SettingError("split", f"{split}: must be one of {', '.join(SPLITS)}")
        self.target_type = [target_type] if isinstance(target_type, str) else list(target_type)
        for name in self.target_type:
            if name not in TARGET_TYPES:
                raise SettingError("target_type", f"{name}: must be one of {', '.join(TARGET_TYPES)}")
        if target_transform is not None and not self.target_type:
            raise SettingError("target_transform", "has nothing to work on without target_type")
        self.transform, self.target_transform, self.pil = transform, target_transform, pil
        pyramid = Pyramid(path)
        self.level = pyramid[resolution]
        self.attr_names = pyramid.attribute_names
        self.indices = _chosen(pyramid, split, indices)
        self._targets = [_targets(pyramid, name, self.indices, resolution) for name in self.target_type]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        stored = self.level[int(self.indices[index])]  # (3, r, r)
        picture: Any = Image.fromarray(stored.transpose(1, 2, 0).copy()) if self.pil else torch.from_numpy(stored)
        if self.transform is not None:
            picture = self.transform(picture)
        if not self.target_type:
            return picture, None
        each = [torch.as_tensor(targets[index]) for targets in self._targets]
        target: Any = tuple(each) if len(each) > 1 else each[0]
        return picture, target if self.target_transform is None else self.target_transform(target)


def _chosen(pyramid: Pyramid, split: str, indices: ArrayLike | None) -> NDArray[np.intp]:
    """Return the indices of the images to use."""
    chosen = np.arange(len(pyramid)) if indices is None else np.atleast_1d(np.asarray(indices))
    if chosen.size and (chosen.dtype.kind not in "iu" or chosen.min() < 0 or chosen.max() >= len(pyramid)):
        raise SettingError("indices", f"must be numbers of images, 0 to {len(pyramid) - 1}")
    chosen = chosen.astype(np.intp)
    if split != "all":
        chosen = chosen[pyramid.provenance("split")[chosen] == SPLITS.index(split)]
    if not len(chosen):
        known = "" if split == "all" else '; the split "all" has every image'
        raise DataError(f"{pyramid.path}: no image is chosen, split {split} of {len(pyramid):,} images{known}")
    return chosen


def _targets(pyramid: Pyramid, name: str, chosen: NDArray[np.intp], resolution: int) -> NDArray[Any]:
    """Return the targets of the images, (n, ...). Raises DataError where one is not known."""
    if name == "attr":
        if not pyramid.attribute_names:
            raise DataError(f"{pyramid.path}: has no attributes; choose another target_type")
        flags = pyramid.provenance("attributes")[chosen]
        known, targets = (flags != 0).all(axis=1), (flags > 0).astype(np.int64)
    elif name == "identity":
        targets = pyramid.provenance("identity")[chosen].astype(np.int64)
        known = targets != UNKNOWN
    else:
        points = landmarks_in_pictures(
            pyramid.provenance("landmarks")[chosen], pyramid.provenance("quad")[chosen], resolution
        )
        targets = points.reshape(len(chosen), 10).astype(np.float32)
        known = np.isfinite(targets).all(axis=1)
    if not known.all():
        raise SettingError(
            "target_type",
            f"{name}: not known of {np.count_nonzero(~known):,} of {counted(len(chosen), 'image')}, the first is "
            f"{chosen[np.argmin(known)]}; give the indices of others, or another target_type",
        )
    return targets
