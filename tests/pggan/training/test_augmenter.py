"""What a step draws is a function of seed and images seen; ADA's strength follows the overfitting."""

from dataclasses import replace

import pytest
import torch

from datatools.errors import SettingError
from pggan.config.presets import PRESETS
from pggan.config.schedule import state_at
from pggan.config.settings import AugmentConfig
from pggan.training.augmenter import Augmenter
from tests.support.pggan_runs import PRESET, assert_equal_values

CPU = torch.device("cpu")
ADA = AugmentConfig("ada", target=0.5, kimg=0.1)
STATE = state_at(PRESET.schedule, 200)  # minibatches of 4


def parameters(augmenter: Augmenter, purpose: str, images: int) -> list[torch.Tensor]:
    augmentation = augmenter.draw(purpose, STATE, images, CPU)  # type: ignore[arg-type]
    assert augmentation is not None
    return list(augmentation.parameters)


@pytest.mark.parametrize("config", [ADA, AugmentConfig("diffaugment")])
def test_equal_clocks_draw_the_same_transforms(config: AugmentConfig) -> None:
    one, other = Augmenter(config, 3, strength=0.7), Augmenter(config, 3, strength=0.7)
    first = parameters(one, "augment-d", 40)
    assert {values.shape[:2] for values in first} == {(3, 4)}
    assert_equal_values(first, parameters(other, "augment-d", 40))
    for changed in (
        parameters(other, "augment-d", 44),
        [values.expand(3, -1, *values.shape[2:]) for values in parameters(other, "augment-g", 40)],
        parameters(replace(other, seed=4), "augment-d", 40),
    ):
        assert not any(torch.equal(one, two) for one, two in zip(first, changed, strict=True))


def test_the_same_samples_have_the_same_transforms_in_any_part() -> None:
    augmentation = Augmenter(ADA, 3, strength=0.7).draw("augment-d", STATE, 40, CPU)
    assert augmentation is not None
    images = torch.rand(3, 4, 3, 16, 16, dtype=torch.float64)
    whole = augmentation(images.flatten(0, 1), (0, 1, 2)).unflatten(0, (3, 4))
    at = torch.tensor([3, 1])
    part = augmentation.at(at)
    torch.testing.assert_close(part(images[2, at], (2,)), whole[2, at])
    torch.testing.assert_close(part(images[:2, at].flatten(0, 1), (0, 1)), whole[:2, at].flatten(0, 1))


def test_without_strength_pictures_are_not_touched() -> None:
    assert Augmenter(AugmentConfig(), 3).draw("augment-d", STATE, 40, CPU) is None
    augmentation = Augmenter(ADA, 3).draw("augment-d", STATE, 40, CPU)
    images = torch.rand(4, 3, 16, 16)
    assert augmentation is not None
    assert augmentation.at(slice(0, 4))(images, (2,)) is images


def test_strength_changes_every_four_minibatches_within_0_and_1() -> None:
    augmenter = Augmenter(ADA, 0)

    def after(*measures: float) -> float:
        for measure in measures:
            augmenter.after(measure, 8)
        return round(augmenter.strength, 6)

    assert after(1, 1, 1) == 0
    assert after(-0.9) == 0.32  # 0.525 on average: 32 of 100 images
    assert after(0.5, 0.5, 0.5, 0.5) == 0.32
    assert after(1, 1, 1, 1) == 0.64
    assert after(*[1] * 8) == 1
    assert after(0, 0, 0, 0) == 0.68
    assert after(*[0] * 12) == 0


def test_a_checkpoint_continues_the_strength_in_the_middle() -> None:
    augmenter, resumed = Augmenter(ADA, 0), Augmenter(ADA, 0)
    for _ in range(6):
        augmenter.after(0.8, 8)
    resumed.load(augmenter.state())
    for one in (augmenter, resumed):
        one.after(0.9, 8)
        one.after(0.1, 8)
    assert_equal_values(resumed.state(), augmenter.state())
    assert augmenter.status() == "ada 0.640"
    resumed.load({})  # of a run without ADA
    assert resumed.strength == 0
    assert Augmenter(AugmentConfig("diffaugment"), 0).state() == {}


@pytest.mark.parametrize(
    ("name", "settings"),
    [("ada_target", {"target": 0.0}), ("ada_target", {"target": 1.5}), ("ada_kimg", {"kimg": 0.0})],
)
def test_settings_out_of_range_are_named(name: str, settings: dict[str, float]) -> None:
    with pytest.raises(SettingError, match=name):
        AugmentConfig("ada", **settings)  # type: ignore[arg-type]


def test_a_level_must_be_left_to_train() -> None:
    preset = PRESETS["tiny"]
    assert replace(preset, optimizer=replace(preset.optimizer, freeze_d=3)).optimizer.freeze_d == 3
    with pytest.raises(SettingError, match="freeze_d 4: the discriminator has 4 levels; leave one to train"):
        replace(preset, optimizer=replace(preset.optimizer, freeze_d=4))
