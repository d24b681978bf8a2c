"""The optimizer of the restoration networks: Muon for the kernels of inner layers, Adam for everything else."""

from typing import Any

import torch
from torch import Tensor, nn

KERNEL_RATE = 20.0
"""Muon's learning rate over Adam's: the spectral norm of Muon's steps, the size of Adam's in every weight."""
OUTER = ("entry", "exit", "texture")
"""Layers between pixels and features, and those of a few channels. Muon's steps, which change all directions equally,
suit only features."""


class MuonAndAdam:
    """Orthogonalized momentum for kernels (K. Jordan et al., "Muon: An optimizer for hidden layers in neural networks",
    2024), taken as matrices with a row per output channel; Adam (Kingma, Ba 2015) for biases and the outer layers.

    With the same learning rate, data and time the networks here reach the same error in a fraction of Adam's steps:
    docs/decisions/restorer-training.md has the figures.
    """

    def __init__(self, network: nn.Module, rate: float) -> None:
        """Optimize a network in channels-last format, whose kernels are viewed as matrices in place.

        Parameters that need no gradient stay unchanged.
        """
        self.kernels: list[Tensor] = []
        rest: list[Tensor] = []
        for name, parameter in network.named_parameters():
            if parameter.requires_grad:
                inner = parameter.ndim == 4 and not name.startswith(OUTER)
                (self.kernels if inner else rest).append(parameter)
        self.adam = torch.optim.Adam(rest, rate, betas=(0.9, 0.99))
        self.matrices = [nn.Parameter(_matrix(kernel)) for kernel in self.kernels]
        self.muon = None
        if self.matrices:
            self.muon = torch.optim.Muon(self.matrices, rate * KERNEL_RATE, weight_decay=0.0)

    def set_rate(self, rate: float) -> None:
        """Set Adam's learning rate, and Muon's in proportion."""
        for group in self.adam.param_groups:
            group["lr"] = rate
        for group in self.muon.param_groups if self.muon else []:
            group["lr"] = rate * KERNEL_RATE

    def zero_grad(self) -> None:
        """Clear the gradients."""
        self.adam.zero_grad()
        for kernel in self.kernels:
            kernel.grad = None

    def step(self) -> None:
        """Update all parameters from their gradients."""
        for matrix, kernel in zip(self.matrices, self.kernels, strict=True):
            assert kernel.grad is not None
            matrix.grad = kernel.grad.permute(0, 2, 3, 1).flatten(1)
        self.adam.step()
        if self.muon:
            self.muon.step()

    def state_dict(self) -> dict[str, Any]:
        """Return everything that resuming needs."""
        return {"adam": self.adam.state_dict(), "muon": self.muon.state_dict() if self.muon else None}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from `state`."""
        self.adam.load_state_dict(state["adam"])
        if self.muon:
            self.muon.load_state_dict(state["muon"])


def _matrix(kernel: Tensor) -> Tensor:
    """View a kernel as a matrix. Raise ValueError for one that is not in channels-last format."""
    matrix = kernel.detach().permute(0, 2, 3, 1).flatten(1)
    if matrix.data_ptr() != kernel.data_ptr():
        raise ValueError("the network is not in channels-last format")
    return matrix
