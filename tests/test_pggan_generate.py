"""Pictures of a model: from a file alone, the same for a seed whatever else is made."""

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors
import torch
from click.testing import CliRunner, Result

from datatools.errors import DataError
from datatools.images import read_rgb
from pggan.generate import main, parse_seeds
from pggan.loop import train
from pggan.models import load_model
from tests.pggan_runs import config_of, write_pyramid


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run folders: `done`, `again` with the same settings, `early` stopped in a fade, `classes` with labels."""
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("runs")
    h5 = write_pyramid(path / "ramps.h5", attributes=True)
    for name, kimg in (("done", 0.13), ("again", 0.13), ("early", 0.05)):
        train(config_of(h5, path / name, schedule={"total_kimg": kimg}))
    (path / "early" / "final.safetensors").unlink()
    train(config_of(h5, path / "classes", schedule={"total_kimg": 0.01}, network={"classes": 2}, labels="Male"))
    return path


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(main, ["--device", "cpu", *map(str, arguments)])
    assert "Traceback" not in result.output
    return result


def test_three_lines(folder: Path) -> None:
    model = load_model(folder / "done" / "final.safetensors")
    pictures = model.pictures(seeds=range(5))
    assert pictures.shape == (5, 16, 16, 3)
    assert pictures.dtype == np.uint8
    assert pictures.std() > 1
    assert not np.array_equal(pictures[0], pictures[1])
    assert model.lod == 0.0


def test_equal_runs_give_equal_files_without_time_path_or_host(folder: Path) -> None:
    data = (folder / "done" / "final.safetensors").read_bytes()
    assert data == (folder / "again" / "final.safetensors").read_bytes()
    with safetensors.safe_open(folder / "done" / "final.safetensors", framework="pt") as file:
        described = json.loads(file.metadata()["pggan"])
    assert sorted(described) == ["format", "images", "lod", "network", "version"]


def test_files_of_seeds(folder: Path, tmp_path: Path) -> None:
    result = run("--model", folder / "done", "--out", tmp_path, "--seeds", "3-5,70")
    assert result.exit_code == 0, result.output
    names = ["seed000003.png", "seed000004.png", "seed000005.png", "seed000070.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    expected = load_model(folder / "done" / "final.safetensors").pictures([70])[0]
    assert np.abs(read_rgb(tmp_path / "seed000070.png").astype(int) - expected).max() <= 1  # alone or among others


def test_grids(folder: Path, tmp_path: Path) -> None:
    result = run("--model", folder / "done" / "final.safetensors", "--out", tmp_path, "--seeds", "0-6", "--grid", "3x2")
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["grid000000.png", "grid000006.png"]
    grid = read_rgb(tmp_path / "grid000000.png")
    assert grid.shape == (32, 48, 3)
    pictures = load_model(folder / "done" / "final.safetensors").pictures(range(6))
    assert np.abs(grid[16:, 32:].astype(int) - pictures[5]).max() <= 1


def test_unfinished_run_gives_pictures_of_its_level(folder: Path, tmp_path: Path) -> None:
    result = run("--model", folder / "early", "--out", tmp_path, "--seeds", "1")
    assert result.exit_code == 0, result.output
    assert read_rgb(tmp_path / "seed000001.png").shape == (8, 8, 3)


def test_labels(folder: Path, tmp_path: Path) -> None:
    model = load_model(folder / "classes" / "final.safetensors")
    first, second = model.pictures([1], label=0), model.pictures([1], label=1)
    assert not np.array_equal(first, second)
    assert model.pictures(range(3)).shape == (3, 4, 4, 3)
    assert model.pictures(range(3), full=True).shape == (3, 16, 16, 3)
    refused = run("--model", folder / "classes", "--out", tmp_path, "--label", 2)
    assert refused.exit_code == 1
    assert "--label 2: the model has classes 0 to 1" in refused.output
    assert "without labels" in run("--model", folder / "done", "--out", tmp_path, "--label", 0).output


def test_mistakes_are_told_in_a_line(folder: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes((folder / "done" / "final.safetensors").read_bytes()[:5000])
    for arguments, told in (
        (("--model", tmp_path / "absent"), "neither a model file nor a run folder"),
        (("--model", cut), "cannot be read as a model file"),
        (("--model", folder / "ramps.h5"), "cannot be read as a model file"),
        (("--model", folder / "done", "--seeds", "5-x"), "--seeds: '5-x' is neither"),
        (("--model", folder / "done", "--seeds", "5-3"), "--seeds: 5-3"),
        (("--model", folder / "done", "--grid", "3"), "--grid '3'"),
    ):
        result = run("--out", tmp_path / "out", *arguments)
        assert result.exit_code == 1
        assert told in " ".join(result.output.split())


def test_seeds() -> None:
    assert parse_seeds("0-2,7,5-5") == [0, 1, 2, 7, 5]
    with pytest.raises(DataError):
        parse_seeds("")
