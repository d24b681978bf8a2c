"""Settings of a training run of the restoration networks: type, default and help of each, once.

From here follow the options of the command, its checks, and what a resumed run must keep.
"""

from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, TypeVar

import click

from datatools.cli import FiniteNumber, NameOrPath
from datatools.errors import SettingError, flag
from datatools.restore.fit.degrade import SCALE, SHIFTS, TRIM

Command = TypeVar("Command", bound=Callable[..., Any])
COUNT, SHARE, WEIGHT = click.IntRange(min=1), FiniteNumber(0, 1), FiniteNumber(0)


def _option(kind: click.ParamType, help: str, default: Any = MISSING, **only: str | None) -> Any:
    """Return a field that is an option, too.

    `only`: settings that it has no effect without, by their names; None stands for any value that is not None.
    """
    return field(default=default, metadata={"kind": kind, "help": help, "only": only})


@dataclass(frozen=True)
class FitSettings:
    """Everything that determines the trained weights.

    Attributes:
        network: arguments of the network that differ from those of `init_from` or the defaults.
    """

    task: str = _option(click.Choice(["jpeg", "sr"]), "Artifact removal, or 4x enlargement.")
    variant: str = _option(
        click.Choice(["distortion", "perceptual"]), "Least error, or texture.", "distortion", task="sr"
    )
    steps: int = _option(COUNT, "Optimizer steps, over which the learning rate falls to zero.", 10_000)
    minibatch: int = _option(COUNT, "Pictures per step.", 8)
    patch: int = _option(
        click.IntRange(24, 512), "Side of the network's input, a multiple of 4.  [default: 48; 96 for jpeg]", None
    )
    learning_rate: float = _option(FiniteNumber(0, 1, min_open=True), "Highest learning rate.", 1e-3)
    seed: int = _option(click.IntRange(0, 2**32 - 1), "Seed of all random numbers.", 0)
    precision: str = _option(click.Choice(["fp32", "bf16"]), "Precision of convolutions.", "bf16")
    network: dict[str, Any] = field(default_factory=dict)
    bicubic: float = _option(SHARE, "Share of the pictures reduced by the bicubic kernel.", 0.85, task="sr")
    pixel_weight: float = _option(
        WEIGHT, "Weight of each pixel's error; the reduced picture's is 1.", 0.5, variant="perceptual"
    )
    texture_weight: float = _option(WEIGHT, "Weight of the distance between patches.", 0.2, variant="perceptual")
    adversarial_weight: float = _option(WEIGHT, "Weight of the critic.", 0.01, variant="perceptual")
    texture_strength: float = _option(
        FiniteNumber(0, 2), "Share of the texture that the finished network adds.", 1.0, variant="perceptual"
    )
    self_ensemble: int = _option(
        click.Choice([1, 2, 4]), "Orientations that the finished network averages: less error, but slower.", 1
    )
    init_from: str | None = _option(NameOrPath(), "Weight file to start from.", None)
    degrade_with: str | None = _option(NameOrPath(), "Artifact remover to apply to the inputs.", None, task="sr")
    degrade_strength: float = _option(SHARE, "Share of that remover's change.", 1.0, degrade_with=None)
    teacher: str | None = _option(
        NameOrPath(), "4x network whose results are targets, too.", None, task="sr", variant="distortion"
    )
    ground_truth_weight: float = _option(
        WEIGHT, "Weight of the error to the photos; that to the --teacher's results is 1.", 1.0, teacher=None
    )

    def __post_init__(self) -> None:
        if self.patch is None:
            object.__setattr__(self, "patch", 96 if self.task == "jpeg" else 48)

    def check(self) -> None:
        """Raise SettingError for settings that exclude each other."""
        if self.patch % 4:
            raise SettingError("patch", f"{self.patch} is not a multiple of 4")
        for item in fields(self):
            for name, value in item.metadata.get("only", {}).items():
                fits = getattr(self, name) is not None if value is None else getattr(self, name) == value
                if getattr(self, item.name) != item.default and not fits:
                    raise SettingError(item.name, f"is only for {_with_value(name, value)}")
        if self.variant == "perceptual" and not self.init_from:
            raise SettingError(
                "variant", "perceptual starts from a distortion run: give its weight file with --init-from"
            )

    def side(self) -> int:
        """Return the side of the part of a photo that one training pair is made of."""
        return self.patch * SCALE + 2 * TRIM if self.task == "sr" else self.patch + SHIFTS


def fit_options(command: Command) -> Command:
    """Add an option for every setting but `network` to a click command."""
    for item in reversed([item for item in fields(FitSettings) if item.metadata]):
        kind, only = item.metadata["kind"], item.metadata["only"]
        text = item.metadata["help"]
        if only:
            text += f"  [only with {' '.join(_with_value(name, value) for name, value in only.items())}]"
        given = {"required": True} if item.default is MISSING else {"default": item.default}
        metavar = "FILE" if isinstance(kind, NameOrPath) else None
        command = click.option(flag(item.name), type=kind, metavar=metavar, help=text, **given)(command)
    return command


def _with_value(name: str, value: str | None) -> str:
    return f"{flag(name)} {'FILE' if value is None else value}"
