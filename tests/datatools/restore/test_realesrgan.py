"""datatools.restore.realesrgan: ncnn files are read to the letter, and anything else is refused."""

import dataclasses
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch

from datatools.errors import DataError
from datatools.restore import ncnn, realesrgan
from datatools.restore.realesrgan import MODEL, RRDBNet, load_realesrgan, read_ncnn
from tests.support.ncnn_files import (
    graph,
    install,
    numbers,
    param,
    recorded,
    replace,
    run_graph,
    tiny_network,
    with_splits,
)
from tests.support.paths import GOLDEN

GOLDEN = GOLDEN / "realesrgan_4x5.npz"


def picture(height: int = 5, width: int = 7) -> torch.Tensor:
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("features", "growth", "blocks"), [(3, 1, 1), (4, 2, 2)])
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("split", [False, True])
def test_the_network_does_what_the_graph_says(features: int, growth: int, blocks: int, half: bool, split: bool) -> None:
    lines = graph(features, growth, blocks)
    text = param(with_splits(lines) if split else lines)
    data = numbers(tiny_network(features, growth, blocks), half=half)
    network = read_ncnn(text, data)
    assert not network.training
    assert not any(value.requires_grad for value in network.parameters())
    found = network(picture())
    assert found.shape == (2, 3, 5 * network.scale, 7 * network.scale)
    wanted = run_graph(text.decode(), data, picture())
    assert wanted.abs().max() > 0.1
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_fp32_weights_arrive_unchanged() -> None:
    network = tiny_network()
    read = read_ncnn(param(graph()), numbers(network))
    for name, value in network.state_dict().items():
        assert torch.equal(read.state_dict()[name], value), name


MISTAKES: dict[str, Callable[[list[str]], list[str]]] = {
    "another slope": replace("-23310=1,2.0", "-23310=1,1.0"),
    "another activation": replace("9=2", "9=1"),
    "no activation": replace(" 9=2 -23310=1,2.000000e-01", ""),
    "another share of the block": replace("-23301=2,2.0", "-23301=2,1.0"),
    "another share of the input": replace("1.000000e+00", "9.000000e-01"),
    "product instead of sum": replace("0=1 -23301", "0=0 -23301"),
    "difference instead of sum": lambda lines: [f"{x} 0=1" if x.startswith("BinaryOp") else x for x in lines],
    "bilinear": replace("0=1 1=2.0", "0=2 1=2.0"),
    "threefold": replace("1=2.000000e+00", "1=3.000000e+00"),
    "no bias": replace("5=1", "5=0"),
    "1x1 kernel": replace("1=3", "1=1"),
    "stride": replace("4=1", "3=2 4=1"),
    "more channels than weights": replace("0=3 1=3", "0=4 1=3"),
    "fewer weights than channels": replace("6=81", "6=80"),
    "the whole has a layer less": lambda lines: lines[:-1],
    "a layer is missing": lambda lines: [*lines[:5], *lines[6:]],
    "a layer comes twice": lambda lines: [*lines, lines[-1]],
    "a layer too many": lambda lines: [*lines, f"ReLU r 1 1 {lines[-1].split()[5]} out"],
    "four colours": lambda lines: [*lines[:-1], lines[-1].replace("0=3", "0=4").replace("6=81", "6=108")],
    "a result that nobody made": replace(" b3 ", " b99 "),
    "concatenated in another order": lambda lines: [
        x.replace("b1 b2", "b2 b1") if x.startswith("Concat") else x for x in lines
    ],
    "change and input exchanged": lambda lines: [
        " ".join([*x.split()[:4], *x.split()[5:3:-1], *x.split()[6:]]) if x.startswith("Eltwise") else x for x in lines
    ],
    "another kind of layer": replace("Convolution", "Deconvolution"),
    "a setting that is no number": replace("4=1", "4=one"),
    "a number of inputs that is none": replace(" 1 1 ", " -1 1 "),
    "too few words": lambda lines: [*lines[:-1], "Convolution last"],
    "empty": lambda lines: lines[:0],
    "no convolution": lambda lines: lines[:1],
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_any_other_graph_is_refused(mistake: str) -> None:
    lines = MISTAKES[mistake](graph())
    assert lines != graph()
    with pytest.raises(DataError, match=r"some/model\.param is damaged or describes another network: ") as caught:
        read_ncnn(param(lines), numbers(tiny_network()), "some/model")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [b"", b"7767517", b"7767517\n", b"7767517\n1\n", b"7767517\n99 1\nInput in 0 1 data\n", b"\xff\xfe", b"PK\x03\x04"],
)
def test_what_is_no_graph_at_all_is_refused(text: bytes) -> None:
    with pytest.raises(DataError, match="describes another network"):
        read_ncnn(text, b"")


