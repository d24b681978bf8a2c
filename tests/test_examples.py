"""Examples run: programs for a few steps, the notebook as it is but for its settings."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from datatools.exports import ExportOptions, plan_export, write_export
from datatools.images import read_rgb
from datatools.pyramid import Pyramid
from tests.support.paths import ROOT
from tests.support.pggan_runs import write_pyramid

EXAMPLES = ROOT / "examples"
COUNT = 12


@pytest.fixture(scope="module")
def h5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pyramid(tmp_path_factory.mktemp("pyramid") / "faces.h5", COUNT, 16, attributes=True)


def run(monkeypatch: pytest.MonkeyPatch, name: str, *words: object) -> None:
    monkeypatch.setattr(sys, "argv", [name, *map(str, words)])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")


def picture(path: Path) -> NDArray[np.uint8]:
    image = read_rgb(path)
    assert image.std() > 1
    return image


@pytest.mark.parametrize("name", ["autoencoder.py", "diffusion.py"])
def test_a_network_learns(
    name: str, h5: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    assert len((EXAMPLES / name).read_text().splitlines()) < 105
    errors = []
    for steps in (1, 25):
        options = ("--level", 8, "--steps", steps, "--batch", 8, "--workers", 0)
        run(monkeypatch, name, h5, *options, "--out", tmp_path / "a.png")
        printed = capsys.readouterr().out.split()
        assert printed[:2] == ["step", f"{steps}:"]
        errors.append(float(printed[-1]))
    assert errors[1] < 0.8 * errors[0]
    assert picture(tmp_path / "a.png").shape == (16, 64, 3)


@pytest.mark.parametrize("name", ["autoencoder.py", "diffusion.py", "eigenfaces.py"])
def test_a_level_that_the_file_lacks_ends_in_a_line(name: str, h5: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, name, h5, "--level", 64)
    assert ended.value.code == f"Error: {h5}: no level 64; it has 16, 8, 4"


def test_the_sampler_of_the_diffusion_example_draws_the_data() -> None:
    """With the best denoiser of pixels that are normal around 0.3, it draws such pixels."""
    names = runpy.run_path(str(EXAMPLES / "diffusion.py"))
    mean, deviation = 0.3, 0.2

    def denoiser(x: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        image, noise = names["shares"](times)
        return noise * (x - image * mean) / (image**2 * deviation**2 + noise**2)

    images = names["sample"](denoiser, torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(1)))
    assert abs(images.mean().item() - mean) < 0.01
    assert abs(images.std().item() - deviation) < 0.02


def test_eigenfaces(h5: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "a.png"
    run(monkeypatch, "eigenfaces.py", h5, "--level", 16, "--out", out)
    assert "7 components explain" in capsys.readouterr().out
    image = picture(out)
    assert image.shape == (32, 128, 3)
    mean = Pyramid(h5)[16][:].mean(axis=0).transpose(1, 2, 0)
    assert np.abs(image[:16, :16] - mean).max() <= 0.51


def test_hugging_face(h5: Path, tmp_path: Path) -> None:
    pytest.importorskip("datasets", reason="datasets is not installed")
    pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install 'celebahq[huggingface]'")
    pyramid = Pyramid(h5)
    write_export(plan_export(pyramid, tmp_path / "faces", range(COUNT), ExportOptions("huggingface", 16)))
    command = [sys.executable, str(EXAMPLES / "huggingface.py"), "faces", "--epochs", "2", "--attribute", "Male"]
    settings = {**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=settings, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("epoch 2: ")
    assert done.stdout.endswith("% of Male right\n")


def test_the_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pggan.media.video.find_encoder", lambda: None)
    notebook = json.loads((EXAMPLES / "tour.ipynb").read_text(encoding="utf-8"))
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(not cell["outputs"] for cell in notebook["cells"] if cell["cell_type"] == "code")
    names: dict[str, object] = {}
    for cell in cells:
        short = cell.replace("KIMG, SECONDS = 8.0, 10.0", "KIMG, SECONDS = 0.016, 0.2")
        exec(compile(short, "tour.ipynb", "exec"), names)
    assert (tmp_path / "tour" / "run" / "final.safetensors").exists()
    assert len(list(Path(str(names["film"])).glob("*.png"))) == 1
