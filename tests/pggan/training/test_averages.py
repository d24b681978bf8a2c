"""Further EMAs of the generator: kept in addition to the run's own, resumed exactly, chosen when pictures are made."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from datatools.errors import DataError
from pggan import generate
from pggan.training.models import load_model
from pggan.training.networks import build_networks
from tests.support.pggan_runs import PRESET, Death, assert_equal_runs, config_of, finish, start, train, write_pyramid

KIMG = (0.0005, 0.002, 1e6)
KEPT = replace(PRESET, optimizer=replace(PRESET.optimizer, ema_kimg=KIMG))


@pytest.fixture(scope="module")
def h5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return write_pyramid(tmp_path_factory.mktemp("pyramid") / "ramps.h5")


@pytest.fixture(scope="module")
def run(h5: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    assert train(config_of(h5, out, preset=KEPT)).finished
    return out


def weights(network: torch.nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


def test_each_forgets_with_its_half_life(h5: Path, run: Path, tmp_path: Path) -> None:
    model = load_model(run)
    beginning = weights(build_networks(KEPT, 0, torch.device("cpu")).generator)
    newest = weights(model.generator)
    short, long, endless = (weights(model.with_ema(kimg).ema) for kimg in KIMG)
    assert 0 < (short - newest).norm() < (long - newest).norm() < (beginning - newest).norm()
    torch.testing.assert_close(endless, beginning, rtol=0, atol=1e-5)
    assert train(config_of(h5, tmp_path / "plain")).finished
    assert torch.equal(weights(model.ema), weights(load_model(tmp_path / "plain").ema))  # the run's own is the same


def test_killed_and_resumed_they_are_the_same(h5: Path, run: Path, tmp_path: Path) -> None:
    config = config_of(h5, tmp_path / "killed", preset=KEPT)
    assert finish(start(config, Death(images=100))) < 0
    unfinished = load_model(config.out)
    assert list(unfinished.averages) == list(KIMG)
    assert train(config).finished
    assert_equal_runs(config.out, run)


def test_pictures_are_made_with_the_one_that_is_named(run: Path, tmp_path: Path) -> None:
    def pictures(*options: str) -> bytes:
        out = tmp_path / "_".join(["out", *options])
        words = ["--model", str(run), "--out", str(out), "--seeds", "3", "--device", "cpu", *options]
        result = CliRunner().invoke(generate.main, words)
        assert result.exit_code == 0, result.output
        (picture,) = out.iterdir()
        return picture.read_bytes()

    assert len({pictures(), *(pictures("--ema-kimg", f"{kimg:g}") for kimg in KIMG)}) == 4


def test_one_that_was_not_kept_is_refused(h5: Path, run: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"3: .*not trained with it; it has EMAs of 0.0005, 0.002, 1e\+06 "):
        load_model(run).with_ema(3.0)
    assert train(config_of(h5, tmp_path / "plain")).finished
    with pytest.raises(DataError, match="it has its own EMA alone"):
        load_model(tmp_path / "plain").with_ema(0.002)


def test_a_fork_may_begin_another_from_the_runs_own(h5: Path, run: Path, tmp_path: Path) -> None:
    plain = config_of(h5, tmp_path / "run", schedule={"total_kimg": 0.1})
    assert train(plain).finished
    other = config_of(h5, tmp_path / "run", preset=KEPT)
    with pytest.raises(DataError, match="ema_kimg"):
        train(other)
    assert train(replace(other, fork=True)).finished
    model = load_model(tmp_path / "run")
    assert torch.equal(weights(model.ema), weights(load_model(run).ema))
    assert not torch.equal(weights(model.averages[1e6]), weights(load_model(run).averages[1e6]))


@pytest.mark.parametrize("kimg", [(0.0,), (-1.0,), (float("inf"),), (float("nan"),)])
def test_half_lives_are_checked(kimg: tuple[float, ...], h5: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="ema_kimg"):
        config_of(h5, tmp_path, ema_kimg=kimg)
