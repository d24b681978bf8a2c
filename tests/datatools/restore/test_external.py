"""datatools.restore.external: networks of other projects are read as weights, and no code comes with them."""

import hashlib
import os
import pickle
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from datatools.errors import DataError
from datatools.restore import external
from datatools.restore.external import digest, load_external
from tests.support.restore_samples import tiny_rrdb


class Code:
    """A pickle of this runs a command when it is read carelessly."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


@dataclass
class Descriptor:
    """What spandrel says of a network, as far as it is asked here."""

    model: nn.Module
    scale: int = 4
    input_channels: int = 3
    output_channels: int = 3
    size_requirements: Any = field(default_factory=lambda: SimpleNamespace(multiple_of=1, square=False))
    tiling: str = "supported"
    architecture: Any = field(default_factory=lambda: SimpleNamespace(name="Made-up"))

    def __call__(self, picture: Tensor) -> Tensor:
        assert len(picture) == 1
        result: Tensor = self.model(picture)
        return result.clamp(0, 1)


class Scaled(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))


class UnsupportedModelError(Exception):
    pass


@pytest.fixture
def spandrel(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A stand-in for spandrel that answers with `.answer`, or raises it."""
    module: Any = ModuleType("spandrel")
    module.answer = Descriptor(nn.Upsample(scale_factor=4))

    class ModelLoader:
        def __init__(self, device: str) -> None:
            assert device == "cpu"

        def load_from_state_dict(self, tensors: dict[str, Any]) -> Descriptor:
            module.tensors = tensors
            if isinstance(module.answer, Exception):
                raise module.answer
            answer: Descriptor = module.answer
            return answer

    module.__version__ = "1.2"
    module.ModelLoader = ModelLoader
    module.ImageModelDescriptor = Descriptor
    module.UnsupportedModelError = UnsupportedModelError
    module.ModelTiling = SimpleNamespace(INTERNAL="internal")
    monkeypatch.setitem(sys.modules, "spandrel", module)
    return module


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "model.pth"
    torch.save({"a.weight": torch.ones(2)}, path)
    return path


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt", ".PTH", ".safetensors"])
def test_every_kind_of_file_reaches_spandrel_as_tensors(spandrel: Any, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"model{suffix}"
    tensors = {"a.weight": torch.arange(6.0).reshape(2, 3)}
    if suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save(tensors, path)
    network = load_external(str(path))
    assert list(spandrel.tensors) == ["a.weight"]
    assert torch.equal(spandrel.tensors["a.weight"], tensors["a.weight"])
    assert (network.scale, network.grid, network.margin) == (4, 1, external.MARGIN)
    pictures = torch.rand(3, 3, 4, 5) * 2
    assert torch.equal(network(pictures), nn.Upsample(scale_factor=4)(pictures).clamp(0, 1))


def test_margin_is_a_multiple_of_the_grid_and_weights_are_fp32(spandrel: Any, weights: Path) -> None:
    spandrel.answer = Descriptor(nn.Conv2d(3, 3, 1).half().train(), scale=1)
    spandrel.answer.size_requirements = SimpleNamespace(multiple_of=24, square=False)
    network = load_external(str(weights))
    assert (network.scale, network.grid) == (1, 24)
    assert network.margin % 24 == 0
    assert network.margin >= external.MARGIN
    assert not any(module.training for module in network.modules())
    assert [value.dtype for value in network.parameters()] == [torch.float32] * 2
    assert not any(value.requires_grad for value in network.parameters())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scale": 2}, "enlarges 2x"),
        ({"scale": 8}, "enlarges 8x"),
        ({"input_channels": 1}, "1 to 3 channels"),
        ({"output_channels": 4}, "3 to 4 channels"),
        ({"size_requirements": SimpleNamespace(multiple_of=1, square=True)}, "parts of a picture"),
        ({"tiling": "internal"}, "parts of a picture"),
        (
            {"model": Scaled(torch.nan)},
            "finite",
        ),
    ],
)
def test_networks_for_something_else_are_refused(
    spandrel: Any, weights: Path, changes: dict[str, Any], message: str
) -> None:
    for name, value in changes.items():
        setattr(spandrel.answer, name, value)
    with pytest.raises(DataError, match=message) as caught:
        load_external(str(weights))
    assert str(weights) in str(caught.value)


def test_a_network_that_wants_a_mask_is_refused(spandrel: Any, weights: Path) -> None:
    spandrel.ImageModelDescriptor = nn.Upsample
    with pytest.raises(DataError, match="needs more than a picture"):
        load_external(str(weights))


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (UnsupportedModelError("what"), "spandrel knows no network"),
        (
            RuntimeError("size mismatch\n for a.weight"),
            "do not fit the network they resemble: size mismatch for a.weight$",
        ),
        (KeyError(), "do not fit the network they resemble: KeyError$"),
    ],
)
def test_what_spandrel_cannot_load_is_told_in_one_line(
    spandrel: Any, weights: Path, error: Exception, message: str
) -> None:
    spandrel.answer = error
    with pytest.raises(DataError, match=message):
        load_external(str(weights))


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt"])
@pytest.mark.parametrize("way", ["zip", "legacy", "pickle"])
@pytest.mark.usefixtures("spandrel")
def test_code_in_a_file_is_not_run(tmp_path: Path, suffix: str, way: str) -> None:
    path, mark = tmp_path / f"model{suffix}", tmp_path / "mark"
    if way == "pickle":
        path.write_bytes(pickle.dumps(Code(mark)))
    else:
        torch.save({"a": torch.ones(1), "b": Code(mark)}, path, _use_new_zipfile_serialization=way == "zip")
    with pytest.raises(DataError, match=r"damaged or does not hold only weights \(code in it is never run\)"):
        load_external(str(path))
    assert not mark.exists()
    with suppress(Exception):  # a bare pickle is no file of torch, but its code has run by then
        torch.load(path, weights_only=False)
    assert mark.is_dir(), "the file is no trap"


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt"])
@pytest.mark.usefixtures("spandrel")
@pytest.mark.filterwarnings("error")
def test_a_torchscript_archive_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"model{suffix}"
    module = torch.jit.ScriptModule()
    module.save(str(path))
    with pytest.raises(DataError, match="code in it is never run"):
        load_external(str(path))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.usefixtures("spandrel")
