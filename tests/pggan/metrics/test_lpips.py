"""LPIPS: the distance against layers put together as in the authors' description, and weights of other networks."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from datatools.errors import DataError
from pggan.metrics.lpips import Lpips
from tests.support.extractors import VGG, write_lpips
from tests.support.metrics_reference import clouds


def vgg16(state: dict[str, Tensor]) -> nn.Sequential:
    """The first 30 layers of VGG16 in their order: convolutions, each with a ReLU after it, and four poolings."""
    layers: list[nn.Module] = []
    for place in range(30):
        part = next((part for part, places in VGG.items() if place in places), None)
        if part is not None:
            weight = state[f"net.slice{part}.{place}.weight"]
            layer = nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1)
            layer.load_state_dict({"weight": weight, "bias": state[f"net.slice{part}.{place}.bias"]})
            layers.append(layer)
        else:
            layers.append(nn.MaxPool2d(2) if place in (4, 9, 16, 23) else nn.ReLU())
    return nn.Sequential(*layers)


@torch.no_grad()
def distance(state: dict[str, Tensor], a: Tensor, b: Tensor) -> float:
    """LPIPS of two pictures (3, h, w) in 0..255."""
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    network, total = vgg16(state), 0.0
    pictures = [(x[None] / 255 - mean[:, None, None]) / deviation[:, None, None] for x in (a, b)]
    for number, end in enumerate((4, 9, 16, 23, 30)):
        first, second = (nn.functional.normalize(network[:end](x), dim=1, eps=1e-10)[0].numpy() for x in pictures)
        weights = state[f"lin{number}.model.1.weight"][0].numpy()
        total += float((weights * (first - second) ** 2).sum(axis=0).mean())
    return total


@pytest.mark.parametrize("side", [16, 40])
def test_distances_are_the_definitions(tmp_path: Path, side: int) -> None:
    path = write_lpips(tmp_path / "lpips.pth")
    images = clouds(6, side, 1)
    found = Lpips(path)(images[:3], images[3:])
    state = torch.load(path)
    expected = [distance(state, *(torch.from_numpy(images[i]).float() for i in (k, k + 3))) for k in range(3)]
    assert found == pytest.approx(expected, rel=1e-4)
    assert np.array_equal(Lpips(path)(images, images), np.zeros(6))


def test_larger_pictures_are_reduced_by_block_means(tmp_path: Path) -> None:
    network = Lpips(write_lpips(tmp_path / "lpips.pth"))
    small = clouds(2, 256, 1)
    large = small.repeat(2, axis=2).repeat(2, axis=3)
    assert network(large[:1], large[1:]) == pytest.approx(network(small[:1], small[1:]), rel=1e-6)


def test_weights_of_another_network(tmp_path: Path) -> None:
    path = write_lpips(tmp_path / "lpips.pth")
    state = torch.load(path)
    for change in ({"lin0.model.1.weight": torch.zeros(1, 5, 1, 1)}, {"net.slice2.5.weight": torch.zeros(4, 9, 3, 3)}):
        torch.save(state | change, path)
        with pytest.raises(DataError, match=r"lpips\.pth: weights of another network"):
            Lpips(path)
    torch.save({name: value for name, value in state.items() if name.startswith("lin")}, path)
    with pytest.raises(DataError, match=r"lpips\.pth: weights of another network; LPIPS needs those of"):
        Lpips(path)
