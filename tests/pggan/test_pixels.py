"""Pixels as bytes and as floats."""

import numpy as np
import torch

from pggan.pixels import to_bytes, to_floats


def test_bytes_and_floats() -> None:
    values = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).repeat(1, 3, 1, 1)
    floats = to_floats(values)
    assert (floats.min(), floats.max()) == (-1.0, 1.0)
    assert np.array_equal(to_bytes(floats), values.permute(0, 2, 3, 1).numpy())
    assert to_bytes(torch.tensor([-3.0, 3.0, 0.0]).view(1, 3, 1, 1)).ravel().tolist() == [0, 255, 128]
