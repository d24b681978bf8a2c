"""`datatools.sources.records`: the fixed list of kinds."""

from typing import get_args

import pytest

from datatools.faces.geometry import FrameFault
from datatools.images import ImageFault
from datatools.sources.records import Rejection, RejectionKind


@pytest.mark.parametrize(("faults", "stage"), [(ImageFault, "photo"), (FrameFault, "face")])
def test_every_fault_of_a_photo_is_a_kind_of_that_stage(faults: object, stage: str) -> None:
    names = get_args(faults)
    assert len(names) >= 3
    assert {RejectionKind(name).stage for name in names} == {stage}


def test_kinds_are_told_apart_by_value_and_words() -> None:
    kinds = list(RejectionKind)
    assert len({kind.value for kind in kinds}) == len({kind.text for kind in kinds}) == len(kinds)
    assert {kind.stage for kind in kinds} == {"annotation", "photo", "face", "excluded", "choice"}


def test_scores_of_versions_without_kinds_can_be_read() -> None:
    """They have the stage where the kind is now."""
    assert [Rejection(RejectionKind(name), "a.jpg", "").stage for name in ("photo", "face")] == ["photo", "face"]