def test_damaged_files_are_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"model{suffix}"
    if suffix == ".pth":
        torch.save({"a.weight": torch.ones(1000)}, path)
    else:
        save_file({"a.weight": torch.ones(1000)}, path)
    data = path.read_bytes()
    for content in (b"", data[:5], data[:100], data[:-50], b"text" * 30):
        path.write_bytes(content)
        with pytest.raises(DataError, match="damaged or does not hold"):
            load_external(str(path))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.usefixtures("spandrel")
def test_a_web_page_instead_of_a_download_is_named(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_text("<!doctype html><html>Sign in</html>")
    with pytest.raises(DataError, match=r"damaged or does not hold .*: it is a web page, not the file itself"):
        load_external(str(path))


@pytest.mark.parametrize("content", [torch.ones(3), [1, 2], {}, {1: torch.ones(1)}, 7])
@pytest.mark.usefixtures("spandrel")
def test_what_is_no_networks_weights_is_refused(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "model.pth"
    torch.save(content, path)
    with pytest.raises(DataError, match="holds no network's weights by name"):
        load_external(str(path))


@pytest.mark.parametrize("ask", [load_external, digest])
def test_a_missing_file_and_an_unknown_name_are_told(ask: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.pth: no such weight file"):
        ask(str(tmp_path / "absent.pth"))
    with pytest.raises(DataError, match=r"bundle is neither a restorer's name nor a weight file; known endings: \.pth"):
        ask("bundle")
    with pytest.raises(DataError, match=r"model\.onnx is neither a restorer's name"):
        ask("model.onnx")
    with pytest.raises(DataError, match=r"^srmd is no longer supported; name a weight file of a 4x network"):
        ask("srmd")


def test_missing_spandrel_is_told_with_the_remedy(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spandrel", None)
    with pytest.raises(DataError, match=r'need spandrel .*pip install --no-deps "spandrel>=0\.4\.2" einops'):
        load_external(str(weights))


def test_a_spandrel_that_cannot_be_imported_is_told(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "spandrel.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')\n")
    monkeypatch.delitem(sys.modules, "spandrel", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DataError, match=r"cannot be imported .*nms does not exist.* again: pip install --no-deps"):
        load_external(str(weights))


def test_the_digest_tells_the_weights_and_the_code(spandrel: Any, weights: Path) -> None:
    first = digest(str(weights))
    assert first.startswith(hashlib.sha256(weights.read_bytes()).hexdigest())
    weights.rename(weights.with_name("moved.pth"))
    assert digest(str(weights.with_name("moved.pth"))) == first
    spandrel.__version__ = "1.3"
    second = digest(str(weights.with_name("moved.pth")))
    assert second != first
    weights.write_bytes(weights.with_name("moved.pth").read_bytes() + b"\0")
    assert digest(str(weights)) not in (first, second)


@pytest.mark.parametrize("ask", [load_external, digest])
def test_a_folder_is_no_weight_file(ask: Any, tmp_path: Path) -> None:
    (tmp_path / "model.pth").mkdir()
    with pytest.raises(DataError, match=r"model\.pth is a folder; name a weight file"):
        ask(str(tmp_path / "model.pth"))


def test_spandrel_itself_recognizes_an_esrgan(tmp_path: Path) -> None:
    """The same weights give the same result through spandrel's network and through ours."""
    if not find_spec("spandrel"):
        pytest.skip("spandrel is not installed")
    ours = tiny_rrdb(features=8, growth=32)  # spandrel knows no other growth
    with torch.no_grad():  # a result between 0 and 1, most of which is not clipped
        ours.exit.weight.mul_(0.1)
        ours.exit.bias.fill_(0.5)  # type: ignore[union-attr]
    layers = [module for module in ours.modules() if isinstance(module, nn.Conv2d)]
    dense = [f"body.0.rdb{block}.conv{layer}" for block in (1, 2, 3) for layer in (1, 2, 3, 4, 5)]
    names = ["conv_first", *dense, "conv_body", "conv_up1", "conv_up2", "conv_hr", "conv_last"]
    tensors = {
        f"{name}.{part}": value
        for name, layer in zip(names, layers, strict=True)
        for part, value in layer.state_dict().items()
    }
    torch.save({"params_ema": tensors}, tmp_path / "model.pth")
    network = load_external(str(tmp_path / "model.pth"))
    pictures = torch.rand(2, 3, 6, 9, generator=torch.Generator().manual_seed(1))
    wanted = ours(pictures).clamp(0, 1)
    assert ((wanted > 0) & (wanted < 1)).float().mean() > 0.5
    torch.testing.assert_close(network(pictures), wanted, rtol=1e-4, atol=1e-4)
