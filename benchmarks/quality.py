"""Does the quality score keep its promises on real photos, and does it agree with the authors' choice?

    python benchmarks/quality.py --celeba-dir DIR [--every 4] [--figure docs/images/quality-roc.png]

DIR is a CelebA tree with a `membership.csv` (file_name, in_celebahq) that says which photos are in the published set.
"""

import csv
import io
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datatools.celeba import FaceRecord, read_tree
from datatools.errors import DataError
from datatools.faces import make_face
from datatools.quality import quality_score
from datatools.restore import get_restorer

Face = NDArray[np.uint8]
FORGIVEN = 0.002
"""Share of the range of scores by which a score may rise where it should fall: some faces have nothing to lose."""


def to_bytes(face: NDArray[np.floating]) -> Face:
    return np.clip(np.rint(face), 0, 255).astype(np.uint8)


def blur(face: Face, sigma: float) -> Face:
    size = 2 * int(np.ceil(4 * sigma)) + 1
    return to_bytes(cv2.GaussianBlur(face.astype(np.float32), (size, size), sigma, borderType=cv2.BORDER_REFLECT_101))


def reduce_and_enlarge(face: Face, factor: int) -> Face:
    size = len(face)
    small = Image.fromarray(face).resize((size // factor, size // factor), Image.Resampling.LANCZOS)
    return np.asarray(small.resize((size, size), Image.Resampling.LANCZOS))


def motion_blur(face: Face, length: int, diagonal: bool) -> Face:
    kernel = np.eye(length, dtype=np.float32) if diagonal else np.ones((1, length), np.float32)
    return to_bytes(cv2.filter2D(face.astype(np.float32), -1, kernel / kernel.sum()))


def halftone(face: Face, shape: str, period: float, degrees: float, amplitude: float) -> Face:
    """Add a screen: `lines` (a sine), `dots` (a product of two sines) or `squares` (its sign)."""
    y, x = np.mgrid[: len(face), : len(face)].astype(np.float32)
    angle, wave = np.radians(degrees), 2 * np.pi / period
    screen = np.sin(wave * (x * np.cos(angle) + y * np.sin(angle)))
    if shape != "lines":
        screen = screen * np.sin(wave * (y * np.cos(angle) - x * np.sin(angle)))
    if shape == "squares":
        screen = np.sign(screen)
    return to_bytes(face + amplitude * screen[:, :, None])


def interlace(face: Face) -> Face:
    woven = face.copy()
    woven[1::2] = np.roll(face[1::2], 2, axis=1)
    return woven


def add_noise(face: Face, sigma: float, grey: bool, seed: int) -> Face:
    shape = (*face.shape[:2], 1 if grey else 3)
    return to_bytes(face + np.random.default_rng(seed).normal(0, sigma, shape).astype(np.float32))


def recompress(photo: bytes, quality: int) -> bytes:
    out = io.BytesIO()
    Image.open(io.BytesIO(photo)).convert("RGB").save(out, "JPEG", quality=quality)
    return out.getvalue()


def screens(number: int) -> Iterator[tuple[str, float, float, float]]:
    """Four of many screens for face `number`: shape, period, angle, amplitude; over the faces all are seen."""
    periods, angles, amplitudes = (4, 5, 6, 7.3, 8, 10, 12), (0, 15, 30, 45, 60, 75, 90, 121), (6, 6, 12, 25)
    for turn, shape in enumerate(("lines", "dots", "squares", "lines")):
        pick = 4 * number + turn
        yield shape, periods[pick % 7], angles[(pick // 3) % 8], amplitudes[(pick // 5) % 4]


class Properties:
    """Collects, for each property, pairs of scores (before, after)."""

    def __init__(self) -> None:
        self.pairs: dict[str, list[tuple[float, float]]] = defaultdict(list)
        self.half_sigma: list[float] = []  # score after a blur of sigma 0.5, in the order of the "noise" pairs
        self.mapped: dict[str, list[tuple[float, float]]] = defaultdict(list)

    def chain(self, name: str, scores: list[float]) -> None:
        self.pairs[name] += zip(scores, scores[1:], strict=False)

    def measure(self, number: int, face: Face, remake: Callable[[int], Face]) -> None:
        """All degradations of one face; `remake(quality)` is the face from the photo compressed with that quality."""
        score = quality_score(face)
        self.chain("blur", [score] + [quality_score(blur(face, sigma)) for sigma in (1, 2, 4, 8)])
        self.chain("resize", [score] + [quality_score(reduce_and_enlarge(face, factor)) for factor in (2, 4, 8)])
        for length in (9, 17):
            for diagonal in (False, True):
                self.chain("motion", [score, quality_score(motion_blur(face, length, diagonal))])
        for screen in screens(number):
            self.chain("halftone", [score, quality_score(halftone(face, *screen))])
        self.chain("interlace", [score, quality_score(interlace(face))])
        for quality in (10, 20):
            self.chain(f"blocking_q{quality}", [score, quality_score(remake(quality))])
        softer = quality_score(blur(face, 0.5))
        for sigma in (10, 20, 40):
            for grey in (False, True):
                self.chain("noise", [score, quality_score(add_noise(face, sigma, grey, number))])
                self.half_sigma.append(softer)
        self.chain("mirror", [score, quality_score(np.ascontiguousarray(face[:, ::-1]))])
        for turns in (1, 3):
            self.chain("turn", [score, quality_score(np.ascontiguousarray(np.rot90(face, turns)))])
        narrow = to_bytes(25 + face * np.float32(180 / 255))  # leaves room for gain and offset without clipping
        plain = quality_score(narrow)
        for name, other in (("gain", narrow * np.float32(0.8)), ("gain", narrow * np.float32(1.2))):
            self.mapped[f"{name}_{len(self.mapped) % 2}"].append((plain, quality_score(to_bytes(other))))
