"""The bundled networks: how strong the artifact remover is, and what both do to pictures."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from datatools.restore import get_restorer, restorers
from datatools.restore.base import Picture
from datatools.restore.fit.degrade import compress, reduce_picture
from datatools.restore.restorers import (
    BUNDLED,
    NetworkRestorer,
    bundled_weights,
    load_network,
    load_step,
    network_restorer,
)
from datatools.restore.weights import load_weights, save_weights
from tests.support.restore_samples import restore_part, tiny_network


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, Any]], NetworkRestorer]:
    """Gives the bundled restorer, made of tiny networks; the card is that of the enlargement's weights."""
    monkeypatch.setattr(restorers, "FOLDER", tmp_path)
    save_weights(tmp_path / "jpeg.safetensors", tiny_network("jpeg"), "jpeg", {})

    def restorer(card: dict[str, Any]) -> NetworkRestorer:
        save_weights(tmp_path / "sr-distortion.safetensors", tiny_network("sr"), "sr", card)
        return network_restorer("bundled-distortion", super_resolution="auto", device="cpu", threads=1)

    return restorer


Bundle = Callable[[dict[str, Any]], NetworkRestorer]


def test_the_remover_is_as_strong_as_the_enlargements_card_says(bundle: Bundle) -> None:
    found = {}
    cards: dict[str, dict[str, float]] = {
        "plain": {},
        "whole": {"degrade_strength": 1.0},
        "half": {"degrade_strength": 0.5},
    }
    for name, card in (cards | {"name before": {"after_strength": 0.25}}).items():
        found[name] = bundle(card)
        remover, resolver = found[name].steps
        assert (remover.strength, resolver.strength) == (next(iter(card.values()), 1.0), 1.0)
        assert load_step(remover).strength == remover.strength
    assert len({restorer.digest for restorer in found.values()}) == 4

    picture = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    inner = (0, 0, 32, 24)
    none = bundle({"degrade_strength": 0})
    left, half, whole = (
        restore_part(replace(restorer, rule=None), 2000, picture, inner).astype(int)
        for restorer in (none, found["half"], found["plain"])
    )
    assert np.array_equal(left, picture)
    assert np.abs(whole - picture).max() > 4
    inside = (whole > 0) & (whole < 255)
    assert np.abs(half - (whole + picture) / 2)[inside].max() <= 1
    assert np.array_equal(whole, restore_part(replace(found["whole"], rule=None), 2000, picture, inner))


@pytest.mark.parametrize("name", ["bundled-distortion", "bundled-perceptual"])
def test_bundled_networks_leave_a_gradient_alone(name: str) -> None:
    for task in ("jpeg", "sr"):
        assert 100_000 < bundled_weights(task, BUNDLED[name]).stat().st_size < 6_000_000
    rows, columns = np.mgrid[:40, :56]
    picture = np.stack([40 + 3 * columns, 60 + 2 * rows, 200 - 2 * columns], axis=2).astype(np.uint8)
    result = restore_part(get_restorer(name), 300, picture, (0, 0, 56, 40))
    smooth = cv2.resize(picture, (4 * 56, 4 * 40), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(result.mean(axis=(0, 1)), smooth.mean(axis=(0, 1)), atol=1)
    assert np.abs(result.astype(int) - smooth).mean() < 3


def test_bundled_networks_do_what_they_are_for() -> None:
    """Less error than bicubic enlargement and than the JPEG, and a photograph's contrast from the other variant."""
    skimage = pytest.importorskip("skimage", reason="scikit-image is not installed: its astronaut is the photo")
    photo = np.ascontiguousarray(skimage.data.astronaut()[0:256, 96:352])
    small = reduce_picture(photo)
    plain = np.array(Image.fromarray(small).resize((256, 256), Image.Resampling.BICUBIC))
    enlarged = {name: restored("sr", variant, small) for name, variant in BUNDLED.items()}
    assert psnr(enlarged["bundled-distortion"], photo) > psnr(plain, photo) + 1.5
    assert psnr(enlarged["bundled-perceptual"], photo) > psnr(plain, photo) - 0.5
    contrast = {name: (picture - cv2.GaussianBlur(picture, None, 1)).std() for name, picture in enlarged.items()}
    assert contrast["bundled-perceptual"] > 1.1 * contrast["bundled-distortion"]
    compressed = compress(photo, 25)
    assert psnr(restored("jpeg", "distortion", compressed), photo) > psnr(compressed, photo) + 0.7


@pytest.mark.parametrize(("name", "task"), [("bundled", "jpeg"), ("bundled", "sr"), ("bundled-perceptual", "sr")])
def test_pixels_beyond_the_margin_hardly_count(name: str, task: str) -> None:
    network = load_network(name, task)
    side = -(-(2 * network.reach + 8) // 8) * 8
    picture = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    kept = slice((side // 2 - 4) * network.scale, (side // 2 + 4) * network.scale)
    near = slice(side // 2 - 4 - network.margin, side // 2 + 4 + network.margin)
    other = 1 - picture
    other[..., near, near] = picture[..., near, near]
    with torch.inference_mode():
        difference = (network(picture) - network(other))[..., kept, kept].abs().max()
    assert network.margin < network.reach
    assert 255 * difference < 0.1


def restored(task: str, variant: str, picture: Picture) -> NDArray[np.float32]:
    network, _ = load_weights(bundled_weights(task, variant), task)
    with torch.inference_mode():
        result = network(torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255)[0]
    return (result.permute(1, 2, 0).clamp(0, 1) * 255).numpy()


def psnr(ours: NDArray[Any], theirs: NDArray[Any]) -> float:
    return float(10 * np.log10(255**2 / np.mean((ours.astype(float) - theirs) ** 2)))
