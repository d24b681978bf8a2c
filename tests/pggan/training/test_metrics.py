"""Measuring while training changes nothing of it, is done once, keeps the best snapshot, and warns of a collapse."""

import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from datatools.errors import DataError
from pggan.config.settings import Preset
from pggan.data.stream import Source
from pggan.metrics.image_sets import PyramidSet
from pggan.metrics.options import Options
from pggan.model.files import Model
from pggan.train import parse_intervals
from pggan.training import chores, session
from pggan.training import metrics as module
from pggan.training.checkpoints import checkpoints, load_checkpoint
from pggan.training.loop import Result
from pggan.training.metrics import MeasuringInterruptedError, TrainingMetrics
from pggan.training.models import load_model
from pggan.training.options import TrainingOptions
from pggan.training.run import Run
from tests.support.extractors import write_dinov2
from tests.support.pggan_runs import (
    PRESET,
    Death,
    assert_equal_values,
    config_of,
    finish,
    start,
    stats_of,
    train,
)
from tests.support.style_runs import GROWING, SKIP

CPU = torch.device("cpu")
SCHEDULE = {"start_resolution": 8, "total_kimg": 0.128}
MEASURED = [48, 72, 96, 120, 128]
"""Every 24 images from 16 x 16 pixels on, which begin after 40, and at the training's end."""
METRICS: dict[str, Any] = {"metrics": (("swd", 0.024), ("ms-ssim", 0.048)), "metrics_images": 12}


