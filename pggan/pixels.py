"""Pixels as files have them, 0..255, and as networks see them, -1..1: the one place that converts."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, uint8


def to_floats(images: Tensor) -> Tensor:
    """Return uint8 images as float32 in -1..1; the shape and the device stay."""
    return images.float().div_(127.5).sub_(1.0)


def to_bytes(images: Tensor) -> NDArray[np.uint8]:
    """Return floats (n, 3, r, r) as (n, r, r, 3) uint8 on the CPU: clip(rint(x 127.5 + 127.5))."""
    pixels = (images.float() * 127.5 + 127.5).round().clamp(0, 255).to(uint8)
    return pixels.permute(0, 2, 3, 1).contiguous().cpu().numpy()
