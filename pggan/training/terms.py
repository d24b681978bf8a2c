"""Named terms of the losses, each with its own interval, and what they compute with.

`progressive_terms` and `style_terms` have those of the two families; `step` makes the steps.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pggan.config.schedule import ScheduleState
from pggan.config.settings import Preset
from pggan.data.stream import Batch
from pggan.model.losses import LossTerms
from pggan.precision import LossScale, PrecisionName
from pggan.rng import Purpose, normals
from pggan.training.augmenter import Augmenter
from pggan.training.distributed import Team
from pggan.training.microbatches import Part, Partition, partition
from pggan.training.networks import NetworkName, Networks
from pggan.transfer import to_device

Stats = dict[str, float]


@dataclass(frozen=True)
class Moment:
    """What a step is a function of, besides the networks: `batch` has this device's reals, for the discriminator."""

    state: ScheduleState
    images: int
    batch: Batch | None = None

    @property
    def number(self) -> int:
        """Number of the minibatch, from the start of the run."""
        return self.state.number + (self.images - self.state.images) // self.state.minibatch


@dataclass(frozen=True)
class Work:
    """The work on a minibatch. `part` gives the loss of some of its samples, in groups of the given size.

    `finish` is called once on every device, after the update, with the statistics of all parts of all devices.
    """

    part: Callable[[Part, int], LossTerms]
    finish: Callable[[Stats], None] = lambda _: None


@dataclass(frozen=True)
class Term:
    """A loss or regularizer of one network, in a step of its own.

    `interval`: minibatches from one such step to the next, which is weighted by it. `statistics`: the names of those
    that its parts give. `begin` starts the work on a minibatch, anew after running out of memory.
    """

    name: str
    network: NetworkName
    statistics: Sequence[str]
    begin: Callable[[Moment], Work]
    interval: int = 1


class Terms(Protocol):
    """The terms of a family of networks, in the order of their steps.

    `generator_first`: whether the generator's step comes before the discriminator's; the EMA is updated between them.
    """

    generator_first: bool
    all: tuple[Term, ...]

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint needs of the terms."""
        ...

    def load(self, values: Mapping[str, Any]) -> None:
        """Take over a checkpoint's values."""
        ...


@dataclass
class StepContext:
    """What terms compute with. `max_batch`: samples at once on this device, None for all; out of memory lowers it.

    `labels` (N, classes) of the whole file, None without; `say` gets lines for the log.
    """

    networks: Networks
    preset: Preset
    seed: int
    precision: PrecisionName
    device: torch.device
    team: Team = field(default_factory=Team)
    max_batch: int | None = None
    labels: NDArray[np.float32] | None = None
    say: Callable[[str], None] = print
    stop_requested: Callable[[], bool] = lambda: False

    def __post_init__(self) -> None:
        self.scales = {"d": LossScale.for_precision(self.precision), "g": LossScale.for_precision(self.precision)}
        self.augmenter = Augmenter(self.preset.augment, self.seed)
        self._reported: set[str] = set()
        self._partitions: dict[tuple[int, int | None], Partition] = {}
        self._indices: dict[bytes, Tensor | slice] = {}

    @property
    def augments(self) -> bool:
        return self.preset.augment.kind != "none"

    def division(self, minibatch: int) -> Partition:
        """Return how the minibatch is divided; the log gets a line where that cannot be exact."""
        key = (minibatch, self.max_batch)
        if key not in self._partitions:
            found = partition(self.preset.network, minibatch, max_batch=self.max_batch, ranks=self.team.size)
            self._partitions[key] = found
            if found.reason and found.reason not in self._reported:
                self._reported.add(found.reason)
                self.say(f"minibatch {minibatch}: {found.reason}")
        return self._partitions[key]

    def rows(self, minibatch: int) -> NDArray[np.int64]:
        """Return the positions in the minibatch that this device handles, ascending."""
        parts = self.division(minibatch).by_rank[self.team.rank]
        return np.array(sorted(index for part in parts for index in part.indices), np.int64)

    def index(self, indices: Sequence[int] | NDArray[np.int64]) -> Tensor | slice:
        """Return what takes these samples; a slice where all are taken in order, which copies nothing.

        The parts of a minibatch are the same in every step, so each index is copied to the device once.
        """
        values = np.asarray(indices, np.int64)
        key = values.tobytes()
        if key not in self._indices:
            in_order = np.array_equal(values, np.arange(len(values)))
            index = slice(0, len(values)) if in_order else to_device(torch.from_numpy(values), self.device)
            self._indices[key] = index
        return self._indices[key]

    def latents(self, purpose: Purpose, images: int, size: int) -> Tensor:
        """Return (size, latent_size)."""
        return to_device(normals(self.seed, purpose, images, (size, self.preset.network.latent_size)), self.device)

    def labels_at(self, indices: NDArray[np.int64]) -> Tensor:
        """Return the labels of these images of the file, (n, classes)."""
        assert self.labels is not None
        return to_device(torch.from_numpy(self.labels[indices]), self.device)
