"""A step takes what memory there is, and what a device lacks changes nothing."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datatools.errors import DataError
from pggan.config.schedule import state_at
from pggan.data.stream import Batch
from pggan.model.losses import d_step_terms
from pggan.training import session
from pggan.training.log import memory_bytes
from pggan.training.networks import build_networks
from pggan.training.plan import plan_from
from pggan.training.run import Run
from pggan.training.step import Stepper, step_whole
from tests.support.pggan_runs import PRESET, assert_equal_values, config_of, stats_of, train, write_pyramid

CPU = torch.device("cpu")
OUT_OF_MEMORY = torch.OutOfMemoryError("CUDA out of memory")
CUBLAS = RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")
CUDNN = RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")
CPU_FULL = RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 64 bytes.")
SIXTEEN = {"total_kimg": 0.06, "minibatch_base": 16, "minibatch_repeats": 1}


class Full:
    """A device whose memory holds `limit` samples of the discriminator's step."""

    def __init__(self, limit: int, error: Exception = OUT_OF_MEMORY) -> None:
        self.limit, self.error, self.refused = limit, error, 0

    def __call__(self, discriminator: Any, reals: torch.Tensor, *rest: Any, **more: Any) -> Any:
        if len(reals) > self.limit:
            self.refused += 1
            raise self.error
        return d_step_terms(discriminator, reals, *rest, **more)


class Refusing:
    """Raises an error at calls `at` of a function, counted from 1."""

    def __init__(self, function: Callable[..., Any], error: Exception, *at: int) -> None:
        self.function, self.error, self.at, self.calls = function, error, at, 0

    def __call__(self, *arguments: Any, **more: Any) -> Any:
        self.calls += 1
        if self.calls in self.at:
            raise self.error
        return self.function(*arguments, **more)


def stepper_of() -> Stepper:
    return Stepper(build_networks(PRESET, 0, CPU), PRESET, 0, "fp32", CPU, say=lambda _: None)


def steps(stepper: Stepper) -> dict[str, Any]:
    """Return the state after two steps of each network."""
    state = replace(state_at(PRESET.schedule, 0), minibatch=16)
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 255, (16, 3, 4, 4), np.uint8))
    batch = Batch(images, torch.zeros(16, dtype=torch.bool), torch.arange(16), 0.0)
    for number in range(2):
        stepper.discriminator_step(state, 16 * number, batch)
        stepper.generator_step(state, 16 * number)
    return stepper.state()


@pytest.fixture(scope="module")
def undisturbed() -> dict[str, Any]:
    return steps(stepper_of())


@pytest.fixture(scope="module")
def h5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pyramid(tmp_path_factory.mktemp("step") / "faces.h5")


