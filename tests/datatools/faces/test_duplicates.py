"""datatools.faces.duplicates: the same photo is found again whatever was done to it, other photos are not."""

import io
from collections.abc import Callable
from dataclasses import astuple
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from datatools.errors import ArrayError
from datatools.faces import duplicates
from datatools.faces.duplicates import MAX_DISTANCE, DuplicatePair, find_duplicates, perceptual_hash
from datatools.images import decode_rgb, read_rgb
from datatools.sources.published import KNOWN_FLAWS, celebahq_index_by_file


def distance(one: NDArray[np.uint64], other: NDArray[np.uint64]) -> int:
    return int(np.bitwise_count(one ^ other).sum())


def texture(seed: int, side: int = 1024) -> NDArray[np.uint8]:
    """(side, side, 3) uint8 with the falling spectrum of photographs."""
    random = np.random.default_rng(seed)
    total = np.zeros((1024, 1024, 3))
    for cells in (3, 6, 12, 24, 48, 96):
        layer = random.normal(size=(cells, cells, 3)).astype(np.float32)
        total += cv2.resize(layer, (1024, 1024), interpolation=cv2.INTER_CUBIC) / cells**0.8
    total = 128 + 100 * total / np.abs(total).max()
    return cv2.resize(total.astype(np.uint8), (side, side), interpolation=cv2.INTER_AREA)


def recompressed(face: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    stream = io.BytesIO()
    Image.fromarray(face).save(stream, format="JPEG", quality=quality)
    return decode_rgb(stream.getvalue())


def moved(face: NDArray[np.uint8], x: float, y: float, turn: float = 0, scale: float = 1) -> NDArray[np.uint8]:
    centre = (face.shape[1] - 1) / 2
    matrix = cv2.getRotationMatrix2D((centre, centre), turn, scale)
    matrix[:, 2] += (x, y)
    return cv2.warpAffine(face, matrix, face.shape[1::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)


SAME: dict[str, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    "itself": lambda face: face.copy(),
    "JPEG quality 50": lambda face: recompressed(face, 50),
    "JPEG quality 20": lambda face: recompressed(face, 20),
    "half the size": lambda face: cv2.resize(face, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
    "an eighth of the size": lambda face: cv2.resize(face, None, fx=0.125, fy=0.125, interpolation=cv2.INTER_AREA),
    "darker, less contrast": lambda face: (face * 0.8 + 10).astype(np.uint8),
    "brighter": lambda face: np.clip(face * 1.1 + 8, 0, 255).astype(np.uint8),
    "grey": lambda face: cv2.cvtColor(cv2.cvtColor(face, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB),
    "shifted 2 px": lambda face: moved(face, 2, -2),
    "turned and enlarged a little": lambda face: moved(face, 1, 1, 0.3, 1.005),
    "blurred": lambda face: cv2.GaussianBlur(face, (0, 0), 6),
}


@pytest.mark.parametrize("name", SAME)
def test_same_photo_is_close(name: str) -> None:
    for seed in range(4):
        face = texture(seed)
        assert distance(perceptual_hash(face), perceptual_hash(SAME[name](face))) <= MAX_DISTANCE * 2 // 3


def test_other_photos_are_far() -> None:
    hashes = [perceptual_hash(texture(seed, 128)) for seed in range(20)]
    assert min(distance(one, other) for i, one in enumerate(hashes) for other in hashes[:i]) > 2 * MAX_DISTANCE


def test_mirror_image_is_another_photo() -> None:
    face = texture(1)
    assert distance(perceptual_hash(face), perceptual_hash(face[:, ::-1])) > 2 * MAX_DISTANCE


def test_shape_type_and_known_value() -> None:
    hashed = perceptual_hash(texture(0, 64))
    assert hashed.shape == (4,)
    assert hashed.dtype == np.uint64
    ramp = np.broadcast_to(np.arange(64, dtype=np.uint8)[None, ::-1, None], (64, 64, 3))
    # A falling ramp has the horizontal cosines of odd order alone, all positive: 1, 3, 5 ... of row 0.
    assert int(np.bitwise_count(perceptual_hash(np.ascontiguousarray(ramp))).sum()) == 9
    assert int(perceptual_hash(np.ascontiguousarray(ramp))[0]) & 1 == 1


def test_flat_faces_have_no_bits() -> None:
    for level in (0, 77, 255):
        assert perceptual_hash(np.full((256, 256, 3), level, np.uint8)).tolist() == [0, 0, 0, 0]


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ArrayError, match="r >= 32"):
        perceptual_hash(np.zeros((16, 16, 3), np.uint8))
    with pytest.raises(ArrayError, match="uint8"):
        perceptual_hash(np.zeros((64, 64, 3)))
    with pytest.raises(ArrayError, match="uint64"):
        find_duplicates(np.zeros((3, 4), np.int64))
    with pytest.raises(ValueError, match="max_distance"):
        find_duplicates(np.zeros((3, 4), np.uint64), 128)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_hashes(count: int) -> None:
    pairs = find_duplicates(np.zeros((count, 4), np.uint64))
    assert pairs == ([DuplicatePair(0, 1, 0)] if count == 2 else [])


def test_all_bits_differing_is_not_mistaken_for_none() -> None:
    assert find_duplicates(np.array([[0] * 4, [2**64 - 1] * 4], dtype=np.uint64), 0) == []


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32), count=st.integers(0, 90), limit=st.integers(0, 127), rows=st.integers(1, 40))
def test_pairs_are_those_of_the_plain_definition(seed: int, count: int, limit: int, rows: int) -> None:
    random = np.random.default_rng(seed)
    base = random.integers(0, 2**64, (5, 4), dtype=np.uint64)
    bits = np.unpackbits(base[random.integers(0, 5, count)].view(np.uint8).reshape(count, 32), axis=1)
    bits ^= random.random((count, 256)) < random.random((count, 1)) * 0.2
    hashes = np.packbits(bits, axis=1).view(np.uint64).reshape(count, 4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "_BLOCK", (rows, 2 * rows + 1))
        found = find_duplicates(hashes, limit)
    differing = (bits[:, None] != bits[None]).sum(axis=2)
    expected = [
        DuplicatePair(i, j, int(differing[i, j]))
        for i in range(count)
        for j in range(i + 1, count)
        if differing[i, j] <= limit
    ]
    assert found == expected
    assert all(type(value) is int for pair in found for value in astuple(pair))  # for JSON


def test_real_faces(sample_data: Path) -> None:
    """Photos that the published set holds twice are found, and no pair of different people among some hundred faces."""
    folder = sample_data / "faces128"
    repeated = [
        "007413.jpg",
        "072016.jpg",
        "060266.jpg",
        "103867.jpg",
        "100259.jpg",
        "120523.jpg",
        "043413.jpg",
        "150287.jpg",
    ]
    others = sorted(path.name for path in folder.glob("00*.jpg"))[:400]
    names = repeated + [name for name in others if name not in repeated]
    hashes = np.stack([perceptual_hash(read_rgb(folder / name)) for name in names])
    pairs = find_duplicates(hashes)
    found = {(names[pair.first], names[pair.second]) for pair in pairs}
    assert found >= set(zip(repeated[::2], repeated[1::2], strict=True))
    indices = celebahq_index_by_file()
    for first, second in zip(repeated[::2], repeated[1::2], strict=True):
        earlier, later = sorted((indices[first], indices[second]))
        assert KNOWN_FLAWS[later] == f"shows the same photo as {earlier}"
    assert sorted(found - set(zip(repeated[::2], repeated[1::2], strict=True))) == []
