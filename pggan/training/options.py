"""Every option of a training run, defined once: type, default, choices, help, and whether it changes the results.

From here follow the command line, its checks, and the settings that a resumed run must keep.
"""

import math
from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar, get_args

import click

from datatools.cli import FiniteNumber, PathOption
from datatools.errors import SettingError, flag
from pggan.config.presets import PRESETS
from pggan.config.settings import AugmentName, LossName, Preset
from pggan.metrics.distances import DISTANCE, DISTANCE_HELP, DistanceName
from pggan.metrics.extractors import FID_RESIZE, FID_RESIZE_HELP, WEIGHTS_HELP, WeightFiles, Weights
from pggan.metrics.inception import FidResize
from pggan.metrics.options import METRICS
from pggan.precision import PrecisionName
from pggan.training.threads import MOST_THREADS
from pggan.training.trackers import TRACKERS, TrackerName

Command = TypeVar("Command", bound=Callable[..., Any])


ABOVE_0, COUNT = FiniteNumber(0, min_open=True), click.IntRange(1)
RESOLUTION = click.Choice([2**k for k in range(2, 11)])


class HalfLives(click.ParamType):
    """Numbers above 0 with commas, each once, ascending."""

    name = "list"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        items = value.split(",") if isinstance(value, str) else value
        return tuple(sorted({float(ABOVE_0.convert(item, param, ctx)) for item in items}))


@dataclass(frozen=True)
class Spec:
    """What is known of an option besides its name and default.

    settings: what it sets in a preset, by the names of `presets.differences`; `..._by_level` become empty.
    changes_results: a run cannot be resumed with another value, unless it is forked.
    """

    help: str
    type: click.ParamType | None
    settings: tuple[str, ...]
    changes_results: bool


def option(
    help: str,
    type: click.ParamType | None = None,
    *settings: str,
    default: Any = None,
    changes_results: bool = True,
) -> Any:
    """Return the field of an option; see `Spec`."""
    return field(default=default, metadata={"spec": Spec(help, type, settings, changes_results)})


