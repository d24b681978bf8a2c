"""The same photo twice: perceptual hashes of faces and the pairs that are close.

CelebA holds many photos more than once, in other sizes, crops, colours or compressions. Faces are aligned by their
landmarks, so a hash that keeps positions finds them: the signs of the 256 lowest frequencies of a small grey version
(after Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010).
"""

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from datatools.errors import ArrayError
from datatools.parallel import available_cores, map_in_threads

MAX_DISTANCE = 32
"""Of 256 bits. Judged by eye on 5,637 CelebA faces of 128 x 128: the 97 pairs up to 41 bits show the same photo, two
shots of one person appear at 52, different people at 55. Chance pairs grow with the square of the number of faces:
extrapolated to all of CelebA, about ten at 32 bits in addition to some thousand true ones, about a hundred at 40."""

_SIDE = 32
_BITS = 256
_NOISE = 0.01
_BLOCK = (32, 4096)


@dataclass(frozen=True)
class DuplicatePair:
    """Two faces whose hashes are close."""

    first: int
    """Position in the hashes given; less than `second`."""
    second: int
    distance: int
    """Differing bits of 256."""


def perceptual_hash(face: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Return the hash, (4,) uint64 or 256 bits, of an aligned face, (r, r, 3) uint8 RGB with r >= 32.

    Resolution hardly matters, nor do compression, brightness, contrast and shifts below half a percent of the side.
    Bit i is set when the i-th lowest frequency (the mean aside) of the 32 x 32 grey version has a positive coefficient.
    """
    if face.dtype != np.uint8 or face.ndim != 3 or face.shape[2] != 3 or min(face.shape[:2]) < _SIDE:
        raise ArrayError(f"expected (r, r, 3) uint8 with r >= {_SIDE}, found {face.shape} {face.dtype}")
    # Grey comes last: reducing first makes it cheap, and on floats nothing is rounded in between.
    small = cv2.resize(face, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float64)
    spectrum = cv2.dct(small @ np.array([0.299, 0.587, 0.114]))
    # Coefficients of flat pictures are rounding noise around 0, which must not look like content.
    bits = spectrum[_lowest_frequencies()] > _NOISE
    return np.packbits(bits, bitorder="little").view("<u8").astype(np.uint64)


def find_duplicates(hashes: NDArray[np.uint64], max_distance: int = MAX_DISTANCE) -> list[DuplicatePair]:
    """Return all pairs of `hashes`, (N, 4) uint64, that differ in at most `max_distance` bits; by first, then second.

    Every pair is compared, on all cores, in blocks that stay in the CPU's cache: first by half of their bits, which few
    pass.
    """
    if hashes.ndim != 2 or hashes.shape[1] != 4 or hashes.dtype != np.uint64:
        raise ArrayError(f"expected (N, 4) uint64, found {hashes.shape} {hashes.dtype}")
    if not 0 <= max_distance < _BITS // 2:  # half of the bits differ by chance
        raise ValueError(f"max_distance must lie in 0..{_BITS // 2 - 1}, not {max_distance}")
    rows, columns = _BLOCK
    tops = range(0, len(hashes), rows)
    words = np.ascontiguousarray(hashes.T[2:])  # (2, N): of the higher frequencies, in which faces differ most

    def pairs_from(top: int) -> NDArray[np.intp]:
        return _pairs_of_rows(hashes, words, slice(top, top + rows), columns, max_distance)

    pairs = list(map_in_threads(pairs_from, tops, available_cores()))
    found = np.concatenate(pairs or [np.empty((0, 3), np.intp)]).tolist()
    return [DuplicatePair(*pair) for pair in sorted(found)]


def _pairs_of_rows(
    hashes: NDArray[np.uint64], words: NDArray[np.uint64], rows: slice, columns: int, max_distance: int
) -> NDArray[np.intp]:
    """Return (n, 3): first among `rows`, second, distance. words: (2, N), of the bits that are compared first."""
    pairs = []
    for left in range(rows.start, len(hashes), columns):
        one, other = np.bitwise_count(words[:, rows, None] ^ words[:, None, left : left + columns])
        first, second = np.nonzero(one + other <= max_distance) + np.array([[rows.start], [left]])
        distance = np.bitwise_count(hashes[first] ^ hashes[second]).sum(axis=1, dtype=np.intp)
        near = (first < second) & (distance <= max_distance)
        pairs.append(np.stack([first, second, distance], axis=1)[near])
    return np.concatenate(pairs)


@cache
def _lowest_frequencies() -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return rows and columns of the 256 lowest frequencies by their distance from the mean, which is left out."""
    i, j = np.indices((_SIDE, _SIDE)).reshape(2, -1)
    order = np.lexsort((i, i * i + j * j))[1 : _BITS + 1]
    return i[order], j[order]
