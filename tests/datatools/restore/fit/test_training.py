"""Training runs learn, resume bit for bit, and write networks that load."""

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datatools.errors import DataError
from datatools.restore.fit import losses, training
from datatools.restore.fit.dataset import Photos, training_pair
from datatools.restore.fit.distillation import TeacherTargets
from datatools.restore.fit.settings import FitSettings
from datatools.restore.fit.training import Fit, load_state, run, state_path
from datatools.restore.fit.validation import Validation
from datatools.restore.restorers import load_network
from datatools.restore.weights import load_weights
from tests.support.fit_runs import CPU, Negative, settings, trained

pytestmark = pytest.mark.usefixtures("small_critic")


def kinds(distortion: dict[str, Path]) -> dict[str, FitSettings]:
    return {
        "jpeg": settings("jpeg"),
        "sr": settings(),
        "remover": settings(degrade_with=str(distortion["jpeg"])),
        "perceptual": settings(variant="perceptual", init_from=str(distortion["sr"])),
        "bf16": settings(precision="bf16"),
        "teacher": settings(teacher=str(distortion["sr"]), bicubic=0.6),
        "teacher and remover": settings(
            teacher=str(distortion["sr"]), degrade_with=str(distortion["jpeg"]), degrade_strength=0.5, bicubic=0.6
        ),
    }


KINDS = pytest.mark.parametrize(
    "kind", ["jpeg", "sr", "remover", "perceptual", "bf16", "teacher", "teacher and remover"]
)


def start(chosen: FitSettings, photos: Photos, validation: Validation) -> Fit:
    """The run as the command begins it: each process computes the teacher's targets."""
    teacher_targets = (
        None if chosen.teacher is None else TeacherTargets(photos, load_network(chosen.teacher, "sr"), CPU)
    )
    return Fit(chosen, photos, validation, CPU, teacher_targets)


@KINDS
def test_a_resumed_run_equals_an_uninterrupted_one(
    kind: str, photos: Photos, held_out: Photos, distortion: dict[str, Path], tmp_path: Path
) -> None:
    """Bit for bit, wherever it was killed: after the state was saved, or steps later, which are then done again."""
    chosen = kinds(distortion)[kind]
    validation = Validation(chosen.task, held_out)
    straight = start(chosen, photos, validation)
    rows = trained(straight, tmp_path / "straight", every=2)
    first = start(chosen, photos, validation)
    list(itertools.islice(run(first, tmp_path / "x", every=2, card={"variant": chosen.variant}, progress=int), 1))
    first.one_step()  # lost: killed before the next save
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002 - whatever the process did before
    second = start(chosen, photos, validation)
    state = load_state(state_path(tmp_path / "x"))
    assert state is not None
    second.load_state(state)
    assert second.step == 2
    trained(second, tmp_path / "x", every=2)
    for name, value in straight.network.state_dict().items():
        assert torch.equal(value, second.network.state_dict()[name]), name
        assert torch.equal(straight.ema.state_dict()[name], second.ema.state_dict()[name]), name
    plain = [{k: v for k, v in row.items() if k != "seconds"} for row in rows]
    assert plain == [{k: v for k, v in row.items() if k != "seconds"} for row in second.curve]
    ours, theirs = (load_weights(tmp_path / name, chosen.task)[0] for name in ("straight", "x"))
    assert all(torch.equal(value, theirs.state_dict()[name]) for name, value in ours.state_dict().items())


@KINDS
def test_every_kind_writes_a_network_that_loads(
    kind: str, photos: Photos, held_out: Photos, distortion: dict[str, Path], tmp_path: Path
) -> None:
    chosen = kinds(distortion)[kind]
    fit = start(chosen, photos, Validation(chosen.task, held_out))
    rows = trained(fit, tmp_path / "net", every=3)
    assert [row["step"] for row in rows] == [3, 4]
    assert all(np.isfinite(list(row.values())).all() for row in rows)
    network, card = load_weights(tmp_path / "net", chosen.task)
    assert card == {"variant": chosen.variant, "steps": 4}
    for name, value in fit.ema.state_dict().items():
        assert torch.equal(network.state_dict()[name], value.half().float())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net", "net.state"]


