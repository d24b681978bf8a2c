"""A run is prepared once: settings read, data opened, networks built and planned, and nothing written."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from datatools.errors import DataError
from pggan.config.presets import PRESETS
from pggan.config.settings import Preset
from pggan.training import loop, run_config
from pggan.training import plan as plan_module
from pggan.training import run as module
from pggan.training.networks import Networks, build_networks
from pggan.training.plan import plan_from
from pggan.training.run import prepare_run
from pggan.training.step import Stepper
from tests.support.pggan_runs import PRESET, assert_equal_values, config_of, train, write_pyramid

CPU = torch.device("cpu")


def test_everything_is_done_once(h5: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: Counter[str] = Counter()

    def count(where: Any, name: str) -> None:
        original = getattr(where, name)

        def counting(*rest: Any, **more: Any) -> Any:
            calls[name] += 1
            return original(*rest, **more)

        monkeypatch.setattr(where, name, counting)

    for name in ("Source", "build_networks", "plan_from", "read_saved_run", "TrainingMetrics"):
        count(module, name)
    count(plan_module, "build_networks")
    options = config_of(h5, tmp_path / "run", schedule={"total_kimg": 0.016})
    for images in (16, 32):  # a new run, and a resumed one
        calls.clear()
        assert train(replace(options, total_kimg=images / 1000)).images == images
        assert set(calls.values()) == {1}, calls
        assert len(calls) == 5


def test_a_file_without_the_levels_of_the_run(tmp_path: Path) -> None:
    few = write_pyramid(tmp_path / "few.h5", levels=(16, 8))
    message = r"the file has levels 16, 8 alone, the run also shows 4; begin with a level that it has, or build it with"
    with pytest.raises(DataError, match=message), prepare_run(config_of(few, tmp_path / "run")):
        pass
    options = config_of(few, tmp_path / "run", schedule={"start_resolution": 8, "total_kimg": 0.008})
    assert train(options).finished


def test_nothing_is_written_before_the_start(h5: Path, tmp_path: Path) -> None:
    with prepare_run(config_of(h5, tmp_path / "run", preset=PRESET)) as run:
        assert run.plan.lines()[0].startswith("preset test: 16 x 16")
        assert (run.settings.seed, run.settings.precision, run.settings.threads) == (0, "fp32", run.plan.threads)
    assert not (tmp_path / "run").exists()


def test_a_run_that_another_process_began_meanwhile(h5: Path, tmp_path: Path) -> None:
    options = config_of(h5, tmp_path / "run", schedule={"total_kimg": 0.016})
    with prepare_run(options) as run:
        train(options)
        before = (run.out / run_config.FILE_NAME).read_bytes()
        with pytest.raises(DataError, match="another process began a run there meanwhile"):
            loop.train(run)
        assert (run.out / run_config.FILE_NAME).read_bytes() == before
    assert train(options).finished


def states(networks: Networks) -> list[dict[str, Any]]:
    return [dict(part.state_dict()) for part in (networks.generator, networks.discriminator, networks.ema)]


@pytest.mark.parametrize("preset", [PRESET, PRESETS["table1-b"], PRESETS["table1-e-star"], PRESET.with_loss("lsgan")])
def test_a_plan_leaves_the_networks_as_they_were(preset: Preset) -> None:
    preset = preset.with_resolution(16)
    preset = replace(preset, network=replace(preset.network, fmap_base=64, fmap_max=8, latent_size=8))
    stepper = Stepper(build_networks(preset, 0, CPU), preset, 0, "fp32", CPU)
    plan = plan_from(stepper, threads=1)
    assert plan.levels[preset.schedule.start_resolution].measured
    assert_equal_values(states(stepper.networks), states(build_networks(preset, 0, CPU)))
    networks = stepper.networks
    assert not networks.g_optimizer.state
    assert not networks.d_optimizer.state
    assert all(p.grad is None for p in (*networks.generator.parameters(), *networks.discriminator.parameters()))
