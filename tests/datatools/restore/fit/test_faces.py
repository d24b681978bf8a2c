"""Training on published faces: the geometry is the recipe's, and a network that played the authors is recovered."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from torch import Tensor

from datatools.faces.recipe import make_face
from datatools.images import read_rgb
from datatools.restore import NoRestorer, get_restorer
from datatools.restore.enlarge import enlarge_lanczos
from datatools.restore.fit.faces import PublishedFace, enlarge_tensor, read_face, warp_part
from datatools.restore.fit.metrics import psnr_rgb
from datatools.restore.fit.pairs import published_pairs, split_pairs
from datatools.restore.fit.train import main
from datatools.restore.networks import ArtifactRemover
from datatools.restore.restorers import NetworkRestorer
from datatools.restore.weights import save_weights
from datatools.sources.celeba import read_tree
from tests.faults.trees import landmark_row
from tests.support.builds import Photo, make_tree
from tests.support.portraits import Portrait, render
from tests.support.restore_samples import TINY

INDEXES = {"000004.jpg": 5212, "000009.jpg": 9575, "000014.jpg": 27681, "000016.jpg": 18128}
PATCH = 80


def tree_of(folder: Path, units: dict[str, int]) -> Path:
    """Portraits, by the size of their heads in pixels, with the dirt of JPEG."""
    photos = {}
    for number, (name, unit) in enumerate(units.items()):
        portrait = Portrait(number, size=(5 * unit, 6 * unit), unit=unit, centre=(2.5 * unit, 3 * unit), roll=9.0)
        stream = io.BytesIO()
        Image.fromarray(render(portrait)).save(stream, "JPEG", quality=40)
        photos[name] = Photo(stream.getvalue(), landmark_row(name, portrait.landmarks.round(1).ravel().tolist()))
    return make_tree(folder, photos)


def tensor(picture: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None].float() / 255


def levels(pictures: Tensor) -> np.ndarray:
    return np.asarray((pictures[0].permute(1, 2, 0) * 255).round().clamp(0, 255).to(torch.uint8))


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_pictures_are_enlarged_as_by_the_recipe(factor: int) -> None:
    picture = np.random.default_rng(0).integers(60, 190, (11, 14, 3), dtype=np.uint8)
    ours = levels(enlarge_tensor(tensor(picture), factor)).astype(int)
    assert np.abs(ours - enlarge_lanczos(picture, factor)).max() <= 1


@pytest.mark.parametrize("unit", [30, 48, 100])
def test_a_part_of_the_face_is_that_of_the_recipe(unit: int, tmp_path: Path) -> None:
    """At every enlargement, with a network that enlarges and one that does not."""
    tree = tree_of(tmp_path / "CelebA", {"000004.jpg": unit})
    (record,) = read_tree(tree).records
    whole = make_face(record.path.read_bytes(), record.landmarks, NoRestorer())
    Image.fromarray(whole.face).save(tmp_path / "face.png")
    face = read_face(record, tmp_path / "face.png", PATCH)
    assert isinstance(face, PublishedFace)
    assert face.enlarge == whole.frame.enlarge
    for seed in range(4):
        part = face.part(PATCH, np.random.default_rng(seed))
        assert part.given.shape == (PATCH, PATCH, 3)
        assert part.target.shape[0] >= 80
        for given in (tensor(part.given), tensor(enlarge_lanczos(part.given, 4))):
            assert psnr_rgb(levels(warp_part(given, part)), part.target) > 48


def test_faces_that_are_not_enlarged_or_leave_the_photo_are_left_out(tmp_path: Path) -> None:
    tree = tree_of(tmp_path / "CelebA", {"000004.jpg": 60})
    (record,) = read_tree(tree).records
    Image.new("RGB", (1024, 1024)).save(tmp_path / "face.png")
    Image.new("RGB", (2000, 2000)).save(tmp_path / "large.png")
    assert read_face(record, tmp_path / "face.png", PATCH) is not None
    beyond = replace(record, landmarks=record.landmarks - (100, 0))
    large = replace(record, folder=tmp_path, photo="large.png", landmarks=record.landmarks * 7)
    for other in (beyond, large):
        assert read_face(other, tmp_path / "face.png", PATCH) is None


def authors_and_start(folder: Path) -> tuple[Path, Path]:
    """The weights of a network and of one that does a fifth of it, from which training starts."""
    torch.manual_seed(3)
    network = ArtifactRemover(**TINY["jpeg"])
    paths = (folder / "authors.safetensors", folder / "start.safetensors")
    for path, gain in zip(paths, (0.25, 0.2), strict=True):
        with torch.no_grad():
            network.exit.weight.mul_(gain)
        save_weights(path, network, "jpeg", {})
    return paths


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """What the authors made of the tree's photos: JPEG copies."""
    tree = tree_of(tmp_path / "CelebA", dict(zip(INDEXES, (50, 60, 70, 80), strict=True)))
    folder = tmp_path / "published"
    folder.mkdir()
    restorer = get_restorer(str(authors_and_start(tmp_path)[0]))
    for record in read_tree(tree).records:
        face = make_face(record.path.read_bytes(), record.landmarks, restorer).face
        Image.fromarray(face).save(folder / f"{INDEXES[record.file_name]:05d}.jpg", quality=95)
    return folder


def fit(folder: Path, *more: object) -> Result:
    base = [
        "--task",
        "jpeg",
        "--pairs",
        folder / "CelebA",
        folder / "published",
        "--out",
        folder / "fitted.safetensors",
    ]
    rest = ["--device", "cpu", "--precision", "fp32", "--patch", PATCH, "--minibatch", 2, "--every", 80]
    return CliRunner().invoke(main, [str(word) for word in (*base, *rest, *more)])


def test_the_authors_network_is_recovered(published: Path, tmp_path: Path) -> None:
    start = tmp_path / "start.safetensors"
    result = fit(tmp_path, "--init-from", start, "--steps", 80, "--learning-rate", 5e-3)
    assert result.exit_code == 0, result.output
    assert "3 photos for training" in result.output
    _, ((record, picture),) = split_pairs(published_pairs(tmp_path / "CelebA", published), 12)
    scores = []
    for name in ("authors", "fitted", "start"):
        restorer = get_restorer(str(tmp_path / f"{name}.safetensors"))
        assert isinstance(restorer, NetworkRestorer)
        face = make_face(record.path.read_bytes(), record.landmarks, restorer).face
        scores.append(psnr_rgb(face, read_rgb(picture)))
    limit, ours, before = scores
    assert before < limit - 1
    assert ours > limit - 0.3


def test_a_run_on_pairs_resumes_and_wants_one_to_hold_out(published: Path, tmp_path: Path) -> None:
    assert fit(tmp_path, "--steps", 2).exit_code == 0
    assert "resuming from step 2" in fit(tmp_path, "--steps", 3).output
    next(published.iterdir()).unlink()
    assert "3 pairs found; at least 4 are needed" in fit(tmp_path).output


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (["--photos", "."], "--photos or --pairs is needed, and not both"),
        (["--exclude", "*"], "--exclude is only for --photos"),
        (["--keep-size", "*"], "--keep-size is only for --photos"),
    ],
)
def test_options_of_photos_are_refused_with_pairs(more: list[str], reason: str, tmp_path: Path) -> None:
    result = fit(tmp_path, *more)
    assert result.exit_code != 0
    assert reason in result.output
