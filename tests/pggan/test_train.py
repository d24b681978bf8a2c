"""The command line: chooses, checks, refuses with one line, and continues with the same command."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from pggan import train as train_module
from pggan.config.presets import get_preset
from pggan.config.settings import NetworkConfig, OptimizerConfig, Preset
from pggan.media.grids import grid_size, tile
from pggan.precision import LossScale
from pggan.train import main
from pggan.training import run as run_module
from pggan.training.models import load_model
from pggan.training.networks import build_networks
from pggan.training.options import TrainingOptions
from pggan.training.plan import Plan, activations, make_plan, multiplications, plan_from
from pggan.training.run import StopFlag, base_preset, suggested_preset
from pggan.training.run_config import read_saved_run
from pggan.training.step import Stepper
from tests.support import foreign
from tests.support.pggan_runs import PRESET, stats_of, train, write_pyramid

SMALL = (
    *("--preset", "tiny", "--fmap-base", 64, "--fmap-max", 8, "--latent-size", 8, "--minibatch", 4, "--workers", 0),
    *(
        "--training-kimg",
        0.016,
        "--transition-kimg",
        0.016,
        "--total-kimg",
        0.032,
        "--device",
        "cpu",
        "--tick-kimg",
        0.016,
    ),
)


@pytest.fixture(scope="module")
def h5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return write_pyramid(tmp_path_factory.mktemp("pyramid") / "ramps.h5", attributes=True)


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert "Traceback" not in result.output
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def test_same_command_trains_and_goes_on(h5: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    first = run("--h5", h5, "--out", out, *SMALL)
    assert first.exit_code == 0, first.output
    assert "preset tiny: 16 x 16" in first.output
    assert "finished after 32 images" in first.output
    again = run("--h5", h5, "--out", out, *SMALL)
    assert again.exit_code == 0
    assert "resumed from 32 images" in again.output
    bare = run("--h5", h5, "--out", out, "--total-kimg", 0.064, "--device", "cpu")  # the run knows its settings
    assert bare.exit_code == 0, bare.output
    assert "finished after 64 images" in bare.output
    changed = run("--h5", h5, "--out", out, *SMALL, "--seed", 3, "--loss", "lsgan", "--down-step", "unfused")
    assert changed.exit_code == 1
    for word in ("--seed is 3", "--loss", "--down-step", "--fork"):
        assert word in changed.output
    assert changed.output.count("\n") == 1


def test_runs_of_older_versions_keep_their_settings(h5: Path, tmp_path: Path) -> None:
    tiny = replace(get_preset("tiny").with_resolution(16), optimizer=OptimizerConfig())
    network = replace(tiny.network, fmap_base=64, fmap_max=8, latent_size=8)
    schedule = replace(tiny.schedule, rate_base=0.001, minibatch_base=8, total_kimg=0.064)
    config = TrainingOptions(h5, tmp_path / "straight", replace(tiny, network=network, schedule=schedule), workers=0)
    train(config)
    out = tmp_path / "run"
    train(replace(config, out=out, preset=replace(config.preset, schedule=replace(schedule, total_kimg=0.032))))
    values = json.loads((out / "config.json").read_text())
    del values["preset"]["optimizer"]["ema_ramp"]
    values["preset"]["optimizer"]["average_decay"] = values["preset"]["optimizer"].pop("ema_decay")
    (out / "config.json").write_text(json.dumps(values))
    again = run("--h5", h5, "--out", out, "--preset", "tiny", "--total-kimg", 0.064, "--workers", 0, "--device", "cpu")
    assert again.exit_code == 0, again.output
    assert "resumed from 32 images" in again.output
    saved = read_saved_run(out)
    assert saved is not None
    assert saved.preset == config.preset
    assert (out / "final.safetensors").read_bytes() == (tmp_path / "straight" / "final.safetensors").read_bytes()


def test_flags_reach_the_settings(h5: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    flags = "--labels Male --loss lsgan --stddev-group 2 --no-mirror --learning-rate 0.01 --resolution 8 --no-tf32"
    result = run("--h5", h5, "--out", out, *SMALL, *flags.split(), "--start-resolution", 8, "--precision", "bf16")
    assert result.exit_code == 0, result.output
    saved = read_saved_run(out)
    assert saved is not None
    assert (saved.labels, saved.precision, saved.tf32) == ("Male", "bf16", False)
    network, schedule = saved.preset.network, saved.preset.schedule
    assert (network.classes, network.stddev_group, network.resolution, network.d_noise) == (2, 2, 8, 0.2)
    assert (schedule.rate_base, schedule.start_resolution, saved.preset.mirror) == (0.01, 8, False)
    assert stats_of(out)[0]["resolution"] == 8


def test_config_starts_a_run_with_the_settings_of_another(h5: Path, tmp_path: Path) -> None:
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    run("--h5", h5, "--out", first, *SMALL, "--seed", 3, "--labels", "Male", "--loss", "lsgan", "--threads", 1)
    for out, path in ((second, first), (third, first / "config.json")):
        result = run("--h5", h5, "--out", out, "--config", path, "--device", "cpu", "--workers", 0)
        assert result.exit_code == 0, result.output
        assert (out / "config.json").read_bytes() == (first / "config.json").read_bytes()
        assert (out / "final.safetensors").read_bytes() == (first / "final.safetensors").read_bytes()
    changed = ("--h5", h5, "--out", tmp_path / "changed", "--config", first, "--device", "cpu", "--seed", 4)
    assert run(*changed, "--resolution", 8, "--dry-run").exit_code == 0
    assert run(*changed).exit_code == 0
    saved, before = read_saved_run(tmp_path / "changed"), read_saved_run(first)
    assert saved is not None
    assert saved == replace(before, seed=4)
    other = run("--h5", h5, "--out", tmp_path / "changed", "--config", first, "--device", "cpu")
    assert other.exit_code == 1
    assert "--seed is 3, the run has 4" in other.output


def test_config_without_settings_is_refused(h5: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.json"
    text.write_text("[]")
    for path, message in (
        (tmp_path, "has no config.json"),
        (text, "cannot be read"),
        (tmp_path / "a", "has no config"),
    ):
        result = run("--h5", h5, "--out", tmp_path / "run", "--config", path, "--device", "cpu")
        assert result.exit_code == 1
        assert message in result.output
    both = run("--h5", h5, "--config", text, "--preset", "tiny")
    assert "--config" in both.output
    assert "leave out --preset" in both.output
    assert not (tmp_path / "run").exists()


def test_init_from_takes_the_models_networks(h5: Path, tmp_path: Path) -> None:
    run("--h5", h5, "--out", tmp_path / "run", *SMALL)
    arguments = ("--h5", h5, "--out", tmp_path / "tuned", "--init-from", tmp_path / "run", "--total-kimg", 0.032)
    result = run(*arguments, "--device", "cpu")
    assert result.exit_code == 0, result.output
    saved = read_saved_run(tmp_path / "tuned")
    assert saved is not None
    assert saved.preset.network.fmap_max == 8
    assert saved.preset.schedule.start_resolution == 16
    again = run(*arguments, "--device", "cpu")
    assert again.exit_code == 0, again.output
    assert "--init-from is not used again" in again.output
    wrong = run("--h5", h5, "--out", tmp_path / "other", "--init-from", tmp_path / "absent")
    assert wrong.exit_code == 1
    assert "absent: neither a model file nor a run folder" in wrong.output


def test_a_run_starts_from_another_projects_networks_and_resumes(
    h5: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = []
    monkeypatch.setattr(run_module, "load_model", lambda path: reads.append(path) or load_model(path))
    config = NetworkConfig(
        16, latent_size=6, down_step="unfused", g_first_bias="position", fmap_by_level=((2, 7), (4, 7), (8, 5), (16, 4))
    )
    initial = foreign.random_model(config)
    foreign.gan_zoo(tmp_path / "zoo.pth", initial)
    options = ("--h5", h5, "--out", tmp_path / "tuned", "--init-from", tmp_path / "zoo.pth", "--device", "cpu")
    small = ("--minibatch", 4, "--tick-kimg", 0.016, "--learning-rate", 1e-9)
    result = run(*options, *small, "--total-kimg", 0.016)
    assert result.exit_code == 0, result.output
    assert reads == [tmp_path / "zoo.pth"]
    assert f"weights from {tmp_path / 'zoo.pth'}" in result.output
    assert "random weights" not in result.output
    tuned = load_model(tmp_path / "tuned")
    assert tuned.config == config
    for name in ("generator", "discriminator"):  # the EMA follows the generator from here
        for value, start in zip(tuned.stored[name].parameters(), initial.stored[name].parameters(), strict=True):
            torch.testing.assert_close(value, start, atol=1e-4, rtol=1e-4)
    again = run(*options, *small, "--total-kimg", 0.032)
    assert again.exit_code == 0, again.output
    assert "resumed from 16 images" in again.output
    assert len(reads) == 1


def test_a_run_starts_from_another_projects_style_based_networks(h5: Path, tmp_path: Path) -> None:
    initial = foreign.random_model(foreign.STYLE)
    foreign.stylegan2(tmp_path / "stylegan2.pkl", initial)
    small = ("--minibatch", 4, "--tick-kimg", 0.016, "--total-kimg", 0.016, "--learning-rate", 1e-9, "--device", "cpu")
    options = ("--h5", h5, "--out", tmp_path / "tuned", "--init-from", tmp_path / "stylegan2.pkl", *small)
    result = run(*options)
    assert result.exit_code == 0, result.output
    tuned = load_model(tmp_path / "tuned")
    assert tuned.config == foreign.STYLE
    for name in ("generator", "discriminator"):
        for value, start in zip(tuned.stored[name].parameters(), initial.stored[name].parameters(), strict=True):
            torch.testing.assert_close(value, start, atol=1e-4, rtol=1e-4)
    foreign.stylegan2_ada(tmp_path / "labels.pkl", foreign.random_model(replace(foreign.STYLE, classes=3)))
    refused = run("--h5", h5, "--out", tmp_path / "labels", "--init-from", tmp_path / "labels.pkl", *small)
    assert refused.exit_code == 1
    assert "style-based networks are trained without classes; take other networks" in refused.output
    assert len(refused.stderr.splitlines()) == 1
    assert not (tmp_path / "labels").exists()


def test_a_run_from_a_generator_alone_says_what_starts_anew(h5: Path, tmp_path: Path) -> None:
    foreign.interfacegan(tmp_path / "generator.pth", foreign.random_model(foreign.SMALL))
    result = run(
        *("--h5", h5, "--out", tmp_path / "run", "--init-from", tmp_path / "generator.pth", "--device", "cpu"),
        *("--minibatch", 4, "--tick-kimg", 0.016, "--total-kimg", 0.016),
    )
    assert result.exit_code == 0, result.output
    assert "the discriminator starts with random weights" in result.output
    assert load_model(tmp_path / "run").untrained == ()
    frozen = run("--h5", h5, "--out", tmp_path / "frozen", "--init-from", tmp_path / "generator.pth", "--freeze-d", 1)
    assert frozen.exit_code == 1
    assert "--freeze-d 1: is for a trained discriminator; give a model that has one (--init-from)" in frozen.output


def test_a_stopped_run_says_once_how_to_resume(h5: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(StopFlag, "__call__", lambda _: True)
        result = run("--h5", h5, "--out", tmp_path / "run", *SMALL)
    assert result.exit_code == 0, result.output
    last = result.output.splitlines()[-1]
    assert last == "stopped after 16 images, as asked; run the same command again to resume"
    assert result.output.count("resume") == 1
    assert "finished after" in run("--h5", h5, "--out", tmp_path / "run", *SMALL).output


def test_dry_run_prints_the_plan_and_starts_nothing(h5: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    result = run("--h5", h5, "--out", out, *SMALL, "--transition-kimg", 0.064, "--total-kimg", 0.2, "--dry-run")
    assert result.exit_code == 0, result.output
    for word in ("4 ", "8 fading in", "minibatch", "rate", "parameters", "memory", "sec/kimg", "in all about"):
        assert word in result.output
    assert not out.exists()


@pytest.mark.parametrize("more", [("--dry-run",), ()])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--metrics", "ms-ssim@1", "--metrics-images", 5000), "5000 are to be measured"),
        (("--metrics-images", 20), "--metrics-images 20: name the metrics, too"),
        (("--metrics", "swd@1,swd@2"), "--metrics names swd twice"),
    ],
)
def test_metrics_that_cannot_be_are_refused_before_there_is_a_folder(
    h5: Path, tmp_path: Path, options: tuple[object, ...], message: str, more: tuple[str, ...]
) -> None:
    result = run("--h5", h5, "--out", tmp_path / "run", *SMALL, *options, *more)
    assert result.exit_code == 1
    assert message in result.output
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("resolution", "name"), [(16, "faces-32"), (32, "faces-32"), (128, "faces-128")])
def test_suggested_presets(resolution: int, name: str) -> None:
    assert suggested_preset(resolution) == name
    assert suggested_preset(1024) == "celebahq-v2"


def test_years_on_a_cpu_are_not_started_silently(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    large = write_pyramid(tmp_path / "large.h5", 4, 256)
    plans = []

    def quick(preset: Preset, *rest: Any, **more: Any) -> Plan:
        plans.append(preset.name)
        return make_plan(preset, *rest, **more)

    def first(stepper: Stepper, *rest: Any) -> Plan:
        plans.append(stepper.preset.name)
        return plan_from(stepper, *rest)

    monkeypatch.setattr("pggan.training.plan.measure", lambda *_: None)  # plans without measuring: as of a slow CPU
    monkeypatch.setattr("pggan.training.run.plan_from", first)
    monkeypatch.setattr(train_module, "make_plan", quick)
    result = run("--h5", large, "--device", "cpu")
    assert result.exit_code == 1
    assert "preset celebahq-v2" in result.output
    assert "on this CPU" in result.output
    assert "--preset faces-32" in result.output
    assert plans == ["celebahq-v2", "faces-32"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["large.h5"]


def test_schedule_follows_the_number_of_devices_and_stays(h5: Path, tmp_path: Path) -> None:
    for devices, minibatch in ((1, 128), (2, 256), (4, 512), (8, 512)):
        preset = base_preset(TrainingOptions(h5, preset="celebahq-v2"), None, 1024, devices)
        assert dict(preset.schedule.minibatch_by_level)[4] == minibatch
    run("--h5", h5, "--out", tmp_path / "run", *SMALL)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["devices"] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--preset", "faces32"), "--preset faces32: unknown; did you mean faces-32?"),
        (("--preset", "nonsense"), "--preset nonsense: unknown; choose one of celebahq"),
        (("--resolution", 64), "--resolution 64: the file has levels up to 16"),
        (("--labels", "Smile"), "no attribute 'Smile', did you mean 'Smiling'"),
        (("--preset", "tiny", "--start-resolution", 32), "--start-resolution 32"),
        (("--keep", 0), "--keep: 0 is not in the range x>=1"),
        (("--preset", "tiny", "--device", "cuda"), "--device cuda"),
        (
            ("--preset", "style-tiny", "--resolution", 16, "--labels", "Male"),
            "--labels style-based networks are trained without classes; leave the labels out",
        ),
        (
            ("--preset", "tiny", "--resolution", 16, "--metrics", "ppl@1", "--distance", "pixels"),
            "ppl measures style-based models, and this model is a progressive GAN, which has no w: leave ppl out",
        ),
    ],
)
def test_mistakes_are_told_in_a_line(
    h5: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[object, ...], message: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    result = run("--h5", h5, "--out", tmp_path / "run", *arguments)
    assert result.exit_code != 0
    assert message in " ".join(result.output.split())
    assert not (tmp_path / "run").exists()


def test_a_label_file_for_a_preset_without_labels(tmp_path: Path) -> None:
    h5 = write_pyramid(tmp_path / "ramps.h5", 4)
    np.save(tmp_path / "ramps-labels.npy", np.eye(2, dtype=np.float32)[[0, 1, 0, 1]])
    words = ("--h5", h5, "--preset", "style-tiny", "--resolution", 16, "--labels", "file")
    result = run(*words, "--out", tmp_path / "run")
    assert result.exit_code == 1
    assert "--labels style-based networks are trained without classes; leave the labels out" in result.output
    assert result.output.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_file_that_is_no_pyramid(tmp_path: Path) -> None:
    (tmp_path / "photo.h5").write_text("no")
    result = run("--h5", tmp_path / "photo.h5")
    assert result.exit_code == 1
    assert "photo.h5" in result.output


def test_plan_counts_the_work_of_convolutions() -> None:
    network = PRESET.network
    g, d = multiplications(network, 4)
    assert g == 8 * 8 * 16 + 9 * 16 * 64 + 3 * 16 * 8
    assert d == 9 * 16 * 64 + 16 * 8 * 8 + 3 * 16 * 8
    assert multiplications(network, 16)[1] > 4 * d
    assert activations(network, 16) > activations(network, 8) > 0


def test_plan_has_every_level_and_the_whole_time() -> None:
    plan = make_plan(PRESET, torch.device("cpu"), "fp32")
    assert list(plan.levels) == [4, 8, 16]
    assert all(level.seconds > 0 and level.bytes > 2**28 for level in plan.levels.values())
    assert plan.seconds() == pytest.approx(
        sum((stage.end_image - stage.first_image) * plan.levels[stage.resolution].seconds for stage in plan.stages)
    )
    assert plan.seconds(200) == 0
    assert plan.seconds_left(100, 8, 2 * plan.levels[8].seconds) == pytest.approx(2 * plan.seconds(100))


def test_parameters_of_the_plan_are_those_of_the_networks() -> None:
    plan = make_plan(get_preset("tiny"), torch.device("cpu"), "fp32")
    networks = build_networks(get_preset("tiny"), 0, torch.device("cpu"))
    colors = sum(p.numel() for n, p in networks.generator.named_parameters() if "to_rgb" in n and ".32." not in n)
    assert plan.levels[32].g_parameters == sum(p.numel() for p in networks.generator.parameters()) - colors


def test_loss_scale_backs_off_and_recovers() -> None:
    scale = LossScale.for_precision("fp16")
    before = scale.value
    assert scale.after(finite=False)
    assert scale.value == before / 2
    for _ in range(scale.patience):
        assert scale.after(finite=True)
    assert scale.value == before
    other = LossScale.for_precision("fp16")
    other.load(scale.state())
    assert (other.value, other.good) == (scale.value, scale.good)
    tries = 0
    while scale.after(finite=False):
        tries += 1
    assert 10 < tries < 40
    assert not LossScale.for_precision("bf16").after(finite=False)


@pytest.mark.parametrize(("resolution", "size"), [(4, (32, 32)), (64, (30, 16)), (128, (15, 8)), (1024, (3, 2))])
def test_grid_fills_a_screen(resolution: int, size: tuple[int, int]) -> None:
    assert grid_size(resolution) == size


def test_tiles_lie_row_by_row() -> None:
    pictures = np.arange(5, dtype=np.uint8).repeat(12).reshape(5, 2, 2, 3)
    grid = tile(pictures, 3)
    assert grid.shape == (4, 6, 3)
    assert grid[::2, ::2, 0].tolist() == [[0, 1, 2], [3, 4, 0]]


@pytest.mark.parametrize("option", ["--total-kimg", "--learning-rate", "--tick-kimg"])
@pytest.mark.parametrize("value", ["nan", "inf"])
def test_numbers_are_finite(option: str, value: str, h5: Path, tmp_path: Path) -> None:
    result = run("--h5", h5, "--out", tmp_path / "run", *SMALL, option, value)
    assert result.exit_code == 2
    assert f"{value} is not a finite number" in result.output or "not in the range" in result.output
    assert not (tmp_path / "run").exists()


def test_settings_that_diverge_at_once(h5: Path, tmp_path: Path) -> None:
    result = run("--h5", h5, "--out", tmp_path / "run", *SMALL, "--learning-rate", 1e30, "--dry-run")
    assert result.exit_code == 1
    assert "these settings diverge at once" in result.output
