"""What a training run is told, and the part of it that decides its results."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from datatools.errors import DataError
from datatools.files import atomic_path
from pggan.config.presets import Preset, differences, preset_from_json
from pggan.data.stream import Source
from pggan.precision import PrecisionName

TrainingMetric = Literal["swd", "ms-ssim"]  # those that need nothing but the images
FILE_NAME = "config.json"
MOST_THREADS = 1024
VERSION = 1
# They say how long to go on and how often to report, not what is computed.
FREE = ("name", "schedule.total_kimg", "schedule.tick_kimg_base", "schedule.tick_kimg_by_level")
FLAGS = {
    "schedule.minibatch_base": "--minibatch",
    "schedule.minibatch_by_level": "--minibatch",
    "schedule.rate_base": "--learning-rate",
    "schedule.rate_by_level": "--learning-rate",
    "loss.kind": "--loss",
    "network.classes": "--labels",
    "schedule.resolution": "--resolution",
    "schedule.start_resolution": "--start-resolution",
}


IN_TRAINING: tuple[TrainingMetric, ...] = get_args(TrainingMetric)


@dataclass(frozen=True)
class MetricsConfig:
    """What is measured in training, as `every` (metric, kimg between two measurements); it changes no results.

    `images`: of either set, None for as many as are quickly measured.
    """

    every: tuple[tuple[TrainingMetric, float], ...] = ()
    images: int | None = None

    def __post_init__(self) -> None:
        for name, kimg in self.every:
            if name not in IN_TRAINING:
                raise DataError(
                    f"--metrics {name}: in training {' and '.join(IN_TRAINING)} are measured; for others "
                    "python -m pggan.evaluate takes the run folder, also while the training goes on"
                )
            if not kimg * 1000 >= 1 or not math.isfinite(kimg):
                raise DataError(f"--metrics {name}@{kimg:g}: must be thousands of images between two measurements")
        if self.images is not None and self.images < 2:
            raise DataError(f"--metrics-images {self.images}: must be at least 2")


@dataclass(frozen=True)
class RunConfig:
    """A training run. The second half of the fields does not change its results.

    Attributes:
        h5: the pyramid file. out: the run folder. preset: networks, losses, schedule.
        labels: "none", "file" or names of attributes, see data.Source.
        devices: number of devices that the preset's schedule was chosen for.
        init_from: run folder or model file to start from, instead of random weights.
        device: auto, cpu, cuda or mps. workers: threads that read large levels ahead.
        max_batch_per_device: samples at once; a minibatch of more is accumulated.
        keep: number of checkpoints kept. checkpoint_kimg: thousands of images between them, None for every tick.
        fork: go on with settings that differ from the run's own.
        metrics: what is measured while training.
        threads: of each process, for arithmetic on a CPU. None: as the run began, or the fastest number.
    """

    h5: Path
    out: Path
    preset: Preset
    seed: int = 0
    precision: PrecisionName = "fp32"
    tf32: bool = True
    labels: str = "none"
    devices: int = 1
    init_from: Path | None = None
    device: str = "auto"
    workers: int = 2
    max_batch_per_device: int | None = None
    keep: int = 3
    checkpoint_kimg: float | None = None
    fork: bool = False
    metrics: MetricsConfig = MetricsConfig()
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise DataError(f"--seed {self.seed}: must be 0 or more")
        if self.keep < 1:
            raise DataError(f"--keep {self.keep}: must be at least 1, or nothing could be resumed")
        if self.workers < 0:
            raise DataError(f"--workers {self.workers}: must be 0 or more")
        if self.checkpoint_kimg is not None and self.checkpoint_kimg <= 0:
            raise DataError(f"--checkpoint-kimg {self.checkpoint_kimg}: must be above 0")
        if self.threads is not None and not 1 <= self.threads <= MOST_THREADS:
            raise DataError(f"--threads {self.threads}: must be 1 to {MOST_THREADS}")


@dataclass(frozen=True)
class SavedRun:
    """config.json: the settings that decide the results, as a run started with them.

    `threads`: those that a CPU computes with, which decide the last bits. None: not known, or not on a CPU.
    """

    preset: Preset
    seed: int
    precision: str
    tf32: bool
    labels: str
    devices: int
    data: Mapping[str, Any]
    forks: tuple[Mapping[str, Any], ...] = ()
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.threads is not None and not (isinstance(self.threads, int) and 1 <= self.threads <= MOST_THREADS):
            raise ValueError(f"threads {self.threads!r}: must be 1 to {MOST_THREADS}")

    @classmethod
    def of(cls, config: RunConfig, source: Source) -> "SavedRun":
        data = {"images": source.count, "resolution": source.resolution, "digest": source.digest()}
        return cls(
            config.preset,
            config.seed,
            config.precision,
            config.tf32,
            config.labels,
            config.devices,
            data,
            threads=config.threads,
        )

    def threads_on(self, device: torch.device) -> int | None:
        """Return the threads that the run goes on with, None for torch's own where the device is not a CPU.

        Older versions did not note the number: on a CPU it was torch's own.
        """
        return self.threads or (torch.get_num_threads() if device.type == "cpu" else None)

    def changes(self, now: "SavedRun") -> list[str]:
        """What differs, a line for each setting that would change the results."""
        found = []
        for name, before, after in differences(self.preset, now.preset):
            if name not in FREE:
                flag = FLAGS.get(name, "--" + name.split(".")[-1].replace("_", "-"))
                found.append(f"{flag} ({name}) is {after}, the run has {before}")
        for name in ("seed", "precision", "tf32", "labels"):
            before, after = getattr(self, name), getattr(now, name)
            if before != after:
                found.append(f"--{name} is {after}, the run has {before}")
        if dict(self.data) != dict(now.data):
            found.append(
                f"--h5 is another data set: {now.data['images']} images of {now.data['resolution']}, "
                f"digest {now.data['digest'][:8]}; the run has {self.data['images']} of {self.data['resolution']}, "
                f"digest {self.data['digest'][:8]}"
            )
        return found

    def write(self, folder: Path) -> None:
        """Write config.json into the run folder."""
        values = {"version": VERSION, **vars(self), "preset": self.preset.to_json(), "data": dict(self.data)}
        with atomic_path(folder / FILE_NAME) as temporary:
            temporary.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def read_saved_run(folder: Path) -> SavedRun | None:
    """The settings of the run in `folder`, None when no run was started there."""
    path = folder / FILE_NAME
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise TypeError("it holds no settings")
        if values.pop("version") != VERSION:
            raise ValueError("written by another version of this program")
        preset = preset_from_json(values.pop("preset"))
        return SavedRun(preset=preset, **{**values, "forks": tuple(values["forks"])})
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        raise DataError(f"{folder}: is a file, or lies in one; a run is a folder") from None
    except (OSError, LookupError, TypeError, ValueError, ArithmeticError, RecursionError, DataError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
