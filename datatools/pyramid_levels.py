"""The levels of one face, each an exactly rounded average of the top level (Karras et al. 2018: 1024 to 4)."""

import numpy as np
from numpy.typing import NDArray

from datatools.errors import DataError


def level_resolutions(resolution: int, min_level: int = 4) -> tuple[int, ...]:
    """Sides of the levels from the largest to the smallest: (1024, 512, ..., 4) or, with min_level 1, down to 1.

    Raises DataError unless `resolution` is a power of two from 4 to 1024 and `min_level` one from 1 to `resolution`.
    """
    if resolution not in [1 << k for k in range(2, 11)]:
        raise DataError(f"the top level must be a power of two from 4 to 1024, not {resolution}")
    if min_level not in [1 << k for k in range(11)] or min_level > resolution:
        raise DataError(f"the smallest level must be a power of two from 1 to {resolution}, not {min_level}")
    return tuple(1 << k for k in range(resolution.bit_length() - 1, min_level.bit_length() - 2, -1))


def build_levels(face: NDArray[np.uint8], min_level: int = 4) -> dict[int, NDArray[np.uint8]]:
    """All levels of one face.

    `face` is (r, r, 3) uint8 RGB, r a power of two from 4 to 1024. Gives {r: (3, r, r), r/2: (3, r/2, r/2), ...,
    min_level: ...}, uint8, C-contiguous. Level s is rint(mean of the (r/s) x (r/s) block of the top level), half to
    even, exactly: the picture that is halved again and again is never rounded on its way.
    """
    if face.ndim != 3 or face.shape[0] != face.shape[1] or face.shape[2] != 3 or face.dtype != np.uint8:
        raise ValueError(f"a face is (r, r, 3) uint8, not {face.shape} {face.dtype}")
    resolutions = level_resolutions(face.shape[0], min_level)
    top = np.ascontiguousarray(face.transpose(2, 0, 1))
    return {face.shape[0]: top, **reduced_levels(top, resolutions[1:])}


def reduced_levels(top: NDArray[np.uint8], resolutions: tuple[int, ...]) -> dict[int, NDArray[np.uint8]]:
    """The levels below `top`, (..., r, r) uint8 C-contiguous: `resolutions` are r/2, r/4, ... without gaps."""
    levels: dict[int, NDArray[np.uint8]] = {}
    sums: NDArray[np.unsignedinteger] = top
    for halvings, resolution in enumerate(resolutions, start=1):
        sums = _sum_2x2(sums, halvings)
        levels[resolution] = _divide_half_even(sums, 2 * halvings)
    return levels


def _sum_2x2(sums: NDArray[np.unsignedinteger], halvings: int) -> NDArray[np.unsignedinteger]:
    """Sums of 2 x 2 blocks, in the smallest type that also holds the rounding term added to them later."""
    if halvings == 1:
        return _sum_2x2_bytes(sums)
    if halvings == 5:  # up to 16 x 16 bytes fit: 65280 + 128 < 2**16
        sums = sums.astype(np.uint32)
    rows = sums[..., 0::2, :] + sums[..., 1::2, :]
    return rows[..., 0::2] + rows[..., 1::2]


def _sum_2x2_bytes(top: NDArray[np.unsignedinteger]) -> NDArray[np.uint16]:
    """Sums of 2 x 2 bytes, on neighbouring bytes seen as one 16-bit number.

    Adding the halves of such a number is contiguous work on a reused buffer, several times faster than adding strided
    slices, and this level costs more than all others together. Byte order does not matter to a sum.
    """
    pairs = top.view(np.uint16)
    upper, lower = pairs[..., 0::2, :], pairs[..., 1::2, :]
    byte, eight = np.uint16(0xFF), np.uint16(8)
    total = upper & byte
    part = upper >> eight
    total += part
    total += np.bitwise_and(lower, byte, out=part)
    total += np.right_shift(lower, eight, out=part)
    return total


def _divide_half_even(sums: NDArray[np.unsignedinteger], shift: int) -> NDArray[np.uint8]:
    """rint(sums / 2**shift), half to even: half less one rounds ties down, one more is added to odd quotients."""
    kind = sums.dtype.type
    total = sums >> kind(shift)
    total &= kind(1)  # the quotient is odd
    total += sums
    total += kind((1 << (shift - 1)) - 1)
    total >>= kind(shift)
    return total.astype(np.uint8)
