"""Every option of a training run, defined once: type, default, choices, help, and whether it changes the results.

From here follow the command line, its checks, the settings that a resumed run must keep, and the table in
docs/training.md.
"""

from collections.abc import Callable
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import click

from datatools.cli import FiniteNumber, PathOption
from datatools.errors import SettingError
from pggan.config.presets import PRESETS, Preset
from pggan.precision import PrecisionName

TrainingMetric = Literal["swd", "ms-ssim"]  # those that need nothing but the images
MOST_THREADS = 1024
Command = TypeVar("Command", bound=Callable[..., Any])


class PowerOfTwo(click.Choice):
    """A resolution, as an int."""

    def __init__(self) -> None:
        super().__init__([str(2**k) for k in range(2, 11)])

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return int(super().convert(str(value), param, ctx))


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


def about(
    help: str,
    type: click.ParamType | None = None,
    *,
    settings: tuple[str, ...] = (),
    changes_results: bool = True,
) -> dict[str, Spec]:
    """Return the metadata of an option's field."""
    return {"spec": Spec(help, type, settings, changes_results)}


@dataclass(frozen=True)
class TrainingOptions:
    """What a user asks for. None: as the run in the folder, else as the preset, else as the help says.

    `preset` is a name or a preset of one's own; the options that change a preset apply to both. Raises SettingError
    for values out of range.
    """

    h5: Path = field(metadata=about("The pyramid file.", PathOption()))
    out: Path | None = field(
        default=None,
        metadata=about("Run folder.  [default: runs/<file>-<preset>]", PathOption(), changes_results=False),
    )
    preset: str | Preset | None = field(
        default=None, metadata=about(f"Named settings: {', '.join(PRESETS)}.  [default: by resolution and devices]")
    )
    seed: int | None = field(
        default=None, metadata=about("Seed of all random numbers.  [default: 0]", click.IntRange(0))
    )
    device: str = field(
        default="auto",
        metadata=about("Where to compute.", click.Choice(["auto", "cpu", "cuda", "mps"]), changes_results=False),
    )
    precision: PrecisionName | None = field(
        default=None,
        metadata=about("Number format of the networks.  [default: fp32]", click.Choice(["fp32", "bf16", "fp16"])),
    )
    tf32: bool | None = field(
        default=None, metadata=about("Faster, coarser float32 products on CUDA.  [default: tf32]", click.BOOL)
    )
    labels: str | None = field(
        default=None,
        metadata=about(
            "none, file (<file>-labels.npy), or CelebA attributes with commas.  [default: none]",
            settings=("network.classes",),
        ),
    )
    init_from: Path | None = field(
        default=None, metadata=about("Start from the weights of a run or model file.", PathOption())
    )
    resolution: int | None = field(
        default=None,
        metadata=about(
            "Largest level to train, up to that of the file.",
            PowerOfTwo(),
            settings=("network.resolution", "schedule.resolution"),
        ),
    )
    start_resolution: int | None = field(
        default=None,
        metadata=about(
            "Level to start at; --resolution's to train without growing.",
            PowerOfTwo(),
            settings=("schedule.start_resolution",),
        ),
    )
    total_kimg: float | None = field(
        default=None,
        metadata=about(
            "Length, in thousands of reals shown.",
            FiniteNumber(0, min_open=True),
            settings=("schedule.total_kimg",),
            changes_results=False,
        ),
    )
    training_kimg: float | None = field(
        default=None,
        metadata=about("Thousands of reals with a level whole.", FiniteNumber(0), settings=("schedule.training_kimg",)),
    )
    transition_kimg: float | None = field(
        default=None,
        metadata=about(
            "Thousands of reals while a level fades in.", FiniteNumber(0), settings=("schedule.transition_kimg",)
        ),
    )
    minibatch: int | None = field(
        default=None,
        metadata=about(
            "Minibatch at all levels.",
            click.IntRange(1),
            settings=("schedule.minibatch_base", "schedule.minibatch_by_level"),
        ),
    )
    learning_rate: float | None = field(
        default=None,
        metadata=about(
            "Learning rate at all levels.",
            FiniteNumber(0, min_open=True),
            settings=("schedule.rate_base", "schedule.rate_by_level"),
        ),
    )
    fmap_base: int | None = field(
        default=None,
        metadata=about(
            "Feature maps of a level are this / 2^stage.", click.IntRange(1), settings=("network.fmap_base",)
        ),
    )
    fmap_max: int | None = field(
        default=None, metadata=about("Most feature maps of a level.", click.IntRange(1), settings=("network.fmap_max",))
    )
    latent_size: int | None = field(
        default=None, metadata=about("Size of a latent.", click.IntRange(1), settings=("network.latent_size",))
    )
    stddev_group: int | None = field(
        default=None,
        metadata=about(
            "Samples in a minibatch stddev group; 0 is all.", click.IntRange(0), settings=("network.stddev_group",)
        ),
    )
    down_step: str | None = field(
        default=None,
        metadata=about(
            "How the discriminator halves a level, see NetworkConfig.",
            click.Choice(["fused", "unfused"]),
            settings=("network.down_step",),
        ),
    )
    loss: str | None = field(
        default=None,
        metadata=about(
            "Loss of both networks.", click.Choice(["wgan-gp", "lsgan"]), settings=("loss.kind", "network.d_noise")
        ),
    )
    gradient_norm: str | None = field(
        default=None,
        metadata=about(
            "Where the penalty takes its norm.", click.Choice(["full", "native"]), settings=("loss.gradient_norm",)
        ),
    )
    mirror: bool | None = field(
        default=None, metadata=about("Mirror half of the reals.", click.BOOL, settings=("mirror",))
    )
    tick_kimg: float | None = field(
        default=None,
        metadata=about(
            "Thousands of reals between status lines.",
            FiniteNumber(0, min_open=True),
            settings=("schedule.tick_kimg_base", "schedule.tick_kimg_by_level"),
            changes_results=False,
        ),
    )
    checkpoint_kimg: float | None = field(
        default=None,
        metadata=about(
            "Thousands of reals between checkpoints.  [default: a tick]",
            FiniteNumber(0, min_open=True),
            changes_results=False,
        ),
    )
    keep: int = field(default=3, metadata=about("Checkpoints to keep.", click.IntRange(1), changes_results=False))
    metrics: tuple[tuple[TrainingMetric, float], ...] = field(
        default=(),
        metadata=about("Measure while training, after every so many kimg: swd@200,ms-ssim@100.", changes_results=False),
    )
    metrics_images: int | None = field(
        default=None,
        metadata=about(
            "Images of either set to measure.  [default: up to 8192 with CUDA, else 2048]",
            click.IntRange(2),
            changes_results=False,
        ),
    )
    workers: int = field(
        default=2, metadata=about("Threads that read large levels ahead.", click.IntRange(0), changes_results=False)
    )
    threads: int | None = field(
        default=None,
        metadata=about(
            "Threads of each process, for arithmetic on a CPU.  [default: as the run began, or the fastest number]",
            click.IntRange(1, MOST_THREADS),
            changes_results=False,
        ),
    )
    max_batch_per_device: int | None = field(
        default=None,
        metadata=about("Samples computed at once; the minibatch stays.", click.IntRange(1), changes_results=False),
    )
    fork: bool = field(
        default=False,
        metadata=about("Resume with settings that differ from the run's.", click.BOOL, changes_results=False),
    )

    def __post_init__(self) -> None:
        for item in fields(self):
            value, spec = getattr(self, item.name), _spec(item)
            if value is None or spec.type is None or isinstance(spec.type, PathOption):
                continue
            try:
                spec.type.convert(value, None, None)
            except click.BadParameter as error:
                raise SettingError(item.name, error.message.removesuffix(".")) from None
        if self.metrics_images is not None and not self.metrics:
            raise SettingError("metrics_images", f"{self.metrics_images}: name the metrics, too, such as swd@200")

    def apply_to(self, preset: Preset) -> Preset:
        """Return the preset with the settings that were given; raises DataError where they do not fit each other."""
        if self.resolution is not None:
            preset = preset.with_resolution(self.resolution)
        if self.loss is not None and self.loss != preset.loss.kind:
            preset = preset.with_lsgan() if self.loss == "lsgan" else _with_wgan_gp(preset)
        changes: dict[str, dict[str, Any]] = {"network": {}, "schedule": {}, "loss": {}, "": {}}
        for item in fields(self):
            value = getattr(self, item.name)
            if value is None or item.name in ("labels", "resolution", "loss"):
                continue
            for setting in _spec(item).settings:
                part, _, name = setting.rpartition(".")
                changes[part][name] = () if name.endswith("_by_level") else value
        own = changes.pop("")
        return replace(preset, **own, **{part: replace(getattr(preset, part), **changes[part]) for part in changes})


