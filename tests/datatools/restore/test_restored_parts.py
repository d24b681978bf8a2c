"""A restored part of a photo equals that part of the whole restored photo, whatever runs on it."""

import io
import pickle
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from datatools.errors import DataError
from datatools.faces import recipe as faces
from datatools.faces.geometry import face_frame
from datatools.faces.recipe import _needed_box, decode_scale, make_face
from datatools.images import Box, decode_rgb
from datatools.restore import Crop, NoRestorer, RestorePlan, Step, SuperResolution
from datatools.restore.base import Picture
from datatools.restore.networks import SuperResolver
from datatools.restore.restorers import (
    LARGEST_SIDE,
    NetworkRestorer,
    load_step,
)
from datatools.restore.tiling import restore
from datatools.restore.weights import save_weights
from tests.support.restore_samples import restore_part, tiny_resolver


@pytest.mark.parametrize(
    ("super_resolution", "side", "scale"),
    [
        ("auto", 90, 4),
        ("auto", 700, 4),
        ("auto", 701, 2),
        ("auto", 1023.9, 2),
        ("auto", 1024, 1),
        ("auto", 2799, 1),
        ("always", 90, 4),
        ("always", 1024, 2),
        ("always", 1400, 2),
        ("always", 1401, 1),
        ("never", 90, 1),
        ("never", 2000, 1),
    ],
)
def test_enlargement(tiny: NetworkRestorer, super_resolution: SuperResolution, side: float, scale: int) -> None:
    restorer = replace(tiny, super_resolution=super_resolution)
    plan = restorer.plan(side)
    assert plan.scale == scale
    assert side * scale <= LARGEST_SIDE
    uses_both = super_resolution == "always" or (super_resolution == "auto" and side < 1024)
    remover, resolver = map(load_step, tiny.steps)
    assert plan.steps == (tiny.steps if uses_both else tiny.steps[:1])
    assert plan.margin == remover.margin + (resolver.margin if uses_both else 0)
    assert plan.grid == 8
    assert pickle.loads(pickle.dumps(plan)) == plan  # plain data
    picture = np.random.default_rng(0).integers(0, 256, (9, 14, 3), dtype=np.uint8)
    assert restore_part(restorer, side, picture, (4, 1, 11, 9)).shape == (8 * scale, 7 * scale, 3)


@pytest.mark.parametrize("side", [90, 1023, 1024])
def test_pictures_of_one_pixel(tiny: NetworkRestorer, side: float) -> None:
    pixel = np.full((1, 1, 3), (200, 100, 50), np.uint8)
    result = restore_part(tiny, side, pixel, (0, 0, 1, 1))
    scale = tiny.plan(side).scale
    assert result.shape == (scale, scale, 3)
    assert result.dtype == np.uint8


@dataclass
class Watching:
    """A restorer that keeps the plan, the crop's shape and the result of the last photo."""

    restorer: NetworkRestorer
    batch_size: int = 1
    uses_torch: bool = True
    used: RestorePlan = field(default_factory=RestorePlan)
    shape: tuple[int, ...] = ()
    result: Picture = field(default_factory=lambda: np.zeros((0, 0, 3), np.uint8))
    name: str = "watching"
    digest: str = ""

    def plan(self, side: float, /) -> RestorePlan:
        return self.restorer.plan(side)

    def run(self, crops: Sequence[Crop], /) -> list[Picture]:
        ((self.used, picture, _),) = crops
        self.shape = picture.shape
        (self.result,) = self.restorer.run(crops)
        return [self.result]


def png(pixels: Picture) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def landmarks_at(x: float, y: float, eyes: float) -> NDArray[np.float64]:
    """Of an upright face whose rectangle has a side of 4 * `eyes`."""
    return np.array([[-0.5, -0.4], [0.5, -0.4], [0, 0.1], [-0.4, 0.6], [0.4, 0.6]]) * eyes + [x, y]


def halve(picture: Picture) -> Picture:
    height, width = picture.shape[0] // 2, picture.shape[1] // 2
    return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def whole_photo(restorer: NetworkRestorer, photo: Picture) -> Picture:
    """All of a photo, restored tile by tile as one picture."""
    for step in restorer.steps:
        photo = restore(load_step(step), photo)
    return photo


def assert_equal_but_for_rounding(part: Picture, whole: Picture, networks: int) -> None:
    """One network's results differ by a level where a sum lies between two: its order depends on a window's size.

    An enlargement that keeps its input passes a level of the remover's result on and overshoots it, as any bicubic
    filter does: after both networks a few pixels differ by two.
    """
    difference = np.abs(part.astype(int) - whole)
    assert difference.max() <= networks
    assert (difference > 1).mean() < 1e-4


NETWORKS = {"both": slice(None), "remover": slice(1), "enlargement": slice(1, None)}


