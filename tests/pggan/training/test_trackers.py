"""Experiment trackers get the curves and pictures of a run, once each, and never end it."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from datatools.errors import DataError
from pggan.training.trackers import TRACKERS, Tracker, TrackerName
from tests.support.pggan_runs import config_of, train, write_pyramid


class Library(ModuleType):
    """Stands for wandb, trackio or mlflow: notes what it is called with."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.starts: list[dict[str, Any]] = []
        self.points: list[tuple[int, dict[str, float]]] = []
        self.pictures: list[tuple[int, str, tuple[int, ...]]] = []
        self.ended = 0
        self.broken = False

    # wandb and trackio
    def init(self, **values: Any) -> Any:
        self.starts.append(values)
        return SimpleNamespace(define_metric=lambda *_, **__: None)

    def Image(self, picture: Any) -> Any:  # noqa: N802
        return picture

    def log(self, values: dict[str, Any]) -> None:
        if self.broken:
            raise ConnectionError("no network\nTraceback of many lines")
        step = values.pop("images")
        (name, value), *_ = values.items()
        if isinstance(value, np.ndarray):
            self.pictures.append((step, name, value.shape))
        else:
            self.points.append((step, values))

    def finish(self) -> None:
        self.ended += 1

    # MLflow
    def set_experiment(self, name: str) -> None:
        self.experiment = name

    def start_run(self, run_id: str | None, run_name: str | None) -> Any:
        self.starts.append({"id": run_id, "name": run_name})
        return SimpleNamespace(info=SimpleNamespace(run_id=run_id or "abc"))

    def log_dict(self, values: dict[str, Any], name: str) -> None:
        self.starts[-1]["config" if name == "config.json" else name] = values

    def log_metrics(self, values: dict[str, float], step: int) -> None:
        self.log({**values, "images": step})

    def log_image(self, picture: Any, key: str, step: int) -> None:
        self.log({key: picture, "images": step})

    def end_run(self) -> None:
        self.finish()


@pytest.fixture(params=TRACKERS)
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Library:
    library = Library(request.param)
    monkeypatch.setitem(sys.modules, request.param, library)
    return library


@pytest.fixture(scope="module")
def h5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pyramid(tmp_path_factory.mktemp("pyramid") / "ramps.h5")


def test_a_run_sends_its_curves_and_grids(library: Library, h5: Path, tmp_path: Path) -> None:
    name: Any = library.__name__
    config = replace(config_of(h5, tmp_path / "run"), log_to=name, total_kimg=0.024)
    assert train(config).finished
    lines = map(json.loads, (tmp_path / "run" / "stats.jsonl").read_text().splitlines())
    ticks = [values for values in lines if "loss" in values]
    assert [(step, values["loss/d_loss"]) for step, values in library.points] == [
        (values["images"], values["loss"]["d_loss"]) for values in ticks
    ]
    assert {step for step, name, _ in library.pictures if name == "fakes"} >= {values["images"] for values in ticks}
    assert all(max(shape) <= 1024 for _, _, shape in library.pictures)
    assert library.ended == 1
    assert library.starts[0]["config"]["preset"]["network"]["resolution"] == 16
    assert train(replace(config, total_kimg=0.032)).finished  # continues the same run there
    first, second = library.starts
    if name == "mlflow":
        assert (first["id"], second["id"]) == (None, "abc")
    else:
        assert first.get("id", first["name"]) == second.get("id", second["name"])
        assert second["resume"] == "allow"


def test_a_tracker_that_fails_does_not_end_the_run(library: Library, h5: Path, tmp_path: Path) -> None:
    library.broken = True
    name: Any = library.__name__
    assert train(replace(config_of(h5, tmp_path / "run"), log_to=name, total_kimg=0.032)).finished
    assert library.points == []
    log = (tmp_path / "run" / "log.txt").read_text()
    assert log.count(f"warning: {name}: no network; the run continues without curves in {name}") == 1
    assert "Traceback" not in log


@pytest.mark.parametrize("name", TRACKERS)
def test_a_library_that_is_missing_is_named(
    name: TrackerName, h5: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(DataError, match=f"^--log-to {name}: .*pip install {name}$"):
        Tracker(name, tmp_path, {})
    with pytest.raises(DataError, match=f"pip install {name}$"):
        train(replace(config_of(h5, tmp_path / "run"), log_to=name))
    assert not (tmp_path / "run" / "config.json").exists()
