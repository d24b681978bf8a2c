"""The texts of a pyramid's attributes as HDF5 keeps them, in "global heaps" that have no checksums."""

import struct
from pathlib import Path

_BEGIN = b"GCOL\1\0\0\0"
_SEARCHED = 1 << 20
"""Bytes of a file in which its heaps begin: they are made before anything else."""


def is_endless(path: Path) -> bool:
    """Return whether a heap is so damaged that HDF5 would read it for ever: an object of no size, not even a heading.

    Raises OSError for a file that cannot be read.
    """
    with path.open("rb") as stream:
        data = stream.read(_SEARCHED)
    begin = -1
    while (begin := data.find(_BEGIN, begin + 1)) >= 0:
        place, end = begin + 16, begin + int.from_bytes(data[begin + 8 : begin + 16], "little")
        while place + 16 <= min(end, len(data)):
            number, _, size = struct.unpack_from("<HHxxxxQ", data, place)
            taken = size if number == 0 else (16 + (size + 7) // 8 * 8) % (1 << 64)
            if taken == 0:
                return True
            place += taken
    return False