@pytest.mark.parametrize("networks", NETWORKS)
@pytest.mark.parametrize("chain_name", ["tiny", "grainy"])
@pytest.mark.parametrize(
    ("width", "height", "x", "y", "eyes", "padded"),
    [
        (253, 261, 125, 131, 16, False),
        (301, 203, 41, 47, 15, False),  # the rectangle ends at the photo's edge but for its border
        (203, 205, 174, 177, 12, False),  # the same at the lower right, which is off the grid
        (187, 151, 20, 30, 20, True),
        (190, 149, 180, 130, 16, True),
        (61, 47, 30, 23, 12, True),  # the photo is smaller than the margin
        (64, 128, 30, 90, 7, True),  # as large as a period of the noise
    ],
)
def test_the_part_that_a_face_needs_equals_that_part_of_the_whole_photo(
    networks: str,
    chain_name: str,
    width: int,
    height: int,
    x: float,
    y: float,
    eyes: float,
    padded: bool,
    request: pytest.FixtureRequest,
) -> None:
    restorer = request.getfixturevalue(chain_name)
    restorer = replace(restorer, steps=restorer.steps[NETWORKS[networks]])
    data = png(np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8))
    watching = Watching(restorer)
    result = make_face(data, landmarks_at(x, y, eyes), watching)
    frame = face_frame(landmarks_at(x, y, eyes), width, height)
    assert frame.padded == padded
    assert result.face.std() > 1
    if networks == "both":
        assert watching.used.grid == (64 if chain_name == "grainy" else 8)

    photo = decode_rgb(data)
    whole = whole_photo(restorer, photo)
    left, top, right, bottom = (edge * watching.used.scale for edge in _needed_box(frame, decode_scale(frame)))
    expected = whole[top:bottom, left:right]
    assert watching.result.shape == expected.shape
    assert_equal_but_for_rounding(watching.result, expected, len(restorer.steps))
    plain = cv2.resize(photo, whole.shape[1::-1], interpolation=cv2.INTER_LINEAR)[top:bottom, left:right]
    assert np.abs(expected.astype(int) - plain).mean() > 1  # the networks do something
    if eyes == 16 and not padded:
        assert max(watching.shape) < 4 * eyes + 2 * (watching.used.margin + 5) + watching.used.grid


def test_a_part_that_is_halved_equals_that_part_of_the_whole_photo(tiny: NetworkRestorer) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (130, 150, 3), dtype=np.uint8)
    assert tiny.plan(800).scale == 2
    whole = halve(whole_photo(tiny, picture))
    part = restore_part(tiny, 800, picture[16:, 8:], (41, 50, 90, 114))
    assert np.abs(part.astype(int) - whole[132:260, 98:196]).max() <= 1


