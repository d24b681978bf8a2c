"""No operation mixes devices, and a step copies and waits as little as it can: on a pretended device, without a GPU.

A copy to CUDA that is not in these lists is not wrong but slow; one that is made anew for every micro-batch is.
"""

from typing import Any

import pytest

from tests.support.pretended import reports_of

TO, FROM = "cpu to pretend", "pretend to cpu"
IMAGES, LATENTS = f"{TO}: pggan/data/stream.py as_floats", f"{TO}: pggan/training/terms.py latents"
WAIT = "wait: pggan/training/step.py read"
STEPS = {
    IMAGES: 2,  # and which of them are mirrored
    LATENTS: 2,
    f"{TO}: pggan/training/progressive_terms.py _discriminate": 1,  # how reals and fakes are mixed
    WAIT: 2,
}
STYLE = {IMAGES: 2, LATENTS: 2, f"{TO}: pggan/training/style_draws.py of": 2, WAIT: 2}
LAZY = {IMAGES: 4, LATENTS: 3, f"{TO}: pggan/training/style_draws.py of": 3, WAIT: 4}
LABELS = STEPS | {f"{TO}: pggan/training/terms.py labels_at": 2}
AUGMENTED = STEPS | {f"{TO}: pggan/model/augment/augmentation.py <genexpr>": 4}
RENDER, BYTES = f"{TO}: pggan/model/files.py make", f"{FROM}: pggan/pixels.py to_bytes"
EXPECTED = {
    "tiny": STEPS,
    "table1-b": STEPS,
    "table1-e-star": STEPS,
    "lsgan": STEPS,
    "labels": LABELS,
    "labels bf16": LABELS,
    "ada": AUGMENTED,
    "diffaugment": AUGMENTED,
    "stylegan2": LAZY,
    "stylegan2 fp16": LAZY,
    "stylegan": STYLE,
    "swd": {  # of two sets with two levels
        f"{TO}: pggan/metrics/swd.py chunk": 2,
        f"{TO}: pggan/metrics/swd.py patches": 4,
        f"{FROM}: pggan/metrics/swd.py _all_patches": 4,
        f"{TO}: pggan/metrics/swd.py _prepared": 4,
        f"{FROM}: pggan/metrics/swd.py moments": 4,
        f"{TO}: pggan/metrics/swd.py apply": 8,
        f"{TO}: pggan/metrics/swd.py <genexpr>": 4,
        "wait: pggan/metrics/swd.py sliced_distance": 2,
    },
    "ms-ssim": {
        f"{TO}: pggan/metrics/ms_ssim.py <genexpr>": 2,
        f"{FROM}: pggan/metrics/ms_ssim.py _picture_means": 10,  # two at each scale
    },
    "neighbours": {
        f"{TO}: pggan/metrics/neighbours.py nearest": 2,
        f"{FROM}: pggan/metrics/neighbours.py nearest": 2,
    },
    "pictures": {  # latents and labels of five parts, and the critic
        RENDER: 10,
        BYTES: 5,
        f"{TO}: pggan/media/latents.py critic_scores": 1,
        f"{FROM}: pggan/media/latents.py critic_scores": 1,
    },
    "pictures of styles": {RENDER: 3, BYTES: 3},
}
"""Copies and waits of a step of either network, or of the work that the case names."""


@pytest.fixture(scope="module")
def reports() -> dict[str, dict[str, Any]]:
    return reports_of("pretend_steps")


def test_all_cases_are_expected(reports: dict[str, dict[str, Any]]) -> None:
    assert reports.keys() == EXPECTED.keys() | {"planted"}


@pytest.mark.parametrize("case", EXPECTED)
def test_devices_do_not_mix_and_copies_are_few(case: str, reports: dict[str, dict[str, Any]]) -> None:
    assert reports[case] == {"counts": EXPECTED[case], "error": None}


def test_a_tensor_left_on_the_cpu_is_found(reports: dict[str, dict[str, Any]]) -> None:
    assert "add mixes cpu and pretend" in reports["planted"]["error"]
    assert "pggan/model/networks.py" in reports["planted"]["error"]
