"""Tiny random networks with the interface of those that measure."""

from pathlib import Path

import torch

from pggan.metrics.dinov2 import VisionTransformer

VGG = {1: (0, 2), 2: (5, 7), 3: (10, 12, 14), 4: (17, 19, 21), 5: (24, 26, 28)}
"""Places of VGG16's convolutions, by the part of the network."""


def write_dinov2(path: Path, seed: int = 1, patch: int = 56) -> Path:
    """Write weights of a small vision transformer in the layout of DINOv2's files."""
    torch.manual_seed(seed)
    network = VisionTransformer(width=64, hidden=96, depth=2, patch=patch, grid=5)
    state = {name: torch.randn(value.shape) / 8 for name, value in network.state_dict().items()}
    torch.save(state, path)
    return path


def write_lpips(path: Path, seed: int = 1) -> Path:
    """Write weights of a narrow VGG16 with LPIPS's layers, by the names of the authors' package."""
    torch.manual_seed(seed)
    state, width = {"scaling_layer.shift": torch.zeros(1, 3, 1, 1)}, 3
    for part, places in VGG.items():
        for place in places:
            state[f"net.slice{part}.{place}.weight"] = torch.randn(3 + part, width, 3, 3) / width**0.5
            state[f"net.slice{part}.{place}.bias"] = torch.randn(3 + part) / 4
            width = 3 + part
        state[f"lin{part - 1}.model.1.weight"] = torch.rand(1, width, 1, 1)
    torch.save(state, path)
    return path
