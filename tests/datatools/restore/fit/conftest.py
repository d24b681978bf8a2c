"""Photos, weight files and the command for tests of training runs."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from datatools.images import save_png
from datatools.restore.fit import losses
from datatools.restore.fit import train as command
from datatools.restore.fit.dataset import Photos, picture_files
from datatools.restore.networks import Critic, Orientations, SuperResolver
from datatools.restore.weights import NETWORKS, save_weights
from tests.support.portraits import Portrait, render
from tests.support.restore_samples import TINY, tiny_network


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for seed in range(5):
        save_png(folder / f"{seed}.png", render(Portrait(seed, size=(180, 160), unit=45, centre=(90, 80))))
    return folder


@pytest.fixture(scope="module")
def photos(folder: Path) -> Photos:
    return Photos(picture_files([folder])[:4], 128)


@pytest.fixture(scope="module")
def held_out(folder: Path) -> Photos:
    return Photos(picture_files([folder])[4:], 128)


@pytest.fixture(scope="module")
def distortion(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Weight files of tiny networks of either task."""
    folder = tmp_path_factory.mktemp("weights")
    paths = {task: folder / f"{task}.safetensors" for task in TINY}
    for task, path in paths.items():
        save_weights(path, tiny_network(task), task, {})
    return paths


@pytest.fixture
def small_critic(monkeypatch: pytest.MonkeyPatch) -> None:
    """The critic and the patches cost more than everything else."""
    monkeypatch.setattr(losses, "Critic", lambda: Critic(channels=4))
    monkeypatch.setattr(losses, "DIRECTIONS", 8)


class Small(SuperResolver):
    def __init__(self, channels: int = 6, blocks: int = 1, texture: int = 0, self_ensemble: Orientations = 1) -> None:
        super().__init__(channels, blocks, texture, self_ensemble)


@pytest.fixture
def call(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The command with a small network, on few photos, for few steps."""
    monkeypatch.setitem(NETWORKS, "sr", Small)

    def invoke(*more: object) -> Result:
        base = ["--task", "sr", "--photos", folder, "--out", tmp_path / "sr.safetensors", "--device", "cpu"]
        rest = ["--patch", 24, "--minibatch", 2, "--steps", 4, "--every", 2, "--validation", 1, "--precision", "fp32"]
        return CliRunner().invoke(command.main, [str(a) for a in (*base, *rest, *more)])

    return invoke
