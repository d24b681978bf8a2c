"""Runs of style-based networks: the steps' terms, divided minibatches, exact resume, devices."""

import random
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from datatools.errors import DataError
from pggan.config.presets import PRESETS
from pggan.config.schedule import rounds
from pggan.config.settings import Preset
from pggan.data.stream import Batch
from pggan.model.style import W_AVERAGE_DECAY, StyleGenerator
from pggan.training.checkpoints import checkpoints, load_checkpoint
from pggan.training.distributed import Team
from pggan.training.networks import build_networks
from pggan.training.step import Stepper
from pggan.training.style_draws import StyleDraw
from pggan.training.style_terms import PATH_MEANS
from pggan.training.terms import Moment
from tests.support.pggan_runs import (
    Death,
    assert_equal_runs,
    config_of,
    finish,
    kill_at_random_times,
    start,
    stats_of,
    train,
    train_on,
    write_pyramid,
)
from tests.support.style_runs import GROWING, SKIP
from tests.support.tries import Tries

CPU = torch.device("cpu")
TINY = replace(
    PRESETS["style-tiny"],
    schedule=replace(PRESETS["style-tiny"].schedule, total_kimg=0.144, tick_kimg_base=0.144),
)
"""The preset, of 18 minibatches: R1 is due twice, path lengths five times."""


def stepper_of(preset: Preset, **options: object) -> Stepper:
    return Stepper(build_networks(preset, 0, CPU), preset, 0, "fp32", CPU, **options)  # type: ignore[arg-type]


def batch_of(resolution: int, count: int) -> Batch:
    dice = np.random.default_rng(3)
    images = torch.from_numpy(dice.integers(0, 256, (count, 3, resolution, resolution), np.uint8))
    return Batch(images, torch.zeros(count, dtype=torch.bool), torch.arange(count), 0.0)


def moments(preset: Preset, count: int) -> Iterator[Moment]:
    """The first moments of a run, a minibatch each."""
    images = 0
    for state in rounds(preset.schedule):
        for _ in range(preset.schedule.minibatch_repeats):
            if count == 0:
                return
            yield Moment(state, images, batch_of(state.resolution, state.minibatch))
            images, count = images + state.minibatch, count - 1


def step(stepper: Stepper, moment: Moment) -> dict[str, float]:
    assert moment.batch is not None
    found = stepper.generator_step(moment.state, moment.images)
    return found | stepper.discriminator_step(moment.state, moment.images, moment.batch)


def test_terms_are_due_at_their_intervals() -> None:
    stepper = stepper_of(SKIP)
    assert stepper.turns == ("g", "d")
    found = [step(stepper, moment) for moment in moments(SKIP, 6)]
    assert [number for number, stats in enumerate(found) if "path_length" in stats] == [0, 2, 4]
    assert [number for number, stats in enumerate(found) if "r1" in stats] == [0, 4]
    assert all("r1" in step(stepper_of(GROWING), moment) for moment in moments(GROWING, 2))


def test_adam_is_rescaled_where_terms_are_lazy() -> None:
    stepper = stepper_of(SKIP)
    step(stepper, next(moments(SKIP, 1)))
    for optimizer, share in ((stepper.networks.g_optimizer, 2 / 3), (stepper.networks.d_optimizer, 4 / 5)):
        group = optimizer.param_groups[0]
        assert group["lr"] == pytest.approx(0.001 * share)
        assert group["betas"] == pytest.approx((0.0, 0.99**share))
    assert stepper_of(GROWING).networks.d_optimizer.param_groups[0]["betas"] == (0.0, 0.99)


def test_average_of_w_moves_in_each_pass_of_the_generator() -> None:
    stepper = stepper_of(SKIP)
    moment = next(moments(SKIP, 1))
    expected, generator = torch.zeros(8), stepper.networks.generator
    assert isinstance(generator, StyleGenerator)
    draws = {name: StyleDraw.of(stepper, name, moment, 0.9, half) for name, half in (("g", None), ("path", 2))}
    for name in ("g", "path"):  # the weights change between them, by the rate
        w = generator.map(draws[name].latents[0]).mean(dim=0)
        expected = W_AVERAGE_DECAY * expected + (1 - W_AVERAGE_DECAY) * w
    stepper.generator_step(moment.state, 0)
    torch.testing.assert_close(generator.w_average, expected, rtol=0.05, atol=1e-5)
    torch.testing.assert_close(stepper.networks.ema.get_buffer("w_average"), generator.w_average)


def test_mixing_is_alike_in_a_group_and_keeps_places_in_use() -> None:
    stepper = stepper_of(GROWING)
    found = set()
    for images in range(0, 400, 16):
        state = replace(next(moments(GROWING, 1)).state, images=images)
        draw = StyleDraw.of(stepper, "g", Moment(state, images), 0.9)
        assert torch.equal(draw.mixed_from, draw.mixed_from[:4].repeat(4))  # 16 samples in groups of 4
        found |= set(draw.mixed_from.tolist())
    assert found == {1, 2, 3, 4}  # 8 x 8 has 4 places; 4 is no mixing


