"""Restoration networks small enough for tests."""

from typing import Any

import torch

from datatools.restore.networks import ArtifactRemover, SuperResolver
from datatools.restore.weights import NETWORKS, Network

TINY: dict[str, dict[str, Any]] = {
    "jpeg": {"channels": [6, 8], "blocks": [1, 1]},
    "sr": {"channels": 6, "blocks": 2},
}
"""Settings of a small network of every task."""


def tiny_network(task: str, seed: int = 3) -> Network:
    """Small, with random weights."""
    torch.manual_seed(seed)
    return NETWORKS[task](**TINY[task])


def tiny_remover() -> ArtifactRemover:
    network = tiny_network("jpeg")
    assert isinstance(network, ArtifactRemover)
    return network


def tiny_resolver() -> SuperResolver:
    network = tiny_network("sr")
    assert isinstance(network, SuperResolver)
    return network
