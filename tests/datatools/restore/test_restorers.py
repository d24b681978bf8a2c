"""Restorers made of networks: what they are called, what names their work, and that a part equals the whole."""

import io
import pickle
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import luigi.retcodes
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file

from datatools.errors import DataError
from datatools.faces import recipe as faces
from datatools.faces.geometry import face_frame
from datatools.faces.recipe import _needed_box, decode_scale, make_face, reduce_face
from datatools.images import Box, decode_rgb
from datatools.pyramid import Pyramid
from datatools.restore import (
    DEFAULT_VARIANT,
    Crop,
    NoRestorer,
    RestorePlan,
    Restorer,
    Step,
    SuperResolution,
    Variant,
    bundled,
    get_restorer,
    restorers,
)
from datatools.restore.fit.degrade import compress, reduce_picture
from datatools.restore.networks import SuperResolver
from datatools.restore.restorers import BUNDLED, LARGEST_SIDE, NetworkRestorer, load_step, network_restorer
from datatools.restore.tiling import restore
from datatools.restore.weights import Network, load_weights, save_weights
from datatools.sources.celeba import read_tree
from tests.support.builds import Photo, build, command, environment, make_tree
from tests.support.restore_samples import tiny_network, tiny_resolver

Picture = NDArray[np.uint8]


def restore_part(restorer: Restorer, side: float, picture: Picture, box: Box) -> Picture:
    """What a restorer makes of a part of a photo whose face has that side."""
    (result,) = restorer.run([(restorer.plan(side), picture, box)])
    return result


def tiny_file(folder: Path, task: str, seed: int = 3) -> Path:
    path = folder / f"{task}-{seed}.safetensors"
    save_weights(path, tiny_network(task, seed), task, {})
    return path


def lively_chain(folder: Path, networks: Mapping[str, Network]) -> NetworkRestorer:
    """A chain with random weights so large that far pixels matter."""
    steps = []
    for task, network in networks.items():
        for name, parameter in network.named_parameters():
            if name.endswith("weight"):
                gain = 0.3 if "exit" in name else 1.4
                torch.nn.init.normal_(parameter, std=gain / parameter[0].numel() ** 0.5)
        save_weights(folder / f"{task}.safetensors", network, task, {})
        steps.append(Step(task, str(folder / f"{task}.safetensors"), f"{folder.name} {task}"))
    return NetworkRestorer("tiny", tuple(steps), "auto", "cpu", "fp32", 1)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> NetworkRestorer:
    """An artifact remover and a super-resolver."""
    networks = {task: tiny_network(task) for task in ("jpeg", "sr")}
    return lively_chain(tmp_path_factory.mktemp("weights"), networks)


@pytest.fixture(scope="module")
def grainy(tmp_path_factory: pytest.TempPathFactory) -> NetworkRestorer:
    """The same with a super-resolver whose noise lies fixed on the photo's pixels, and shows."""
    torch.manual_seed(5)
    networks = {"jpeg": tiny_network("jpeg"), "sr": SuperResolver(channels=4, blocks=1, texture=3)}
    return lively_chain(tmp_path_factory.mktemp("grain"), networks)


# --- names, files and digests ----------------------------------------------------------------------------------------


def test_names(tmp_path: Path) -> None:
    assert get_restorer("none") == NoRestorer()
    plain = get_restorer("bundled")
    assert plain.name == "bundled"
    assert plain.digest == get_restorer(f"bundled-{DEFAULT_VARIANT}").digest
    ours = get_restorer(str(tiny_file(tmp_path, "sr")))
    assert ours.plan(100).scale == 4
    assert get_restorer(str(tiny_file(tmp_path, "jpeg"))).plan(100).scale == 1


def test_the_device_may_be_left_open(tmp_path: Path) -> None:
    path = str(tiny_file(tmp_path, "jpeg"))
    restorer = network_restorer(path, super_resolution="auto", device="auto", threads=1)
    assert restorer.device == ("cuda" if torch.cuda.is_available() else "cpu")


