"""Send a run's numbers and pictures to an experiment tracker: Weights & Biases, trackio or MLflow.

The libraries are optional and configured as their documentation says (WANDB_MODE, MLFLOW_TRACKING_URI ...).
"""

import importlib
import json
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from datatools.errors import DataError, reason
from datatools.files import atomic_path

TrackerName = Literal["wandb", "trackio", "mlflow"]
TRACKERS: tuple[TrackerName, ...] = get_args(TrackerName)
FILE_NAME = "trackers.json"
"""In the run folder: the run's identifier in each tracker, so that a resumed run continues there."""
PROJECT = "pggan"
IMAGES = "images"


class Sink(Protocol):
    """Takes the numbers and pictures of a run; `step` is the number of images seen. Raises OSError where it fails."""

    def add(self, step: int, scalars: Mapping[str, float]) -> None:
        """Add a point to the curve of every name."""

    def add_picture(self, step: int, name: str, picture: NDArray[np.uint8]) -> None:
        """Add a picture, (h, w, 3) RGB, to those of that name."""

    def close(self) -> None:
        """Send what is left."""


class WandbTracker:
    """A run in Weights & Biases, or in trackio, which has the same interface. `library` is one of these modules."""

    def __init__(self, library: Any, folder: Path, config: Mapping[str, Any], identifier: str | None) -> None:
        self._library = library
        self.identifier = identifier or uuid.uuid4().hex[:8]
        name = folder.resolve().name
        if library.__name__ == "trackio":  # it knows a run by its name
            library.init(project=PROJECT, name=f"{name}-{self.identifier}", config=dict(config), resume="allow")
            return
        run = library.init(
            project=PROJECT, name=name, id=self.identifier, config=dict(config), resume="allow", dir=str(folder)
        )
        run.define_metric("*", step_metric=IMAGES)  # a resumed run repeats steps, which wandb's own steps do not allow

    def add(self, step: int, scalars: Mapping[str, float]) -> None:
        self._library.log({**scalars, IMAGES: step})

    def add_picture(self, step: int, name: str, picture: NDArray[np.uint8]) -> None:
        self._library.log({name: self._library.Image(picture), IMAGES: step})

    def close(self) -> None:
        self._library.finish()


class MlflowTracker:
    """A run in MLflow."""

    def __init__(self, library: Any, folder: Path, config: Mapping[str, Any], identifier: str | None) -> None:
        self._library = library
        library.set_experiment(PROJECT)
        name = None if identifier else folder.resolve().name
        self.identifier = str(library.start_run(run_id=identifier, run_name=name).info.run_id)
        if identifier is None:
            library.log_dict(dict(config), "config.json")

    def add(self, step: int, scalars: Mapping[str, float]) -> None:
        self._library.log_metrics(dict(scalars), step=step)

    def add_picture(self, step: int, name: str, picture: NDArray[np.uint8]) -> None:
        self._library.log_image(picture, key=name, step=step)

    def close(self) -> None:
        self._library.end_run()


class Tracker:
    """A run in one of the trackers, whose errors are all OSErrors: they never end the run.

    Args:
        name: one of TRACKERS.
        folder: the run folder; its name is the run's name there.
        config: settings of the run, shown next to its curves.

    Raises:
        DataError: a library that is not installed, or a tracker that cannot be reached or refuses the run.
    """

    def __init__(self, name: TrackerName, folder: Path, config: Mapping[str, Any]) -> None:
        try:
            library = importlib.import_module(name)
        except ImportError as error:
            raise DataError(f"--log-to {name}: {reason(error)}; install it with: pip install {name}") from error
        known = _identifiers(folder)
        kind = MlflowTracker if name == "mlflow" else WandbTracker
        try:
            self._tracker: WandbTracker | MlflowTracker = kind(library, folder, config, known.get(name))
        except Exception as error:  # each library has errors of its own
            raise DataError(f"--log-to {name}: {_first_line(error)}") from error
        with atomic_path(folder / FILE_NAME) as temporary:
            temporary.write_text(json.dumps({**known, name: self._tracker.identifier}) + "\n", encoding="utf-8")

    def add(self, step: int, scalars: Mapping[str, float]) -> None:
        with _as_os_error():
            self._tracker.add(step, scalars)

    def add_picture(self, step: int, name: str, picture: NDArray[np.uint8]) -> None:
        with _as_os_error():
            self._tracker.add_picture(step, name, picture)

    def close(self) -> None:
        with _as_os_error():
            self._tracker.close()


@contextmanager
def _as_os_error() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise OSError(_first_line(error)) from error


def _identifiers(folder: Path) -> dict[str, str]:
    try:
        values = json.loads((folder / FILE_NAME).read_text(encoding="utf-8"))
        return values if isinstance(values, dict) else {}
    except (OSError, ValueError):  # a run that is not known there begins anew
        return {}


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
