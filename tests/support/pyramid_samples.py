"""Small pyramid files for tests."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datatools.pyramid import Provenance, PyramidWriter

NAMES = ("5_o_Clock_Shadow", "Smiling", "Young")


def face(index: int, side: int = 32) -> NDArray[np.uint8]:
    """A picture that differs from every other one in every level."""
    noise = np.random.default_rng(index).integers(0, 200, (side, side, 3), dtype=np.uint8)
    return noise + np.uint8(index % 50)


def row(index: int) -> Provenance:
    """Provenance in which every third image lacks attributes, identity and split."""
    known = index % 3 != 2
    return Provenance(
        file_name=f"{index:06d}.jpg" if index % 2 else f"été_{index}.jpg",
        source_md5=f"{index:032x}",
        score=1 / (index + 1),
        rank=index,
        celebahq_index=index if index % 2 else -1,
        quad=np.arange(8.0).reshape(4, 2) + index,
        landmarks=np.arange(10.0).reshape(5, 2) - index,
        attributes=(1, -1, 1 if index % 2 else -1) if known else None,
        identity=100 + index if known else None,
        split=index % 3 if known else None,
    )


def write(path: Path, indices: range, *, side: int = 32, **options: Any) -> Path:
    options = {"attribute_names": NAMES, "settings": {"restore": "none", "seed": 7, "gain": 0.5}, **options}
    with PyramidWriter(path, len(indices), resolution=side, **options) as writer:
        for index in indices:
            writer.append(face(index, side), row(index))
    return path
