"""The real images that are most like given ones (Karras et al. 2018, figure 10): does the network make new faces?

images (n, 3, r, r)  ->  descriptors (n, d)  ->  the k smallest distances to the reals
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datatools.errors import DataError
from pggan.metrics.arrays import Bytes, require_rgb
from pggan.metrics.swd import laplacian
from pggan.precision import full_products

Descriptor = Callable[[Tensor], Tensor]
"""(n, 3, r, r) uint8 -> (n, d) float32, for each image apart; compared by their Euclidean distance."""

FACE_TOP, FACE_LEFT, FACE_SIDE = 5 / 16, 1 / 4, 1 / 2
"""The square from above the eyes to below the mouth, in sides of the picture."""
DETAIL = 64
"""Side in pixels to which larger crops are reduced: what is finer than that are single hairs."""
SMALLEST = 4


@dataclass(frozen=True)
class Neighbours:
    """`indices` (n, k) in the order of the reals, and `distances` (n, k), smallest first."""

    indices: NDArray[np.int64]
    distances: NDArray[np.float32]


def face_descriptor(images: Tensor) -> Tensor:
    """Return Laplacian levels of the central face crop: (n, 3, r, r) uint8, r a power of two >= 8 -> (n, d) float32.

    Every level is divided by the root of its number of values: the distance is the root of the summed mean squares of
    the levels' differences, in steps of 8-bit values. Coarse shapes count as much as the many pixels of fine detail.
    """
    require_rgb(images)
    side = images.shape[-1]
    if side < 2 * SMALLEST or side & (side - 1) or images.shape[-2] != side:
        raise DataError(
            f"images of {side} x {images.shape[-2]} pixels: neighbours are looked for among square ones "
            f"whose side is a power of two of at least {2 * SMALLEST}"
        )
    size, top, left = int(side * FACE_SIDE), int(side * FACE_TOP), int(side * FACE_LEFT)
    crop = images[..., top : top + size, left : left + size].float()
    if size > DETAIL:
        crop = torch.nn.functional.avg_pool2d(crop, size // DETAIL)
    parts = [level.flatten(1) / level[0].numel() ** 0.5 for level in laplacian(crop.clone(), SMALLEST).values()]
    return torch.cat(parts, dim=1)


@full_products()
def nearest(
    queries: Tensor | Bytes,
    reals: Iterable[Tensor | Bytes],
    k: int = 5,
    *,
    descriptor: Descriptor = face_descriptor,
    device: str | torch.device = "cpu",
) -> Neighbours:
    """Find the `k` reals nearest to each of the queries (n, 3, r, r) uint8; `reals` come in batches of such images.

    Every real is compared with every query; memory does not grow with their number. Of equally near ones the earlier
    comes first. Raises DataError where there are fewer than `k` reals, or their size differs from that of the queries.
    """
    if k < 1:
        raise DataError(f"{k} neighbours: give at least 1")
    require_rgb(queries)
    wanted = descriptor(torch.as_tensor(queries).to(device))
    distances = torch.full((len(wanted), 0), torch.inf, device=wanted.device)
    indices = torch.zeros((len(wanted), 0), dtype=torch.int64, device=wanted.device)
    seen = 0
    for batch in reals:
        require_rgb(batch, queries.shape[-1])
        described = descriptor(torch.as_tensor(batch).to(device))
        # By way of matrix products it would be faster and lose the digits of small distances.
        near = torch.cdist(wanted, described, compute_mode="donot_use_mm_for_euclid_dist")
        places = torch.arange(seen, seen + len(described), device=wanted.device).expand_as(near)
        distances, order = torch.cat([distances, near], dim=1).sort(dim=1, stable=True)
        indices = torch.cat([indices, places], dim=1).gather(1, order)[:, :k]
        distances = distances[:, :k]
        seen += len(described)
    if seen < k:
        raise DataError(f"{k} nearest of {seen} reals: ask for fewer neighbours or give more images")
    return Neighbours(indices.cpu().numpy(), distances.cpu().numpy())
