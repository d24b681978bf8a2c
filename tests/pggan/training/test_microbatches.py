"""Minibatches in parts: every sample once, whole stddev groups, and what cannot be exact is said."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from pggan.config.settings import WHOLE_MINIBATCH, NetworkConfig
from pggan.training.microbatches import joint_samples, partition

CONFIG = NetworkConfig(16, fmap_base=64, fmap_max=16, latent_size=16)


@settings(max_examples=200, deadline=None)
@given(
    minibatch=st.integers(1, 64),
    max_batch=st.none() | st.integers(1, 64),
    ranks=st.integers(1, 5),
    group=st.sampled_from([1, 2, 4, 16, WHOLE_MINIBATCH]),
)
def test_parts_cover_the_minibatch_in_whole_groups(
    minibatch: int, max_batch: int | None, ranks: int, group: int
) -> None:
    division = partition(replace(CONFIG, stddev_group=group), minibatch, max_batch=max_batch, ranks=ranks)
    parts = [part for rank in division.by_rank for part in rank]
    assert len(division.by_rank) == ranks
    assert sorted(index for part in parts for index in part.indices) == list(range(minibatch))
    assert abs(sum(part.weight for part in parts) - 1) < 1e-9
    groups = minibatch // division.group
    for part in parts:
        assert max_batch is None or len(part.indices) <= max_batch
        columns = len(part.indices) // division.group
        for position, index in enumerate(part.indices):
            # strided groups within the part are those of the minibatch
            assert index % groups == part.indices[position % columns] % groups
        assert len({index % groups for index in part.indices}) == columns
    assert division.exact or division.reason


def test_an_even_division() -> None:
    division = partition(CONFIG, 16, max_batch=8, ranks=2)
    assert (division.exact, division.group, division.reason) == (True, 4, None)
    assert [[part.indices for part in rank] for rank in division.by_rank] == [
        [(0, 1, 4, 5, 8, 9, 12, 13)],
        [(2, 3, 6, 7, 10, 11, 14, 15)],
    ]


def test_groups_that_do_not_divide_are_reported() -> None:
    division = partition(CONFIG, 6)
    assert division.exact
    assert division.group == 3
    assert division.reason is not None
    assert "groups of 3, not 4: minibatch 6" in division.reason


def test_groups_that_do_not_fit_are_reported() -> None:
    division = partition(CONFIG, 8, max_batch=2)
    assert not division.exact
    assert division.group == 2
    assert division.reason is not None
    assert "2 samples instead of 4" in division.reason
    assert not partition(replace(CONFIG, stddev_group=WHOLE_MINIBATCH), 16, ranks=2).exact


def test_samples_that_depend_on_each_other() -> None:
    assert joint_samples(CONFIG, 16) == 4
    assert joint_samples(replace(CONFIG, stddev_group=WHOLE_MINIBATCH), 16) == 16
    assert joint_samples(replace(CONFIG, d_statistics="discrimination"), 16) == 16
    assert joint_samples(replace(CONFIG, d_statistics="none"), 16) == 1
    assert joint_samples(replace(CONFIG, d_statistics="none", g_norm="batch"), 16) == 16