def test_what_is_no_restorer_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("damaged", "foreign", "other", "folder")
    damaged, foreign, other, folder = (tmp_path / f"{name}.safetensors" for name in names)
    folder.mkdir()
    (tmp_path / "folder.pth").mkdir()
    damaged.write_bytes(tiny_file(tmp_path, "sr").read_bytes()[:-100])
    save_file({"weight": torch.zeros(2)}, foreign)
    save_weights(other, tiny_network("sr"), "sharpen", {})
    cases = {
        "magic": "unknown restorer 'magic'; known: none, bundled, bundled-distortion, bundled-perceptual, "
        "realesrgan, or a weight file",
        "srmd": "srmd is no longer supported; name a weight file",
        str(tmp_path / "none.safetensors"): "none.safetensors: no such weight file",
        str(tmp_path / "none.pth"): "none.pth: no such weight file",
        str(tmp_path / "face.jpg"): "neither a restorer's name nor a weight file",
        str(tmp_path): "neither a restorer's name nor a weight file",
        str(folder): "folder.safetensors is a folder; name a weight file",
        str(tmp_path / "folder.pth"): "folder.pth is a folder; name a weight file",
        "x" * 300 + ".pth": "cannot be read: File name too long",
        str(damaged): "damaged.safetensors is damaged or not a weight file",
        str(foreign): "spandrel",  # which does not know it, or is not installed
        str(other): "other.safetensors: the weights do not fit",
    }
    for name, told in cases.items():
        with pytest.raises(DataError) as error:
            get_restorer(name)
        assert told in str(error.value)
        assert "\n" not in str(error.value)
    with pytest.raises(DataError, match="--super-resolution sometimes: choose auto, always or never"):
        get_restorer("none", super_resolution="sometimes")  # type: ignore[arg-type]
    for device in ("nonsense", "cuda:99", "meta"):
        for name in ("none", str(tiny_file(tmp_path, "jpeg"))):
            with pytest.raises(DataError, match=f"--device {device} is not available here: .+") as error:
                get_restorer(name, device=device)
            assert "\n" not in str(error.value)
    monkeypatch.setattr(bundled, "FOLDER", tmp_path)
    with pytest.raises(DataError, match="is missing: the installation is damaged"):
        get_restorer("bundled")


def test_files_that_cannot_be_read_are_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, other = tiny_file(tmp_path, "sr"), tmp_path / "model.pth"
    torch.save({"weight": torch.zeros(2)}, other)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # file modes do not bind every user
    for path in (ours, other):
        with pytest.raises(DataError) as error:
            get_restorer(str(path))
        assert str(error.value) == f"{path}: cannot be read: Permission denied"


def test_the_digest_tells_weights_settings_and_arithmetic(tmp_path: Path) -> None:
    def restorer(path: Path, super_resolution: SuperResolution = "auto") -> NetworkRestorer:
        return network_restorer(str(path), super_resolution=super_resolution, device="cpu", threads=1)

    first = restorer(tiny_file(tmp_path, "sr"))
    others = [
        restorer(tiny_file(tmp_path, "sr", seed=4)),
        restorer(tiny_file(tmp_path, "sr"), "always"),
        restorer(tiny_file(tmp_path, "sr"), "never"),
        replace(first, precision="bf16" if first.precision == "fp32" else "fp32"),
        replace(first, device="cuda"),
        replace(first, device="mps"),
    ]
    assert len({one.digest for one in [first, *others]}) == 7
    assert replace(first, device="cuda:1").digest == replace(first, device="cuda").digest
    moved = tmp_path / "moved.safetensors"
    moved.write_bytes(tiny_file(tmp_path, "sr").read_bytes())
    assert replace(restorer(moved), threads=2).digest == first.digest


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, Any]], NetworkRestorer]:
    """Gives the bundled restorer, made of tiny networks; the card is that of the enlargement's weights."""
    monkeypatch.setattr(bundled, "FOLDER", tmp_path)
    save_weights(tmp_path / "jpeg.safetensors", tiny_network("jpeg"), "jpeg", {})

    def restorer(card: dict[str, Any]) -> NetworkRestorer:
        save_weights(tmp_path / "sr-distortion.safetensors", tiny_network("sr"), "sr", card)
        return network_restorer("bundled-distortion", super_resolution="auto", device="cpu", threads=1)

    return restorer


Bundle = Callable[[dict[str, Any]], NetworkRestorer]


def test_the_remover_is_as_strong_as_the_enlargements_card_says(bundle: Bundle) -> None:
    found = {}
    cards: dict[str, dict[str, float]] = {
        "plain": {},
        "whole": {"degrade_strength": 1.0},
        "half": {"degrade_strength": 0.5},
    }
    for name, card in (cards | {"name before": {"after_strength": 0.25}}).items():
        found[name] = bundle(card)
        remover, resolver = found[name].steps
        assert (remover.strength, resolver.strength) == (next(iter(card.values()), 1.0), 1.0)
        assert load_step(remover).strength == remover.strength
    assert len({restorer.digest for restorer in found.values()}) == 4

    picture = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    inner = (0, 0, 32, 24)
    none = bundle({"degrade_strength": 0})
    left, half, whole = (
        restore_part(restorer, 2000, picture, inner).astype(int) for restorer in (none, found["half"], found["plain"])
    )
    assert np.array_equal(left, picture)
    assert np.abs(whole - picture).max() > 4
    inside = (whole > 0) & (whole < 255)
    assert np.abs(half - (whole + picture) / 2)[inside].max() <= 1
    assert np.array_equal(whole, restore_part(found["whole"], 2000, picture, inner))


