"""Models by the name of a checkpoint; those of files and folders are in the tests of what writes them."""

import shutil
from pathlib import Path

import pytest
import torch

from datatools.errors import DataError
from pggan.training.checkpoints import checkpoints
from pggan.training.models import load_model, run_folder


@pytest.fixture
def copy(straight: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(straight, tmp_path / "run"))


@pytest.mark.parametrize("ending", [".pt", ".json"])
def test_a_checkpoint_can_be_named(copy: Path, ending: str) -> None:
    newest, *older = (checkpoint for checkpoint in checkpoints(copy / "checkpoints"))
    final = load_model(copy).ema.state_dict()
    named = load_model(newest.path.with_suffix(ending))
    assert all(torch.equal(value, final[name]) for name, value in named.ema.state_dict().items())
    before = load_model(older[0].path.with_suffix(ending))
    assert before.images == older[0].images < named.images
    assert run_folder(newest.path) == copy
    assert not all(torch.equal(value, final[name]) for name, value in before.ema.state_dict().items())


def test_a_checkpoint_without_its_run_or_damaged_ends_in_one_line(copy: Path) -> None:
    path = checkpoints(copy / "checkpoints")[0].path
    with path.open("r+b") as stream:
        stream.truncate(1000)
    with pytest.raises(DataError, match=rf"^{path}: is damaged \(1000 bytes .*; name another checkpoint"):
        load_model(path)
    (copy / "config.json").unlink()
    with pytest.raises(DataError, match=rf"^{path}: is a checkpoint; it can be read in the folder of its run only"):
        load_model(path)