@dataclass(frozen=True)
class TrainingOptions:
    """What a user asks for. None: as the run in the folder, else as the preset, else as the help says.

    `preset` is a name or a preset of one's own; the options that change a preset apply to both. `metrics` are pairs of
    a metric and the kimg between two measurements. `config` gives the settings of a new run that no option gives; its
    data, devices and position are not taken. Raises SettingError for values out of range.
    """

    h5: Path = option("The pyramid file.", PathOption(), default=MISSING)
    out: Path | None = option("Run folder.  [default: runs/<file>-<preset>]", PathOption(), changes_results=False)
    preset: str | Preset | None = option(f"Named settings: {', '.join(PRESETS)}.  [default: by resolution and devices]")
    config: Path | None = option("Settings of another run, by its folder or config.json.", PathOption())
    seed: int | None = option("Seed of all random numbers.  [default: 0]", click.IntRange(0))
    device: str = option(
        "Where to compute.", click.Choice(["auto", "cpu", "cuda", "mps"]), default="auto", changes_results=False
    )
    precision: PrecisionName | None = option(
        "Number format of the networks.  [default: fp32]", click.Choice(["fp32", "bf16", "fp16"])
    )
    tf32: bool | None = option("Faster, coarser float32 products on CUDA.  [default: tf32]", click.BOOL)
    labels: str | None = option(
        "none, file (<file>-labels.npy), or CelebA attributes with commas.  [default: none]", None, "network.classes"
    )
    init_from: Path | None = option("Start from the weights of a run or model file.", PathOption())
    resolution: int | None = option(
        "Largest level to train, up to that of the file.", RESOLUTION, "network.resolution", "schedule.resolution"
    )
    start_resolution: int | None = option(
        "Level to start at; --resolution's to train without growing.", RESOLUTION, "schedule.start_resolution"
    )
    total_kimg: float | None = option(
        "Length, in thousands of reals shown.",
        ABOVE_0,
        "schedule.total_kimg",
        changes_results=False,
    )
    training_kimg: float | None = option(
        "Thousands of reals with a level whole.", FiniteNumber(0), "schedule.training_kimg"
    )
    transition_kimg: float | None = option(
        "Thousands of reals while a level fades in.", FiniteNumber(0), "schedule.transition_kimg"
    )
    minibatch: int | None = option(
        "Minibatch at all levels.", COUNT, "schedule.minibatch_base", "schedule.minibatch_by_level"
    )
    learning_rate: float | None = option(
        "Learning rate at all levels.", ABOVE_0, "schedule.rate_base", "schedule.rate_by_level"
    )
    fmap_base: int | None = option("Feature maps of a level are this / 2^stage.", COUNT, "network.fmap_base")
    fmap_max: int | None = option("Most feature maps of a level.", COUNT, "network.fmap_max")
    latent_size: int | None = option("Size of a latent.", COUNT, "network.latent_size")
    stddev_group: int | None = option(
        "Samples in a minibatch stddev group; 0 is all.", click.IntRange(0), "network.stddev_group"
    )
    down_step: str | None = option(
        "How the discriminator halves a level, see NetworkConfig.",
        click.Choice(["fused", "unfused"]),
        "network.down_step",
    )
    loss: LossName | None = option(
        "Loss of both networks.", click.Choice(["wgan-gp", "lsgan"]), "loss.kind", "network.d_noise"
    )
    gradient_norm: str | None = option(
        "Where the penalty takes its norm.", click.Choice(["full", "native"]), "loss.gradient_norm"
    )
    mirror: bool | None = option("Mirror half of the reals.", click.BOOL, "mirror")
    augment: AugmentName | None = option(
        "Random transforms of what the discriminator sees.", click.Choice(get_args(AugmentName)), "augment.kind"
    )
    ada_target: float | None = option(
        "Overfitting above which ADA's strength rises.", FiniteNumber(0, 1, min_open=True), "augment.target"
    )
    ada_kimg: float | None = option(
        "Thousands of reals in which ADA's strength can rise from 0 to 1.", ABOVE_0, "augment.kimg"
    )
    ema_kimg: tuple[float, ...] | None = option(
        "Half-lives in kimg of further EMAs to keep, such as 2,10.", HalfLives(), "optimizer.ema_kimg"
    )
    freeze_d: int | None = option(
        "Levels of the discriminator that keep the weights of --init-from, the largest first.",
        click.IntRange(0),
        "optimizer.freeze_d",
    )
    tick_kimg: float | None = option(
        "Thousands of reals between status lines.",
        ABOVE_0,
        "schedule.tick_kimg_base",
        "schedule.tick_kimg_by_level",
        changes_results=False,
    )
    checkpoint_kimg: float | None = option(
        "Thousands of reals between checkpoints.  [default: a tick]",
        ABOVE_0,
        changes_results=False,
    )
    keep: int = option("Checkpoints to keep.", COUNT, default=3, changes_results=False)
    metrics: tuple[tuple[str, float], ...] = option(
        "Measure while training, after every so many kimg: swd@200,fid@1000.", default=(), changes_results=False
    )
    metrics_images: int | None = option(
        "Images of either set to measure.  [default: up to 8192 with CUDA, else 2048]",
        click.IntRange(2),
        changes_results=False,
    )
    log_to: TrackerName | None = option(
        "Send curves and pictures to an experiment tracker, too.", click.Choice(TRACKERS), changes_results=False
    )
    weights: Weights | None = option(WEIGHTS_HELP, WeightFiles(), changes_results=False)
    fid_resize: FidResize = option(FID_RESIZE_HELP, FID_RESIZE, default="tensorflow", changes_results=False)
    distance: DistanceName = option(DISTANCE_HELP, DISTANCE, default="lpips", changes_results=False)
    workers: int = option("Threads that read large levels ahead.", click.IntRange(0), default=2, changes_results=False)
    threads: int | None = option(
        "Threads of each process, for arithmetic on a CPU.  [default: as the run began, or the fastest number]",
        click.IntRange(1, MOST_THREADS),
        changes_results=False,
    )
    max_batch_per_device: int | None = option(
        "Samples computed at once; the minibatch stays.", COUNT, changes_results=False
    )
    fork: bool = option(
        "Resume with settings that differ from the run's.", click.BOOL, default=False, changes_results=False
    )

    def __post_init__(self) -> None:
        for name, spec in SPECS.items():
            value = getattr(self, name)
            if value is None or spec.type is None or isinstance(spec.type, PathOption):
                continue
            try:
                spec.type.convert(value, None, None)
            except click.BadParameter as error:
                raise SettingError(name, error.message.removesuffix(".")) from None
        if self.config is not None and self.preset is not None:
            raise SettingError("config", f"{self.config}: has a preset, too; leave out --preset")
        if self.metrics_images is not None and not self.metrics:
            raise SettingError("metrics_images", f"{self.metrics_images}: name the metrics, too, such as swd@200")
        for metric, kimg in self.metrics:
            if metric not in METRICS:
                raise SettingError("metrics", f"{metric}: unknown metric; choose from {', '.join(METRICS)}")
            if not kimg * 1000 >= 1 or not math.isfinite(kimg):
                raise SettingError(
                    "metrics", f"{metric}@{kimg:g}: must be thousands of images between two measurements"
                )

    def apply_to(self, preset: Preset) -> Preset:
        """Return the preset with the settings that were given; raises DataError where they do not fit each other."""
        if self.resolution is not None:
            preset = preset.with_resolution(self.resolution)
        if self.loss is not None and self.loss != preset.loss.kind:
            preset = preset.with_loss(self.loss)
        parts = {setting.rpartition(".")[0] for spec in SPECS.values() for setting in spec.settings}
        changes: dict[str, dict[str, Any]] = {part: {} for part in parts}
        for name, spec in SPECS.items():
            value = getattr(self, name)
            if value is None or name in ("labels", "resolution", "loss"):
                continue
            for setting in spec.settings:
                part, _, own_name = setting.rpartition(".")
                if not hasattr(getattr(preset, part, preset), own_name):
                    raise SettingError(name, f"{value}: the networks of {preset.name} have no such setting")
                changes[part][own_name] = () if own_name.endswith("_by_level") else value
        own = changes.pop("")
        return replace(preset, **own, **{part: replace(getattr(preset, part), **changes[part]) for part in changes})


SPECS: dict[str, Spec] = {item.name: item.metadata["spec"] for item in fields(TrainingOptions)}
FREE = {"name", *(setting for spec in SPECS.values() if not spec.changes_results for setting in spec.settings)}
"""Settings of a preset that change no results: how long to continue, and how often to report."""
FLAGS = {setting: flag(name) for name, spec in SPECS.items() for setting in spec.settings}
"""Settings of a preset -> the option that sets them."""


def training_options(command: Command) -> Command:
    """Add an option for every field of TrainingOptions to a click command."""
    for item in reversed(fields(TrainingOptions)):
        spec, name = SPECS[item.name], flag(item.name)
        given: dict[str, Any] = {"required": True} if item.default is MISSING else {"default": item.default or None}
        if isinstance(spec.type, click.types.BoolParamType):
            given = {"default": item.default, "is_flag": True}
            name = name if item.default is False else f"{name}/--no-{name[2:]}"
        else:
            given |= {"type": spec.type, "show_default": bool(given.get("default"))}
        command = click.option(name, item.name, help=spec.help, **given)(command)
    return command