@pytest.fixture(scope="module")
def reference(h5: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("reference") / "run"
    train(config_of(h5, out, schedule=SIXTEEN))
    return out


def after_the_plan(monkeypatch: pytest.MonkeyPatch, change: Callable[[], object]) -> None:
    """Calls `change` when the trials are over and the run begins."""
    begin = session.begin

    def begin_and_change(run: Run) -> None:
        begin(run)
        change()

    monkeypatch.setattr(session, "begin", begin_and_change)


def assert_nearly_equal_runs(first: Path, second: Path) -> None:
    for one, other in zip(stats_of(first), stats_of(second), strict=True):
        assert one["loss"]["d_loss"] == pytest.approx(other["loss"]["d_loss"], rel=1e-3)


@pytest.mark.parametrize("error", [OUT_OF_MEMORY, CUDNN])
def test_out_of_memory_halves_the_micro_batch_and_goes_on(
    error: Exception, h5: Path, reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = Full(4, error)
    after_the_plan(monkeypatch, lambda: monkeypatch.setattr("pggan.training.progressive_terms.d_step_terms", full))
    out = tmp_path / "run"
    assert train(config_of(h5, out, schedule=SIXTEEN)).finished
    assert full.refused >= 2
    log = (out / "log.txt").read_text()
    assert "out of memory with 16 images at once; going on with 8" in log
    assert "out of memory with 8 images at once; going on with 4" in log
    assert_nearly_equal_runs(reference, out)


def test_a_run_takes_what_a_trial_found_to_fit(
    h5: Path, reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = Full(4)
    refused: list[int] = []
    monkeypatch.setattr("pggan.training.progressive_terms.d_step_terms", full)
    after_the_plan(monkeypatch, lambda: refused.append(full.refused))
    out = tmp_path / "run"
    assert train(config_of(h5, out, schedule=SIXTEEN)).finished
    assert refused == [full.refused]
    assert full.refused > 0
    rows = re.findall(
        r"^  [0-9. -]+ (?:4|8)(?: fading in)? +(\d+) +(\d+) ", (out / "log.txt").read_text(), re.MULTILINE
    )
    assert rows == [("16", "4")] * 2, "the plan says how many samples a device takes at once"
    assert_nearly_equal_runs(reference, out)


def test_a_level_that_does_not_fit_at_all_is_estimated(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(discriminator: Any, reals: torch.Tensor, *rest: Any, **more: Any) -> Any:
        if reals.shape[-1] == 16:
            raise OUT_OF_MEMORY
        return d_step_terms(discriminator, reals, *rest, **more)

    monkeypatch.setattr("pggan.training.progressive_terms.d_step_terms", full)
    stepper = stepper_of()
    plan = plan_from(stepper, threads=1)
    assert [plan.levels[r].measured for r in (4, 8, 16)] == [True, True, False]
    assert plan.levels[16].seconds > 0
    assert stepper.max_batch is None


@pytest.mark.parametrize("error", [OUT_OF_MEMORY, CUBLAS, CUDNN, CPU_FULL])
@pytest.mark.parametrize(
    ("place", "function"),
    [
        ("torch.optim.Adam.step", torch.optim.Adam.step),
        ("torch._foreach_norm", torch._foreach_norm),
        ("pggan.training.distributed.Team.sum", lambda *_: None),
    ],
)
def test_memory_that_runs_out_after_the_gradients_changes_nothing(
    place: str,
    function: Callable[..., Any],
    error: Exception,
    undisturbed: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refusing = Refusing(function, error, 1, 4)
    monkeypatch.setattr(place, lambda *arguments, **more: refusing(*arguments, **more))
    assert_equal_values(undisturbed, steps(stepper_of()))
    assert refusing.calls == 6


def test_memory_for_gradients_that_no_sample_gave_halves_the_micro_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.zeros_like", Refusing(torch.zeros_like, OUT_OF_MEMORY, 1))
    # the layers of larger levels, too, none of which has a gradient
    monkeypatch.setattr("pggan.training.step.used_parameters", lambda network, *_: network.named_parameters())
    stepper = stepper_of()
    steps(stepper)
    assert stepper.max_batch == 8


def test_memory_for_the_moments_that_never_suffices_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "torch.optim.Adam.step", lambda *arguments: Refusing(torch.optim.Adam.step, OUT_OF_MEMORY, 1)(*arguments)
    )
    with pytest.raises(DataError, match=r"^out of memory for weights, gradients and Adam's moments: choose a smaller"):
        steps(stepper_of())


def test_other_errors_are_not_taken_for_a_lack_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    refusing = Refusing(torch._foreach_norm, RuntimeError("CUDA error: an illegal memory access"), 1)
    monkeypatch.setattr("torch._foreach_norm", refusing)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        steps(stepper_of())
    assert refusing.calls == 1


def test_moments_that_were_allocated_in_part_are_allocated_again() -> None:
    parameters = [torch.nn.Parameter(torch.ones(3)) for _ in range(2)]
    for parameter in parameters:
        parameter.grad = torch.ones(3)
    adam = torch.optim.Adam(parameters, fused=True)
    adam.state[parameters[1]] = {"step": torch.zeros(()), "exp_avg": torch.zeros(3)}  # no memory for the next one
    step_whole(adam)
    assert torch.equal(parameters[0], parameters[1])
    assert adam.state[parameters[1]].keys() == {"step", "exp_avg", "exp_avg_sq"}


@pytest.mark.parametrize(("written", "read"), [(True, False), (False, True)])
def test_moments_of_another_kind_of_device_are_taken_over(written: bool, read: bool) -> None:
    """Adam keeps the number of its steps on the device where it is fused, and otherwise on the CPU."""
    first, second = stepper_of(), stepper_of()
    steps(first)
    values = first.state()
    for stepper, fused in ((first, written), (second, read)):
        for optimizer in (stepper.networks.g_optimizer, stepper.networks.d_optimizer):
            for group in optimizer.param_groups:
                group["fused"] = fused
    for name in ("g_optimizer", "d_optimizer"):
        for group in values[name]["param_groups"]:
            group["fused"] = written
    seen: list[bool] = []
    place = torch.optim.Optimizer._process_value_according_to_param_policy

    def watch(parameter: Any, value: Any, number: Any, groups: list[dict[str, Any]], key: Any = None) -> Any:
        seen.extend(group["fused"] for group in groups)
        return place(parameter, value, number, groups, key)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.Optimizer, "_process_value_according_to_param_policy", staticmethod(watch))
        second.load(values)
    assert set(seen) == {read}
    assert all(group["fused"] == read for group in second.networks.g_optimizer.param_groups)
    assert_equal_values(first.state()["generator"], second.state()["generator"])
    steps(second)


def test_the_peak_of_a_device_is_all_that_pytorch_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in use is less than what other programs miss."""
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: 7 << device.index)
    assert memory_bytes(torch.device("cuda", 1))["device_peak"] == 14
    assert "device_peak" not in memory_bytes(CPU)
