"""Make enlarged pictures keep what they were made of: reduced again, they return the small picture.

A network that enlarges may shift colours and lift frequencies that the small picture has already. Back-projection
(M. Irani and S. Peleg, "Improving resolution by image registration", 1991) takes that back: what the reduced result
lacks is enlarged and added. The filter is the bicubic one of training, as in Pillow.
"""

import torch
from torch import Tensor
from torch.nn import functional

ROUNDS = 3
"""How often the rest is added: docs/results/restoration.md has what each round brings."""

REACH = 3 * ROUNDS + 1
"""Pixels of the small picture by which this enlarges a network's receptive field: two for each filter, of which the
second and later rounds share one with the round before."""


def reduce_bicubic(pictures: Tensor, scale: int) -> Tensor:
    """Reduce (n, 3, scale * h, scale * w) to (n, 3, h, w) with Pillow's bicubic filter, without rounding."""
    size = (pictures.shape[2] // scale, pictures.shape[3] // scale)
    if size[1] == 1:  # of contiguous memory, torch 2.13 reduces the first rows alone
        pictures = pictures.contiguous(memory_format=torch.channels_last)
    return functional.interpolate(pictures, size=size, mode="bicubic", antialias=True)


def enlarge_bicubic(pictures: Tensor, scale: int) -> Tensor:
    """Enlarge (n, 3, h, w) to (n, 3, scale * h, scale * w) with Pillow's bicubic filter, without rounding."""
    size = (pictures.shape[2] * scale, pictures.shape[3] * scale)
    return functional.interpolate(pictures, size=size, mode="bicubic", antialias=True)


def keep_small_picture(enlarged: Tensor, small: Tensor, scale: int, rounds: int = ROUNDS) -> Tensor:
    """Return the enlarged pictures, changed as little as it takes so that they reduce to the small ones.

    Args:
        enlarged: (n, 3, scale * h, scale * w) floats.
        small: (n, 3, h, w) floats that they were made of.
        scale: factor of the enlargement.
        rounds: of back-projection; none returns `enlarged`.
    """
    with torch.autocast(enlarged.device.type, enabled=False):
        result, wanted = enlarged.float(), small.float()
        for _ in range(rounds):
            result = enlarge_bicubic(wanted - reduce_bicubic(result, scale), scale).add_(result)
    return result