def _with_wgan_gp(preset: Preset) -> Preset:
    return replace(preset, network=replace(preset.network, d_noise=0.0), loss=replace(preset.loss, kind="wgan-gp"))


def _spec(item: "Field[Any]") -> Spec:
    spec: Spec = item.metadata["spec"]
    return spec


def flag(name: str) -> str:
    """Return the command line's name of an option."""
    return "--" + name.replace("_", "-")


SPECS = {item.name: _spec(item) for item in fields(TrainingOptions)}
FREE = {"name", *(setting for spec in SPECS.values() if not spec.changes_results for setting in spec.settings)}
"""Settings of a preset that change no results: how long to go on, and how often to report."""
FLAGS = {setting: flag(name) for name, spec in SPECS.items() for setting in spec.settings}
"""Settings of a preset -> the option that sets them."""


def training_options(command: Command) -> Command:
    """Add an option for every field of TrainingOptions to a click command."""
    for item in reversed(fields(TrainingOptions)):
        spec, name = _spec(item), flag(item.name)
        given: dict[str, Any] = {"required": True} if item.default is MISSING else {"default": item.default or None}
        if isinstance(spec.type, click.types.BoolParamType):
            given = {"default": item.default, "is_flag": True}
            name = name if item.default is False else f"{name}/--no-{name[2:]}"
        else:
            given |= {"type": spec.type, "show_default": bool(given.get("default"))}
        command = click.option(name, item.name, help=spec.help, **given)(command)
    return command


def option_table() -> list[str]:
    """Return the rows of the table of options in docs/training.md."""
    rows = []
    for item in fields(TrainingOptions):
        spec = _spec(item)
        choices = f" ({', '.join(spec.type.choices)})" if type(spec.type) is click.Choice else ""
        text, _, default = spec.help.partition("  [default: ")
        text = text.partition(": ")[0].removesuffix(".")  # values and examples have their own places in the docs
        if item.default is not MISSING and item.default not in (None, (), False):
            default = str(item.default)
        default = default.removesuffix("]") or ("the preset's" if spec.settings else "")
        changes = "yes" if spec.changes_results else ""
        rows.append(f"| `{flag(item.name)}` | {text}{choices} | {default} | {changes} |")
    return [row.replace("<", "&lt;") for row in rows]
