"""Numbers that the style-based networks must meet, computed in float64 from the paper's formulas.

tests/golden has two of four pairs of architectures, two of seven levels of detail, and of pictures the first sample;
the whole files lie next to the sample photos.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pggan.config.style import StyleConfig
from pggan.model.losses import fade
from pggan.model.networks import Network
from pggan.model.style import StyleGenerator
from pggan.model.style_discriminator import StyleDiscriminator

PAIRS = ("skip-resnet", "resnet-skip", "orig-orig", "skip-skip")
GOLDEN_PAIRS = PAIRS[:2]
LODS = (0.0, 0.3, 1.0, 1.75, 2.0, 2.5, 3.0)
GOLDEN_LODS = (0.3, 2.0)
GROWING = {"a": "stylegan", "b": "orig"}
SHAPE = {"fmap_base": 128, "fmap_max": 24, "latent_size": 16}


@cache
def numbers(path: Path) -> dict[str, NDArray[Any]]:
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


@dataclass(frozen=True)
class Case:
    """The numbers of one pair of networks: those with a prefix in one file."""

    path: Path
    prefix: str

    @classmethod
    def pair(cls, folder: Path, prefix: str) -> "Case":
        return cls(folder / "style_32.npz", prefix)

    @classmethod
    def growing(cls, folder: Path, prefix: str) -> "Case":
        return cls(folder / "style_growing_32.npz", prefix)

    @property
    def config(self) -> StyleConfig:
        if self.prefix in GROWING:
            kind = GROWING[self.prefix]
            return StyleConfig(32, kind, kind, growing=True, **SHAPE)  # type: ignore[arg-type]
        generator, discriminator = self.prefix.split("-")
        return StyleConfig(32, generator, discriminator, **SHAPE)  # type: ignore[arg-type]

    def tensor(self, name: str) -> Tensor:
        """Return numbers of this pair, or those that all pairs of the file share."""
        values = numbers(self.path)
        return torch.from_numpy(values.get(f"{self.prefix}.{name}", values.get(name))).double()

    def networks(self) -> tuple[StyleGenerator, StyleDiscriminator]:
        """Both networks with the weights of the file, in float64."""
        states: tuple[dict[str, Tensor], dict[str, Tensor]] = {}, {}
        start = f"{self.prefix}.weights."
        for key in numbers(self.path):
            if key.startswith(start):
                name = key.removeprefix(start)
                own = name.replace(name[:2], "levels.", 1) if name[:2] in ("g.", "d.") else name
                states[name.startswith("d.")][own] = self.tensor(f"weights.{name}")
        pair = StyleGenerator(self.config).double(), StyleDiscriminator(self.config).double()
        for network, state in zip(pair, states, strict=True):
            network.load_state_dict(state)
        return pair

    def reals(self, resolution: int = 32, below: float = 0.0) -> Tensor:
        """Faded, in -1..1, and ready for gradients."""
        name = f"reals.{resolution}" if self.prefix in GROWING else "reals"
        return fade(self.tensor(name) / 127.5 - 1, below).requires_grad_()

    def gradient_norms(self, network: Network, kind: str, lod: float | None = None) -> dict[str, Tensor]:
        """Return the wanted norm of each parameter's gradient by our names; `lod` for growing networks."""
        letter = "g" if isinstance(network, StyleGenerator) else "d"
        names = [name for name, _ in network.named_parameters()]
        theirs = {name: name.replace("levels.", f"{letter}.") for name in names}
        if lod is None:
            return {name: self.tensor(f"{kind}.{their}") for name, their in theirs.items()}
        order = numbers(self.path)[f"{self.prefix}.{letter}_parameters"].tolist()
        norms = self.tensor(f"lod{lod:.2f}.{kind.replace('grad_norm', 'grad_norms')}")
        return {name: norms[order.index(their)] for name, their in theirs.items()}


def assert_equal(found: Tensor, wanted: Tensor, tolerance: float, what: str) -> None:
    """To `tolerance` of the largest value; the golden numbers have the first samples only."""
    found = found.detach()[: len(wanted)] if wanted.ndim else found.detach()
    assert found.shape == wanted.shape, what
    error = (found - wanted).abs().max().item() / max(wanted.abs().max().item(), 1e-300)
    assert error < tolerance, f"{what}: relative error {error:.2g}"


def assert_gradients(network: Network, wanted: dict[str, Tensor], tolerance: float) -> None:
    """Compare the norm of each parameter's gradient, zero where there is none, and forget the gradients."""
    for name, parameter in network.named_parameters():
        found = torch.zeros((), dtype=torch.float64) if parameter.grad is None else parameter.grad.norm()
        assert_equal(found, wanted[name], tolerance, name)
    network.zero_grad(set_to_none=True)


class SquaredDifference:
    """The distance of the numbers: the mean squared difference of pictures in 0..1."""

    smallest = 1
    recipe: dict[str, str] = {}  # noqa: RUF012

    def describe(self, images: Any) -> list[Tensor]:
        return [images / 255]

    def compare(self, first: Iterable[Tensor], second: Iterable[Tensor]) -> Tensor:
        return torch.stack([(a - b).square().mean(dim=(1, 2, 3)) for a, b in zip(first, second, strict=True)])[0]
