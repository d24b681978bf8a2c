"""Draw the mean face of a pyramid and its principal components, with NumPy, or with JAX if that is installed.

python examples/eigenfaces.py celebahq.h5 --level 64 --out eigenfaces.png
"""

import argparse
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

from datatools.errors import DataError
from datatools.pyramid import Pyramid

try:
    import jax.numpy as xp  # the same functions, on whatever device JAX has
except ImportError:
    xp = np  # type: ignore[assignment]


def batches(pyramid: Pyramid, level: int, size: int) -> Iterator[Any]:
    """Yield all images of a level as (n, 3 level^2) float32 in 0..1; read in order, which is fastest."""
    for start in range(0, len(pyramid), size):
        images = pyramid[level][start : start + size]  # (n, 3, level, level) uint8
        yield xp.asarray(images.reshape(len(images), -1), dtype=xp.float32) / 255


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("h5")
    parser.add_argument("--level", type=int, default=64)
    parser.add_argument("--most", type=int, default=4000, help="images whose components are computed")
    parser.add_argument("--out", default="eigenfaces.png")
    use = parser.parse_args()

    try:
        with Pyramid(use.h5) as pyramid:
            mean = sum(batch.sum(axis=0) for batch in batches(pyramid, use.level, 512)) / len(pyramid)
            chosen = np.random.default_rng(0).permutation(len(pyramid))[: use.most]
            some = xp.asarray(pyramid[use.level][np.sort(chosen)].reshape(len(chosen), -1), dtype=xp.float32) / 255
    except DataError as error:
        sys.exit(f"Error: {error}")
    _, deviations, components = xp.linalg.svd(some - mean, full_matrices=False)
    shares = deviations**2 / (deviations**2).sum()
    print(f"{xp.__name__}: 7 components explain {float(shares[:7].sum()):.1%} of the variance", flush=True)

    scale = 3 * deviations[:7, None] / len(chosen) ** 0.5
    rows = xp.stack([mean + scale * components[:7], mean - scale * components[:7]])  # (2, <= 7, 3 level^2)
    rows = xp.concatenate([xp.broadcast_to(mean, (2, 1, len(mean))), rows], axis=1)
    pictures = np.asarray(rows).reshape(2, -1, 3, use.level, use.level).transpose(0, 3, 1, 4, 2)
    grid = pictures.reshape(2 * use.level, -1, 3)
    Image.fromarray((grid.clip(0, 1) * 255).round().astype(np.uint8)).save(use.out)