def test_a_file_written_anew_is_read_anew(tmp_path: Path) -> None:
    """In one process, too, as in a notebook: the digest says that the weights are others."""
    path = tmp_path / "sr.safetensors"
    picture = np.random.default_rng(0).integers(0, 256, (12, 10, 3), dtype=np.uint8)
    results, digests = [], set()
    for seed in (3, 4, 3):
        save_weights(path, tiny_network("sr", seed), "sr", {})
        restorer = get_restorer(str(path))
        digests.add(restorer.digest)
        results.append(restore_part(restorer, 100, picture, (0, 0, 10, 12)))
    assert len(digests) == 2
    assert not np.array_equal(results[0], results[1])
    assert np.array_equal(results[0], results[2])


def test_a_file_of_a_remover_is_used_wholly(tmp_path: Path) -> None:
    (step,) = network_restorer(str(tiny_file(tmp_path, "jpeg")), super_resolution="auto", device="cpu", threads=1).steps
    assert step.strength == load_step(step).strength == 1


def test_the_digest_tells_the_removers_strength(tiny: NetworkRestorer) -> None:
    remover, resolver = tiny.steps
    weaker = [replace(tiny, steps=(replace(remover, strength=strength), resolver)) for strength in (0.0, 0.5)]
    assert len({restorer.digest for restorer in (tiny, *weaker)}) == 3
    assert pickle.loads(pickle.dumps(weaker[1])) == weaker[1]


def test_a_graphics_processor_takes_several_photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tiny_file(tmp_path, "sr"))
    assert get_restorer("none").batch_size == get_restorer(path).batch_size == 1
    monkeypatch.setattr(restorers, "choose_device", torch.device)
    assert get_restorer(path, device="mps").batch_size == restorers.GPU_BATCH > 1


def test_a_restorer_travels_without_its_networks(tiny: NetworkRestorer) -> None:
    _ = tiny.plan(100)  # loads them
    packed = pickle.dumps(tiny)
    assert len(packed) < 2000
    assert pickle.loads(packed) == tiny


def test_torch_is_not_loaded_for_builds_without_networks() -> None:
    code = (
        "import sys, datatools.restore, pipelines, pipelines.tasks\n"
        "datatools.restore.get_restorer('none').plan(100.0)\n"
        "print('torch' in sys.modules, 'pipelines.layout' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


# --- what is done to one photo ---------------------------------------------------------------------------------------


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
    data = png(np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8))
    watching = Watching(restorer)
    result = make_face(data, landmarks_at(x, y, eyes), watching)
    frame = face_frame(landmarks_at(x, y, eyes), width, height)
    assert frame.padded == padded
    assert result.face.std() > 1
    assert watching.used.grid == (64 if chain_name == "grainy" else 8)

    photo = decode_rgb(data)
    whole = whole_photo(restorer, photo)
    left, top, right, bottom = (edge * watching.used.scale for edge in _needed_box(frame, decode_scale(frame)))
    expected = whole[top:bottom, left:right]
    assert watching.result.shape == expected.shape
    assert np.abs(watching.result.astype(int) - expected).max() <= 1
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
    assert np.abs(watching.result.astype(int) - whole[top:bottom, left:right]).max() <= 1


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
        assert np.abs(single.astype(int) - result).max() <= 1
    assert in_batches.run([]) == restorer.run([]) == []


@pytest.mark.parametrize("kind", ["networks", "no steps", "none"])
@pytest.mark.parametrize(
    ("picture", "inner", "told"),
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
    kind: str, picture: Any, inner: Box, told: str, tiny: NetworkRestorer
) -> None:
    restorer = {"networks": tiny, "no steps": replace(tiny, steps=()), "none": NoRestorer()}[kind]
    plan = restorer.plan(100)
    with pytest.raises(DataError, match=told):
        restorer.run([(plan, picture, inner)])
    good = (plan, np.zeros((8, 8, 3), np.uint8), (0, 0, 8, 8))
    with pytest.raises(DataError, match=told):
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


