"""The schedule: the published numbers, growth that happens once, and resets of the optimizers."""

import csv
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datatools.errors import DataError
from pggan.config.presets import PRESETS, get_preset
from pggan.config.schedule import ScheduleConfig, lod_at, rounds, stages, state_at
from tests.support.paths import GOLDEN

GOLDEN = GOLDEN / "schedule.csv"
ROWS = list(csv.DictReader(GOLDEN.open()))
NAMES = sorted({(row["preset"], int(row["devices"])) for row in ROWS})


@pytest.mark.parametrize(("name", "devices"), NAMES)
def test_every_published_state_is_met_exactly(name: str, devices: int) -> None:
    config = get_preset(name.removesuffix(f"-{devices}"), devices).schedule
    rows = {int(row["images_seen"]): row for row in ROWS if (row["preset"], int(row["devices"])) == (name, devices)}
    seen, previous, resets = set(), None, []
    for state in rounds(config):
        reset = previous is None or previous.stage != state.stage
        previous = state
        if reset:
            resets.append(state.images)
        if state.images not in rows:
            continue
        row = rows[state.images]
        seen.add(state.images)
        assert state.lod == float(row["lod"])
        assert state.resolution == int(row["resolution"])
        assert state.minibatch == int(row["minibatch"])
        assert state.learning_rate == float(row["learning_rate"])
        assert state.tick_kimg == float(row["tick_kimg"])
        assert int(reset) == int(row["optimizer_reset"])
    assert previous is not None
    end = previous.images + previous.round_images
    assert seen | {end} == set(rows)
    assert rows[end]["optimizer_reset"] == "end"
    assert resets == [images for images, row in rows.items() if row["optimizer_reset"] == "1"]


def test_optimizers_reset_when_floor_or_ceil_of_lod_changes() -> None:
    """At the start of a fade, and at its end: not at growth alone, and never in between."""
    config = PRESETS["tiny"].schedule
    stages_of_resets = []
    previous = None
    for state in rounds(config):
        if previous is None or previous.stage != state.stage:
            stages_of_resets.append(state.stage)
        previous = state
    assert stages_of_resets == [(3, 3), (2, 3), (2, 2), (1, 2), (1, 1), (0, 1), (0, 0)]


def test_the_last_level_fades_once() -> None:
    config = PRESETS["tiny"].schedule
    states = list(rounds(config))
    done = next(index for index, state in enumerate(states) if state.lod == 0.0)
    assert all(state.lod == 0.0 and state.alpha == 1.0 for state in states[done:])
    assert len(states) - done > 2
    # and forever after
    assert state_at(config, 10**10).alpha == 1.0


def test_first_phase_does_not_fade() -> None:
    config = PRESETS["celebahq"].schedule
    assert state_at(config, 0).alpha == 1.0
    assert state_at(config, 799_999).lod == 8.0
    assert state_at(config, 1_200_000).lod == 7.5


def test_without_growing_there_is_one_stage_at_full_resolution() -> None:
    for name in ("no-growing", "table1-a"):
        (stage,) = stages(PRESETS[name].schedule)
        assert (stage.resolution, stage.fading) == (PRESETS[name].schedule.resolution, False)


@pytest.mark.parametrize("name", ["celebahq", "tiny", "faces-128", "table1-b"])
def test_stages_sum_up_the_rounds(name: str) -> None:
    config = PRESETS[name].schedule
    starts, counts, previous = [], [], None
    for state in rounds(config):
        if previous is None or previous.stage != state.stage:
            starts.append(state.images)
            counts.append(0)
        counts[-1] += 1
        previous = state
    plan = stages(config)
    assert previous is not None
    assert [stage.first_image for stage in plan] == starts
    images = [stage.minibatch * config.d_steps * config.minibatch_repeats for stage in plan]
    assert [(s.end_image - s.first_image) / each for s, each in zip(plan, images, strict=True)] == counts
    assert plan[-1].end_image == previous.images + previous.round_images


@settings(max_examples=60, deadline=None)
@given(
    resolution=st.sampled_from([8, 16, 64]),
    training=st.floats(0, 5),
    transition=st.floats(0.01, 5),
    images=st.integers(0, 60_000),
    step=st.integers(0, 5_000),
)
def test_lod_only_falls(resolution: int, training: float, transition: float, images: int, step: int) -> None:
    config = ScheduleConfig(resolution, training_kimg=training, transition_kimg=transition)
    first, second = state_at(config, images), state_at(config, images + step)
    assert 0.0 <= second.lod <= first.lod <= math.log2(resolution) - 2
    assert 0.0 < first.alpha <= 1.0
    assert first.resolution == resolution / 2 ** math.floor(first.lod)


def test_rounds_can_start_anywhere() -> None:
    config = PRESETS["tiny"].schedule
    everything = list(rounds(config))
    assert list(rounds(config, everything[37].images)) == everything[37:]


def test_ramp_up_of_the_learning_rate() -> None:
    config = PRESETS["celebahq"].schedule
    assert state_at(config, 0).rate == pytest.approx(0.001 * math.exp(-5))
    assert state_at(config, 20_000).rate == pytest.approx(0.001 * math.exp(-5 * 0.25))
    assert state_at(config, 40_000).rate == 0.001
    assert state_at(PRESETS["celebahq-v2"].schedule, 0).rate == 0.001


def test_several_discriminator_steps_count_as_images() -> None:
    state = state_at(PRESETS["table1-b"].schedule, 0)
    assert state.round_images == 64 * 5 * 4


def test_lod_follows_the_formula_at_phase_boundaries() -> None:
    config = ScheduleConfig(16, training_kimg=2, transition_kimg=4)
    assert [lod_at(config, images) for images in (0, 2000, 4000, 6000, 8000, 10000, 12000)] == [
        2.0,
        2.0,
        1.5,
        1.0,
        1.0,
        0.5,
        0.0,
    ]


@pytest.mark.parametrize(
    ("settings_", "name"),
    [
        ({"resolution": 100}, "resolution 100"),
        ({"resolution": 16, "start_resolution": 32}, "start_resolution 32"),
        ({"resolution": 16, "total_kimg": 0}, "total_kimg 0"),
        ({"resolution": 16, "training_kimg": -1}, "training_kimg -1"),
        ({"resolution": 16, "training_kimg": 0, "transition_kimg": 0}, "training_kimg 0: growing"),
        ({"resolution": 16, "minibatch_base": 0}, "minibatch 0"),
        ({"resolution": 16, "rate_base": 0.0}, "learning_rate 0"),
        ({"resolution": 16, "d_steps": 0}, "d_steps 0"),
    ],
)
def test_impossible_settings_are_named(settings_: dict[str, int], name: str) -> None:
    with pytest.raises(DataError, match=name):
        ScheduleConfig(**settings_)


def test_images_must_not_be_negative() -> None:
    with pytest.raises(ValueError, match="images -1"):
        state_at(PRESETS["tiny"].schedule, -1)
