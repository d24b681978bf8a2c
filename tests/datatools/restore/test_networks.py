"""The networks' shapes, and what tiles rely on: their receptive field and grid."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from datatools.restore.consistency import keep_small_picture
from datatools.restore.networks import ArtifactRemover, Critic, SuperResolver

SIZES = pytest.mark.parametrize(
    "network",
    [
        ArtifactRemover(channels=(4, 4), blocks=(1, 1)),
        ArtifactRemover(channels=(3, 4), blocks=(2, 3)),
        ArtifactRemover(channels=(3, 4), blocks=(1, 0)),
        SuperResolver(channels=4, blocks=1),
        SuperResolver(channels=5, blocks=4),
        SuperResolver(channels=4, blocks=1, texture=3),
    ],
    ids=lambda n: f"{type(n).__name__}-{n.settings['blocks']}-{n.settings.get('texture', 0)}",
)


def places(network: SuperResolver) -> int:
    """Number of neighbouring pixels whose fields may differ in size: because of strides; noise has no part in that."""
    return 4 if isinstance(network, ArtifactRemover) else 1


def reaching(network: nn.Module) -> nn.Module:
    """Weights through which every influence arrives: all positive, so that nothing cancels and no unit is shut.

    fp64, and few enough channels that the faintest influence, of one path through all corners, is not rounded off.
    """
    torch.manual_seed(0)
    for parameter in network.parameters():
        nn.init.uniform_(parameter, 0.1, 0.2) if parameter.ndim == 4 else nn.init.constant_(parameter, 0.1)
    return network.double()


def pictures(n: int, height: int, width: int) -> Tensor:
    return torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("size", [(4, 4), (8, 20), (36, 12)])
def test_shapes(size: tuple[int, int]) -> None:
    x = pictures(2, *size)
    assert ArtifactRemover(channels=(4, 6), blocks=(2, 1))(x).shape == x.shape
    assert SuperResolver(channels=4, blocks=2)(x).shape == (2, 3, 4 * size[0], 4 * size[1])
    assert Critic(channels=2)(pictures(2, 32, 48)).shape == (2, 1, 2, 3)


def test_default_sizes_fit_the_weight_files() -> None:
    """At most 6 MB in half precision."""
    for network in (ArtifactRemover(), SuperResolver()):
        assert sum(p.numel() for p in network.parameters()) * 2 < 6e6


def test_settings_rebuild_the_network() -> None:
    for network in (ArtifactRemover(channels=(4, 6), blocks=(2, 1)), SuperResolver(channels=5, blocks=3)):
        again = type(network)(**network.settings)
        again.load_state_dict(network.state_dict())
        x = pictures(1, 8, 8)
        assert torch.equal(network(x), again(x))
        assert again.margin == network.margin


def test_an_untrained_network_is_near_doing_nothing() -> None:
    torch.manual_seed(0)
    x = pictures(1, 16, 16)
    assert (ArtifactRemover()(x) - x).abs().mean() < 0.1
    plain = nn.functional.interpolate(x, scale_factor=4, mode="bilinear", align_corners=False)
    assert (SuperResolver()(x) - plain).abs().mean() < 0.1


@SIZES
def test_the_reach_is_the_receptive_field(network: SuperResolver) -> None:
    """No pixel further away than the reach has any influence, and some pixel at that distance has."""
    network = reaching(network).eval()
    side = -(-(2 * network.reach + 24) // 4) * 4
    x = pictures(1, 4, side).double()  # few rows: distance is measured along x alone
    farthest = 0
    for kept in range(side // 2, side // 2 + places(network)):
        leaf = x.clone().requires_grad_()
        output = network(leaf)
        output[..., kept * network.scale : (kept + 1) * network.scale].sum().backward()
        columns = torch.nonzero(leaf.grad.abs().sum(dim=(0, 1, 2))).flatten()
        farthest = max(farthest, kept - int(columns.min()), int(columns.max()) - kept)
    assert farthest <= network.reach
    assert farthest >= network.reach - 2 * places(network)  # hardly more work than needed


@SIZES
def test_changes_beyond_the_reach_change_nothing(network: SuperResolver) -> None:
    """Not by one bit: what lies outside is not multiplied in at all."""
    network = reaching(network).eval()
    reach, scale = network.reach, network.scale
    side = -(-(2 * reach + 12) // 4) * 4
    x = pictures(1, side, side).double()
    changed = x.clone()
    changed[..., : side // 2 - reach, :] = 0
    changed[..., :, side // 2 + 4 + reach :] = 1
    a, b = network(x), network(changed)
    inside = slice(side // 2 * scale, (side // 2 + 4) * scale)
    assert torch.equal(a[..., inside, inside], b[..., inside, inside])
    assert not torch.equal(a, b)


@SIZES
def test_parts_cut_at_the_grid_equal_the_whole(network: SuperResolver) -> None:
    network = reaching(network).eval()
    reach, scale, grid = network.reach, network.scale, network.grid
    before = -(-reach // grid) * grid
    side = 2 * before + 2 * grid + 40
    x = pictures(1, 12, side).double()
    whole = network(x)
    for cut in (grid, 2 * grid):
        part = network(x[..., cut:])
        safe = before * scale
        assert torch.allclose(part[..., safe:], whole[..., cut * scale + safe :], rtol=1e-12)
    if grid > 1:  # off the grid strides, blocks and noise meet other pixels
        part = network(x[..., 1:-3])
        assert not torch.allclose(part[..., safe:-safe], whole[..., scale + safe : -3 * scale - safe], rtol=1e-6)


def test_the_critic_scores_every_picture_alone() -> None:
    """Without batch statistics a picture's score does not depend on its neighbours."""
    torch.manual_seed(0)
    critic = Critic(channels=2).eval()
    x = pictures(3, 32, 32)
    assert torch.allclose(critic(x)[1:2], critic(x[1:2]), atol=1e-6)


