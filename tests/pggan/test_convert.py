"""Conversion: other projects' files become model files of ours, which make the same pictures."""

from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pggan import generate
from pggan.convert import main
from pggan.models import load_model
from tests.support import foreign
from tests.support.foreign import SMALL, random_model


def convert(*arguments: object) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def test_a_converted_file_has_the_same_networks(tmp_path: Path) -> None:
    path, out = tmp_path / "file.pkl", tmp_path / "new" / "model.safetensors"
    foreign.nvidia2018(path, random_model(SMALL, lod=1.25), fused=True)
    result = convert("--model", path, "--out", out)
    assert result.exit_code == 0, result.output
    assert "networks of 16 x 16 pixels" in result.output
    first, second = load_model(path), load_model(out)
    assert (first.config, first.lod, first.untrained) == (second.config, second.lod, second.untrained)
    for name, network in first.stored.items():
        converted = second.stored[name].state_dict()
        assert all(value.equal(converted[key]) for key, value in network.state_dict().items())


def test_style_based_networks_with_classes_are_converted(tmp_path: Path) -> None:
    path, out = tmp_path / "file.pkl", tmp_path / "model.safetensors"
    foreign.stylegan2_ada(path, random_model(replace(foreign.STYLE, classes=3)))
    result = convert("--model", path, "--out", out)
    assert result.exit_code == 0, result.output
    assert "networks of 16 x 16 pixels, 3 classes" in result.output
    first, second = load_model(path), load_model(out)
    assert first.config == second.config
    assert (first.pictures(range(4)) == second.pictures(range(4))).all()
    options = ["--model", str(out), "--out", str(tmp_path / "pictures"), "--seeds", "0-3", "--curate", "2"]
    refused = CliRunner().invoke(generate.main, options)
    assert refused.exit_code == 1
    assert "--curate: is not for style-based models with classes" in refused.stderr


def test_a_generator_alone_is_converted_and_cannot_choose(tmp_path: Path) -> None:
    path, out = tmp_path / "file.pth", tmp_path / "model.safetensors"
    foreign.interfacegan(path, random_model(SMALL))
    result = convert("--model", path, "--out", out)
    assert result.exit_code == 0, result.output
    assert "without a discriminator" in result.output
    assert load_model(out).pictures([3]).tolist() == load_model(path).pictures([3]).tolist()
    options = ["--model", str(out), "--out", str(tmp_path / "pictures"), "--seeds", "0-3", "--curate", "2"]
    refused = CliRunner().invoke(generate.main, options)
    assert refused.exit_code == 1
    assert "--curate: the model file has no discriminator" in refused.stderr


@pytest.mark.parametrize("name", ["model.pth", "file.txt/model.safetensors"])
def test_an_output_that_cannot_be_written(name: str, tmp_path: Path) -> None:
    (tmp_path / "file.txt").touch()
    foreign.interfacegan(tmp_path / "file.pth", random_model(SMALL))
    result = convert("--model", tmp_path / "file.pth", "--out", tmp_path / name)
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1
    assert f"--out {tmp_path / name}: " in result.stderr


def test_what_cannot_be_read_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "file.pkl").write_bytes(b"\x80\x04cposix\nsystem\n(\x8c\x04truetR.")
    result = convert("--model", tmp_path / "file.pkl", "--out", tmp_path / "model.safetensors")
    assert result.exit_code == 1
    assert "its pickle names 'posix.system', which is not on the list" in result.stderr
    assert not (tmp_path / "model.safetensors").exists()
