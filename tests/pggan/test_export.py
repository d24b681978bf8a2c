"""Generators as programs: what other software makes of the files, compared with the model itself."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from numpy.typing import NDArray
from torch import Tensor

from pggan import exchange
from pggan.config.settings import NetworkConfig
from pggan.config.style import StyleConfig
from pggan.export import main
from pggan.media.latents import slerp
from pggan.model.files import Model, new_model, save_model
from pggan.model.style import StyleGenerator
from pggan.models import load_model
from pggan.rng import seeded
from tests.support.style_runs import SIZES

SKIP = StyleConfig(8, **SIZES)
ORIGINAL = StyleConfig(8, "stylegan", "stylegan", growing=True, **SIZES)
RESIDUAL = StyleConfig(8, "resnet", "resnet", classes=3, **SIZES)
PROGRESSIVE = NetworkConfig(16, fmap_base=32, fmap_max=8, latent_size=8)
CLASSES = replace(PROGRESSIVE, classes=3, g_norm="batch", normalize_latents=False)
COUNT = 5
Images = NDArray[np.float32]


def model_of(config: NetworkConfig | StyleConfig, lod: float) -> Model:
    """A model whose noise and average of w show in its images."""
    with seeded(5, torch.device("cpu")):
        model = new_model(config, lod)
    if isinstance(model.ema, StyleGenerator):
        for name, parameter in model.ema.named_parameters():
            if name.endswith("noise_strength"):
                parameter.fill_(0.5)
        seeds = range(20, 30)
        model.ema.w_average.copy_(model.ema.map(model.latents(seeds), model.labels(None, seeds)).mean(dim=0))
    return model


def inputs_of(model: Model) -> list[Tensor]:
    labels = model.labels(None, range(COUNT))
    return [model.latents(range(COUNT)), *([] if labels is None else [labels])]


def run_onnx(path: Path, inputs: list[Tensor]) -> Images:
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    assert names == ["latents", "labels"][: len(inputs)]
    images: Images = session.run(["images"], dict(zip(names, (value.numpy() for value in inputs), strict=True)))[0]
    return images


def run_torchscript(path: Path, inputs: list[Tensor]) -> Images:
    images: Images = torch.jit.load(path)(*inputs).numpy()
    return images


def run_exported(path: Path, inputs: list[Tensor]) -> Images:
    images: Images = torch.export.load(path).module()(*inputs).numpy()
    return images


READERS: dict[str, Callable[[Path, list[Tensor]], Images]] = {
    ".onnx": run_onnx,
    ".pt": run_torchscript,
    ".pt2": run_exported,
}


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def exported(model: Model, folder: Path, ending: str, *options: object) -> Path:
    if ending == ".onnx":
        pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'celebahq[onnx]'")
    file, out = folder / "model.safetensors", folder / "new" / f"program{ending}"
    save_model(file, model, lod=model.lod, images=0)
    result = run("--model", file, "--out", out, *options)
    assert result.exit_code == 0, result.output
    assert f"(n, 3, {model.level.resolution}, {model.level.resolution})" in result.output
    return out


@torch.no_grad()
@pytest.mark.parametrize(
    ("ending", "config", "lod"),
    [
        (".onnx", CLASSES, 1.25),
        (".onnx", SKIP, 0.0),
        (".onnx", ORIGINAL, 0.5),
        (".pt", CLASSES, 0.0),
        (".pt", RESIDUAL, 0.0),
        (".pt", ORIGINAL, 1.0),
        (".pt2", PROGRESSIVE, 1.25),
    ],
    ids=[
        *("onnx progressive", "onnx skip", "onnx original"),
        *("torchscript classes", "torchscript residual", "torchscript growing", "exported progressive"),
    ],
)
def test_a_program_makes_the_models_images(
    ending: str, config: NetworkConfig | StyleConfig, lod: float, tmp_path: Path
) -> None:
    model = model_of(config, lod)
    images = READERS[ending](exported(model, tmp_path, ending), inputs_of(model))
    latents, *labels = inputs_of(model)
    expected = model.ema(latents, labels[0] if labels else None, lod).numpy()
    assert expected.std() > 0.01
    assert images.shape == expected.shape
    assert np.abs(images - expected).max() < 1e-4


def test_the_bundled_model_makes_its_pictures(tmp_path: Path) -> None:
    result = run("--model", "faces-32", "--out", tmp_path / "faces.pt")
    assert result.exit_code == 0, result.output
    model = load_model("faces-32")
    images = run_torchscript(tmp_path / "faces.pt", inputs_of(model))
    pixels = np.rint((images + 1) * 127.5).clip(0, 255).transpose(0, 2, 3, 1)
    assert np.abs(pixels - model.pictures(range(COUNT))).max() <= 1


@torch.no_grad()
def test_truncation_is_part_of_the_program(tmp_path: Path) -> None:
    for number, config in enumerate((PROGRESSIVE, CLASSES, SKIP)):
        model = model_of(config, 0.0)
        folder = tmp_path / str(number)
        folder.mkdir()
        centre = ("--centre", 7) if config is PROGRESSIVE else ()
        images = run_torchscript(exported(model, folder, ".pt", "--truncation", 0.5, *centre), inputs_of(model))
        latents, *labels = inputs_of(model)
        if isinstance(model.ema, StyleGenerator):
            expected = model.ema(latents, psi=0.5)
        elif config is CLASSES:
            expected = model.ema(0.5 * latents, labels[0])
        else:
            expected = model.ema(slerp(model.latents([7]), latents, 0.5))
        assert np.abs(images - expected.numpy()).max() < 1e-4


@torch.no_grad()
def test_noise_is_left_out_or_drawn(tmp_path: Path) -> None:
    model = model_of(SKIP, 0.0)
    latents = model.latents([3]).expand(2, -1)
    silent = run_torchscript(exported(model, tmp_path, ".pt", "--noise", "none"), [latents])
    assert np.abs(silent - model.ema(latents, noise="none").numpy()).max() < 1e-4
    drawn = run_torchscript(exported(model, tmp_path, ".pt", "--noise", "random"), [latents])
    assert not np.array_equal(drawn[0], drawn[1])


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("a.safetensors", (), "the name must end in .onnx, .pt, .pt2"),
        ("a.pt", ("--centre", 3), "--centre 3: a style-based model is truncated towards the average"),
        ("a.pt", ("--truncation", 1.5), "1.5 is not in the range"),
        ("a.pt", ("--ema-kimg", 3), "--ema-kimg 3: the model was not trained with it"),
        ("file.txt/a.pt", (), "cannot be written"),
    ],
)
def test_what_cannot_be_written(name: str, options: tuple[object, ...], words: str, tmp_path: Path) -> None:
    (tmp_path / "file.txt").touch()
    result = run("--model", "faces-32", "--out", tmp_path / name, *options)
    assert result.exit_code != 0
    assert words in result.stderr
    assert not (tmp_path / name).exists()


def test_noise_of_a_model_without_noise(tmp_path: Path) -> None:
    save_model(tmp_path / "model.safetensors", model_of(PROGRESSIVE, 0.0), lod=0.0, images=0)
    result = run("--model", tmp_path / "model.safetensors", "--out", tmp_path / "a.pt", "--noise", "none")
    assert result.exit_code == 1
    assert "--noise none: the model has no noise maps" in result.stderr


def test_a_program_that_differs_is_not_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(exchange, "TOLERANCE", -1.0)
    result = run("--model", "faces-32", "--out", tmp_path / "a.pt")
    assert result.exit_code == 1
    assert "its images would differ from the model's by 0 " in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_missing_libraries_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    result = run("--model", "faces-32", "--out", tmp_path / "a.onnx")
    assert result.exit_code == 1
    assert "pip install 'celebahq[onnx]'" in result.stderr
