"""The quality score: what lowers it, what leaves it alone, and whether it agrees with the published choice."""

import csv
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from benchmarks.quality import (
    add_noise,
    area,
    blur,
    halftone,
    interlace,
    motion_blur,
    recompress,
    reduce_and_enlarge,
)
from datatools.errors import ArrayError
from datatools.faces.quality import quality_score
from datatools.faces.recipe import make_face
from datatools.restore import get_restorer
from datatools.sources.celeba import read_tree

Face = NDArray[np.uint8]
SIZE = 512
FORGIVEN = 0.012
"""0.2 % of the range of scores over real faces, which is 6 bits."""


@cache
def texture(seed: int = 0, size: int = SIZE, slope: float = 1.0, contrast: float = 35.0) -> Face:
    """A random picture whose amplitude falls like 1 / frequency**slope, as natural pictures' does; no value clips."""
    rng = np.random.default_rng(seed)
    radius = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :])
    radius[0, 0] = np.inf
    waves = np.fft.rfft2(rng.normal(size=(size, size))) * radius**-slope
    grey = np.fft.irfft2(waves, s=(size, size))
    grey = np.clip(128 + contrast * grey / grey.std(), 60, 195)
    return np.repeat(np.rint(grey).astype(np.uint8)[:, :, None], 3, axis=2)


def test_blur_lowers_it_step_by_step() -> None:
    face = texture()
    scores = [quality_score(face)] + [quality_score(blur(face, sigma)) for sigma in (0.5, 1, 2, 4, 8)]
    assert scores[0] > 3
    assert all(after < before for before, after in pairwise(scores[:5])), scores
    assert scores[5] <= scores[4] < 0.3


def with_part(face: Face, other: Face, rows: slice, columns: slice) -> Face:
    """`face` with that part taken from `other`."""
    mixed = face.copy()
    mixed[rows, columns] = other[rows, columns]
    return mixed


def test_the_weakest_places_decide() -> None:
    """Detail in one quarter of the middle is little; the lack of it in a ninth does not cost most."""
    face = texture(size=1024)
    soft = blur(face, 4)
    score = quality_score(face)
    assert quality_score(with_part(soft, face, slice(256, 512), slice(256, 512))) < 0.15 * score
    assert quality_score(with_part(face, soft, slice(256, 384), slice(256, 384))) > 0.6 * score


def test_the_middle_of_the_face_counts() -> None:
    face = texture(size=1024)
    soft, middle = blur(face, 4), slice(256, 768)
    assert quality_score(with_part(soft, face, middle, middle)) > 0.8 * quality_score(face)
    assert quality_score(with_part(face, soft, middle, middle)) < 0.2 * quality_score(face)


@pytest.mark.parametrize("size", [257, 512, 513, 514, 1023, 1024])
def test_mirroring_and_turning_any_size_changes_nothing(size: int) -> None:
    face = texture(size=size)
    score = quality_score(face)
    for other in (face[:, ::-1], face[::-1], np.rot90(face)):
        assert quality_score(np.ascontiguousarray(other)) == pytest.approx(score, abs=1e-4)


def test_blur_and_noise_at_full_size() -> None:
    face = texture(size=1024)
    scores = [quality_score(face)] + [quality_score(blur(face, sigma)) for sigma in (0.5, 1, 2)]
    assert all(after < before for before, after in pairwise(scores)), scores
    allowed = max(scores[0] - scores[1], 0) + FORGIVEN
    assert quality_score(add_noise(face, 20, False, 0)) - scores[0] <= allowed


def test_reducing_and_enlarging_lowers_it_step_by_step() -> None:
    face = texture()
    scores = [quality_score(face)] + [quality_score(reduce_and_enlarge(face, factor)) for factor in (2, 4, 8)]
    assert all(after < before for before, after in pairwise(scores)), scores


@pytest.mark.parametrize("length", [9, 17])
@pytest.mark.parametrize("diagonal", [False, True])
def test_motion_blur_lowers_it(length: int, diagonal: bool) -> None:
    face = texture(1)
    assert quality_score(motion_blur(face, length, diagonal)) < quality_score(face) - 0.5


@pytest.mark.parametrize("shape", ["lines", "dots", "squares"])
@pytest.mark.parametrize("period", [4, 5, 6, 8, 10, 12])
@pytest.mark.parametrize("degrees", [0, 45, 72])
def test_a_halftone_screen_lowers_it(shape: str, period: float, degrees: float) -> None:
    face = texture(2, 1024)
    assert quality_score(halftone(face, shape, period, degrees, 6)) < quality_score(face)


def test_a_stronger_screen_lowers_it_more() -> None:
    face = texture(2)
    weak, strong = (quality_score(halftone(face, "dots", 6, 30, amplitude)) for amplitude in (6, 25))
    assert strong < weak


def test_interlacing_lowers_it() -> None:
    face = texture(3)
    assert quality_score(interlace(face)) < quality_score(face)


def test_detail_in_one_direction_counts_less_than_the_same_power_in_all() -> None:
    rng = np.random.default_rng(0)
    lines = np.broadcast_to(rng.normal(0, 20, (1, SIZE)), (SIZE, SIZE))
    stripes = np.repeat(np.clip(np.rint(128 + lines), 0, 255).astype(np.uint8)[:, :, None], 3, axis=2)
    assert quality_score(stripes) < 0.1 * quality_score(texture())


@pytest.mark.parametrize("sigma", [10, 20, 40])
@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("softness", [0, 1, 4])
def test_white_noise_is_no_quality(sigma: float, grey: bool, softness: float) -> None:
    face = texture(4) if softness == 0 else blur(texture(4), softness)
    before = quality_score(face)
    allowed = max(before - quality_score(blur(face, 0.5)), 0) + FORGIVEN
    assert quality_score(add_noise(face, sigma, grey, 0)) - before <= allowed


