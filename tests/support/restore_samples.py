"""Restoration networks small enough for tests."""

from pathlib import Path
from typing import Any

import torch

from datatools.images import Box
from datatools.restore import Restorer
from datatools.restore.base import Picture
from datatools.restore.networks import ArtifactRemover, SuperResolver
from datatools.restore.realesrgan import RRDBNet
from datatools.restore.weights import NETWORKS, Network, save_weights

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


def tiny_rrdb(features: int = 3, growth: int = 1, blocks: int = 1, seed: int = 0) -> RRDBNet:
    """A network with random weights, all of which show in its result. The sizes are odd: fp16 weights need filling."""
    network = RRDBNet(features, growth, blocks)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in network.parameters():
            spread = value[0].numel() ** -0.5  # keeps the size of what goes through
            value.copy_(torch.randn(value.shape, generator=generator) * spread)
    return network.eval().requires_grad_(False)


def restore_part(restorer: Restorer, side: float, picture: Picture, box: Box) -> Picture:
    """What a restorer makes of a part of a photo whose face has that side."""
    (result,) = restorer.run([(restorer.plan(side), picture, box)])
    return result


def tiny_file(folder: Path, task: str, seed: int = 3) -> Path:
    path = folder / f"{task}-{seed}.safetensors"
    save_weights(path, tiny_network(task, seed), task, {})
    return path
