"""The network that a run starts from."""

from pathlib import Path

import pytest
import torch

from datatools.errors import DataError
from datatools.restore.fit import initial
from datatools.restore.fit.dataset import Photos
from datatools.restore.fit.training import Fit
from datatools.restore.fit.validation import Validation
from datatools.restore.networks import SuperResolver
from datatools.restore.weights import load_weights, save_weights
from tests.support.fit_runs import CPU, settings, trained

pytestmark = pytest.mark.usefixtures("small_critic")


def test_weights_to_start_from_must_fit(
    photos: Photos, held_out: Photos, distortion: dict[str, Path], tmp_path: Path
) -> None:
    validation = Validation("sr", held_out)
    with pytest.raises(DataError, match="needed is 'sr'"):
        Fit(settings(init_from=str(distortion["jpeg"])), photos, validation, CPU)
    with pytest.raises(DataError, match="no such weight file"):
        Fit(settings(init_from=str(tmp_path / "none")), photos, validation, CPU)
    fit = Fit(settings(init_from=str(distortion["sr"])), photos, validation, CPU)
    loaded = load_weights(distortion["sr"], "sr")[0]
    assert all(torch.equal(v, loaded.state_dict()[k]) for k, v in fit.network.state_dict().items())
    assert all(p.requires_grad for p in fit.network.parameters())


def test_the_perceptual_variant_trains_only_texture(
    photos: Photos, held_out: Photos, distortion: dict[str, Path]
) -> None:
    fit = Fit(settings(variant="perceptual", init_from=str(distortion["sr"])), photos, Validation("sr", held_out), CPU)
    loaded, _ = load_weights(distortion["sr"], "sr")
    fit.one_step()
    trained = fit.network.state_dict()
    for name, value in loaded.state_dict().items():
        assert torch.equal(value, trained[name]), name
    assert fit.network.settings["texture"] == initial.TEXTURE_CHANNELS
    assert any(name.startswith("texture.") for name in trained)


def test_weights_of_another_shape_are_refused(photos: Photos, held_out: Photos, distortion: dict[str, Path]) -> None:
    chosen = settings(init_from=str(distortion["sr"]), network={"channels": 7})
    with pytest.raises(DataError, match="does not fit the requested network"):
        Fit(chosen, photos, Validation("sr", held_out), CPU)


@pytest.mark.parametrize(("blocks", "new"), [(2, []), (3, [1]), (5, [0, 2, 3]), (7, [0, 1, 3, 4, 5])])
def test_new_blocks_start_as_identities(
    photos: Photos, held_out: Photos, tmp_path: Path, blocks: int, new: list[int]
) -> None:
    torch.manual_seed(5)
    network = SuperResolver(channels=6, blocks=2)
    save_weights(tmp_path / "two.safetensors", network, "sr", {})
    two, _ = load_weights(tmp_path / "two.safetensors", "sr")
    chosen = settings(init_from=str(tmp_path / "two.safetensors"), network={"blocks": blocks})
    fit = Fit(chosen, photos, Validation("sr", held_out), CPU)
    deep = fit.network
    assert isinstance(deep, SuperResolver)
    x = torch.rand(2, 3, 20, 28, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(deep.eval()(x), two(x), atol=1e-6)
    deep.train()
    assert [place for place, block in enumerate(deep.body) if not block.second.weight.any()] == new
    fit.one_step()
    assert all(block.second.weight.any() and block.first.weight.grad is not None for block in deep.body)
    trained(fit, tmp_path / "deep.safetensors")
    assert load_weights(tmp_path / "deep.safetensors", "sr")[0].settings["blocks"] == blocks


def test_fewer_blocks_than_the_weight_file_has_are_refused(photos: Photos, held_out: Photos, tmp_path: Path) -> None:
    save_weights(tmp_path / "two.safetensors", SuperResolver(channels=6, blocks=2), "sr", {})
    chosen = settings(init_from=str(tmp_path / "two.safetensors"), network={"blocks": 1})
    with pytest.raises(DataError, match=r"two.safetensors has 2 residual blocks, so --blocks 1 is too few"):
        Fit(chosen, photos, Validation("sr", held_out), CPU)
