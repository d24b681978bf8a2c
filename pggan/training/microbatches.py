"""Split a minibatch into micro-batches and among devices so that gradients stay those of the whole minibatch.

The discriminator looks at groups of samples (minibatch stddev), so a part must take whole groups: sample n of N
belongs to group n mod (N / size). A part's samples are ordered so that the same rule, within the part, finds the
same groups. Every loss is a mean over samples; a part of m samples counts with weight m / N, and gradients add up.
"""

from dataclasses import dataclass
from itertools import pairwise

from pggan.config.settings import AnyNetworkConfig
from pggan.model.layers import stddev_group


@dataclass(frozen=True)
class Part:
    """Samples that one device handles at once: their positions in the minibatch, and m / N."""

    indices: tuple[int, ...]
    weight: float


@dataclass(frozen=True)
class Partition:
    """A minibatch in parts. `group` is the stddev group to hand to the losses.

    `exact`: the parts give the gradients of the undivided minibatch; otherwise `reason` says what was given up, for
    the log. `by_rank[rank]` are the parts of a device; a device may have none when there are more devices than groups.
    """

    group: int
    by_rank: tuple[tuple[Part, ...], ...]
    exact: bool
    reason: str | None


def joint_samples(config: AnyNetworkConfig, minibatch: int) -> int:
    """Return how many samples depend on each other within a step, and must therefore stay together: at least 1."""
    if config.g_norm == "batch" or config.d_statistics == "discrimination":
        return minibatch
    return stddev_group(minibatch, config.stddev_group) if config.d_statistics == "stddev" else 1


def partition(config: AnyNetworkConfig, minibatch: int, *, max_batch: int | None = None, ranks: int = 1) -> Partition:
    """Divide `minibatch` samples among `ranks` devices, each in parts of at most `max_batch` samples.

    Where a group does not fit into `max_batch`, or there are fewer groups than devices, groups are made smaller (the
    largest size that divides the minibatch and fits), and the result is not exact.
    """
    if minibatch < 1 or ranks < 1 or (max_batch is not None and max_batch < 1):
        raise ValueError(f"minibatch {minibatch}, ranks {ranks} and max_batch {max_batch} must be at least 1")
    joint = joint_samples(config, minibatch)
    limit = min(joint, max_batch or joint, max(1, minibatch // ranks))
    size = stddev_group(minibatch, limit)
    reasons = []
    wanted = config.stddev_group or minibatch
    if config.d_statistics == "stddev" and joint < min(wanted, minibatch):
        reasons.append(f"stddev groups of {joint}, not {wanted}: minibatch {minibatch} is not divisible")
    if size < joint:
        reasons.append(f"groups of {size} samples instead of {joint}: {ranks} device(s), at most {max_batch} at once")
    count = minibatch // size  # groups
    by_rank: list[tuple[Part, ...]] = []
    for rank in range(ranks):
        mine = range(count * rank // ranks, count * (rank + 1) // ranks)
        per_part = max(1, (max_batch or minibatch) // size)
        pieces = -(-len(mine) // per_part)
        cuts = [len(mine) * i // pieces for i in range(pieces + 1)] if pieces else []
        parts = []
        for first, last in pairwise(cuts):
            groups = mine[first:last]
            indices = tuple(row * count + group for row in range(size) for group in groups)
            parts.append(Part(indices, len(indices) / minibatch))
        by_rank.append(tuple(parts))
    return Partition(size, tuple(by_rank), exact=size == joint, reason="; ".join(reasons) or None)