@pytest.mark.parametrize("preset", [SKIP, GROWING])
def test_divided_minibatches_are_undivided_ones(preset: Preset) -> None:
    whole, parts = stepper_of(preset), stepper_of(preset, max_batch=4)
    moment = next(moments(preset, 1))
    first, second = step(whole, moment), step(parts, moment)
    assert len(parts.division(moment.state.minibatch).by_rank[0]) > 1
    assert first == pytest.approx(second, rel=1e-4)
    for one, other in zip(whole.networks.stored.values(), parts.networks.stored.values(), strict=True):
        for name, value in one.state_dict().items():
            torch.testing.assert_close(value, other.state_dict()[name], rtol=1e-3, atol=1e-5, msg=name)
    assert whole.terms.state().keys() == parts.terms.state().keys()
    for name, value in whole.terms.state().items():
        torch.testing.assert_close(value, parts.terms.state()[name])


@pytest.mark.parametrize(("preset", "images"), [(SKIP, 56), (GROWING, 104)])
def test_resumes_bit_for_bit(preset: Preset, images: int, h5: Path, tmp_path: Path) -> None:
    train(config_of(h5, tmp_path / "straight", preset=preset))
    killed = config_of(h5, tmp_path / "killed", preset=preset)
    assert finish(start(killed, Death(images=images))) != 0
    assert checkpoints(tmp_path / "killed" / "checkpoints")[0].images < images
    assert finish(start(killed)) == 0
    assert_equal_runs(tmp_path / "straight", tmp_path / "killed")
    parts = [line.get("rgb_std", {}) for line in stats_of(tmp_path / "killed")]
    assert [list(found) for found in parts] == [["4", "8"] if preset is SKIP else []] * len(parts)
    if preset.loss is SKIP.loss:
        saved = load_checkpoint(checkpoints(tmp_path / "killed" / "checkpoints")[0])
        assert saved[PATH_MEANS].item() > 0
        assert saved["generator"]["w_average"].norm() > 0


@pytest.mark.parametrize("preset", [TINY, GROWING], ids=["style-tiny", "growing"])
def test_killed_at_random_times_is_the_same(preset: Preset, tmp_path: Path, tries: Tries) -> None:
    h5 = write_pyramid(tmp_path / "ramps.h5", 20, preset.network.resolution)
    reference = config_of(h5, tmp_path / "reference", preset=preset, checkpoint_kimg=0.016)
    begin = time.monotonic()
    train(reference)
    seconds, runs, dice = time.monotonic() - begin, tries.count(1, 4), random.Random(7)
    for run in range(runs):
        killed = replace(reference, out=tmp_path / f"killed{run}")
        kills = kill_at_random_times(killed, dice, seconds)
        assert_equal_runs(tmp_path / "reference", killed.out)
    kind = "that grows" if preset is GROWING else "as style-tiny"
    outcome = "the same bytes of models, checkpoints and statistics in the end"
    tries.record(f"kill -9 of a training at random moments, StyleGAN {kind}", runs * kills, outcome)


def test_means_of_other_devices_are_told() -> None:
    said: list[str] = []
    stepper = stepper_of(SKIP, team=Team(0, 2), say=said.append)
    stepper.terms.load({PATH_MEANS: torch.tensor([1.0, 2.0, 6.0])})
    assert stepper.terms.state()[PATH_MEANS].tolist() == [3.0, 3.0]
    assert "3 device(s)" in said[0]


def test_two_devices_resume_exactly_and_agree_with_one(h5: Path, tmp_path: Path) -> None:
    for name, kimg in (("straight", 0.064), ("stopped", 0.032), ("stopped", 0.064)):
        train_on(2, config_of(h5, tmp_path / name, preset=SKIP, schedule={"total_kimg": kimg}))
    straight, stopped = (
        load_checkpoint(checkpoints(tmp_path / name / "checkpoints")[0]) for name in ("straight", "stopped")
    )
    assert torch.equal(straight[PATH_MEANS], stopped[PATH_MEANS])
    assert len(straight[PATH_MEANS]) == 2
    final = [(tmp_path / name / "final.safetensors").read_bytes() for name in ("straight", "stopped")]
    assert final[0] == final[1]
    train(config_of(h5, tmp_path / "one", preset=SKIP, schedule={"total_kimg": 0.064}))
    one, two = stats_of(tmp_path / "one")[0]["loss"], stats_of(tmp_path / "straight")[0]["loss"]
    assert one.keys() == two.keys()
    for name in ("g_loss", "d_loss", "r1", "path_length"):  # each device has its own running mean of lengths
        assert one[name] == pytest.approx(two[name], rel=1e-2), name


def test_labels_and_foreign_losses_are_refused(h5: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="trained without classes"):
        SKIP.with_classes(2)
    with pytest.raises(DataError, match="loss wgan-gp"):
        SKIP.with_loss("wgan-gp")
    with pytest.raises(DataError, match="down_step fused"):
        train(config_of(h5, tmp_path / "run", preset=SKIP, down_step="fused"))
    with pytest.raises(DataError, match="do not grow"):
        train(config_of(h5, tmp_path / "run", preset=SKIP, start_resolution=4))
