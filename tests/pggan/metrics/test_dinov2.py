"""DINOv2: the transformer against its formulas in NumPy, its record, and files that are of another network."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import erf, softmax

from datatools.errors import DataError
from pggan.metrics.dinov2 import DEVIATION, MEAN, DinoV2
from pggan.metrics.features import resize_bicubic
from tests.support.extractors import write_dinov2
from tests.support.metrics_reference import clouds

Doubles = NDArray[np.float64]


def expected(state: dict[str, Doubles], image: Doubles, patch: int) -> Doubles:
    """The class token of one normalized image (3, h, w), step by step; the position embedding is of its grid."""

    def normalized(x: Doubles, name: str) -> Doubles:
        centred = x - x.mean(axis=1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-6)
        return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]

    def linear(x: Doubles, name: str) -> Doubles:
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    side = image.shape[1] // patch
    kernel = state["patch_embed.proj.weight"].reshape(len(state["patch_embed.proj.bias"]), -1)
    patches = [
        kernel @ image[:, y : y + patch, x : x + patch].ravel() + state["patch_embed.proj.bias"]
        for y in range(0, side * patch, patch)
        for x in range(0, side * patch, patch)
    ]
    tokens = np.stack([state["cls_token"][0, 0], *patches]) + state["pos_embed"][0]
    for number in range(2):
        block = f"blocks.{number}"
        q, k, v = np.split(linear(normalized(tokens, f"{block}.norm1"), f"{block}.attn.qkv"), 3, axis=1)
        attended = softmax(q @ k.T / 64**0.5, axis=1) @ v
        tokens = tokens + state[f"{block}.ls1.gamma"] * linear(attended, f"{block}.attn.proj")
        hidden = linear(normalized(tokens, f"{block}.norm2"), f"{block}.mlp.fc1")
        hidden = hidden * (1 + erf(hidden / 2**0.5)) / 2
        tokens = tokens + state[f"{block}.ls2.gamma"] * linear(hidden, f"{block}.mlp.fc2")
    return normalized(tokens, "norm")[0]


def test_features_are_the_formulas(tmp_path: Path) -> None:
    extractor = DinoV2(write_dinov2(tmp_path / "dinov2.pth", patch=56))
    positions = extractor.network.pos_embed
    images = torch.from_numpy(clouds(2, 32, 1))
    features, logits = extractor(images)
    assert features.shape == (2, 64)
    assert logits.shape == (2, 0)
    assert extractor.recipe["network"] == "DINOv2 of width 64 and depth 2"
    # 4 x 4 patches of 56 pixels; the file's positions are of 5 x 5
    grid = positions[:, 1:].unflatten(1, (5, 5)).permute(0, 3, 1, 2)
    scaled = torch.nn.functional.interpolate(grid, scale_factor=4.1 / 5, mode="bicubic").flatten(2).transpose(1, 2)
    state = {name: value.double().numpy() for name, value in extractor.network.state_dict().items()}
    state["pos_embed"] = torch.cat([positions[:, :1], scaled], dim=1).double().numpy()
    for image, found in zip(resize_bicubic(images, 224).double().numpy(), features, strict=True):
        image = (image / 255 - np.reshape(MEAN, (3, 1, 1))) / np.reshape(DEVIATION, (3, 1, 1))
        assert found.numpy() == pytest.approx(expected(state, image, 56), abs=1e-4)


def test_half_precision_weights_are_read(tmp_path: Path) -> None:
    path = write_dinov2(tmp_path / "dinov2.pth")
    images = torch.from_numpy(clouds(2, 32, 1))
    expected, _ = DinoV2(path)(images)
    torch.save({name: value.half() for name, value in torch.load(path).items()}, path)
    found, _ = DinoV2(path)(images)
    assert found.dtype == torch.float32
    assert torch.allclose(found, expected, atol=0.02)


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.pop("norm.weight"),
        lambda state: state.pop("cls_token"),
        lambda state: state.update({"register_tokens": torch.zeros(1, 4, 64)}),
        lambda state: state.update({"blocks.0.mlp.fc1.bias": torch.zeros(())}),
        lambda state: state.update({"patch_embed.proj.weight": torch.zeros(60, 3, 56, 56)}),
        lambda state: state.update({"pos_embed": torch.zeros(1, 24, 64)}),
        lambda state: state.clear(),
    ],
)
def test_weights_of_another_network(change: Any, tmp_path: Path) -> None:
    path = write_dinov2(tmp_path / "dinov2.pth")
    state = torch.load(path)
    change(state)
    torch.save(state, path)
    with pytest.raises(DataError, match=r"dinov2\.pth: weights of another network; those of DINOv2 are at https"):
        DinoV2(path)
    torch.save([1, 2], path)
    with pytest.raises(DataError, match="is not a file of a network's weights, which are tensors by name"):
        DinoV2(path)
