"""Prepare a run: resolve its settings, open its data, build its networks and plan it, each once, and write nothing.

from pggan.training.loop import train
from pggan.training.options import TrainingOptions
from pggan.training.run import prepare_run

with prepare_run(TrainingOptions(h5=Path("celebahq.h5"), out=Path("run"), preset="celebahq-v2")) as run:
    train(run)
"""

import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from datatools.errors import SettingError
from datatools.pyramid.labels import read_labels
from pggan.config.presets import get_preset
from pggan.config.settings import Preset
from pggan.config.style import StyleConfig
from pggan.data.stream import Source
from pggan.model.files import Model
from pggan.precision import allow_tf32
from pggan.training.distributed import Team, choose_device, join
from pggan.training.log import RunLog, Tick
from pggan.training.metrics import TrainingMetrics
from pggan.training.models import load_model
from pggan.training.networks import build_networks
from pggan.training.options import FREE, TrainingOptions
from pggan.training.plan import Plan, plan_from
from pggan.training.run_config import SavedRun, read_config, read_saved_run
from pggan.training.saving import Saving
from pggan.training.step import Stepper


class StopFlag:
    """Set by SIGTERM or Ctrl-C; a second Ctrl-C interrupts at once."""

    def __init__(self) -> None:
        self.wanted = False

    def __call__(self) -> bool:
        return self.wanted

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self.wanted and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.wanted = True

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Let the signals set the flag within the context; only the main thread of Python can."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._handle) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@dataclass
class Position:
    """Where a run stands: images seen, the stage of the last round, None before the first, and the open tick."""

    images: int = 0
    stage: tuple[int, int] | None = None
    tick: Tick = field(default_factory=Tick)
    saved_at: int = -1

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint holds of it."""
        return {"images": self.images, "stage": self.stage and list(self.stage), "tick": self.tick.state()}

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Position":
        """Return the position of a checkpoint."""
        images, stage = int(values["images"]), values["stage"]
        return cls(images, stage and (stage[0], stage[1]), Tick.of(values["tick"]), images)


@dataclass
class Run:
    """What the loop and its chores share.

    Attributes:
        saved: the settings that the run in the folder began with, None for a new run.
        settings: those that it is trained with from now on.
        initial: the model that a new run takes its weights from, until it has begun.
    """

    options: TrainingOptions
    out: Path
    saved: SavedRun | None
    settings: SavedRun
    device: torch.device
    team: Team
    source: Source
    stepper: Stepper
    plan: Plan
    metrics: TrainingMetrics
    log: RunLog
    saving: Saving
    stop: StopFlag
    initial: Model | None = None
    position: Position = field(default_factory=Position)

    @property
    def preset(self) -> Preset:
        return self.settings.preset


@contextmanager
def prepare_run(options: TrainingOptions) -> Iterator[Run]:
    """Yield the run that `options` ask for, checked and planned; `loop.train` starts or resumes it.

    Nothing is written before. Raises DataError for settings, data or a run folder that do not fit.
    """
    device = choose_device(options.device)
    with join(device) as team:
        source = Source(options.h5)
        given = read_config(options.config) if options.config else None
        name = given.preset.name if given else _default_name(options, source.resolution)
        out = options.out or Path("runs") / f"{options.h5.stem}-{name}"
        saved = read_saved_run(out)
        initial = load_model(options.init_from) if options.init_from is not None and saved is None else None
        settings = resolve_settings(options, saved, source, team.size, given, initial)
        preset = settings.preset
        allow_tf32(settings.tf32)
        torch.backends.cudnn.benchmark = True
        log, stop = RunLog(), StopFlag()
        metrics = TrainingMetrics(
            options,
            preset,
            out,
            source,
            seed=settings.seed,
            device=device,
            stopping=stop,
            measures=team.is_main,
        )
        stepper = Stepper(
            networks=build_networks(preset, settings.seed, device),
            preset=preset,
            seed=settings.seed,
            precision=settings.precision,
            device=device,
            team=team,
            max_batch=options.max_batch_per_device,
            labels=source.labels,
            say=partial(log.event, "note"),
            stop_requested=stop,
        )
        before = saved or given
        threads = options.threads or (before.threads_on(device) if before else None)
        plan = plan_from(stepper, team.size, threads)
        stepper.max_batch = team.agree(stepper.max_batch)
        if device.type == "cpu":
            plan = replace(plan, threads=team.agree(plan.threads))
        settings = replace(settings, threads=plan.threads)
        saving = Saving(out, log.event, stop)
        yield Run(
            options, out, saved, settings, device, team, source, stepper, plan, metrics, log, saving, stop, initial
        )


def resolve_settings(
    options: TrainingOptions,
    saved: SavedRun | None,
    source: Source,
    processes: int,
    given: SavedRun | None = None,
    initial: Model | None = None,
) -> SavedRun:
    """Return the settings that decide the results; reads the labels that they ask for into `source`.

    Options come first, then the settings of `given`, the run of --config, then those of the run in the folder.
    `initial`: the model of --init-from, for a new run.
    """
    before = given or saved
    labels = _first(options.labels, before and before.labels, "none")
    source.labels = read_labels(source.pyramid, labels)
    devices = processes if saved is None else saved.devices  # the schedule that the run began with is kept
    if given is None:
        base = base_preset(options, saved, source.resolution, devices, initial)
    else:
        base = given.preset.with_resolution(min(given.preset.network.resolution, source.resolution))
    preset = options.apply_to(base)
    preset = preset.with_classes(source.classes)
    if preset.network.resolution > source.resolution:
        raise SettingError("resolution", f"{preset.network.resolution}: the file has levels up to {source.resolution}")
    if missing := [str(r) for r in preset.schedule.levels if r not in source.pyramid.levels]:
        there = ", ".join(map(str, source.pyramid.levels))
        raise SettingError(
            "start_resolution",
            f"{preset.schedule.start_resolution}: the file has levels {there} alone, the run also shows "
            f"{', '.join(missing)}; begin with a level that it has, or build it with all levels",
        )
    if preset.optimizer.freeze_d and saved is None and (initial is None or initial.untrained):
        raise SettingError(
            "freeze_d",
            f"{preset.optimizer.freeze_d}: is for a trained discriminator; give a model that has one (--init-from)",
        )
    named = not isinstance(options.preset, Preset) and given is None
    if named and options.init_from is not None and saved is None and options.start_resolution is None:
        preset = replace(preset, schedule=replace(preset.schedule, start_resolution=preset.network.resolution))
    return SavedRun(
        preset=preset,
        seed=_first(options.seed, before and before.seed, 0),
        precision=_first(options.precision, before and before.precision, "fp32"),
        tf32=_first(options.tf32, before.tf32 if before else None, True),
        labels=labels,
        devices=devices,
        data={"images": source.count, "resolution": source.resolution, "digest": source.digest()},
        forks=saved.forks if saved else (),
    )


def base_preset(
    options: TrainingOptions, saved: SavedRun | None, resolution: int, devices: int, initial: Model | None = None
) -> Preset:
    """Return the preset before the other options: the one given, else that of the run, of the model, or a suggestion.

    A run whose preset is named again keeps its own settings, since the table may have changed after it began; only its
    length and its ticks are those of the table. Resolutions above the data's come down to it.
    """
    name = options.preset
    if isinstance(name, Preset):
        return name
    if saved is not None and (name is None or options.init_from is not None):
        return saved.preset
    style = initial is not None and isinstance(initial.config, StyleConfig)
    preset = get_preset(name or suggested_preset(resolution, style=style), devices)
    if saved is not None and saved.preset.name == preset.name:
        free = [setting.removeprefix("schedule.") for setting in FREE if setting.startswith("schedule.")]
        schedule = replace(saved.preset.schedule, **{setting: getattr(preset.schedule, setting) for setting in free})
        return replace(saved.preset, schedule=schedule)
    if initial is not None and type(initial.config) is type(preset.network):
        preset = replace(preset.with_resolution(initial.config.resolution), network=initial.config)
    return preset.with_resolution(min(preset.network.resolution, resolution))


def suggested_preset(resolution: int, *, style: bool = False) -> str:
    """Return the preset for data of that resolution; `celebahq-v2` has a row for every number of devices.

    style: whether to suggest one with style-based networks.
    """
    if style:
        return "style-faces-32" if resolution <= 32 else "style-faces-64" if resolution <= 64 else "stylegan2-f"
    return "faces-32" if resolution <= 32 else "faces-128" if resolution <= 128 else "celebahq-v2"


def _default_name(options: TrainingOptions, resolution: int) -> str:
    """Return the second half of a run folder's name."""
    if isinstance(options.preset, Preset):
        return options.preset.name
    return options.preset or ("tuned" if options.init_from is not None else suggested_preset(resolution))


def _first(*values: Any) -> Any:
    """Return the first value that is not None; the last one is the default."""
    return next(value for value in values if value is not None)
