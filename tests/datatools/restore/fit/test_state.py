"""The saved state of a run: what may change when it resumes, and files that do not fit."""

import dataclasses
import resource
from pathlib import Path
from typing import Any

import pytest
import torch

from datatools.errors import DataError
from datatools.restore.fit import training
from datatools.restore.fit.dataset import Photos
from datatools.restore.fit.training import Fit, load_state, save_state, state_path
from datatools.restore.fit.validation import Validation
from tests.support.fit_runs import CPU, settings, trained
from tests.support.restore_samples import TINY

pytestmark = pytest.mark.usefixtures("small_critic")


CHANGES: dict[str, Any] = {
    "task": "jpeg",
    "minibatch": 3,
    "patch": 28,
    "learning_rate": 0.1,
    "seed": 5,
    "precision": "bf16",
    "bicubic": 0.1,
    "network": {"channels": 7, "blocks": 1},
    "degrade_strength": 0.5,
    "teacher": "teacher.pth",
}


@pytest.mark.parametrize("name", sorted(CHANGES))
def test_another_setting_is_refused_by_name(name: str, photos: Photos, held_out: Photos) -> None:
    state = Fit(settings(), photos, Validation("sr", held_out), CPU).state()
    changes = {name: CHANGES[name]} | ({"network": TINY["jpeg"]} if name == "task" else {})
    other = settings(**changes)
    fit = Fit(other, photos, Validation(other.task, held_out), CPU)
    with pytest.raises(DataError, match=rf"has {name} .*the options say .*\.state"):
        fit.load_state(state)


def test_a_state_from_before_a_setting_existed_resumes(photos: Photos, held_out: Photos) -> None:
    fit = Fit(settings(), photos, Validation("sr", held_out), CPU)
    state = fit.state()
    del state["settings"]["degrade_strength"]
    fit.load_state(state)
    other = Fit(settings(degrade_strength=0.5), photos, Validation("sr", held_out), CPU)
    with pytest.raises(DataError, match=r"has degrade_strength 1\.0, the options say 0\.5"):
        other.load_state(state)


def test_a_run_can_be_made_longer(photos: Photos, held_out: Photos, tmp_path: Path) -> None:
    chosen = settings(steps=2)
    trained(Fit(chosen, photos, Validation("sr", held_out), CPU), tmp_path / "net")
    longer = Fit(dataclasses.replace(chosen, steps=4), photos, Validation("sr", held_out), CPU)
    longer.load_state(load_state(state_path(tmp_path / "net")) or {})
    assert [row["step"] for row in trained(longer, tmp_path / "net", every=10)] == [4]
    assert [row["step"] for row in longer.curve] == [2, 4]


@pytest.mark.parametrize("changes", [{"texture_strength": 0.5}, {"self_ensemble": 4}, {"steps": 9}])
def test_settings_without_effect_on_training_may_change(changes: Any, photos: Photos, held_out: Photos) -> None:
    validation = Validation("sr", held_out)
    begun = Fit(settings(), photos, validation, CPU)
    begun.one_step()
    fit = Fit(settings(**changes), photos, validation, CPU)
    fit.load_state(begun.state())
    assert fit.step == 1


SPOILT: list[dict[str, Any]] = [
    {"settings": None},
    {"settings": [1]},
    {"step": "soon"},
    {"seconds": None},
    {"curve": 7},
    {"curve": [1]},
    {"network": {}},
    {"network": {"entry.weight": torch.zeros(2)}},
    {"network": None},
    {"ema": {}},
    {"ema": {"entry.weight": 1}},
    {"optimizer": {}},
    {"optimizer": {"adam": {}, "muon": None}},
]


@pytest.mark.parametrize("spoilt", SPOILT, ids=lambda spoilt: str(spoilt)[:40])
def test_a_state_that_does_not_fit_is_reported_in_one_line(
    spoilt: dict[str, Any], photos: Photos, held_out: Photos
) -> None:
    fit = Fit(settings(), photos, Validation("sr", held_out), CPU)
    with pytest.raises(DataError, match=r"does not fit .*delete its \.state file") as error:
        fit.load_state(fit.state() | spoilt)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kept", [0, 30, -200])
def test_a_damaged_state_is_named(kept: int, photos: Photos, held_out: Photos, tmp_path: Path) -> None:
    path = tmp_path / "net.state"
    save_state(path, Fit(settings(), photos, Validation("sr", held_out), CPU).state())
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataError, match=r"net\.state cannot be read .*delete it"):
        load_state(path)


def test_a_state_of_an_earlier_version_is_refused(photos: Photos, held_out: Photos, tmp_path: Path) -> None:
    """Its settings have other names."""
    state = Fit(settings(), photos, Validation("sr", held_out), CPU).state()
    state["average"] = state.pop("ema")
    save_state(tmp_path / "net.state", state)
    with pytest.raises(DataError, match=r"net\.state is not the state of a run of this version; delete it"):
        load_state(tmp_path / "net.state")


def test_a_state_is_no_program(tmp_path: Path) -> None:
    torch.save({"settings": Path("/")}, tmp_path / "net.state")  # a class: only tensors and plain values may load
    with pytest.raises(DataError, match="cannot be read"):
        load_state(tmp_path / "net.state")


def test_a_full_disk_is_named_where_it_is_real(tmp_path: Path) -> None:
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limit[1]))
        with pytest.raises(DataError, match=r"net\.state: cannot be written: File too large$"):
            training.save_state(tmp_path / "net.state", {"values": torch.zeros(10_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert list(tmp_path.iterdir()) == []
