"""A run continues after any stop as if there had been none, and says what it does."""

import json
import os
import random
import re
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from datatools.errors import DataError
from pggan.config.presets import PRESETS
from pggan.config.schedule import ScheduleState
from pggan.data.stream import Batch
from pggan.media.video import snapshots
from pggan.report.data import read_stats
from pggan.training import chores, session
from pggan.training.checkpoints import checkpoints
from pggan.training.loop import Result
from pggan.training.models import load_model
from pggan.training.options import TrainingOptions
from pggan.training.run import Run
from pggan.training.step import Stepper
from tests.support.pggan_runs import (
    FADING,
    GROWTH,
    PRESET,
    Death,
    assert_equal_runs,
    config_of,
    events_of,
    finish,
    kill_at_random_times,
    start,
    stats_of,
    train,
    write_pyramid,
)
from tests.support.tries import Tries


def test_run_folder(straight: Path) -> None:
    assert {"config.json", "log.txt", "stats.jsonl", "tensorboard", "reals.png", "fakes000000.png"} <= {
        path.name for path in straight.iterdir()
    }
    lines = stats_of(straight)
    assert [kimg for kimg, _ in snapshots(straight)] == [0, *(line["images"] / 1000 for line in lines)]
    assert [line["images"] for line in lines] == [24, 48, 72, 96, 120, 144, 168, 192, 200]
    assert {"d_loss", "g_loss", "real_score", "fake_score", "mixed_score", "gradient_norm", "non_finite"} <= set(
        lines[0]["loss"]
    )
    assert events_of(straight) == [("started", None), ("growing", 40), ("growing", 104), ("finished", 200)]
    first = json.loads((straight / "stats.jsonl").read_text().splitlines()[1])
    assert first["timing"]["images_per_second_loader"] > 0
    assert first["timing"]["images_per_second_step"] > 0
    assert first["memory"]["process_peak"] > 1e7
    log = (straight / "log.txt").read_text()
    for word in ("kimg 0.02", "res 4", "alpha 1.00", "batch 4", "sec/kimg", "mem", "ETA"):
        assert word in log


def test_checkpoint_before_every_growth(h5: Path, tmp_path: Path) -> None:
    config = config_of(h5, tmp_path / "run", keep=100, checkpoint_kimg=1000.0)
    train(config)
    # start, first fade, level 8 whole, second fade, level 16 whole, end
    found = [checkpoint.images for checkpoint in reversed(checkpoints(config.out / "checkpoints"))]
    assert found == [0, 40, 64, 104, 128, 200]


def test_only_the_newest_are_kept(straight: Path) -> None:
    assert [checkpoint.images for checkpoint in checkpoints(straight / "checkpoints")] == [200, 192, 168]
    assert len(list((straight / "checkpoints").iterdir())) == 6


@pytest.mark.parametrize("images", [FADING + 4, GROWTH + 8, 104], ids=["in a fade", "at a growth", "at a stage"])
def test_killed_and_gone_on_is_the_same(h5: Path, straight: Path, tmp_path: Path, images: int) -> None:
    config = config_of(h5, tmp_path / "run")
    assert finish(start(config, Death(images=images))) == -signal.SIGKILL
    assert finish(start(config)) == 0
    assert_equal_runs(straight, config.out)
    assert "resumed from" in (config.out / "log.txt").read_text()
    events = [kind for kind, _ in events_of(config.out) if kind != "growing"]
    assert events == ["started", "started", "resumed", "finished"]


def test_killed_with_workers_is_the_same(h5: Path, straight: Path, tmp_path: Path) -> None:
    config = config_of(h5, tmp_path / "run", workers=2)
    assert finish(start(config, Death(images=100), memory_bytes=0)) == -signal.SIGKILL
    assert finish(start(config, memory_bytes=0)) == 0
    assert_equal_runs(straight, config.out)


def test_killed_while_checkpoints_are_written_is_the_same(h5: Path, straight: Path, tmp_path: Path) -> None:
    config = config_of(h5, tmp_path / "run")
    for renames in (1, 4, 3):  # a checkpoint itself, and the mark that says it is complete
        assert finish(start(config, Death(renames=renames))) == -signal.SIGKILL
    assert finish(start(config)) == 0
    assert_equal_runs(straight, config.out)


