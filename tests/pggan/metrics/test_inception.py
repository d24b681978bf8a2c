"""FID and its like: what is handed to the library, what the records say, and what is missing."""

import json
import os
import pickle
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar
from urllib.error import URLError

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from datatools.errors import DataError
from pggan.metrics import inception as fidelity
from pggan.metrics.inception import Inception, InceptionFeatures, describe, fid, figure_name, figures
from tests.support.metrics_reference import clouds

LIBRARY = ("feature_extractor_inceptionv3", "metric_isc", "metric_prc")


class Means:
    """Describes a picture by the means of its channels."""

    recipe: ClassVar = {"network": "means", "weights_sha256": "0" * 64}

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        means = images.float().mean(dim=(2, 3))
        return means, means * 2


class FakeNetwork(nn.Module):
    """In the place of the library's: one layer, and the same arguments."""

    def __init__(self, _name: str, features: list[str], path: str | None) -> None:
        super().__init__()
        assert features == ["2048", "logits_unbiased"]
        if path is None:
            raise URLError("no network")
        self.layer = nn.Linear(3, 2)
        self.load_state_dict(torch.load(path))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        assert images.dtype == torch.uint8
        return self.layer(images.float().mean(dim=(2, 3))), images.float().mean(dim=(2, 3))


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A stand-in for torch-fidelity that keeps what it is called with."""
    calls: dict[str, Any] = {}

    def inception_score(logits: Tensor, splits: int) -> dict[str, float]:
        calls["is"] = logits, splits
        return {"inception_score_mean": 3.5, "inception_score_std": 0.25}

    def precision_recall(fakes: Tensor, reals: Tensor, **options: Any) -> dict[str, float]:
        calls["pr"] = fakes, reals, options
        return {"precision": 0.5, "recall": 0.75, "f_score": 0.6}

    package, extractor, isc, prc = (ModuleType(name) for name in ("torch_fidelity", *LIBRARY))
    extractor.URL_INCEPTION_V3 = "https://example.org/weights.pth"  # type: ignore[attr-defined]
    extractor.FeatureExtractorInceptionV3 = FakeNetwork  # type: ignore[attr-defined]
    isc.isc_features_to_metric = inception_score  # type: ignore[attr-defined]
    prc.prc_features_to_metric = precision_recall  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch_fidelity", package)
    for name, part in zip(LIBRARY, (extractor, isc, prc), strict=True):
        monkeypatch.setitem(sys.modules, f"torch_fidelity.{name}", part)
    monkeypatch.setattr(fidelity.importlib.metadata, "version", lambda _name: "0.4.0")
    return calls


def described(seed: int, count: int = 30) -> InceptionFeatures:
    images = clouds(count, 16, seed)
    return describe([images[:7], torch.from_numpy(images[7:])], Means())


def test_a_set_is_described_in_any_batches() -> None:
    images = clouds(30, 16, 1)
    found = described(1)
    assert np.allclose(found.features, images.mean(axis=(2, 3)), atol=1e-3)
    assert np.allclose(found.logits, 2 * found.features)


@pytest.mark.parametrize(("count", "name"), [(50_000, "fid50k"), (2048, "fid2048"), (1000, "fid1k"), (20, "fid20")])
def test_names_state_how_many(count: int, name: str) -> None:
    assert figure_name("fid", count) == name


def test_fid_is_the_distance_of_the_features_distributions() -> None:
    reals = described(1)
    moved = InceptionFeatures(reals.features + np.float32(2), reals.logits)
    assert fid(moved, reals)["value"] == pytest.approx(3 * 2**2, rel=1e-4)
    assert fid(reals, reals)["value"] == pytest.approx(0, abs=1e-6)


def test_records_say_everything(library: dict[str, Any]) -> None:
    fakes, reals = described(1), described(2, 40)
    found = figures(fakes, reals, ["fid", "is", "pr"], Means.recipe)
    assert json.loads(json.dumps(found)) == found
    assert list(found) == ["fid30", "is30", "pr30"]
    assert all(record["images"] == 30 and record["weights_sha256"] == "0" * 64 for record in found.values())
    assert found["fid30"]["reals"] == found["pr30"]["reals"] == 40
    assert found["is30"] | {"mean": 3.5, "deviation": 0.25, "splits": 10} == found["is30"]
    assert found["pr30"] | {"precision": 0.5, "recall": 0.75, "neighbourhood": 3} == found["pr30"]
    logits, splits = library["is"]
    assert np.array_equal(logits, fakes.logits)
    assert splits == 10
    first, second, options = library["pr"]
    assert np.array_equal(first, fakes.features)
    assert np.array_equal(second, reals.features)
    assert options["prc_neighborhood"] == 3


def test_the_inception_score_needs_no_reals(library: dict[str, Any]) -> None:
    del library
    assert list(figures(described(1), None, ["is"], {})) == ["is30"]


@pytest.mark.usefixtures("library")
def test_too_little_to_measure() -> None:
    few, reals = described(1, 3), described(2)
    for metric, what in (("is", "at least as many"), ("pr", "more than 3")):
        with pytest.raises(DataError, match=what):
            figures(few, reals, [metric], {})  # type: ignore[list-item]
    with pytest.raises(DataError, match="at least 2"):
        figures(InceptionFeatures(few.features[:1], few.logits[:1]), reals, ["fid"], {})
    with pytest.raises(DataError, match="none were given"):
        figures(reals, None, ["fid"], {})
    with pytest.raises(DataError, match="unknown metric 'kid'; choose from fid, is, pr"):
        figures(reals, reals, ["kid"], {})  # type: ignore[list-item]
    with pytest.raises(DataError, match="no images"):
        describe([], Means())
    with pytest.raises(DataError, match="expected RGB bytes"):
        describe([np.zeros((2, 1, 16, 16), np.uint8)], Means())


@pytest.mark.usefixtures("library")
def test_the_network_and_its_record(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    layer = nn.Linear(3, 2)
    torch.save({f"layer.{name}": value for name, value in layer.state_dict().items()}, path)
    network = Inception(path)
    features, logits = network(torch.from_numpy(clouds(2, 16, 1)))
    assert torch.allclose(features, layer(logits).detach())
    assert network.recipe["library"] == "torch-fidelity 0.4.0"
    assert len(network.recipe["weights_sha256"]) == 64
    assert "299" in network.recipe["resize"]


@pytest.mark.usefixtures("library")
def test_weights_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot be downloaded .*fetch https://example.org/weights.pth elsewhere"):
        Inception()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="pipe: is not a file; name the file"):
        Inception(tmp_path / "pipe")
    with pytest.raises(DataError, match="cannot be read: No such file"):
        Inception(tmp_path / "missing.pth")
    (tmp_path / "junk.pth").write_bytes(b"junk")
    with pytest.raises(DataError, match="is not a file of weights"):
        Inception(tmp_path / "junk.pth")
    torch.save({"other": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(DataError, match="of another network"):
        Inception(tmp_path / "other.pth")


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("error", [pickle.UnpicklingError("invalid load key, '<'"), EOFError(), RuntimeError("zip")])
def test_a_damaged_download_is_named(error: Exception, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    module = sys.modules["torch_fidelity.feature_extractor_inceptionv3"]
    monkeypatch.setattr(module, "FeatureExtractorInceptionV3", fails)
    with pytest.raises(DataError, match=r"checkpoints/weights.pth: a damaged download; delete it, or give --inception"):
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
    for name in LIBRARY:
        monkeypatch.delitem(sys.modules, f"torch_fidelity.{name}", raising=False)
    with pytest.raises(DataError, match=r'pip install --no-deps "torch-fidelity>=0\.4,<0\.5"'):
        Inception()
