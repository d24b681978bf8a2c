"""Pictures and measures are computed in float32, whatever a run allows its own steps."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from pggan.config.presets import get_preset
from pggan.media.latents import critic_scores
from pggan.metrics.compare import measure
from pggan.metrics.image_sets import ModelSet
from pggan.metrics.neighbours import nearest
from pggan.metrics.options import Options
from pggan.model.files import Model, new_model
from pggan.precision import PrecisionName, allow_tf32, computes, full_products
from pggan.training.plan import make_plan

LOOSE, FULL = ("high", True), ("highest", False)
PRESET = get_preset("tiny").with_resolution(16)
PICTURES = np.zeros((4, 16, 16, 3), np.uint8)


def allowed() -> tuple[str, bool]:
    return torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32


@pytest.fixture(autouse=True)
def tf32() -> Iterator[None]:
    """A process that allows TF32, as a training run and PyTorch itself do."""
    before = allowed()
    allow_tf32(True)
    yield
    assert allowed() == LOOSE, "what the process allows was not restored"
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32 = before[1]


@pytest.fixture
def model() -> Model:
    return new_model(PRESET.network)


def test_full_products_are_restored_after_errors() -> None:
    def fail() -> None:
        with full_products():
            assert allowed() == FULL
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert allowed() == LOOSE


CPU = torch.device("cpu")
QUESTIONS = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")


@pytest.mark.parametrize("instructions", [(), *((name,) for name in QUESTIONS)])
def test_plans_warn_of_bf16_without_instructions(
    instructions: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    for name in QUESTIONS:
        monkeypatch.setattr(f"torch.cpu.{name}", lambda name=name: name in instructions)
    monkeypatch.setattr("pggan.training.plan.measure", lambda *_: None)
    assert computes("fp32", CPU)
    assert computes("bf16", CPU) == bool(instructions)
    precisions: tuple[PrecisionName, ...] = ("fp32", "bf16")
    warned = ["no instructions for bf16" in make_plan(PRESET, CPU, name, 1).lines()[-1] for name in precisions]
    assert warned == [False, not instructions]


@pytest.mark.parametrize("missing", QUESTIONS)
def test_no_warning_where_pytorch_cannot_be_asked(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    for name in QUESTIONS:
        monkeypatch.setattr(f"torch.cpu.{name}", lambda: False)
    assert not computes("bf16", CPU)
    monkeypatch.delattr(f"torch.cpu.{missing}")
    assert computes("bf16", CPU)


@pytest.mark.parametrize("supported", [True, False])
def test_other_processors_are_asked_through_onednn(supported: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: supported, raising=False)
    assert computes("bf16", CPU) == supported


def seen(place: torch.nn.Module, work: Callable[[], object]) -> set[tuple[str, bool]]:
    """Return what is allowed when `place` computes."""
    found: set[tuple[str, bool]] = set()
    hook = place.register_forward_hook(lambda *_: found.add(allowed()))
    work()
    hook.remove()
    return found


def test_pictures(model: Model) -> None:
    assert seen(model.ema, lambda: model.pictures([0, 1])) == {FULL}


def test_scores_of_the_critic(model: Model) -> None:
    assert seen(model.discriminator, lambda: critic_scores(model, PICTURES)) == {FULL}


def test_measures(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    found: set[tuple[str, bool]] = set()
    images = ModelSet(model)

    def compare(first: np.ndarray, *_: object, **__: object) -> np.ndarray:
        found.add(allowed())
        return np.zeros(len(first))

    monkeypatch.setattr("pggan.metrics.compare.ms_ssim", compare)
    measure(images, images, ["ms-ssim"], Options(count=4))
    assert found == {FULL}


def test_neighbours() -> None:
    found: set[tuple[str, bool]] = set()

    def describe(images: torch.Tensor) -> torch.Tensor:
        found.add(allowed())
        return images.flatten(1).float()

    images = PICTURES.transpose(0, 3, 1, 2)
    nearest(images, [images], k=1, descriptor=describe)
    assert found == {FULL}