@pytest.fixture(scope="module")
def straight(h5: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with metrics that nothing disturbed; not to be changed."""
    out = tmp_path_factory.mktemp("straight") / "run"
    assert train(config_of(h5, out, **METRICS, schedule=SCHEDULE)) == Result(128, True)
    return out


def measured(out: Path) -> list[dict[str, Any]]:
    return [line for line in stats_of(out) if "metrics" in line]


def assert_same(first: Path, second: Path) -> None:
    """All that metrics leave."""
    assert measured(first) == measured(second)
    for name in ("best.safetensors", "final.safetensors"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_training_is_bit_for_bit_the_same_without(h5: Path, straight: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(config_of(h5, out, schedule=SCHEDULE))
    values = [load_checkpoint(checkpoints(path / "checkpoints")[0]) for path in (out, straight)]
    for each in values:
        each["tick"].pop("elapsed")
    assert_equal_values(*values)
    assert (out / "final.safetensors").read_bytes() == (straight / "final.safetensors").read_bytes()
    assert stats_of(out) == [line for line in stats_of(straight) if "metrics" not in line]
    assert (out / "config.json").read_text() == (straight / "config.json").read_text()


def test_measured_at_every_interval_from_16_pixels_on(straight: Path) -> None:
    lines = measured(straight)
    assert [line["images"] for line in lines] == MEASURED
    assert all(line["metrics_images"] == 12 and line["resolution"] == 16 for line in lines)
    assert [line["images"] for line in lines if "ms_ssim" in line["metrics"]] == [48, 96, 128]
    assert all({"swd", "swd_16"} <= set(line["metrics"]) for line in lines)
    floors = [line["metrics"].get("swd_floor") for line in lines]
    assert floors[0] is None  # the level was fading in
    assert len(set(floors[1:])) == 1
    assert floors[1] > 0
    log = (straight / "log.txt").read_text()
    assert log.count("measured after") == 5
    distance, similarity = lines[-2]["metrics"]["swd"], lines[-3]["metrics"]["ms_ssim"]
    assert f"  swd {distance:.2f}  ms-ssim {similarity:.3f}\n" in log  # of a status line


def test_tensorboard_has_the_metrics(straight: Path) -> None:
    written = b"".join(path.read_bytes() for path in (straight / "tensorboard").iterdir())
    for tag in (b"metrics/swd", b"metrics/swd_16", b"metrics/swd_floor", b"metrics/ms_ssim"):
        assert tag in written


def test_best_snapshot(straight: Path) -> None:
    full = [line for line in measured(straight) if line["alpha"] == 1]
    best = min(full, key=lambda line: line["metrics"]["swd"])
    model = load_model(straight / "best.safetensors")
    assert (model.images, model.lod) == (best["images"], 0)


class CrashError(Exception):
    """In place of a kill: nothing is written any more."""


def disturb(monkeypatch: pytest.MonkeyPatch, images: int, error: Exception) -> list[int]:
    """Raises it when metrics after `images` are measured for the first time; returns a list of what was measured."""
    measured: list[int] = []
    original = TrainingMetrics.measure

    def measure(self: TrainingMetrics, model: Model, names: Sequence[Any]) -> dict[str, Any]:
        measured.append(model.images)
        if model.images == images and measured.count(images) == 1:
            raise error
        return original(self, model, names)

    monkeypatch.setattr(TrainingMetrics, "measure", measure)
    return measured


def test_killed_while_measuring_is_the_same(
    h5: Path, straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(h5, tmp_path / "run", schedule=SCHEDULE, **METRICS, checkpoint_kimg=1000.0)
    done = disturb(monkeypatch, 72, CrashError())
    with pytest.raises(CrashError):
        train(config)
    assert train(config).finished
    assert done == [48, 72, 72, 96, 120, 128]
    assert "resumed from 72 images" in (config.out / "log.txt").read_text()
    assert_same(straight, config.out)
    assert stats_of(straight) == stats_of(config.out)


def test_killed_afterwards_measures_nothing_twice(
    h5: Path, straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(h5, tmp_path / "run", schedule=SCHEDULE, **METRICS, checkpoint_kimg=1000.0)
    assert finish(start(config, Death(images=84))) == -signal.SIGKILL
    assert [line["images"] for line in measured(config.out)] == [48, 72]
    done = disturb(monkeypatch, -1, CrashError())
    train(config)
    assert done == [96, 120, 128]
    assert_same(straight, config.out)
    train(config)  # finished already
    assert done == [96, 120, 128]
    assert_same(straight, config.out)


def test_killed_before_the_best_was_written(
    h5: Path, straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    best = load_model(straight / "best.safetensors").images
    config = config_of(h5, tmp_path / "run", schedule=SCHEDULE, **METRICS)
    keep = session.keep_best

    def crash(run: Run) -> None:
        if run.position.images == best:
            raise CrashError
        keep(run)

    with monkeypatch.context() as patched:
        for each in (chores, session):
            patched.setattr(each, "keep_best", crash)
        with pytest.raises(CrashError):
            train(config)
    train(config)
    assert_same(straight, config.out)


def test_stopped_while_measuring_goes_on_with_it(
    h5: Path, straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(h5, tmp_path / "run", schedule=SCHEDULE, **METRICS)
    disturb(monkeypatch, 72, MeasuringInterruptedError())
    assert train(config) == Result(72, False)
    assert "stopped after 72 images, as asked" in (config.out / "log.txt").read_text()
    assert train(config).finished
    assert_same(straight, config.out)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (DataError("no room"), "no room"),
        (MemoryError(), "not enough memory"),
        (RuntimeError("MPS backend out of memory\nException raised from malloc"), "MPS backend out of memory"),
        (OSError(28, "No space left on device"), "[Errno 28] No space left on device"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_be_measured_does_not_end_the_training(
    error: Exception, message: str, h5: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(h5, tmp_path / "run", schedule=SCHEDULE, **METRICS)
    done = disturb(monkeypatch, 72, error)
    assert train(config).finished
    assert done == MEASURED
    assert f"warning: not measured after 72 images: {message}\n" in (config.out / "log.txt").read_text()
    assert [line["images"] for line in measured(config.out)] == [48, 96, 120, 128]


def test_notes_are_told_once(h5: Path, tmp_path: Path) -> None:
    often = {"metrics": (("swd", 0.008), ("ms-ssim", 0.008)), "metrics_images": 30}
    config = config_of(h5, tmp_path / "run", schedule={"start_resolution": 16, "total_kimg": 0.016}, **often)
    config.out.mkdir()
    (config.out / "metrics-cache").write_text("in the way")
    train(config)
    log = (config.out / "log.txt").read_text()
    assert log.count("measured after") == 2
    assert (
        log.count(f"note: no floor of SWD: {h5} has {len(Source(h5).pyramid)} images, fewer than twice 30; with 25")
        == 1
    )
    assert log.count("metrics-cache: nothing can be kept there") == 1
    assert all("swd_floor" not in line["metrics"] for line in measured(config.out))


def test_metrics_may_come_and_go(h5: Path, straight: Path, tmp_path: Path) -> None:
    config = config_of(h5, tmp_path / "run", schedule=SCHEDULE, **METRICS)
    train(replace(config, metrics=(), metrics_images=None))
    assert not measured(config.out)
    train(config)
    assert [line["images"] for line in measured(config.out)] == [128]
    assert measured(config.out) == measured(straight)[-1:]


def test_reals_of_a_fade_are_faded_and_mirrored(h5: Path, straight: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[PyramidSet, Options]] = []

    def measure(_: object, reals: PyramidSet, __: object, options: Options, ___: object) -> Any:
        asked.append((reals, options))
        raise MeasuringInterruptedError

    model = replace(load_model(straight / "final.safetensors"), lod=0.25, images=56)
    for mirror in (True, False):
        found = watching(h5, straight, mirror=mirror)
        monkeypatch.setattr(module, "measure", measure)
        with pytest.raises(MeasuringInterruptedError):
            found.measure(model, ["swd"])
        reals, options = asked[-1]
        assert (reals.resolution, options.mirror, options.count) == (16, mirror, 12)
        assert reals.fading == pytest.approx(0.25)
        monkeypatch.undo()


def watching(h5: Path, folder: Path, *, mirror: bool = True, stop: bool = False, **changes: Any) -> TrainingMetrics:
    options = config_of(h5, folder, **{**METRICS, **changes}, schedule=SCHEDULE)
    assert isinstance(options.preset, Preset)
    preset = replace(options.preset, mirror=mirror)
    return TrainingMetrics(options, preset, folder, Source(h5), seed=0, device=CPU, stopping=lambda: stop)


def test_gives_up_when_asked_to_stop(h5: Path, straight: Path) -> None:
    found = watching(h5, straight, stop=True)
    with pytest.raises(MeasuringInterruptedError):
        found.measure(load_model(straight / "final.safetensors"), ["swd"])
    assert found.records == []


def test_features_are_compared_when_levels_are_whole(h5: Path, straight: Path, tmp_path: Path) -> None:
    weights = {"dinov2": write_dinov2(tmp_path / "dinov2.pth")}
    metrics = parse_intervals("swd@0.024,fd-dinov2@0.024,dc-dinov2@0.048")
    found = watching(h5, tmp_path, metrics=metrics, weights=weights)
    names = [name for name, _ in metrics]
    assert found.due(50) == ["swd"]  # the level fades in
    assert found.due(72) == names
    model = load_model(straight / "final.safetensors")
    values, _ = found.measure(model, names[1:])
    assert list(values["metrics"]) == ["fd_dinov2", "dc_dinov2_density", "dc_dinov2_coverage"]
    assert values["metrics"]["fd_dinov2"] > 0
    assert found.due(model.images, ending=True) == ["swd"]
    assert len(list((tmp_path / "metrics-cache").iterdir())) == 1  # the features of reals
    assert found.measure(model, names[1:])[0] == values
    idle = TrainingMetrics(
        config_of(h5, tmp_path, metrics=metrics, metrics_images=12),
        PRESET,
        tmp_path,
        Source(h5),
        seed=0,
        device=CPU,
        stopping=lambda: False,
        measures=False,
    )
    assert idle.options.extractors == {}  # another process has them


def line(images: int, resolution: int = 16, alpha: float = 1.0, count: int = 12, **metrics: float) -> dict[str, Any]:
    values = {"images": images, "resolution": resolution, "alpha": alpha, "metrics_images": count}
    return {**values, "metrics": metrics}


def test_due_when_an_interval_has_passed(h5: Path, tmp_path: Path) -> None:
    found = watching(h5, tmp_path)
    found.resume_from([{"images": 32}, {"event": "resumed", "images": 32}])
    assert [found.due(images) for images in (0, 24, 32, 40, 47)] == [[]] * 5  # small levels have no distance
    assert found.due(48) == ["swd", "ms-ssim"]
    found.resume_from([line(48, swd=1.0, ms_ssim=0.2)])
    assert found.due(71) == []
    assert found.due(75) == ["swd"]
    assert found.due(71, ending=True) == ["swd", "ms-ssim"]
    found.resume_from([line(48, ms_ssim=0.2), line(72, swd=1.0)])
    assert found.due(96) == ["swd", "ms-ssim"]
    assert found.due(72, ending=True) == ["ms-ssim"]


def test_best_is_the_lowest_of_its_like(h5: Path, tmp_path: Path) -> None:
    found = watching(h5, tmp_path)
    assert found.best is None
    smaller = [line(1, resolution=8, swd=1.0), line(2, alpha=0.5, swd=1.0), line(3, count=99, swd=1.0)]
    found.resume_from([*smaller, line(4, swd=9.0), line(5, swd=7.0), line(6, swd=8.0), line(7, ms_ssim=0.1)])
    assert found.best is not None
    assert found.best.images == 5


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([line(1000, swd=10.0), line(2000, swd=19.0)], None),
        ([line(1000, swd=10.0), line(2000, swd=21.0)], "COLLAPSE? SWD 21.0, was 10.0 at 1 kimg"),
        ([line(1000, resolution=8, swd=10.0), line(2000, swd=21.0)], None),
        ([line(1000, swd=10.0, count=99), line(2000, swd=21.0)], None),
        ([line(1000, swd=10.0), line(2000, swd=21.0), line(3000, swd=11.0)], None),
        ([line(1000, ms_ssim=0.55, ms_ssim_reals=0.2)], None),
        ([line(1000, ms_ssim=0.65, ms_ssim_reals=0.2)], "COLLAPSE? MS-SSIM of fakes 0.65 (reals 0.20)"),
        ([line(1000, ms_ssim=0.75)], None),
        ([line(1000, ms_ssim=0.97), line(2000, swd=1.0)], "COLLAPSE? MS-SSIM of fakes 0.97"),
    ],
)
def test_a_collapse_is_told_in_the_status_line(
    lines: list[dict[str, Any]], message: str | None, h5: Path, tmp_path: Path
) -> None:
    found = watching(h5, tmp_path)
    found.resume_from(lines)
    assert found.alarms() == ([] if message is None else [message])
    assert ("COLLAPSE" in found.status()) == (message is not None)
    assert found.status().endswith(message or "")
    unwatched = watching(h5, tmp_path, metrics=(), metrics_images=None)
    unwatched.resume_from(lines)
    assert unwatched.status() == ""


def test_a_collapsed_generator_is_noticed(h5: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pggan.metrics.image_sets.normals", lambda *_: torch.ones(8))  # one picture over and over
    often = {"metrics": (("ms-ssim", 0.1),), "metrics_images": 12}
    config = config_of(h5, tmp_path / "run", schedule={"start_resolution": 16, "total_kimg": 0.016}, **often)
    train(config)
    assert "warning: COLLAPSE? MS-SSIM of fakes 1.00 (reals 0.4" in (config.out / "log.txt").read_text()
    assert measured(config.out)[-1]["metrics"]["ms_ssim"] == pytest.approx(1)


def test_settings_that_cannot_be(h5: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"metrics fad: unknown metric; choose from swd, ms-ssim, lpips, fid"):
        TrainingOptions(h5, metrics=parse_intervals("swd@200,fad@200"))
    with pytest.raises(DataError, match=r"weights inception=FILE is needed for fid: give the file"):
        watching(h5, tmp_path, metrics=parse_intervals("swd@200,fid@200"))
    for interval in ("swd@0", "swd@-1", "swd@inf", "swd@nan"):
        with pytest.raises(DataError, match="must be thousands of images"):
            TrainingOptions(h5, metrics=parse_intervals(interval))
    for text in ("swd", "swd@", "swd@often"):
        with pytest.raises(DataError, match=f"--metrics {text}: must be a metric and its interval"):
            parse_intervals(text)
    with pytest.raises(DataError, match="metrics_images 1 is not in the range"):
        TrainingOptions(h5, metrics_images=1, metrics=METRICS["metrics"])
    with pytest.raises(DataError, match=r"has 50 images, 51 are to be measured: measure fewer"):
        watching(h5, tmp_path, metrics_images=51)
    options, small = config_of(h5, tmp_path, **METRICS), PRESET.with_resolution(8)
    with pytest.raises(DataError, match="8 x 8 pixels have no sliced Wasserstein"):
        TrainingMetrics(options, small, tmp_path, Source(h5), seed=0, device=CPU, stopping=lambda: False)


def test_of_half_of_the_reals_at_most(h5: Path, tmp_path: Path) -> None:
    assert watching(h5, tmp_path, metrics_images=None).options.count == 25
    assert watching(h5, tmp_path, metrics_images=40).options.count == 40


def test_intervals_of_the_command_line() -> None:
    assert parse_intervals("swd@200, ms-ssim@12.5") == (("swd", 200.0), ("ms-ssim", 12.5))
    assert parse_intervals("swd @ 200") == (("swd", 200.0),)
    assert parse_intervals("") == ()
    with pytest.raises(DataError, match="--metrics names swd twice"):
        parse_intervals("swd@200,swd@100")


def test_path_lengths_of_a_style_based_run(h5: Path, tmp_path: Path) -> None:
    metrics = {"metrics": parse_intervals("ppl@0.048,ppl-zfull@0.048"), "metrics_images": 4, "distance": "pixels"}
    config = config_of(h5, tmp_path / "run", preset=SKIP.with_resolution(16), **metrics)
    assert train(config).finished
    found = {line["images"]: line["metrics"] for line in measured(config.out)}
    names = ["ppl", "ppl_zfull"]
    assert {images: sorted(values) for images, values in found.items()} == {48: names, 80: names}
    assert all(value > 0 for values in found.values() for value in values.values())
    watched = watching(h5, tmp_path, **metrics | {"metrics": parse_intervals("ppl@0.04"), "preset": GROWING})
    watched.resume_from([line(80, ppl_zfull=1.0)])
    assert watched.due(100) == ["ppl"]  # which was not measured by that line
    lpips = replace(config, out=tmp_path / "lpips", distance="lpips")
    with pytest.raises(DataError, match=r"distance lpips: ppl needs --weights lpips=FILE, see .*; pixels needs no"):
        train(lpips)
    with pytest.raises(DataError, match="ppl measures style-based models, and this model is a progressive GAN"):
        train(config_of(h5, tmp_path / "progressive", **metrics))
