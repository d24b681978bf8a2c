"""Pictures of style-based models: truncation towards the average of w, and the choice of noise."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from numpy.typing import NDArray

from datatools.images import read_rgb
from pggan.config.settings import NetworkConfig
from pggan.config.style import StyleConfig
from pggan.generate import look_of, main
from pggan.model.files import Model, new_model, save_model
from pggan.model.style import StyleGenerator
from pggan.rng import seeded
from pggan.training.models import load_model

CONFIG = StyleConfig(8, fmap_base=32, fmap_max=8, latent_size=8, mapping_layers=2)


def generator_of(model: Model) -> StyleGenerator:
    assert isinstance(model.ema, StyleGenerator)
    return model.ema


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A model file with strengths of noise that show."""
    with seeded(5, torch.device("cpu")):
        model = new_model(CONFIG)
    ema = generator_of(model)
    for name, parameter in ema.named_parameters():
        if name.endswith("noise_strength"):
            parameter.fill_(0.5)
    ema.w_average.copy_(ema.map(torch.randn(64, 8, generator=torch.Generator().manual_seed(1))).mean(dim=0))
    save_model(tmp_path / "model.safetensors", model, lod=0.0, images=1000)
    return tmp_path / "model.safetensors"


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(main, ["--device", "cpu", *map(str, arguments)])
    assert "Traceback" not in result.output
    return result


def pictures(file: Path, name: str, *options: object) -> NDArray[np.uint8]:
    out = file.parent / name
    result = run("--model", file, "--out", out, "--seeds", "0-3", *options)
    assert result.exit_code == 0, result.output
    return np.stack([read_rgb(path) for path in sorted(out.glob("*.png"))])


def test_a_model_file_gives_its_pictures_back(file: Path) -> None:
    model = load_model(file)
    assert model.config == CONFIG
    assert np.array_equal(pictures(file, "plain"), model.pictures(range(4)))
    assert model.pictures(range(4)).std() > 1


def test_truncation_pulls_to_the_average_of_w(file: Path) -> None:
    assert pictures(file, "plain").std(axis=0).max() > 0
    alike = pictures(file, "alike", "--truncation", 0)
    assert all(np.array_equal(picture, alike[0]) for picture in alike)
    ema = generator_of(load_model(file))
    ws = ema.broadcast(ema.w_average[None])
    expected = (ema.synthesize(ws, noise="fixed")[0] * 127.5 + 127.5).round().clamp(0, 255).byte()
    assert np.array_equal(alike[0], expected.permute(1, 2, 0).numpy())


def test_noise_is_chosen(file: Path) -> None:
    const, none, drawn = (pictures(file, name, "--noise", name) for name in ("const", "none", "random"))
    assert np.array_equal(const, pictures(file, "again"))
    assert not np.array_equal(const, none)
    assert not np.array_equal(const, drawn)
    alike = pictures(file, "drawn", "--noise", "random", "--truncation", 0)
    assert not np.array_equal(alike[0], alike[1])


def test_the_original_truncates_its_first_places() -> None:
    original = replace(CONFIG, g_architecture="stylegan", d_architecture="stylegan")
    assert look_of(original, 0.7, None, "const").cutoff == 8
    assert look_of(CONFIG, 0.5, None, "const").cutoff is None


def test_what_does_not_fit_is_refused(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    save_model(other, new_model(NetworkConfig(8, fmap_base=32, fmap_max=8, latent_size=8)), lod=0.0, images=0)
    for model, options, words in (
        (other, ("--noise", "none"), "--noise none: the model has no noise maps"),
        (file, ("--truncation", 0.5, "--centre", 3), "--centre 3: a style-based model"),
        (file, ("--truncation", 1.5), "1.5 is not in the range"),
        (file, ("--label", 1), "trained without labels"),
    ):
        result = run("--model", model, "--out", tmp_path / "out", *options)
        assert result.exit_code != 0
        assert words in result.output
