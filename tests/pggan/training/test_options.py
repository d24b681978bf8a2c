"""An option of training exists once: the command line, the checks and the table in the docs follow from it."""

from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any

import click
import pytest

from datatools.errors import DataError, flag
from pggan.config.presets import PRESETS, get_preset
from pggan.config.settings import differences
from pggan.train import main
from pggan.training.options import FLAGS, FREE, RESOLUTION, SPECS, TrainingOptions
from tests.support.paths import ROOT

H5 = Path("faces.h5")


def test_the_command_line_has_every_option() -> None:
    names = [parameter.name for parameter in main.params]
    assert names == [*(item.name for item in fields(TrainingOptions)), "dry_run"]
    assert all(parameter.help for parameter in main.params)  # type: ignore[attr-defined]


def test_the_docs_list_every_option() -> None:
    rows = []
    for item in fields(TrainingOptions):
        spec = SPECS[item.name]
        choices = ""
        if isinstance(spec.type, click.Choice) and spec.type is not RESOLUTION:
            choices = f" ({', '.join(spec.type.choices)})"
        text, _, default = spec.help.partition("  [default: ")
        text = text.partition(": ")[0].removesuffix(".")  # values and examples have their own places in the docs
        if item.default is not MISSING and item.default not in (None, (), False):
            default = str(item.default)
        default = default.removesuffix("]") or ("the preset's" if spec.settings else "")
        changes = "yes" if spec.changes_results else ""
        rows.append(f"| `{flag(item.name)}` | {text}{choices} | {default} | {changes} |".replace("<", "&lt;"))
    table = "\n".join(rows)
    assert table in (ROOT / "docs" / "training.md").read_text(encoding="utf-8"), table


def test_settings_of_options_exist() -> None:
    for preset in (PRESETS["tiny"], PRESETS["celebahq"]):
        for setting in (*FLAGS, *FREE):
            *parts, name = setting.split(".")
            owner = getattr(preset, parts[0]) if parts else preset
            assert hasattr(owner, name), setting
    assert FLAGS["schedule.rate_by_level"] == "--learning-rate"
    assert {"name", "schedule.total_kimg", "schedule.tick_kimg_base", "schedule.tick_kimg_by_level"} == FREE
    assert not any(SPECS[name].changes_results for name in ("keep", "workers", "device", "metrics", "total_kimg"))


@pytest.mark.parametrize(
    ("options", "changed"),
    [
        ({"minibatch": 4}, {"schedule.minibatch_base", "schedule.minibatch_by_level"}),
        ({"learning_rate": 0.5}, {"schedule.rate_base", "schedule.rate_by_level"}),
        ({"resolution": 16}, {"network.resolution", "schedule.resolution"}),
        ({"loss": "lsgan"}, {"loss.kind", "network.d_noise"}),
        ({"mirror": False}, {"mirror"}),
        ({"augment": "ada", "ada_target": 0.5, "ada_kimg": 9.0}, {"augment.kind", "augment.target", "augment.kimg"}),
        ({"freeze_d": 2}, {"optimizer.freeze_d"}),
        ({"stddev_group": 0}, {"network.stddev_group"}),
        ({"training_kimg": 0.0, "transition_kimg": 3.0}, {"schedule.training_kimg", "schedule.transition_kimg"}),
        ({"keep": 7, "seed": 3, "labels": "file"}, set()),
    ],
)
def test_options_change_their_settings_of_a_preset(options: dict[str, Any], changed: set[str]) -> None:
    preset = get_preset("faces-128")
    schedule = replace(preset.schedule, rate_by_level=((128, 0.1),))
    preset = replace(preset, schedule=schedule)
    applied = TrainingOptions(H5, **options).apply_to(preset)
    assert {name for name, _, _ in differences(preset, applied)} == changed
    back = TrainingOptions(H5, loss="wgan-gp").apply_to(applied)
    assert back.network.d_noise == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": -1}, "seed -1 is not in the range"),
        ({"keep": 0}, "keep 0 is not in the range"),
        ({"workers": -1}, "workers -1 is not in the range"),
        ({"threads": 1025}, "threads 1025 is not in the range"),
        ({"checkpoint_kimg": 0.0}, "checkpoint_kimg 0.0 is not in the range"),
        ({"total_kimg": float("nan")}, "total_kimg nan "),
        ({"max_batch_per_device": 0}, "max_batch_per_device 0 is not"),
        ({"resolution": 48}, "resolution 48 is not one of"),
        ({"device": "gpu"}, "device 'gpu' is not one of"),
        ({"precision": "fp8"}, "precision 'fp8' is not one of"),
        ({"metrics_images": 20}, "metrics_images 20: name the metrics, too"),
    ],
)
def test_values_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message) as refused:
        TrainingOptions(H5, **options)
    assert "\n" not in str(refused.value)
