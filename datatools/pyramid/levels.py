"""The levels of one face, each an exactly rounded average of the top level (Karras et al. 2018: 1024 to 4)."""

from collections.abc import Iterable

import cv2
import numpy as np
from numpy.typing import DTypeLike, NDArray

from datatools.errors import ArrayError, DataError

CACHED_SUMS = 1 << 16  # as many as stay in the CPU's cache


def level_resolutions(resolution: int, min_level: int = 4) -> tuple[int, ...]:
    """Return the sides of the levels, largest first: (1024, 512, ..., 4) or, with min_level 1, down to 1.

    Raises DataError unless `resolution` is a power of two from 4 to 1024 and `min_level` one from 1 to `resolution`.
    """
    if resolution not in [1 << k for k in range(2, 11)]:
        raise DataError(f"the top level must be a power of two from 4 to 1024, not {resolution}")
    if min_level not in [1 << k for k in range(11)] or min_level > resolution:
        raise DataError(f"the smallest level must be a power of two from 1 to {resolution}, not {min_level}")
    return tuple(1 << k for k in range(resolution.bit_length() - 1, min_level.bit_length() - 2, -1))


def chosen_levels(resolution: int, levels: Iterable[int]) -> tuple[int, ...]:
    """Return the sides of a file's levels, largest first, where it has not all of them.

    Raises DataError unless they are among `level_resolutions`, each once, with `resolution` the largest.
    """
    found = tuple(sorted(levels, reverse=True))
    possible = level_resolutions(resolution, 1)
    if len(set(found)) < len(found) or not set(found) <= set(possible) or found[:1] != (resolution,):
        raise DataError(
            f"levels {', '.join(map(str, found)) or 'none'}: they must be {resolution} and any of "
            f"{', '.join(map(str, possible[1:]))}, each once"
        )
    return found


def build_levels(face: NDArray[np.uint8], min_level: int = 4) -> dict[int, NDArray[np.uint8]]:
    """Return all levels of one face.

    `face` is (r, r, 3) uint8 RGB, r a power of two from 4 to 1024. Gives {r: (3, r, r), r/2: (3, r/2, r/2), ...,
    min_level: ...}, uint8, C-contiguous. Level s is rint(mean of the (r/s) x (r/s) block of the top level), half to
    even, exactly: the picture that is halved again and again is never rounded on its way.
    """
    top = top_level(face)
    return {len(face): top, **reduced_levels(top, level_resolutions(len(face), min_level)[1:])}


class Scratch:
    """Arrays for reuse, by name: fresh memory takes the system as long as the sums that are put into it."""

    def __init__(self) -> None:
        self._arrays: dict[object, NDArray] = {}

    def array(self, name: object, shape: tuple[int, ...], kind: DTypeLike) -> NDArray:
        """Return an array with arbitrary contents."""
        found = self._arrays.get(name)
        if found is None or found.shape != shape or found.dtype != kind:
            found = self._arrays[name] = np.empty(shape, dtype=kind)
        return found


def top_level(face: NDArray[np.uint8], scratch: Scratch | None = None) -> NDArray[np.uint8]:
    """Return a face, (r, r, 3) uint8 RGB, as (3, r, r), C-contiguous.

    With a `scratch`, which belongs to one thread, the result holds until it is used again.
    """
    if face.ndim != 3 or face.shape[0] != face.shape[1] or face.shape[2] != 3 or face.dtype != np.uint8:
        raise ArrayError(f"a face is (r, r, 3) uint8, not {face.shape} {face.dtype}")
    top = (scratch or Scratch()).array("top", (3, *face.shape[:2]), np.uint8)
    cv2.split(face, list(top))  # a third of the time of NumPy's transposed copy
    return top


def reduced_levels(
    top: NDArray[np.uint8], resolutions: tuple[int, ...], scratch: Scratch | None = None
) -> dict[int, NDArray[np.uint8]]:
    """Return the levels below `top`, (..., r, r) uint8 C-contiguous: `resolutions` are r/2, r/4, ... without gaps.

    With a `scratch`, which belongs to one thread, the results hold until it is used again.
    """
    scratch = scratch or Scratch()
    levels: dict[int, NDArray[np.uint8]] = {}
    sums: NDArray = top
    for halvings, resolution in enumerate(resolutions, start=1):
        sums = _sum_2x2_bytes(sums, scratch) if halvings == 1 else _sum_2x2(sums, halvings, scratch)
        levels[resolution] = _divide_half_even(sums, 2 * halvings, scratch)
    return levels


def _sum_2x2(sums: NDArray, halvings: int, scratch: Scratch) -> NDArray:
    """Return sums of 2 x 2 sums, in the smallest type that also holds the rounding term added to them later."""
    kind = np.uint16 if halvings <= 4 else np.uint32  # 16 x 16 bytes fit: 65280 + 128 < 2**16
    *leading, side, _ = sums.shape
    rows = scratch.array(("rows", side), (*leading, side // 2, side), kind)
    np.add(sums[..., 0::2, :], sums[..., 1::2, :], out=rows, dtype=kind)
    total = scratch.array(("sums", side // 2), (*leading, side // 2, side // 2), kind)
    return np.add(rows[..., 0::2], rows[..., 1::2], out=total)


def _sum_2x2_bytes(top: NDArray[np.uint8], scratch: Scratch) -> NDArray[np.uint16]:
    """Return sums of 2 x 2 bytes, computed on neighbouring bytes seen as one 16-bit number.

    Adding the halves of such a number is contiguous work, several times faster than adding strided slices, and this
    level costs more than all others together; a few rows at a time stay in the CPU's cache. Byte order does not
    matter to a sum.
    """
    side = top.shape[-1] // 2
    pairs = top.view(np.uint16).reshape(-1, 2, side)  # (row of the result, upper or lower, column of the result)
    total = scratch.array(("sums", side), (len(pairs), side), np.uint16)
    rows = max(1, CACHED_SUMS // side)
    spare = scratch.array("pairs", (rows, side), np.uint16)
    byte, eight = np.uint16(0xFF), np.uint16(8)
    for start in range(0, len(pairs), rows):
        upper, lower = pairs[start : start + rows, 0], pairs[start : start + rows, 1]
        part = spare[: len(upper)]
        sums = np.bitwise_and(upper, byte, out=total[start : start + rows])
        sums += np.right_shift(upper, eight, out=part)
        sums += np.bitwise_and(lower, byte, out=part)
        sums += np.right_shift(lower, eight, out=part)
    return total.reshape(*top.shape[:-2], side, side)


def _divide_half_even(sums: NDArray, shift: int, scratch: Scratch) -> NDArray[np.uint8]:
    """Return rint(sums / 2**shift), half to even: half less one rounds ties down, odd quotients get one more."""
    kind = sums.dtype.type
    flat = sums.reshape(-1)
    quotients = scratch.array(("quotients", sums.shape[-1]), flat.shape, np.uint8)
    spare = scratch.array(("part", sums.dtype), (CACHED_SUMS,), sums.dtype)
    for start in range(0, len(flat), CACHED_SUMS):
        block = flat[start : start + CACHED_SUMS]
        total = np.right_shift(block, kind(shift), out=spare[: len(block)])
        total &= kind(1)  # the quotient is odd
        total += block
        total += kind((1 << (shift - 1)) - 1)
        total >>= kind(shift)
        quotients[start : start + CACHED_SUMS] = total
    return quotients.reshape(sums.shape)