@pytest.mark.parametrize("task", ["jpeg", "sr"])
def test_it_learns(task: str, photos: Photos, held_out: Photos) -> None:
    """A few dozen steps lower the loss on a batch that was never drawn."""
    fit = Fit(settings(task, steps=40, learning_rate=3e-3), photos, Validation(task, held_out), CPU)

    def loss() -> float:
        fit.step, kept = 10_000, fit.step
        inputs, targets, _ = fit.minibatch()
        fit.step = kept
        with torch.no_grad():
            return float((fit.network(inputs) - targets).abs().mean())

    before = loss()
    for _ in range(40):
        fit.one_step()
    assert loss() < 0.9 * before


def test_seeds_differ_and_repeat(photos: Photos, held_out: Photos) -> None:
    validation = Validation("sr", held_out)
    first, again, other = (Fit(settings(seed=seed), photos, validation, CPU) for seed in (0, 0, 1))
    for fit in (first, again, other):
        fit.one_step()
    weights = [fit.network.state_dict()["entry.weight"] for fit in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_the_rate_rises_and_falls(photos: Photos, held_out: Photos) -> None:
    fit = Fit(settings(steps=1000, learning_rate=0.5), photos, Validation("sr", held_out), CPU)
    rates = []
    for fit.step in range(1000):
        rates.append(fit.learning_rate())
    assert rates[0] < 0.01
    assert 0.4 < max(rates) <= 0.5
    assert rates[-1] < 1e-5
    top = int(np.argmax(rates))
    assert (np.diff(rates[:top]) > 0).all()
    assert (np.diff(rates[top:]) < 0).all()


def test_validation_measures(held_out: Photos) -> None:
    validation = Validation("jpeg", held_out)
    fit_like = lambda p: torch.from_numpy(p).permute(0, 3, 1, 2).float() / 255  # noqa: E731
    found = validation.measure(lambda p: p, fit_like)
    assert found["psnr"] == pytest.approx(found["baseline"], abs=1e-3)
    given, clean = validation.pairs[0]
    error = np.mean((given.astype(float) - clean) ** 2)
    assert found["psnr"] == pytest.approx(10 * np.log10(255**2 / error), abs=1e-3)


def test_a_loss_that_is_not_finite_stops(photos: Photos, held_out: Photos) -> None:
    fit = Fit(settings(), photos, Validation("sr", held_out), CPU)
    with torch.no_grad():
        fit.network.entry.bias.fill_(float("nan"))
    with pytest.raises(DataError, match="not finite at step 0; lower --learning-rate"):
        fit.one_step()


def test_finished_networks_average_over_orientations(photos: Photos, held_out: Photos, tmp_path: Path) -> None:
    plain, turned = (Fit(settings(self_ensemble=n), photos, Validation("sr", held_out), CPU) for n in (1, 4))
    for fit, name in ((plain, "plain"), (turned, "turned")):
        trained(fit, tmp_path / name, every=4)
    first, second = (load_weights(tmp_path / name, "sr")[0] for name in ("plain", "turned"))
    assert (first.settings["self_ensemble"], second.settings["self_ensemble"]) == (1, 4)
    assert all(torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())


def test_the_finished_network_adds_a_share_of_the_texture(
    photos: Photos, held_out: Photos, distortion: dict[str, Path]
) -> None:
    chosen = settings(variant="perceptual", init_from=str(distortion["sr"]), texture_strength=0.5)
    fit = Fit(chosen, photos, Validation("sr", held_out), CPU)
    fit.one_step()
    half = fit.ema_network().eval()
    fit.settings = dataclasses.replace(chosen, texture_strength=1.0)
    whole = fit.ema_network().eval()
    fit.settings = dataclasses.replace(chosen, texture_strength=0.0)
    none = fit.ema_network().eval()
    x = torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(half(x) - none(x), (whole(x) - none(x)) / 2, atol=1e-5)
        assert (whole(x) - none(x)).abs().max() > 1e-4


def test_bicubic_examples_have_the_teachers_result_as_target(photos: Photos, held_out: Photos) -> None:
    teacher_targets = TeacherTargets(photos, Negative(), CPU)
    fit = Fit(settings(bicubic=0.6), photos, Validation("sr", held_out), CPU, teacher_targets)
    with_teacher = 0
    for seed in range(60):
        small, clean, result = fit.example(np.random.default_rng(seed))
        assert small.shape == (24, 24, 3)
        assert clean.shape == result.shape == (96, 96, 3)
        if np.array_equal(clean, result):
            continue
        with_teacher += 1
        assert np.array_equal(result, np.repeat(np.repeat(255 - small, 4, axis=0), 4, axis=1))
    assert with_teacher / 60 == pytest.approx(0.6, abs=0.2)
    inputs, targets, results = fit.minibatch()
    assert inputs.shape == (2, 3, 24, 24)
    assert targets.shape == results.shape == (2, 3, 96, 96)


def test_examples_with_other_kernels_have_no_teachers_target(
    photos: Photos, held_out: Photos, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What he does not teach is not bicubic again, so that the setting's share is that of both together."""
    shares: list[float] = []

    def pair(photos: Photos, chosen: FitSettings, rng: np.random.Generator) -> Any:
        shares.append(chosen.bicubic)
        return training_pair(photos, chosen, rng)

    monkeypatch.setattr(training, "training_pair", pair)
    validation = Validation("sr", held_out)
    fit = Fit(settings(bicubic=0.6), photos, validation, CPU, TeacherTargets(photos, Negative(), CPU))
    plain = Fit(settings(bicubic=0.6), photos, validation, CPU)
    for seed in range(10):
        fit.example(np.random.default_rng(seed))
    assert set(shares) == {0.0}
    shares.clear()
    given, clean, result = plain.example(np.random.default_rng(0))
    assert shares == [0.6]
    assert np.array_equal(clean, result)
    assert given.shape == (24, 24, 3)


@pytest.mark.parametrize("truth", [1.0, 0.2, 0.0])
def test_the_loss_weighs_the_photo_and_the_teachers_result(photos: Photos, held_out: Photos, truth: float) -> None:
    chosen, validation = settings(bicubic=1.0, ground_truth_weight=truth), Validation("sr", held_out)
    with_teacher = Fit(chosen, photos, validation, CPU, TeacherTargets(photos, Negative(), CPU))
    inputs, targets, results = with_teacher.minibatch()
    with torch.no_grad():
        outputs = with_teacher.network(inputs)
    to_photo, to_teacher = (float(losses.charbonnier(outputs, wanted).mean()) for wanted in (targets, results))
    assert with_teacher.one_step() == pytest.approx(truth * to_photo + to_teacher, rel=1e-4)
    assert min(to_photo, to_teacher) > 0.05
    plain = Fit(chosen, photos, validation, CPU)
    inputs, targets, _ = plain.minibatch()
    with torch.no_grad():
        loss = float(losses.charbonnier(plain.network(inputs), targets).mean())
    assert plain.one_step() == pytest.approx(loss, rel=1e-4)


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_inputs_go_through_a_share_of_the_remover(
    strength: float, photos: Photos, held_out: Photos, distortion: dict[str, Path]
) -> None:
    validation, remover = Validation("sr", held_out), str(distortion["jpeg"])
    none, whole, share = (
        Fit(settings(**changes), photos, validation, CPU).minibatch()[0]
        for changes in ({}, {"degrade_with": remover}, {"degrade_with": remover, "degrade_strength": strength})
    )
    assert (whole - none).abs().max() > 0.01
    inside = (whole > 0) & (whole < 1)  # what is clipped cannot be compared
    torch.testing.assert_close(share[inside], none.lerp(whole, strength)[inside], rtol=0, atol=1e-6)