@pytest.mark.parametrize(
    "network", [ArtifactRemover((4, 6), (1, 1), self_ensemble=4), SuperResolver(4, 2, self_ensemble=4)]
)
def test_rotated_pictures_give_rotated_results(network: SuperResolver) -> None:
    """With all four orientations averaged, nothing is left of the one that the picture came in."""
    network.eval()
    x = pictures(1, 16, 24)
    assert torch.allclose(network(x.rot90(1, (2, 3))), network(x).rot90(1, (2, 3)), atol=1e-5)
    network.self_ensemble = 1
    assert not torch.allclose(network(x.rot90(1, (2, 3))), network(x).rot90(1, (2, 3)), atol=1e-3)


def test_training_sees_one_orientation() -> None:
    network = SuperResolver(4, 1, self_ensemble=4)
    x = pictures(1, 8, 8)
    trained = network.train()(x)
    assert not torch.allclose(trained, network.eval()(x))
    network.self_ensemble = 1
    assert torch.equal(keep_small_picture(trained, x, 4), network(x))


@pytest.mark.parametrize("count", [0, 3, 8, -1, 2.0, True, [1], [2], "2", None])
def test_other_numbers_of_orientations_are_refused(count: Any) -> None:
    """By the constructors: a network that cannot be used is none."""
    for build in (
        lambda: SuperResolver(4, 1, self_ensemble=count),
        lambda: ArtifactRemover((4, 6), (1, 1), self_ensemble=count),
    ):
        with pytest.raises(ValueError, match=r"1, 2 or 4 orientations, not "):
            build()


def test_removers_make_a_share_of_their_change() -> None:
    torch.manual_seed(0)
    network = ArtifactRemover(channels=(4, 6), blocks=(1, 1), self_ensemble=2).eval()
    x = pictures(2, 16, 24)
    with torch.no_grad():
        whole = network(x)
        assert network.strength == 1
        results = {}
        for network.strength in (0.0, 0.5, 0.9, 1.0):
            results[network.strength] = network(x)
    assert (whole - x).abs().max() > 0.01
    assert torch.equal(results[0.0], x)
    assert torch.equal(results[1.0], whole)
    for strength in (0.5, 0.9):
        torch.testing.assert_close(results[strength] - x, strength * (whole - x), rtol=0, atol=1e-6)


def test_strength_is_no_part_of_the_weights() -> None:
    network = ArtifactRemover(channels=(4, 6), blocks=(1, 1))
    names, settings = list(network.state_dict()), dict(network.settings)
    network.strength = 0.5
    assert (list(network.state_dict()), network.settings) == (names, settings)


def test_grain_lies_on_the_photo_and_is_drawn_anew_in_training() -> None:
    network = SuperResolver(channels=4, blocks=1, texture=3)
    flat = torch.full((1, 3, 128, 128), 0.5)
    network.eval()
    grain = network(flat)[0, :, 80:176, 80:176]
    assert grain.std(dim=(1, 2)).min() > 1e-4
    assert torch.equal(network(flat), network(flat))
    repeated = network(torch.full((1, 3, 160, 128), 0.5))[0, :, 80 + 256 : 176 + 256, 80:176]
    assert torch.allclose(grain, repeated, atol=1e-6)  # the noise's period is 64 pixels of the input
    network.train()
    assert not torch.equal(network(flat), network(flat))


def test_weights_of_the_critic_are_normalized_in_float32() -> None:
    """Autocast on CUDA would multiply them in bfloat16, and dot products of both types fail."""
    critic, found = Critic(channels=2), []
    for layer in critic.layers:
        if isinstance(layer, nn.Conv2d):
            norm = layer.parametrizations.weight[0]  # type: ignore[index,union-attr]
            norm.register_forward_pre_hook(lambda *_: found.append(torch.is_autocast_enabled("cpu")))
    with torch.autocast("cpu", torch.bfloat16):
        scores = critic(pictures(2, 32, 48))
    assert found == [False] * 5
    assert scores.dtype == torch.bfloat16