def test_noise_alone_scores_like_nothing() -> None:
    flat = np.full((SIZE, SIZE, 3), 128, np.uint8)
    assert quality_score(add_noise(flat, 25, True, 0)) < FORGIVEN


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), slope=st.floats(0.8, 2.0))
def test_mirroring_and_turning_change_nothing(seed: int, slope: float) -> None:
    face = texture(seed, 256, slope)
    score = quality_score(face)
    for other in (face[:, ::-1], face[::-1], np.rot90(face), np.rot90(face, 3), face.transpose(1, 0, 2)):
        assert quality_score(np.ascontiguousarray(other)) == pytest.approx(score, abs=1e-4)


@settings(max_examples=10, deadline=None)
@given(gain=st.floats(0.8, 1.2), offset=st.integers(-20, 20), seed=st.integers(0, 1000))
def test_gain_and_offset_keep_the_order(gain: float, offset: int, seed: int) -> None:
    sharp, soft = texture(seed, 256), blur(texture(seed + 1, 256), 1.0)
    assert quality_score(sharp) > quality_score(soft) + 0.3  # 5 % of the range
    changed = [np.rint(gain * face.astype(float) + offset).clip(0, 255).astype(np.uint8) for face in (sharp, soft)]
    assert quality_score(changed[0]) > quality_score(changed[1])


@pytest.mark.parametrize("value", [0, 1, 128, 255])
def test_a_constant_picture_scores_nothing(value: int) -> None:
    assert quality_score(np.full((1024, 1024, 3), value, np.uint8)) == 0.0


@pytest.mark.parametrize("place", [0, 511, 1023])
def test_a_thin_line_scores_nothing(place: int) -> None:
    face = np.zeros((1024, 1024, 3), np.uint8)
    face[place] = 255
    assert quality_score(face) == 0.0
    assert quality_score(np.ascontiguousarray(np.rot90(face))) == 0.0


@settings(max_examples=20, deadline=None)
@given(size=st.integers(64, 200), seed=st.integers(0, 1000), low=st.integers(0, 255), span=st.integers(1, 255))
def test_any_picture_has_a_finite_score(size: int, seed: int, low: int, span: int) -> None:
    face = np.random.default_rng(seed).integers(low, min(low + span, 256), (size, size, 3)).astype(np.uint8)
    score = quality_score(face)
    assert isinstance(score, float)
    assert np.isfinite(score)
    assert score >= 0


def test_the_same_pixels_give_the_same_bits_and_are_left_alone() -> None:
    face = texture(5)
    kept = face.copy()
    scores = {quality_score(face), quality_score(face.copy()), quality_score(np.asfortranarray(face))}
    assert len(scores) == 1
    assert np.array_equal(face, kept)


@pytest.mark.parametrize(
    ("face", "message"),
    [
        (np.zeros((128, 128, 3), np.float32), "float32"),
        ([[1, 2, 3]], "list"),
        (np.zeros((128, 128), np.uint8), r"\(128, 128\)"),
        (np.zeros((3, 128, 128), np.uint8), r"\(3, 128, 128\)"),
        (np.zeros((128, 127, 3), np.uint8), r"\(128, 127, 3\)"),
        (np.zeros((32, 32, 3), np.uint8), "at least 64"),
        (np.zeros((0, 0, 3), np.uint8), "at least 64"),
    ],
)
def test_wrong_input_is_refused_with_what_was_found(face: object, message: str) -> None:
    with pytest.raises(ArrayError, match=message):
        quality_score(face)  # type: ignore[arg-type]


def test_area_under_the_curve() -> None:
    chosen = np.array([True, True, False, False])
    assert area(np.array([4.0, 3.0, 2.0, 1.0]), chosen) == 1.0
    assert area(np.array([1.0, 2.0, 3.0, 4.0]), chosen) == 0.0
    assert area(np.array([1.0, 1.0, 1.0, 1.0]), chosen) == 0.5
    assert area(np.array([4.0, 2.0, 3.0, 1.0]), chosen) == 0.75


@pytest.fixture(scope="module")
def sample(sample_data: Path) -> dict[str, tuple[float, bool]]:
    """Score and membership of each photo of the sample."""
    root = sample_data / "celeba_sample"
    with (root / "membership.csv").open() as file:
        members = {row["file_name"]: row["in_celebahq"] == "1" for row in csv.DictReader(file)}
    restorer = get_restorer("none")
    faces = ((r.file_name, make_face(r.path.read_bytes(), r.landmarks, restorer).face) for r in read_tree(root).records)
    return {name: (quality_score(face), members[name]) for name, face in faces}


def test_it_agrees_with_the_published_choice(sample: dict[str, tuple[float, bool]]) -> None:
    scores, members = (np.array(column) for column in zip(*sample.values(), strict=True))
    assert len(scores) == 212
    assert area(scores, members.astype(bool)) >= 0.98


def test_blocking_lowers_it(sample_data: Path, sample: dict[str, tuple[float, bool]]) -> None:
    restorer = get_restorer("none")
    spread = max(score for score, _ in sample.values())
    pairs = []
    for record in read_tree(sample_data / "celeba_sample").records[::10]:
        photo = recompress(record.path.read_bytes(), 10)
        blocky = quality_score(make_face(photo, record.landmarks, restorer).face)
        pairs.append(blocky <= sample[record.file_name][0] + 0.002 * spread)
    assert np.mean(pairs) >= 0.95
