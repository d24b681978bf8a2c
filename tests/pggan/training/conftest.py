"""A pyramid, and a run on it that nothing disturbed, for the tests of runs."""

from pathlib import Path

import pytest
import torch

from pggan.training.loop import Result
from tests.support.pggan_runs import config_of, train, write_pyramid


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """As in the processes that are compared with."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def h5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pyramid(tmp_path_factory.mktemp("pyramid") / "ramps.h5")


@pytest.fixture(scope="session")
def straight(h5: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing disturbed; not to be changed."""
    out = tmp_path_factory.mktemp("straight") / "run"
    assert train(config_of(h5, out)) == Result(200, True)
    return out
