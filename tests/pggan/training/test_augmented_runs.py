"""Runs with augmentation resume exactly, those of strength 0 are as without, and freezing keeps weights."""

import random
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from datatools.errors import SettingError
from pggan.data.stream import Batch
from pggan.training.checkpoints import checkpoints, load_checkpoint
from pggan.training.distributed import Team
from pggan.training.models import load_model
from pggan.training.networks import build_networks
from pggan.training.options import TrainingOptions
from pggan.training.plan import trial_round
from pggan.training.step import Stepper
from tests.support.pggan_runs import (
    PRESET,
    Death,
    assert_equal_runs,
    assert_equal_values,
    config_of,
    finish,
    kill_at_random_times,
    start,
    stats_of,
    train,
    write_pyramid,
)

CPU = torch.device("cpu")
ADA = {"kind": "ada", "target": 0.45, "kimg": 0.15}
SCHEDULE = {"minibatch_base": 8, "minibatch_repeats": 1, "rate_base": 0.02}


def ada_run(h5: Path, out: Path) -> TrainingOptions:
    """Strength that changes every 32 images, in micro-batches of half a minibatch."""
    return config_of(h5, out, augment=ADA, schedule=SCHEDULE, max_batch_per_device=4)


@pytest.fixture(scope="module")
def undisturbed(h5: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("ada") / "run"
    assert train(ada_run(h5, out)).finished
    return out


def test_strength_and_overfitting_are_in_the_log(undisturbed: Path) -> None:
    losses = [line["loss"] for line in stats_of(undisturbed)]
    assert all(-1 <= loss["r_t"] <= 1 for loss in losses)
    assert losses[0]["augment_p"] == 0
    assert 0 < max(loss["augment_p"] for loss in losses) <= 1
    state = load_checkpoint(checkpoints(undisturbed / "checkpoints")[0])["augment"]
    assert f"ada {state['strength']:.3f}" in (undisturbed / "log.txt").read_text().splitlines()[-2]
    assert len(state["measures"]) == 200 // 8 % 4


def test_killed_between_two_changes_of_the_strength_is_the_same(h5: Path, undisturbed: Path, tmp_path: Path) -> None:
    config = ada_run(h5, tmp_path / "run")
    assert finish(start(config, Death(images=120))) == -signal.SIGKILL
    newest = load_checkpoint(checkpoints(config.out / "checkpoints")[0])
    assert len(newest["augment"]["measures"]) == 3  # of 15 minibatches
    assert finish(start(config)) == 0
    assert_equal_runs(undisturbed, config.out)


@pytest.mark.parametrize("kind", ["ada", "diffaugment"])
def test_killed_at_random_times_is_the_same(h5: Path, tmp_path: Path, kind: str) -> None:
    config = replace(ada_run(h5, tmp_path / "run"), checkpoint_kimg=0.008)
    config = replace(config, preset=replace(config.preset, augment=replace(config.preset.augment, kind=kind)))
    reference, dice = replace(config, out=tmp_path / "reference"), random.Random(7)
    begin = time.monotonic()
    train(reference)
    kill_at_random_times(config, dice, time.monotonic() - begin)
    assert_equal_runs(reference.out, config.out)


def test_without_strength_a_run_is_as_without_augmentation(h5: Path, straight: Path, tmp_path: Path) -> None:
    config = config_of(h5, tmp_path / "run", augment={**ADA, "target": 1.0})  # no r_t is above 1
    train(config)
    found, expected = (load_checkpoint(checkpoints(out / "checkpoints")[0]) for out in (config.out, straight))
    del found["augment"]
    for values in (found, expected):
        del values["tick"]
    assert_equal_values(found, expected)
    assert (config.out / "final.safetensors").read_bytes() == (straight / "final.safetensors").read_bytes()
    for one, other in zip(stats_of(config.out), stats_of(straight), strict=True):
        assert one["loss"].pop("augment_p") == 0
        del one["loss"]["r_t"]
        assert one == other


@pytest.mark.parametrize("kind", ["ada", "diffaugment"])
def test_parts_and_devices_give_the_gradients_of_the_whole(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    found: dict[str, list[torch.Tensor]] = {}
    gradients = Stepper._gradients

    def keep(stepper: Stepper, parameters: list[torch.nn.Parameter], *rest: Any) -> Any:
        result = gradients(stepper, parameters, *rest)
        found[rest[2].name] = [p.grad.clone() for p in parameters if p.grad is not None]
        return result

    def steps_of(max_batch: int | None, team: Team) -> tuple[dict[str, list[torch.Tensor]], dict[str, float]]:
        """Return the gradients of both networks, and the discriminator's statistics."""
        preset = replace(PRESET, augment=replace(PRESET.augment, kind=kind))
        networks = build_networks(preset, 0, CPU)
        stepper = Stepper(networks, preset, 0, "fp32", CPU, team, max_batch=max_batch)
        stepper.augmenter.strength = 0.8
        state, _ = trial_round(preset, 16, 8)
        images = torch.randint(0, 256, (8, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
        rows = torch.from_numpy(stepper.rows(8))
        stats = stepper.discriminator_step(state, 32, Batch(images[rows], rows < 0, rows, 0.0))
        networks.discriminator.load_state_dict(build_networks(preset, 0, CPU).discriminator.state_dict())
        stepper.generator_step(state, 40)
        return dict(found), stats

    monkeypatch.setattr(Stepper, "_gradients", keep)
    monkeypatch.setattr(Team, "sum", lambda *_: None)  # the test sums
    whole, stats = steps_of(None, Team())
    parts, in_parts = steps_of(4, Team())
    one, two = (steps_of(None, Team(rank, 2)) for rank in (0, 1))
    for name in ("d", "g"):
        scale = max(float(gradient.abs().max()) for gradient in whole[name])
        summed = [a + b for a, b in zip(one[0][name], two[0][name], strict=True)]
        for other in (parts[name], summed):
            assert all((a - b).abs().max() <= 2e-6 * scale for a, b in zip(whole[name], other, strict=True))
    assert stats["r_t"] == pytest.approx(in_parts["r_t"]) == pytest.approx(one[1]["r_t"] + two[1]["r_t"])


def test_frozen_levels_keep_their_weights_bit_for_bit(straight: Path, tmp_path: Path) -> None:
    other = write_pyramid(tmp_path / "other.h5", 30)
    preset = replace(PRESET, schedule=replace(PRESET.schedule, start_resolution=16, total_kimg=0.016))
    config = config_of(other, tmp_path / "tuned", preset=preset, init_from=straight, optimizer={"freeze_d": 2})
    assert train(config).finished
    before, after = load_model(straight / "final.safetensors"), load_model(config.out / "final.safetensors")
    changed = {
        name.split(".")[1]
        for (name, old), new in zip(
            before.discriminator.state_dict().items(), after.discriminator.state_dict().values(), strict=True
        )
        if not torch.equal(old, new)
    }
    assert changed == {"4"}
    assert not torch.equal(before.generator.level(16).to_rgb.weight, after.generator.level(16).to_rgb.weight)


def test_freezing_needs_a_model(h5: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"freeze_d 1: is for a trained discriminator.*--init-from"):
        train(config_of(h5, tmp_path / "run", optimizer={"freeze_d": 1}))
    assert not (tmp_path / "run").exists()