def test_a_photo_decoded_at_a_reduced_size_has_its_own_pixels_and_grid(
    grainy: NetworkRestorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faces, "LEAST_DECODED_SIDE", 50)
    coarse = np.random.default_rng(7).integers(0, 256, (50, 55, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(coarse).resize((551, 503), Image.Resampling.NEAREST).save(stream, "JPEG")
    data, landmarks, watching = stream.getvalue(), landmarks_at(401, 330, 45), Watching(grainy)
    frame = face_frame(landmarks, 551, 503)
    assert decode_scale(frame) == 2
    assert make_face(data, landmarks, watching).face.std() > 1
    assert watching.shape[1] < 276  # something was left out

    whole = whole_photo(grainy, decode_rgb(data, reduce=2))
    left, top, right, bottom = (4 * edge for edge in _needed_box(frame, 2))
    assert_equal_but_for_rounding(watching.result, whole[top:bottom, left:right], 2)


def test_grain_lies_on_the_photos_pixels(grainy: NetworkRestorer) -> None:
    """On a flat photo the noise alone shows: the same wherever the part was cut out, and no copy of itself nearby."""
    resolver = replace(grainy, steps=grainy.steps[1:])
    flat = np.full((200, 200, 3), 120, np.uint8)
    grain = restore_part(resolver, 100, flat, (0, 0, 200, 200))
    assert grain.std() > 2
    part = restore_part(resolver, 100, flat[64:, 128:], (10, 10, 50, 60))
    assert np.array_equal(part, grain[4 * 74 : 4 * 124, 4 * 138 : 4 * 178])
    shifted = grain[4 * 75 : 4 * 125, 4 * 138 : 4 * 178]
    assert np.abs(part.astype(int) - shifted).mean() > 1


@pytest.mark.parametrize("chain_name", ["tiny", "grainy"])
def test_photos_together_equal_photos_alone(chain_name: str, request: pytest.FixtureRequest) -> None:
    """With and without super-resolution, with and without halving, at edges and in the middle."""
    restorer, random = request.getfixturevalue(chain_name), np.random.default_rng(0)
    crops = []
    for width, height, side, box in [
        (150, 140, 90, (70, 64, 90, 80)),
        (170, 141, 95, (75, 60, 100, 85)),
        (61, 47, 90, (0, 0, 61, 47)),
        (150, 140, 800, (0, 64, 90, 140)),
        (160, 140, 1100, (70, 64, 90, 80)),
        (1, 1, 90, (0, 0, 1, 1)),
    ]:
        picture = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        crops.append((restorer.plan(side), picture, box))
    assert {plan.scale for plan, _, _ in crops} == {1, 2, 4}
    in_batches = replace(restorer, batch_size=len(crops))
    for crop, result in zip(crops, in_batches.run(crops), strict=True):
        (single,) = restorer.run([crop])
        assert single.shape == result.shape
        assert_equal_but_for_rounding(single, result, 2)
    assert in_batches.run([]) == restorer.run([]) == []


@pytest.mark.parametrize("kind", ["networks", "no steps", "none"])
@pytest.mark.parametrize(
    ("picture", "inner", "message"),
    [
        (np.zeros((8, 8, 3), np.uint8), (0, 0, 9, 8), "8 x 8 pixels"),
        (np.zeros((8, 8, 3), np.uint8), (-1, 0, 4, 4), "8 x 8 pixels"),
        (np.zeros((8, 8, 3), np.uint8), (3, 3, 3, 4), "8 x 8 pixels"),
        (np.zeros((8, 8, 3)), (0, 0, 8, 8), "float64"),
        (np.full((8, 8, 3), np.nan, np.float32), (0, 0, 8, 8), "float32"),
        (np.zeros(8, np.uint8), (0, 0, 8, 8), r"not \(8,\)"),
        (np.zeros((8, 8), np.uint8), (0, 0, 8, 8), r"not \(8, 8\)"),
        ([[[0, 0, 0]]], (0, 0, 1, 1), "list"),
    ],
)
def test_what_is_no_part_of_a_picture_is_refused_whatever_is_done_to_it(
    kind: str, picture: Any, inner: Box, message: str, tiny: NetworkRestorer
) -> None:
    restorer = {"networks": tiny, "no steps": replace(tiny, steps=()), "none": NoRestorer()}[kind]
    plan = restorer.plan(100)
    with pytest.raises(DataError, match=message):
        restorer.run([(plan, picture, inner)])
    good = (plan, np.zeros((8, 8, 3), np.uint8), (0, 0, 8, 8))
    with pytest.raises(DataError, match=message):
        restorer.run([good, (plan, picture, inner)])


def test_without_networks_photos_together_are_just_that() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (9, 8, 3), dtype=np.uint8)
    none = NoRestorer()
    (result,) = none.run([(none.plan(5), picture, (1, 2, 7, 9))])
    assert np.array_equal(result, picture[2:9, 1:7])


@pytest.mark.parametrize(
    ("x", "y", "eyes", "padded"),
    [(250, 250, 25, False), (251, 249, 60, False), (60, 70, 60, True), (450, 503, 178, False)],
)
def test_the_face_stays_where_it_is(x: float, y: float, eyes: float, padded: bool, tmp_path: Path) -> None:
    """A network that enlarges without changing anything gives the face of the recipe's own enlargement."""
    network = tiny_resolver()
    torch.nn.init.zeros_(network.exit.weight)
    assert isinstance(network, SuperResolver)
    save_weights(tmp_path / "plain.safetensors", network, "sr", {})
    step = Step("sr", str(tmp_path / "plain.safetensors"), "plain")
    restorer = NetworkRestorer("plain", (step,), "auto", "cpu", "fp32", 1)
    size = 900 if eyes > 100 else 500
    rows, columns = np.mgrid[:size, :size]
    blob = 60 + 150 * np.exp(-((columns - x - 0.3) ** 2 + (rows - y + 0.2) ** 2) / (2 * (eyes / 4) ** 2))
    data = png(np.repeat(np.rint(blob).astype(np.uint8)[:, :, None], 3, axis=2))

    landmarks = landmarks_at(x, y, eyes)
    before = make_face(data, landmarks, NoRestorer())
    after = make_face(data, landmarks, restorer)
    assert before.frame.padded == padded
    shift = np.subtract(centroid(before.face), centroid(after.face))
    assert np.abs(shift).max() < 0.1
    assert np.abs(before.face.astype(int) - after.face).mean() < 1


def centroid(face: Picture) -> tuple[float, float]:
    """(column, row) of what is brighter than the background."""
    weight = np.maximum(face[:, :, 1].astype(float) - 100, 0)
    rows, columns = np.mgrid[: face.shape[0], : face.shape[1]]
    return float((columns * weight).sum() / weight.sum()), float((rows * weight).sum() / weight.sum())
