"""Path lengths: the toy model's numbers, a style-based model's own, and models that have none."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from datatools.errors import DataError
from datatools.images import save_png
from pggan.config.settings import NetworkConfig
from pggan.config.style import StyleConfig
from pggan.media.latents import slerp
from pggan.metrics.compare import measure
from pggan.metrics.distances import PixelDistance
from pggan.metrics.image_sets import FolderSet, ModelSet
from pggan.metrics.lpips import Lpips
from pggan.metrics.options import Options
from pggan.metrics.path_length import PATHS, STEP, PathKind, path_length, step_distances, step_ends, trimmed_mean
from pggan.model.files import new_model
from pggan.model.style import seeded_noise
from pggan.rng import sequence
from tests.support.extractors import write_lpips
from tests.support.paths import GOLDEN
from tests.support.style_oracle import SquaredDifference, assert_equal, numbers
from tests.support.style_runs import SIZES, noisy_style_model

NAMES = {
    f"{space}.{'full' if full else 'end'}.{'crop' if crop else 'whole'}": PathKind(space, full, crop)
    for space in ("z", "w")
    for full in (True, False)
    for crop in (True, False)
}


class Toy:
    """A model in closed form: w = tanh(z M), pictures of 512 pixels are waves with the weights w."""

    def __init__(self) -> None:
        values = numbers(GOLDEN / "style_pieces.npz")
        self.latents, self.shares, self.mapping, waves = (
            torch.from_numpy(values[f"ppl.{name}"]).double() for name in ("latents", "t", "mapping", "waves")
        )
        rows, columns = torch.meshgrid(torch.arange(512.0), torch.arange(512.0), indexing="ij")
        phases = 2 * torch.pi * (waves[:, :1, None] * rows + waves[:, 1:, None] * columns) / 512  # (k, r, r)
        self.waves = torch.stack([torch.cos(phases + channel) for channel in range(3)], dim=1)  # (k, 3, r, r)

    def map(self, latents: Tensor) -> Tensor:
        return torch.tanh(latents @ self.mapping)

    def synthesize(self, w: Tensor) -> Tensor:
        return torch.tanh(torch.einsum("nk,kcyx->ncyx", w, self.waves))


@pytest.fixture(scope="module")
def toy() -> Toy:
    return Toy()


@pytest.mark.parametrize("name", NAMES)
def test_distances_of_the_toy_model(name: str, toy: Toy) -> None:
    """In float64, the first pairs: all two hundred take seconds."""
    some, kind = 4, NAMES[name]
    pairs = toy.latents.unflatten(0, (-1, 2)).transpose(0, 1)[:, :some]
    ends = step_ends(kind, pairs, toy.shares[:some], toy.map)
    images = torch.stack([toy.synthesize(w) for w in ends])
    wanted = torch.from_numpy(numbers(GOLDEN / "style_pieces.npz")[f"ppl.{name}.distances"][:some])
    assert_equal(step_distances(images, kind, SquaredDifference()), wanted, 1e-9, name)


@pytest.mark.parametrize("name", NAMES)
def test_mean_of_the_toy_model(name: str) -> None:
    values = numbers(GOLDEN / "style_pieces.npz")
    assert trimmed_mean(values[f"ppl.{name}.distances"]) == pytest.approx(float(values[f"ppl.{name}"]), rel=1e-12)


def test_great_circles(toy: Toy) -> None:
    first, second = (toy.latents[place::2] / toy.latents[place::2].norm(dim=1, keepdim=True) for place in (0, 1))
    wanted = torch.from_numpy(numbers(GOLDEN / "style_pieces.npz")["ppl.slerp_quarter"])
    assert_equal(slerp(first, second, 0.25), wanted, 1e-12, "a quarter of the way")


def test_a_model_is_measured_as_by_hand() -> None:
    """One picture after the other, with float64 weights."""
    model, count = noisy_style_model(), 6
    found = path_length(model, "ppl", PixelDistance(), count, seed=3)
    generator = model.ema.double()
    distances = []
    for number in range(count):
        dice = np.random.default_rng(sequence(3, "metrics-path", number))
        latents = torch.from_numpy(dice.standard_normal((2, 8), dtype=np.float32)).double()
        dice.random()
        noise, _ = seeded_noise(generator.noise_sides(), [int(dice.integers(1 << 63))], torch.device("cpu"))
        w = generator.map(latents)
        pictures = [
            generator.synthesize(generator.broadcast(end[None]), 0.0, [m.double() for m in noise]) * 127.5 + 127.5
            for end in (w[0], torch.lerp(w[0], w[1], STEP))
        ]
        halves = [torch.nn.functional.avg_pool2d(picture, 2) for picture in pictures]
        scales = [((a - b) / 255).square().mean() for a, b in (pictures, halves)]
        distances.append(float(sum(scales) / 2 / STEP**2))
    assert found["value"] == pytest.approx(np.mean(distances), rel=0.02)  # float32 has three digits of a step
    assert found == {"metric": "ppl", "value": found["value"], "images": count, **PixelDistance.recipe}


def test_kinds_differ_and_batches_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    model = noisy_style_model()
    whole = {metric: path_length(model, metric, PixelDistance(), 5, seed=0)["value"] for metric in PATHS}
    assert len(set(whole.values())) == len(PATHS)
    assert path_length(model, "ppl", PixelDistance(), 5, seed=1)["value"] != whole["ppl"]
    monkeypatch.setattr("pggan.model.files.BATCH_PIXELS", 1)
    for metric, value in whole.items():
        assert path_length(model, metric, PixelDistance(), 5, seed=0)["value"] == pytest.approx(value, rel=0.01)


def test_models_that_grow_and_models_of_classes() -> None:

    growing = new_model(StyleConfig(16, "orig", "orig", growing=True, **SIZES), lod=1.0)
    assert path_length(growing, "ppl", PixelDistance(), 3, seed=0)["value"] > 0
    with pytest.raises(DataError, match="pictures of 8 x 8 pixels: the distance of ppl needs 16"):
        path_length(growing, "ppl", SmallestIs16(), 3, seed=0)
    classes = new_model(StyleConfig(16, classes=2, **SIZES))
    assert path_length(classes, "ppl-zfull", PixelDistance(), 3, seed=0)["value"] > 0


class SmallestIs16(PixelDistance):
    smallest = 16


def test_measured_with_lpips_and_without_reals(tmp_path: Path) -> None:
    model = noisy_style_model()
    lpips = Lpips(write_lpips(tmp_path / "lpips.pth"))
    found = measure(ModelSet(model), None, ["ppl", "ppl-zfull"], Options(count=4, distance=lpips)).figures
    assert list(found) == ["ppl4", "ppl4-zfull"]
    assert all(record["value"] > 0 and record["network"] == "LPIPS 0.1, VGG16" for record in found.values())


def test_what_has_no_path_length(tmp_path: Path) -> None:
    options, lpips = Options(count=4, distance=PixelDistance()), Lpips(write_lpips(tmp_path / "lpips.pth"))
    progressive = ModelSet(new_model(NetworkConfig(16, fmap_base=64, fmap_max=8, latent_size=8)))
    with pytest.raises(DataError, match="ppl-zend measures style-based models, and this model is a progressive GAN"):
        measure(progressive, None, ["ppl-zend"], options)
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    save_png(pictures / "0.png", np.zeros((16, 16, 3), np.uint8))
    with pytest.raises(DataError, match="ppl measures style-based models, and no model is measured: leave ppl out"):
        measure(FolderSet(pictures), None, ["ppl"], options)
    with pytest.raises(DataError, match="swd compares with real images, and none were given"):
        measure(ModelSet(noisy_style_model()), None, ["ppl", "swd"], options)
    with pytest.raises(DataError, match="1 image is too few for ppl"):
        measure(ModelSet(noisy_style_model()), None, ["ppl"], replace(options, count=1))
    with pytest.raises(DataError, match="pictures of 8 x 8 pixels: the distance of ppl-crop needs 16"):
        measure(ModelSet(noisy_style_model()), None, ["ppl-crop"], replace(options, distance=lpips))
    with pytest.raises(DataError, match="pictures of 4 x 4 pixels: the face crop needs at least 8"):
        measure(ModelSet(noisy_style_model(4)), None, ["ppl-crop"], options)
    with pytest.raises(ValueError, match="no distance for ppl"):
        measure(ModelSet(noisy_style_model()), None, ["ppl"], Options(count=4))


def test_gradients_pass_distances(tmp_path: Path) -> None:
    dice = np.random.default_rng(1)
    first, second = (torch.from_numpy(dice.uniform(0, 255, (2, 3, 32, 32)).astype(np.float32)) for _ in range(2))
    first[0], second[0] = 0.0, 0.0  # features may be 0 everywhere
    for distance in (PixelDistance(), Lpips(write_lpips(tmp_path / "lpips.pth"))):
        first.requires_grad_()
        described = list(distance.describe(second))
        value = distance.compare(distance.describe(first), described)
        (gradient,) = torch.autograd.grad(value.sum(), first)
        assert value[0] == 0
        assert value[1] > 0
        assert gradient.isfinite().all()
        assert gradient[1].abs().max() > 0
        step = first.detach() - gradient / gradient.norm()
        assert distance.compare(distance.describe(step), described)[1] < value[1]


def test_pixels_count_at_the_scales_that_show_them() -> None:
    black, grain = torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 32, 32)
    grain[..., ::2, ::2] = grain[..., 1::2, 1::2] = 255.0
    distance = PixelDistance()
    grey = distance.compare(distance.describe(black), distance.describe(black + 127.5))
    assert grey.item() == pytest.approx(0.25)
    from_grey = distance.compare(distance.describe(grain), distance.describe(black + 127.5))
    assert from_grey.item() == pytest.approx(0.25 / 3)  # at one of three scales