# --- the bundled networks --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["bundled-distortion", "bundled-perceptual"])
def test_bundled_networks_leave_a_gradient_alone(name: str) -> None:
    for task in ("jpeg", "sr"):
        assert 100_000 < bundled.bundled_weights(task, BUNDLED[name]).stat().st_size < 6_000_000
    rows, columns = np.mgrid[:40, :56]
    picture = np.stack([40 + 3 * columns, 60 + 2 * rows, 200 - 2 * columns], axis=2).astype(np.uint8)
    result = restore_part(get_restorer(name), 300, picture, (0, 0, 56, 40))
    smooth = cv2.resize(picture, (4 * 56, 4 * 40), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(result.mean(axis=(0, 1)), smooth.mean(axis=(0, 1)), atol=1)
    assert np.abs(result.astype(int) - smooth).mean() < 3


def test_bundled_networks_do_what_they_are_for() -> None:
    """Less error than bicubic enlargement and than the JPEG, and a photograph's contrast from the other variant."""
    skimage = pytest.importorskip("skimage", reason="scikit-image is not installed: its astronaut is the photo")
    photo = np.ascontiguousarray(skimage.data.astronaut()[0:256, 96:352])
    small = reduce_picture(photo)
    plain = np.array(Image.fromarray(small).resize((256, 256), Image.Resampling.BICUBIC))
    enlarged = {name: restored("sr", variant, small) for name, variant in BUNDLED.items()}
    assert psnr(enlarged["bundled-distortion"], photo) > psnr(plain, photo) + 1.5
    assert psnr(enlarged["bundled-perceptual"], photo) > psnr(plain, photo) - 0.5
    contrast = {name: (picture - cv2.GaussianBlur(picture, None, 1)).std() for name, picture in enlarged.items()}
    assert contrast["bundled-perceptual"] > 1.1 * contrast["bundled-distortion"]
    compressed = compress(photo, 25)
    assert psnr(restored("jpeg", "distortion", compressed), photo) > psnr(compressed, photo) + 0.7


def restored(task: str, variant: Variant, picture: Picture) -> NDArray[np.float32]:
    network, _ = load_weights(bundled.bundled_weights(task, variant), task)
    with torch.inference_mode():
        result = network(torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255)[0]
    return (result.permute(1, 2, 0).clamp(0, 1) * 255).numpy()


def psnr(ours: NDArray[Any], theirs: NDArray[Any]) -> float:
    return float(10 * np.log10(255**2 / np.mean((ours.astype(float) - theirs) ** 2)))


# --- the command line ------------------------------------------------------------------------------------------------


def test_a_build_with_the_bundled_networks(photos: Mapping[str, Photo], tmp_path: Path) -> None:
    names = ["900001.jpg", "900005.jpg"]  # the second one is padded
    tree, out = make_tree(tmp_path / "CelebA", {name: photos[name] for name in names}), tmp_path / "out"
    options = ("--restore", "bundled-distortion", "--selection", "all", "--order", "source", "--jobs", 2)
    build(tree, out, *options)
    records = read_tree(tree).records
    with Pyramid(out / "celebahq.h5") as made:
        assert made.settings["restore"] == "bundled-distortion"
        assert made.settings["torch"] == version("torch")
        assert made.provenance("file_name").tolist() == names
        for index, record in enumerate(records):
            plain = make_face(record.path.read_bytes(), record.landmarks, NoRestorer()).face
            difference = np.abs(made.image(index).astype(int) - reduce_face(plain, 256)).mean()
            assert 0.02 < difference < 6
    page = (out / "report" / "index.html").read_text()
    assert 'id="restoration"' in page
    assert page.count("Part of face 90000") == 2
    assert "Parts of this report could not be made" not in page


def test_restorers_that_cannot_work_are_told_before_the_build(
    tiny_tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged, out = tmp_path / "damaged.safetensors", tmp_path / "out"
    damaged.write_bytes(tiny_file(tmp_path, "sr").read_bytes()[:-100])
    sound = str(tiny_file(tmp_path, "jpeg"))
    for options, told in (
        (("--restore", sound, "--device", "nonsense"), "--device nonsense is not available here"),
        (("--restore", "none", "--device", "nonsense"), "--device nonsense is not available here"),
        (("--restore", str(damaged)), "damaged.safetensors is damaged or not a weight file"),
    ):
        with pytest.raises(SystemExit) as stopped:
            luigi.retcodes.run_with_retcodes(command(tiny_tree, out, *options)[1:])
        assert isinstance(stopped.value.code, str), capsys.readouterr()
        assert stopped.value.code.startswith("error: ")
        assert told in stopped.value.code
        assert "\n" not in stopped.value.code
    assert not out.exists()
