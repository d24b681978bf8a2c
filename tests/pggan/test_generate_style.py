"""Pictures of style-based models: truncation towards the average of w, and the choice of noise."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from numpy.typing import NDArray

from datatools.images import read_rgb
from pggan import generate as generate_module
from pggan.config.settings import NetworkConfig
from pggan.config.style import StyleConfig
from pggan.generate import main
from pggan.media.look import look_of
from pggan.media.styles import StyleLoop
from pggan.model.files import Model, new_model, render_styles, save_model
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


def test_grids_of_mixed_styles_are_written(file: Path) -> None:
    out = file.parent / "mixed"
    options = ("--mix", "3,4", "--columns", "0-2", "--layers", "coarse,2-3", "--zoom", 2, "--truncation", 0.7)
    result = run("--model", file, "--out", out, *options)
    assert result.exit_code == 0, result.output
    assert "mix-coarse.png, mix-2-3.png, 2 rows of 3 columns" in result.output
    coarse, fine = read_rgb(out / "mix-coarse.png"), read_rgb(out / "mix-2-3.png")
    assert coarse.shape == fine.shape == (3 * 16, 4 * 16, 3)
    assert np.array_equal(coarse[:16], fine[:16])
    assert not np.array_equal(coarse[16:, 16:], fine[16:, 16:])
    own = pictures(file, "own", "--truncation", 0.7)
    assert np.array_equal(fine[:16:2, 16::2], np.concatenate(own[:3], axis=1))


def test_films_and_strips_go_through_w(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generate_module, "find_encoder", lambda: None)
    film = ("--seconds", 4, "--smooth-seconds", 0.4, "--zoom", 1)
    for space in ("z", "w"):
        result = run("--model", file, "--video", file.parent / f"{space}.mp4", *film, "--space", space)
        assert result.exit_code == 0, result.output
    frames = {space: [read_rgb(path) for path in sorted(file.parent.glob(f"{space}-frames/*"))] for space in "zw"}
    assert [len(some) for some in frames.values()] == [4, 4]
    assert not np.array_equal(frames["z"], frames["w"])
    model = load_model(file)
    loop = StyleLoop(generator_of(model), 1, 0, 2, None)  # as 4 s have two times four deviations
    ws = generator_of(model).broadcast(loop(np.arange(4) / 4)[:, 0])
    assert np.array_equal(frames["w"], render_styles(generator_of(model), ws, 0.0))
    strips = {}
    for space in ("z", "w"):
        out = file.parent / space
        result = run("--model", file, "--out", out, "--slerp", "1,2", "--steps", 3, "--space", space)
        assert result.exit_code == 0, result.output
        strips[space] = read_rgb(out / "slerp000001.png")
    assert np.array_equal(strips["z"][:, :8], strips["w"][:, :8])
    assert not np.array_equal(strips["z"][:, 8:16], strips["w"][:, 8:16])


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
        (other, ("--mix", "1,2"), "--mix 1,2: the model has no styles; it is for style-based models"),
        (other, ("--slerp", "1,2", "--space", "w"), "--space w: the model has no styles"),
        (file, ("--mix", "1", "--layers", "middle"), "--layers middle: a model of 8 x 8 pixels does not have them"),
        (file, ("--mix", "1,x"), "--mix: 'x' is neither a number nor a range"),
        (file, ("--mix", "1", "--columns", "a"), "--columns: 'a' is neither a number nor a range"),
        (file, ("--mix", "1", "--seeds", "3"), "--seeds has no effect with grids of --mix"),
        (file, ("--seeds", "1", "--columns", "3"), "--columns has no effect with pictures of --seeds"),
        (file, ("--mix", "1", "--truncation", "nan"), "nan is not a finite number"),
    ):
        result = run("--model", model, "--out", tmp_path / "out", *options)
        assert result.exit_code != 0
        assert words in result.output
        assert len(result.stderr.splitlines()) == 1
        assert not list((tmp_path / "out").glob("*"))