def test_killed_at_random_times_is_the_same(h5: Path, straight: Path, tmp_path: Path, tries: Tries) -> None:
    config, dice = config_of(h5, tmp_path / "run", checkpoint_kimg=0.008), random.Random(3)
    reference = replace(config, out=tmp_path / "reference")
    begin = time.monotonic()
    train(reference)
    seconds, runs = time.monotonic() - begin, tries.count(1, 12)
    for run in range(runs):
        killed = replace(config, out=tmp_path / f"run{run}")
        kills = kill_at_random_times(killed, dice, seconds)
        assert_equal_runs(reference.out, killed.out)
        assert stats_of(straight) == stats_of(killed.out)  # how often it is saved changes nothing
    outcome = "the same bytes of models, checkpoints and statistics in the end"
    tries.record("kill -9 of a training at random moments, progressive GAN", runs * kills, outcome)


def test_damaged_newest_checkpoint_falls_back(h5: Path, straight: Path, tmp_path: Path) -> None:
    config = config_of(h5, tmp_path / "run")
    assert finish(start(config, Death(images=100))) == -signal.SIGKILL
    newest = checkpoints(config.out / "checkpoints")[0]
    data = bytearray(newest.path.read_bytes())
    data[len(data) // 2] ^= 1
    newest.path.write_bytes(data)
    train(config)
    log = (config.out / "log.txt").read_text()
    assert f"warning: {newest.path.name} is damaged" in log
    (lost,) = [images for kind, images in events_of(config.out) if kind == "discarded"]
    assert lost == 96
    stats = read_stats(config.out / "stats.jsonl")
    assert [(session.first, session.last) for session in stats.sessions] == [(0, 96), (72, 200)]
    assert [m.text.startswith(newest.path.name) for m in stats.messages if m.kind == "warning"] == [True]
    assert_equal_runs(straight, config.out)


def test_nothing_is_lost_when_no_checkpoint_can_be_read(h5: Path, tmp_path: Path) -> None:
    config = config_of(h5, tmp_path / "run")
    assert finish(start(config, Death(images=100))) == -signal.SIGKILL
    folder = config.out / "checkpoints"
    for found in checkpoints(folder):
        found.path.write_bytes(b"spoiled")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(DataError, match="can be used, and they are left as they are"):
        train(config)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_fork_that_cannot_be_leaves_the_settings_as_they_were(h5: Path, straight: Path, tmp_path: Path) -> None:
    config = config_of(h5, tmp_path / "run")
    assert finish(start(config, Death(images=100))) == -signal.SIGKILL
    other = config_of(h5, config.out).preset
    wider = replace(other, network=replace(other.network, fmap_base=other.network.fmap_base // 2))
    with pytest.raises(DataError, match="other shapes"):
        train(replace(config, preset=wider, fork=True))
    train(config)
    assert_equal_runs(straight, config.out)


def test_sigterm_saves_and_exits_with_0(h5: Path, straight: Path, tmp_path: Path) -> None:
    config = config_of(h5, tmp_path / "run", checkpoint_kimg=1000.0)
    assert finish(start(config, Death(images=100, signal=signal.SIGTERM))) == 0
    assert "stopped after" in (config.out / "log.txt").read_text()
    assert not (config.out / "final.safetensors").exists()
    train(replace(config, checkpoint_kimg=None))
    assert_equal_runs(straight, config.out)


def test_two_processes_do_not_train_in_one_folder(h5: Path, tmp_path: Path, tries: Tries) -> None:
    count, dice = tries.count(1, 6), random.Random(4)
    for attempt in range(count):
        config = config_of(h5, tmp_path / f"run{attempt}")
        process = start(replace(config, preset=PRESETS["tiny"].with_resolution(16)))
        try:
            while process.is_alive() and not list(config.out.glob("checkpoints/*.json")):
                time.sleep(0.01)
            time.sleep(dice.uniform(0, 1) * attempt)
            with pytest.raises(DataError, match="another process is training there"):
                train(config)
        finally:
            process.kill()
        assert finish(process) == -signal.SIGKILL
        assert "resumed" not in (config.out / "log.txt").read_text()
    tries.record("two trainings at once in one folder", count, "one line; the first one is not disturbed")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seed": 1}, "--seed is 1, the run has 0"),
        ({"precision": "bf16"}, "--precision is bf16"),
        ({"schedule": {"minibatch_base": 8}}, "--minibatch .* is 8, the run has 4"),
        ({"loss": {"gradient_norm": "native"}}, "--gradient-norm .* is native, the run has full"),
    ],
)
def test_changed_settings_are_refused_by_name(h5: Path, straight: Path, changes: dict, named: str) -> None:
    before = (straight / "config.json").read_bytes()
    with pytest.raises(DataError, match=named):
        train(config_of(h5, straight, **changes))
    assert (straight / "config.json").read_bytes() == before


def test_other_data_are_refused(straight: Path, tmp_path: Path) -> None:
    other = write_pyramid(tmp_path / "other.h5", 40)
    with pytest.raises(DataError, match="--h5 is another data set: 40 images"):
        train(config_of(other, straight))


def test_longer_training_is_no_changed_setting_and_fork_is_asked_for(h5: Path, tmp_path: Path) -> None:
    config = config_of(h5, tmp_path / "run", schedule={"total_kimg": 0.04})
    assert train(config) == Result(40, True)
    longer = config_of(h5, config.out, schedule={"total_kimg": 0.06})
    assert train(longer) == Result(64, True)
    forked = config_of(h5, config.out, schedule={"total_kimg": 0.08, "rate_base": 0.002}, fork=True)
    assert train(forked) == Result(80, True)
    assert stats_of(config.out)[-1]["learning_rate"] == 0.002
    assert (
        "forked: --learning-rate (schedule.rate_base) is 0.002, the run has 0.001"
        in (config.out / "log.txt").read_text()
    )
    assert json.loads((config.out / "config.json").read_text())["forks"]
    kinds = [kind for kind, _ in events_of(config.out) if kind not in ("growing", "note")]
    assert kinds == [
        "started",
        "finished",
        "started",
        "resumed",
        "finished",
        "started",
        "forked",
        "resumed",
        "finished",
    ]


def test_init_from_starts_from_given_weights(straight: Path, tmp_path: Path) -> None:
    out = tmp_path / "tuned"
    preset = replace(PRESET, schedule=replace(PRESET.schedule, start_resolution=16, total_kimg=0.001))
    other = write_pyramid(tmp_path / "other.h5", 30)
    assert train(config_of(other, out, preset=preset, init_from=straight, schedule={"rate_base": 1e-12})).finished
    old, new = load_model(straight / "final.safetensors"), load_model(out / "final.safetensors")
    assert new.images == 8
    for part in ("ema", "generator", "discriminator"):
        pairs = zip(getattr(old, part).parameters(), getattr(new, part).parameters(), strict=True)
        moved = 0.01 if part == "ema" else 1e-6  # the EMA continues to follow the generator
        assert all(torch.allclose(a, b, atol=moved) for a, b in pairs)


def spoil(monkeypatch: pytest.MonkeyPatch, images: int, times: int) -> None:
    """Makes the discriminator's step after `images` images find a loss that is not finite, `times` times."""
    seen, left = -1, times
    step, gradients = Stepper.discriminator_step, Stepper._gradients

    def noting_step(self: Stepper, state: ScheduleState, images: int, batch: Batch) -> dict[str, float]:
        nonlocal seen
        seen = images
        return step(self, state, images, batch)

    def bad_gradients(self: Stepper, *rest: Any) -> Any:
        nonlocal left
        stats, work = gradients(self, *rest)
        if seen == images and left and "d_loss" in stats:
            left -= 1
            stats["d_loss"] = float("nan")
        return stats, work

    monkeypatch.setattr(Stepper, "discriminator_step", noting_step)
    monkeypatch.setattr(Stepper, "_gradients", bad_gradients)


def test_non_finite_loss_goes_back_once(
    h5: Path, straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, 84, 1)
    config = config_of(h5, tmp_path / "run")
    assert train(config).finished
    log = (config.out / "log.txt").read_text()
    assert "not finite: d_loss, in the discriminator's step; going back to the last good checkpoint, once" in log
    assert "resumed from 72 images" in log
    assert [kind for kind, _ in events_of(config.out)].count("resumed") == 1
    (session,) = read_stats(config.out / "stats.jsonl").sessions
    assert (session.first, session.last, session.end) == (0, 200, "finished")
    assert_equal_runs(straight, config.out)  # nothing was updated by the bad step


def test_non_finite_loss_again_stops_with_the_phase(h5: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, 52, 2)
    config = config_of(h5, tmp_path / "run")
    with pytest.raises(DataError, match=r"after 52 images, at 8 x 8, fading in with weight 0\.50: not finite: d_loss"):
        train(config)
    assert checkpoints(config.out / "checkpoints")[0].images == 48  # and nothing bad was saved
    assert events_of(config.out)[-1][0] == "failed"


def test_every_row_of_table_1_trains(h5: Path, tmp_path: Path) -> None:
    rows = [name for name in PRESETS if name.startswith("table1-")]
    assert len(rows) == 9
    for name in rows:
        preset = PRESETS[name].with_resolution(16)
        preset = replace(
            preset,
            network=replace(preset.network, fmap_base=64, fmap_max=8, latent_size=8),
            schedule=replace(
                preset.schedule, total_kimg=0.09, training_kimg=0.01, transition_kimg=0.01, minibatch_repeats=1
            ),
        )
        out = tmp_path / name
        assert train(config_of(h5, out, preset=preset)).finished
        assert stats_of(out)[-1]["loss"]["non_finite"] == 0


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_precisions_train_and_resume(h5: Path, tmp_path: Path, precision: str) -> None:
    config = config_of(h5, tmp_path / "run", precision=precision, schedule={"total_kimg": 0.08})
    assert finish(start(config, Death(images=56))) == -signal.SIGKILL
    assert finish(start(config)) == 0
    reference = replace(config, out=tmp_path / "straight")
    train(reference)
    assert_equal_runs(reference.out, config.out)


def test_ema_with_a_ramp_resumes(h5: Path, tmp_path: Path) -> None:
    preset = replace(PRESET, optimizer=replace(PRESET.optimizer, ema_ramp=0.05))
    config = config_of(h5, tmp_path / "run", preset=preset, schedule={"total_kimg": 0.08})
    assert finish(start(config, Death(images=56))) == -signal.SIGKILL
    assert finish(start(config)) == 0
    reference = replace(config, out=tmp_path / "straight")
    train(reference)
    assert_equal_runs(reference.out, config.out)


def test_lsgan_and_labels_train_and_resume(tmp_path: Path) -> None:
    h5 = write_pyramid(tmp_path / "labelled.h5", attributes=True)
    preset = replace(PRESET, schedule=replace(PRESET.schedule, total_kimg=0.08)).with_loss("lsgan").with_classes(4)
    config = config_of(h5, tmp_path / "run", preset=preset, labels="Smiling,Male")
    assert finish(start(config, Death(images=56))) == -signal.SIGKILL
    assert finish(start(config)) == 0
    reference = replace(config, out=tmp_path / "straight")
    train(reference)
    assert_equal_runs(reference.out, config.out)
    assert {"label_loss", "real_label_loss", "fake_label_loss"} <= set(stats_of(config.out)[-1]["loss"])


def test_micro_batches_give_the_gradients_of_the_whole(
    h5: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[list[torch.Tensor]] = []
    step = Stepper._gradients

    def keep(stepper: Stepper, parameters: list[torch.nn.Parameter], *rest: object) -> dict[str, float]:
        stats = step(stepper, parameters, *rest)  # type: ignore[arg-type]
        if stepper.max_batch in (None, 4) and len(found) < 2:
            found.append([p.grad.clone() for p in parameters if p.grad is not None])
        return stats

    gradients = []
    for limit in (None, 4):
        monkeypatch.undo()
        found.clear()
        schedule = {"total_kimg": 0.016, "minibatch_base": 16, "minibatch_repeats": 1}
        config = config_of(h5, tmp_path / f"run{limit}", schedule=schedule, max_batch_per_device=limit)
        begin = session.begin

        def begin_and_keep(run: Run, begin: object = begin) -> None:
            begin(run)  # type: ignore[operator]
            monkeypatch.setattr(Stepper, "_gradients", keep)

        monkeypatch.setattr(session, "begin", begin_and_keep)
        train(config)
        gradients.append([list(each) for each in found])
    assert len(gradients[0]) == 2  # both steps
    for whole, parts in zip(*gradients, strict=True):
        scale = max(float(g.abs().max()) for g in whole)
        assert scale > 0
        assert all((a - b).abs().max() <= 1e-6 * scale for a, b in zip(whole, parts, strict=True))


def test_settings_are_checked(tmp_path: Path) -> None:
    for changes, named in (
        ({"seed": -1}, "seed -1 "),
        ({"keep": 0}, "keep 0 "),
        ({"checkpoint_kimg": 0.0}, "checkpoint_kimg 0.0 "),
    ):
        with pytest.raises(DataError, match=named):
            TrainingOptions(h5=tmp_path / "a.h5", out=tmp_path, preset=PRESET, **changes)  # type: ignore[arg-type]


def test_a_long_tick_shows_life_on_the_console(
    h5: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(chores, "SILENCE", 0.0)
    train(config_of(h5, tmp_path / "run", schedule={"total_kimg": 0.032}))
    shown = re.findall(
        r"^kimg 0\.\d\d, status line at 0\.02(?: in about [\d.]+ m?s)?$", capsys.readouterr().out, re.MULTILINE
    )
    assert shown
    assert " in about " in shown[-1]
    assert "status line at" not in (tmp_path / "run" / "log.txt").read_text(encoding="utf-8")


def test_a_training_goes_on_without_its_console(h5: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Path("/dev/full").open("w", buffering=1) as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert train(config_of(h5, tmp_path / "run", schedule={"total_kimg": 0.032})).finished
        monkeypatch.undo()
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())  # for the flush of what it still holds
    assert "finished after" in (tmp_path / "run" / "log.txt").read_text(encoding="utf-8")
