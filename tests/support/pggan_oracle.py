"""Numbers that the networks must meet (tests/golden/networks_32.npz), computed in float64 from the paper's formulas."""

import json
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pggan.config.settings import NetworkConfig
from pggan.model.networks import Discriminator, Generator
from tests.support.paths import GOLDEN

LODS = (3.0, 2.75, 2.0, 1.5, 1.0, 0.25, 0.0)
CONFIGS = {
    "plain": NetworkConfig(32, fmap_base=128, fmap_max=32, latent_size=32),
    "labels": NetworkConfig(32, fmap_base=128, fmap_max=32, latent_size=32, classes=3, stddev_group=8),
}
CASES = [(name, lod) for name in CONFIGS for lod in LODS]


@cache
def numbers() -> dict[str, NDArray[Any]]:
    with np.load(GOLDEN / "networks_32.npz") as file:
        return {name: file[name] for name in file.files}


def parameter_counts() -> dict[str, Any]:
    counts: dict[str, Any] = json.loads((GOLDEN / "parameter_counts.json").read_text())
    return counts


def tensor(name: str) -> Tensor:
    return torch.from_numpy(numbers()[name]).double()


def networks(name: str) -> tuple[Generator, Discriminator]:
    """Both networks of a case with its weights, in float64."""
    pair = Generator(CONFIGS[name]).double(), Discriminator(CONFIGS[name]).double()
    for letter, network in zip("gd", pair, strict=True):
        prefix = f"{name}.weights.{letter}."
        state = {key.replace(prefix, "levels."): tensor(key) for key in numbers() if key.startswith(prefix)}
        network.load_state_dict(state)
    return pair


def labels(name: str) -> Tensor | None:
    return tensor(f"{name}.labels") if CONFIGS[name].classes else None


def reals(name: str, lod: float) -> Tensor:
    """Not faded, in -1..1."""
    return tensor(f"{name}.reals.{32 >> int(lod)}") / 127.5 - 1


def expected(name: str, lod: float, what: str) -> Tensor:
    return tensor(f"{name}.lod{lod:.2f}.{what}")


def assert_equal(found: Tensor, wanted: Tensor, what: str = "") -> None:
    """To 1e-9 of the largest value."""
    error = (found.detach() - wanted).abs().max().item() / max(wanted.abs().max().item(), 1e-300)
    assert found.shape == wanted.shape, what
    assert error < 1e-9, f"{what}: relative error {error:.2g}"
