"""MTCNN as a source of landmarks: works offline, on a CPU. Loads torch when it first looks at a photo."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from datatools.landmarks.base import Face, Photo, pixels_of
from datatools.landmarks.cascade import DEFAULTS, Settings, detect
from datatools.landmarks.mtcnn_weights import SHA256, read_weights

VERSION = 2
"""Raise it when the same weights give other landmarks."""
GPU_BATCH = 16
"""Photos at once on a GPU: the crops of all of them go through a network together."""


@dataclass(frozen=True)
class Mtcnn:
    """Finds faces with MTCNN; see `datatools.landmarks.base.LandmarkSource` and `get_landmark_source`."""

    device: str = "cpu"
    threads: int = 1
    settings: Settings = DEFAULTS
    name: str = "mtcnn"
    reads_pixels: bool = True

    def __post_init__(self) -> None:
        for network in SHA256:
            read_weights(network)  # reports a missing or damaged file now, not in a worker

    @property
    def batch_size(self) -> int:
        """Return how many photos to give to `find` at once."""
        return 1 if self.device == "cpu" else GPU_BATCH

    @property
    def digest(self) -> str:
        """Return a hash of the weights, the settings, and the kind of device, which changes rounding."""
        parts = [str(VERSION), *SHA256.values(), repr(self.settings), self.device.partition(":")[0]]
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()

    def find(self, photos: Sequence[Photo], /) -> list[list[Face]]:
        """Return the faces of each photo, the highest score first."""
        pictures = [pixels_of(photo) for photo in photos]
        import torch  # here: starting a worker loads no heavy library

        from datatools.landmarks.mtcnn_networks import load_networks

        torch.set_num_threads(self.threads)
        return detect(pictures, load_networks(self.device), self.settings)
