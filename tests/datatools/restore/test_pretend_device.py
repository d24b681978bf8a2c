"""No operation of restoration mixes devices, and it copies and waits as little as it can: on a pretended device."""

from typing import Any

import pytest

from tests.support.pretended import reports_of

RUN = "datatools/restore/tiling.py _run"
FIT = {
    "cpu to pretend: datatools/restore/fit/training.py as_tensor": 2,  # inputs and ground truth
    "wait: datatools/restore/fit/training.py one_step": 1,
}
TEXTURE = FIT | {"cpu to pretend: datatools/restore/fit/losses.py sliced_distance": 2}  # places and directions
ONCE = {f"cpu to pretend: {RUN}": 1, f"pretend to cpu: {RUN}": 1, f"wait: {RUN}": 1}
TWICE = dict.fromkeys(ONCE, 2)
EXPECTED = {
    "remover": ONCE,
    "resolver": TWICE,
    "resolver bf16": TWICE,
    "real-esrgan": ONCE,
    "fit jpeg": FIT,
    "fit sr": FIT,
    "fit texture": TEXTURE,
    "fit texture bf16": TEXTURE,
}
"""Copies and waits of a batch, or of a step of training."""


@pytest.fixture(scope="module")
def reports() -> dict[str, dict[str, Any]]:
    return reports_of("pretend_restoration")


def test_all_cases_are_expected(reports: dict[str, dict[str, Any]]) -> None:
    assert reports.keys() == EXPECTED.keys() | {"planted"}


@pytest.mark.parametrize("case", EXPECTED)
def test_devices_do_not_mix_and_copies_are_few(case: str, reports: dict[str, dict[str, Any]]) -> None:
    assert reports[case] == {"counts": EXPECTED[case], "error": None}


def test_a_tensor_left_on_the_cpu_is_found(reports: dict[str, dict[str, Any]]) -> None:
    assert "convolution mixes cpu and pretend" in reports["planted"]["error"]
    assert "datatools/restore/networks.py" in reports["planted"]["error"]
