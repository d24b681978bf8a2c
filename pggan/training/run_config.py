"""config.json: the settings of a run that decide its results."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from datatools.errors import DataError, flag, reason
from datatools.files import atomic_path
from pggan.config.settings import Preset, differences
from pggan.config.stored import preset_from_json
from pggan.precision import PrecisionName
from pggan.training.options import FLAGS, FREE
from pggan.training.threads import MOST_THREADS

FILE_NAME = "config.json"
VERSION = 1


@dataclass(frozen=True)
class SavedRun:
    """config.json: the settings that decide the results, as a run started with them.

    `threads`: those that a CPU computes with, which decide the last bits. None: not known, or not on a CPU.
    """

    preset: Preset
    seed: int
    precision: PrecisionName
    tf32: bool
    labels: str
    devices: int
    data: Mapping[str, Any]
    forks: tuple[Mapping[str, Any], ...] = ()
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.threads is not None and not (isinstance(self.threads, int) and 1 <= self.threads <= MOST_THREADS):
            raise ValueError(f"threads {self.threads!r}: must be 1 to {MOST_THREADS}")

    def threads_on(self, device: torch.device) -> int | None:
        """Return the number of threads of a resumed run, None for torch's own where the device is not a CPU.

        Older versions did not note the number: on a CPU it was torch's own.
        """
        return self.threads or (torch.get_num_threads() if device.type == "cpu" else None)

    def changes(self, now: "SavedRun") -> list[str]:
        """Return what differs, a line for each setting that would change the results."""
        found = []
        for name, before, after in differences(self.preset, now.preset):
            if name not in FREE:
                option = FLAGS.get(name, flag(name.split(".")[-1]))
                found.append(f"{option} ({name}) is {after}, the run has {before}")
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


def read_config(path: Path) -> SavedRun:
    """Return the settings of a run from its config.json or its folder; DataError where there are none."""
    saved = read_saved_run(path) if path.is_dir() else _read(path)
    if saved is None:
        raise DataError(f"{path}: has no {FILE_NAME}; give the folder of a run, or its {FILE_NAME}")
    return saved


def read_saved_run(folder: Path) -> SavedRun | None:
    """Return the settings of the run in `folder`, None when no run was started there."""
    return _read(folder / FILE_NAME)


def _read(path: Path) -> SavedRun | None:
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
        raise DataError(f"{path.parent}: is a file, or lies in one; a run is a folder") from None
    except (OSError, LookupError, TypeError, ValueError, ArithmeticError, RecursionError, DataError) as error:
        raise DataError(f"{path}: cannot be read: {reason(error)}") from error
