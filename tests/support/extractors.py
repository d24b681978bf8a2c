"""Tiny random networks with the interface of those that measure."""

from pathlib import Path

import torch

from pggan.metrics.dinov2 import VisionTransformer


def write_dinov2(path: Path, seed: int = 1, patch: int = 56) -> Path:
    """Write weights of a small vision transformer in the layout of DINOv2's files."""
    torch.manual_seed(seed)
    network = VisionTransformer(width=64, hidden=96, depth=2, patch=patch, grid=5)
    state = {name: torch.randn(value.shape) / 8 for name, value in network.state_dict().items()}
    torch.save(state, path)
    return path
