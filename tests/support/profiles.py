"""Small ICC profiles (version 2), and what they mean."""

import struct

import numpy as np
from numpy.typing import NDArray

DISPLAY_P3 = np.array([[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]])
"""From linear red, green, blue to XYZ, adapted to D50."""
SRGB = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])
WHITE = (0.9642, 1.0, 0.8249)  # D50


def _xyz(values: tuple[float, ...]) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))


def _gamma(gamma: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))


def _text(name: str) -> bytes:
    text = name.encode() + b"\0"
    return b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + b"\0" * 78


def _profile(kind: bytes, space: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    header = struct.pack(">I4sI4s4s4s", 0, b"test", 0x02400000, kind, space, connection) + b"\0" * 12 + b"acsp"
    header = (header + b"\0" * 28 + struct.pack(">3i", *(round(value * 65536) for value in WHITE))).ljust(128, b"\0")
    table, body, offset = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for name, data in tags.items():
        table += struct.pack(">4sII", name, offset + len(body), len(data))
        body += data.ljust(-(-len(data) // 4) * 4, b"\0")
    whole = header + table + body
    return struct.pack(">I", len(whole)) + whole[4:]


def rgb_profile(name: str, to_xyz: NDArray[np.float64], gamma: float) -> bytes:
    """Return a profile of three primaries, the columns of `to_xyz`, and one gamma."""
    tags = {b"desc": _text(name), b"cprt": b"text\0\0\0\0none\0", b"wtpt": _xyz(WHITE)}
    for letter, column in zip(b"rgb", to_xyz.T, strict=True):
        tags[bytes([letter]) + b"XYZ"] = _xyz(tuple(column))
        tags[bytes([letter]) + b"TRC"] = _gamma(gamma)
    return _profile(b"mntr", b"RGB ", b"XYZ ", tags)


def grey_profile(name: str, gamma: float) -> bytes:
    """Return a profile of grey pictures."""
    tags = {b"desc": _text(name), b"cprt": b"text\0\0\0\0none\0", b"wtpt": _xyz(WHITE), b"kTRC": _gamma(gamma)}
    return _profile(b"mntr", b"GRAY", b"XYZ ", tags)


def cmyk_profile(name: str) -> bytes:
    """Return a profile of four inks that print neutral greys only: lightness falls with the inks' mean."""
    inks = np.indices((2, 2, 2, 2)).reshape(4, -1).mean(axis=0)  # the first ink varies slowest
    lab = np.stack([np.rint(255 * (1 - inks)), np.full(16, 128), np.full(16, 128)], axis=1).astype(np.uint8)
    straight = bytes(range(256))
    identity = struct.pack(">9i", *(round(value * 65536) for value in np.eye(3).ravel()))
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + identity + straight * 4 + lab.tobytes() + straight * 3
    tags = {b"desc": _text(name), b"cprt": b"text\0\0\0\0none\0", b"wtpt": _xyz(WHITE), b"A2B0": table, b"A2B1": table}
    return _profile(b"prtr", b"CMYK", b"Lab ", tags)


def srgb_of(values: NDArray[np.uint8], to_xyz: NDArray[np.float64], gamma: float) -> NDArray[np.float64]:
    """Return what `values` (..., 3), of a profile of primaries and gamma, are in sRGB, 0..255, clipped."""
    linear = np.clip((values / 255) ** gamma @ (np.linalg.inv(SRGB) @ to_xyz).T, 0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
