"""The option that names weight files, and the networks that metrics need."""

from pathlib import Path

import click
import pytest

from datatools.errors import DataError, SettingError
from pggan.metrics.dinov2 import DinoV2
from pggan.metrics.extractors import WeightFiles, with_networks
from pggan.metrics.lpips import Lpips
from pggan.metrics.options import Options
from tests.support.extractors import write_dinov2, write_lpips


def test_weights_by_path() -> None:
    convert = WeightFiles()
    home = Path.home()
    found = convert("inception=~/a,b.pth,dinov2=dir/c=d.pth")
    assert found == {"inception": home / "a,b.pth", "dinov2": Path("dir/c=d.pth")}
    assert convert(found) == found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file.pth", "file.pth: must be a network and its file"),
        ("inception=", "inception=: must be a network and its file"),
        ("dinov2=a,dinov2=b", "dinov2=b: must be a network and its file, each network once"),
        ("vgg=a.pth", "vgg: unknown network; choose from inception, dinov2, lpips"),
        ("dinov2=~nobody-of-that-name/a", "nobody's home folder"),
    ],
)
def test_weights_that_name_no_file(text: str, message: str) -> None:
    with pytest.raises(click.BadParameter, match=message):
        WeightFiles()(text)


def test_only_needed_networks_are_opened(tmp_path: Path) -> None:
    weights = {"dinov2": write_dinov2(tmp_path / "dinov2.pth"), "inception": tmp_path / "absent.pth"}
    opened = with_networks(Options(), ["swd", "fd-dinov2", "kd-dinov2"], weights, "tensorflow", download=True)
    assert list(opened.extractors) == ["dinov2"]
    assert isinstance(opened.extractors["dinov2"], DinoV2)
    assert with_networks(Options(seed=3), ["swd"], weights, "tensorflow", download=False) == Options(seed=3)
    weights = {"lpips": write_lpips(tmp_path / "lpips.pth")}
    assert isinstance(with_networks(Options(), ["lpips"], weights, "tensorflow", download=False).lpips, Lpips)


def test_weights_that_are_missing(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"^weights dinov2=FILE is needed for fd-dinov2, dc-dinov2: "):
        with_networks(Options(), ["swd", "fd-dinov2", "dc-dinov2"], None, "tensorflow", download=True)
    with pytest.raises(SettingError, match=r"^weights inception=FILE is needed for fid: "):
        with_networks(Options(), ["fid"], {"dinov2": tmp_path}, "tensorflow", download=False)
    (tmp_path / "cut.pth").write_bytes(write_dinov2(tmp_path / "dinov2.pth").read_bytes()[:5000])
    with pytest.raises(DataError, match=r"cut\.pth: is not a file of weights that PyTorch can read safely"):
        with_networks(Options(), ["fd-dinov2"], {"dinov2": tmp_path / "cut.pth"}, "tensorflow", download=False)
