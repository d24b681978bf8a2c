"""The Inception network: what is handed to the library, its record, and weights that cannot be used."""

import os
import pickle
import sys
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from datatools.errors import DataError
from pggan.metrics import inception as module
from pggan.metrics.features import resize_bicubic
from pggan.metrics.inception import Inception
from tests.support.metrics_reference import clouds

EXTRACTOR = "torch_fidelity.feature_extractor_inceptionv3"


class FakeNetwork(nn.Module):
    """In the place of the library's: a first layer of its name, another one, and the same arguments."""

    def __init__(self, _name: str, features: list[str], path: str | None) -> None:
        super().__init__()
        assert features == ["2048", "logits_unbiased"]
        if path is None:
            raise URLError("no network")
        self.Conv2d_1a_3x3 = nn.Conv2d(3, 2, 3, stride=2)
        self.load_state_dict(torch.load(path))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        assert images.dtype == torch.uint8
        resized = nn.functional.interpolate(images.float(), (299, 299))
        x = self.Conv2d_1a_3x3((resized - 128) / 128)
        return x.mean(dim=(2, 3)), x.amax(dim=(2, 3))


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for torch-fidelity."""
    extractor = ModuleType(EXTRACTOR)
    extractor.URL_INCEPTION_V3 = "https://example.org/weights.pth"  # type: ignore[attr-defined]
    extractor.FeatureExtractorInceptionV3 = FakeNetwork  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch_fidelity", ModuleType("torch_fidelity"))
    monkeypatch.setitem(sys.modules, EXTRACTOR, extractor)
    monkeypatch.setattr(module.importlib.metadata, "version", lambda _name: "0.4.0")


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(1)
    layer = nn.Conv2d(3, 2, 3, stride=2)
    torch.save({f"Conv2d_1a_3x3.{name}": value for name, value in layer.state_dict().items()}, tmp_path / "weights.pth")
    return tmp_path / "weights.pth"


@pytest.mark.usefixtures("library")
def test_the_network_and_its_record(weights: Path) -> None:
    images = torch.from_numpy(clouds(2, 16, 1))
    network = Inception(weights)
    features, logits = network(images)
    expected = FakeNetwork("", ["2048", "logits_unbiased"], str(weights))(images)
    assert torch.equal(features, expected[0])
    assert torch.equal(logits, expected[1])
    assert network.recipe["library"] == "torch-fidelity 0.4.0"
    assert len(network.recipe["weights_sha256"]) == 64
    assert "299" in network.recipe["resize"]


@pytest.mark.usefixtures("library")
def test_clean_resizing_takes_the_place_of_the_librarys(weights: Path) -> None:
    images = torch.from_numpy(clouds(2, 16, 1))
    network = Inception(weights, resize="clean")
    features, _ = network(images)
    layer = network.network.Conv2d_1a_3x3
    assert torch.equal(features, layer((resize_bicubic(images, 299) - 128) / 128).mean(dim=(2, 3)))
    assert not torch.equal(features, Inception(weights)(images)[0])
    assert not layer._forward_pre_hooks
    assert "clean FID" in network.recipe["resize"]


@pytest.mark.parametrize("side", [20, 40, 64])
def test_resizing_is_pillows_bicubic_filter_without_rounding(side: int) -> None:
    images = np.random.default_rng(side).integers(0, 256, (1, 3, side, side), dtype=np.uint8)
    planes = [
        Image.fromarray(plane.astype(np.float32)).resize((32, 32), Image.Resampling.BICUBIC) for plane in images[0]
    ]
    expected = np.stack([np.asarray(plane) for plane in planes]).clip(0, 255)
    assert np.abs(resize_bicubic(torch.from_numpy(images), 32)[0].numpy() - expected).max() < 5e-3


@pytest.mark.usefixtures("library")
def test_weights_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^weights .*be downloaded .*fetch https://example.org/weights.pth elsewhere"):
        Inception()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="pipe is not a file"):
        Inception(tmp_path / "pipe")
    with pytest.raises(DataError, match=r"missing\.pth: no such weight file"):
        Inception(tmp_path / "missing.pth")
    (tmp_path / "junk.pth").write_bytes(b"junk")
    with pytest.raises(DataError, match="is not a file of weights"):
        Inception(tmp_path / "junk.pth")
    torch.save({"other": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(DataError, match=r"other\.pth: weights of another network"):
        Inception(tmp_path / "other.pth")


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("error", [pickle.UnpicklingError("invalid load key, '<'"), EOFError(), RuntimeError("zip")])
def test_a_damaged_download_is_named(error: Exception, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(sys.modules[EXTRACTOR], "FeatureExtractorInceptionV3", fails)
    with pytest.raises(DataError, match=r"checkpoints/weights.pth: a damaged download; delete it, or give the file"):
        Inception()


class Code:
    """Runs when it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return print, ("code of the file was run",)


@pytest.mark.usefixtures("library")
def test_weights_that_hold_code_are_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"layer.weight": Code()}, tmp_path / "code.pth")
    with pytest.raises(DataError, match="is not a file of weights"):
        Inception(tmp_path / "code.pth")
    assert "was run" not in capsys.readouterr().out


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    monkeypatch.delitem(sys.modules, EXTRACTOR, raising=False)
    with pytest.raises(DataError, match=r'pip install --no-deps "torch-fidelity>=0\.4,<0\.5"'):
        Inception()