@pytest.mark.parametrize("half", [False, True])
def test_truncated_numbers_and_trailing_bytes_are_refused(half: bool) -> None:
    data = numbers(tiny_network(), half=half)
    for length in [1, 3, 4, 6, *range(0, len(data), len(data) // 20), len(data) - 4, len(data) - 1]:
        with pytest.raises(DataError, match="it ends within convolution"):
            read_ncnn(param(graph()), data[:length])
    for extra in (1, 4):
        with pytest.raises(DataError, match=f"{extra} bytes follow"):
            read_ncnn(param(graph()), data + bytes(extra))


@pytest.mark.parametrize("word", [0x000D4B38, 0x0002C056, 1, 0xFFFFFFFF])
def test_quantized_and_unknown_weights_are_refused(word: int) -> None:
    data = word.to_bytes(4, "little") + numbers(tiny_network())[4:]
    with pytest.raises(DataError, match="convolution 1 are of an unknown type"):
        read_ncnn(param(graph()), data)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("part", ["weight", "bias"])
def test_values_that_are_not_finite_are_refused(value: float, part: str) -> None:
    network = tiny_network()
    getattr(network.refined, part)[0] = value
    with pytest.raises(DataError, match=r"model\.bin .* not finite"):
        read_ncnn(param(graph()), numbers(network))


def test_package_files_are_read_without_its_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {".param": param(graph()), ".bin": numbers(tiny_network(), half=True)}
    install(tmp_path, files, [recorded(ending, content) for ending, content in files.items()])
    monkeypatch.syspath_prepend(tmp_path)
    assert load_realesrgan()(picture()).shape == (2, 3, 20, 28)
    assert MODEL.path.split("/")[0] not in sys.modules


def test_a_package_without_record_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, {".param": b"text"})
    monkeypatch.syspath_prepend(tmp_path)
    assert MODEL.graph() == b"text"


def test_files_that_differ_from_the_record_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = numbers(tiny_network())
    changed = data[:100] + bytes([data[100] ^ 1]) + data[101:]
    install(tmp_path, {".param": param(graph()), ".bin": changed}, [recorded(".bin", data)])
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        DataError, match=r"realesrgan-x4plus\.bin is damaged: it is not the file that .* 9\.9 installed"
    ):
        load_realesrgan()


def test_a_missing_or_huge_file_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, {".param": b"text"})
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DataError, match=r"realesrgan-x4plus\.bin: no such file in .* install it anew"):
        MODEL.numbers()
    monkeypatch.setattr(ncnn, "MAX_PARAM_BYTES", 4)
    assert MODEL.graph() == b"text"
    monkeypatch.setattr(ncnn, "MAX_PARAM_BYTES", 3)
    with pytest.raises(DataError, match="larger than any file of this network"):
        MODEL.graph()
    (tmp_path / f"{MODEL.path}.bin").write_bytes(bytes(5))
    assert dataclasses.replace(MODEL, limit=5).numbers() == bytes(5)
    with pytest.raises(DataError, match=r"realesrgan-x4plus\.bin is larger than any file of this network"):
        dataclasses.replace(MODEL, limit=4).numbers()


def test_a_missing_package_is_told_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(realesrgan, "MODEL", dataclasses.replace(MODEL, package="no-package-has-this-name"))
    with pytest.raises(DataError, match=r'pip install "celebahq\[realesrgan\]"'):
        load_realesrgan()


@pytest.fixture(scope="module")
def published() -> RRDBNet:
    try:
        metadata.version(MODEL.package)
    except metadata.PackageNotFoundError:
        pytest.skip(f"{MODEL.package} is not installed")
    return load_realesrgan()


def test_the_published_network_gives_what_ncnn_gives(published: RRDBNet) -> None:
    """The golden result is that of the ncnn library itself (fp32 arithmetic, no Winograd), for a picture of 5x4."""
    assert sum(value.numel() for value in published.parameters()) == 16_697_987
    with np.load(GOLDEN) as golden:
        found = published(torch.from_numpy(golden["picture"])[None])[0].numpy()
        np.testing.assert_allclose(found, golden["enlarged"], rtol=0, atol=5e-5)
