"""Model files and run folders: what was saved comes back, and anything else is refused in one line."""

import json
import os
import pickle
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click import Command
from click.testing import CliRunner
from safetensors.torch import load_file, safe_open, save_file

from datatools.errors import DataError
from pggan import convert, evaluate, generate, train
from pggan.config.settings import NetworkConfig
from pggan.model.files import FORMAT, METADATA, new_model, save_model
from pggan.training.models import load_model
from tests.support import pggan_runs
from tests.support.pggan_runs import config_of, write_pyramid

CONFIG = NetworkConfig(8, fmap_base=32, fmap_max=4, latent_size=4)
BIAS = "average.levels.4.conv.bias"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "final.safetensors"
    torch.manual_seed(1)
    save_model(path, new_model(CONFIG), lod=0.5, images=1234)
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; not to be changed."""
    folder = tmp_path_factory.mktemp("run")
    out = folder / "run"
    pggan_runs.train(config_of(write_pyramid(folder / "ramps.h5"), out, schedule={"total_kimg": 0.048}))
    return out


def refused(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        load_model(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def heading_of(path: Path) -> dict[str, Any]:
    with safe_open(path, framework="pt") as opened:
        heading: dict[str, Any] = json.loads(opened.metadata()[METADATA])
    return heading


def rewrite(path: Path, heading: str | None = None, **tensors: torch.Tensor | None) -> None:
    """The same file with another heading or other tensors; None leaves one out."""
    kept = {name: tensor for name, tensor in {**load_file(path), **tensors}.items() if tensor is not None}
    save_file(kept, path, {METADATA: json.dumps(heading_of(path)) if heading is None else heading})


def test_round_trip(file: Path) -> None:
    model = load_model(file)
    assert (model.config, model.lod, model.images) == (CONFIG, 0.5, 1234)
    stored = load_file(file)
    for part, network in (
        ("average", model.ema),
        ("generator", model.generator),
        ("discriminator", model.discriminator),
    ):
        assert not network.training
        for name, value in network.state_dict().items():
            assert torch.equal(value, stored[f"{part}.{name}"])
    assert model.pictures([3, 4]).shape == (2, 8, 8, 3)


def test_compact_files_are_small_and_make_nearly_the_same_pictures(file: Path, tmp_path: Path) -> None:
    small, model = tmp_path / "small.safetensors", load_model(file)
    result = CliRunner().invoke(convert.main, ["--model", str(file), "--out", str(small), "--compact"])
    assert result.exit_code == 0, result.output
    assert sum(tensor.nbytes for tensor in load_file(small).values()) < 0.4 * sum(
        t.nbytes for t in load_file(file).values()
    )
    read = load_model(small)
    assert (read.config, read.lod, read.images, read.untrained) == (CONFIG, 0.5, 1234, ())
    for name, network in read.stored.items():
        source = model.ema if name == "generator" else model.stored[name]
        for key, value in network.state_dict().items():
            assert torch.equal(value, source.state_dict()[key].half().float())
    assert np.abs(read.pictures([3]).astype(int) - model.pictures([3])).max() <= 2
    rewrite(small, json.dumps(heading_of(small) | {"compact": False}))
    assert "damaged: it lacks generator." in refused(small)
    rewrite(small, json.dumps(heading_of(small) | {"compact": "yes"}))
    assert "'yes' for compact" in refused(small)


@pytest.mark.usefixtures("file")
def test_bundled_models_go_by_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pggan.training.models.DATA", tmp_path)
    monkeypatch.setattr("pggan.training.models.BUNDLED", ("final",))
    monkeypatch.chdir(tmp_path)
    assert load_model("final").images == 1234
    assert "models that come with this program: final" in refused(tmp_path / "other")
    (tmp_path / "final").mkdir()  # what the user has comes first
    with pytest.raises(DataError, match=r"^final: neither a model file nor a run folder with"):
        load_model("final")


@pytest.mark.parametrize(
    "changes",
    [
        {"d_statistics": "discrimination", "d_norm": "layer"},
        {"d_statistics": "none", "d_noise": 0.2},
        {"g_norm": "batch", "weights": "he", "g_activation": "relu", "g_tanh": True},
        {"g_norm": "none", "normalize_latents": False, "classes": 3, "label_join": "after"},
        {"resolution": 4},
        {"fmap_by_level": ((2, 3), (4, 7), (8, 5)), "g_first_bias": "position", "pixel_norm": "mmgeneration"},
    ],
    ids=str,
)
def test_every_kind_of_network_comes_back(tmp_path: Path, changes: dict[str, Any]) -> None:
    path, config = tmp_path / "model.safetensors", replace(CONFIG, **changes)
    saved = new_model(config)
    save_model(path, saved, lod=0, images=0)
    model = load_model(path)
    assert model.config == config
    for part in ("ema", "generator", "discriminator"):
        for name, value in getattr(model, part).state_dict().items():
            assert torch.equal(value, getattr(saved, part).state_dict()[name])


HEADING = {"format": FORMAT, "version": 1, "network": asdict(CONFIG), "lod": 0.5, "images": 1234}


def changed(**values: Any) -> str:
    return json.dumps({**HEADING, **values})


def network(**values: Any) -> str:
    return changed(network={**asdict(CONFIG), **values})


@pytest.mark.parametrize(
    ("heading", "message"),
    [
        ("", r"damaged: its heading is not JSON \(Expecting value"),
        ("{broken", r"damaged: its heading is not JSON \(Expecting property name"),
        ("[" * 100_000, r"damaged: its heading is not JSON \(maximum recursion depth"),
        ("[]", r"damaged: its heading is not a JSON object but \[\]"),
        ("7", "not a JSON object but 7"),
        ("null", "not a JSON object but None"),
        ('"text"', "not a JSON object but text"),
        ("{}", "its heading names the format 'None' instead of 'pggan-model'"),
        (changed(format="other"), "names the format 'other'"),
        (changed(version=2), "model file of version 2, this program reads 1"),
        (json.dumps({k: v for k, v in HEADING.items() if k not in ("lod", "images")}), "lacks images, lod"),
        (changed(lod=None), "the lod None, which must be 0 to 1"),
        (changed(lod=float("nan")), "the lod nan"),
        (changed(lod=1.5), "the lod 1.5, which must be 0 to 1"),
        (changed(lod=-1), "the lod -1"),
        (changed(images="many"), "its heading has many images seen"),
        (changed(images=10**400), "its heading has 1000.* images seen"),
        (changed(images=-1), "-1 images seen"),
        (changed(images=True), "True images seen"),
        (changed(network=None), "network: must be settings by name, not None"),
        (changed(network=[1]), r"network: must be settings by name, not \[1\]"),
        (changed(network={"resolution": 8}), "missing settings"),
        (network(colour="red"), r"unknown settings \['colour'\]"),
        (network(resolution=3), "resolution 3: must be a power of two"),
        (network(resolution=8.0), "resolution must be a whole number, not 8.0"),
        (network(resolution="8"), "resolution must be a whole number, not 8"),
        (network(resolution=2048), "networks of 2048 pixels, the most is 1024"),
        (network(resolution=2**4000), "damaged"),
        (network(fmap_base=10**9, fmap_max=10**9), "instead of|overflow"),
        (network(latent_size=10**9), "instead of"),
        (network(classes=10**9), "instead of"),
        (network(fmap_max=0), "fmap_max 0: must be at least 1"),
        (network(fmap_decay=1e308), "damaged"),
        (network(fmap_by_level=[[4, 0]]), r"its heading has fmap_by_level \(4, 0\): must be a resolution and its"),
        (network(fmap_by_level=[[4, 2, 1]]), r"fmap_by_level \(4, 2, 1\): must be a resolution"),
        (network(fmap_by_level=[[4, 10**9]]), "instead of|overflow"),
        (network(fmap_by_level=[4]), "damaged"),
        (network(fmap_decay=1e9), r"its heading has fmap_decay 1e\+09: must be -16 to 16"),
        (network(fmap_decay=-17), r"its heading has fmap_decay -17: must be -16 to 16"),
        (network(fmap_decay=float("nan")), "fmap_decay must be a finite number, not nan"),
        (network(g_norm="other"), "must be one of pixel, batch, none"),
        (network(g_tanh=1), "g_tanh must be true or false, not 1"),
        (network(resolution=16), "lacks average.levels.16"),
    ],
)
def test_headings_that_are_damaged(file: Path, heading: str, message: str) -> None:
    rewrite(file, heading)
    with pytest.raises(DataError, match=message):
        load_model(file)
    refused(file)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({BIAS: None}, f"it lacks {BIAS}"),
        ({"average.stranger": torch.zeros(1)}, "it also has average.stranger"),
        ({"optimizer": torch.zeros(1)}, "it also has optimizer"),
        ({BIAS: torch.zeros(5)}, f"{BIAS} is (5,) torch.float32 instead of (4,) torch.float32"),
        ({BIAS: torch.zeros(4, dtype=torch.float16)}, f"{BIAS} is (4,) torch.float16 instead of (4,) torch.float32"),
        ({BIAS: torch.zeros(4, dtype=torch.complex64)}, "torch.complex64 instead of"),
        ({BIAS: torch.tensor([0, 0, 0, torch.nan])}, f"{BIAS} holds values that are not finite"),
        ({BIAS: torch.tensor([0, torch.inf, 0, 0])}, f"{BIAS} holds values that are not finite"),
    ],
)
def test_tensors_that_do_not_fit(file: Path, tensors: dict[str, torch.Tensor | None], message: str) -> None:
    rewrite(file, **tensors)
    assert message in refused(file)


def test_a_model_without_a_discriminator_says_so(file: Path) -> None:
    whole = load_model(file)
    save_model(file, whole, lod=0.5, images=7, untrained=("discriminator",))
    model = load_model(file)
    assert (whole.untrained, model.untrained) == ((), ("discriminator",))
    assert model.pictures([5]).tolist() == whole.pictures([5]).tolist()
    assert heading_of(file)["untrained"] == ["discriminator"]
    assert not any(name.startswith("discriminator") for name in load_file(file))
    rewrite(file, json.dumps({**heading_of(file), "untrained": []}))
    assert "it lacks discriminator.levels" in refused(file)
    rewrite(file, json.dumps({**heading_of(file), "untrained": ["average"]}))
    assert "its heading leaves out ['average']; only the discriminator may be missing" in refused(file)


def test_files_without_our_heading(file: Path) -> None:
    save_file(load_file(file), file)
    assert "is not a model file of this program; give a run's folder" in refused(file)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        (b"\0" * 4096, "it begins with zeros"),
        (b"<!DOCTYPE html><html>Sign in</html>", "it is a web page"),
        (b"\xef\xbb\xbf  <html lang=en>", "it is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "it is a Git LFS pointer"),
        (b"\x89HDF\r\n\x1a\n" + bytes(99), "it is an HDF5 file"),
        (b"\x1f\x8b\x08" + bytes(99), "it is compressed with gzip"),
        (b"\xff" * 64, "header too large"),
        (b"\x08\0\0\0\0\0\0\0{\"a\": 1}", "invalid JSON in header|InvalidHeader|header"),
        (b"text, no weights", "cannot be read as a model file"),
    ],
)  # fmt: skip
def test_other_kinds_of_file(file: Path, content: bytes, message: str) -> None:
    file.write_bytes(content)
    with pytest.raises(DataError, match=message):
        load_model(file)
    assert "give a run's folder, or its final.safetensors" in refused(file)


@pytest.mark.parametrize("protocol", [2, 4])
def test_pickles_and_files_of_torch_that_are_of_no_known_project(file: Path, protocol: int) -> None:
    file.write_bytes(pickle.dumps({"G": 1}, protocol))
    assert "is not a weight file that can be read; those are of this program and of" in refused(file)
    torch.save({"G": torch.zeros(3)}, file)
    assert "is not a weight file that can be read" in refused(file)


@pytest.mark.parametrize("kept", [1, 7, 8, 100, 0.5, -1])
def test_truncated_files(file: Path, kept: float) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: int(kept * len(content)) if 0 < kept < 1 else int(kept)])
    assert "cannot be read as a model file" in refused(file)


def test_what_is_no_file(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    assert refused(tmp_path / "pipe").endswith("is not a file")  # which would be waited for
    assert refused(Path("/dev/null")).endswith("is not a file")
    assert "neither a model file nor a run folder" in refused(tmp_path / "absent")
    assert "neither a model file nor a run folder" in refused(file / "below")
    assert "File name too long" in refused(tmp_path / ("long" * 100))
    assert "neither" in refused(tmp_path / "loop")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # file modes do not bind every user
    assert refused(file) == f"{file}: cannot be read: Permission denied"


def pictures(path: Path) -> list[int]:
    return load_model(path).pictures([1, 2]).ravel().tolist()


def test_a_run_folder_is_its_final_model_or_newest_checkpoint_or_best_snapshot(run: Path, tmp_path: Path) -> None:
    expected = pictures(run / "final.safetensors")
    assert pictures(run) == expected
    assert load_model(str(run)).images == 48
    unfinished = tmp_path / "unfinished"
    shutil.copytree(run, unfinished)
    (unfinished / "final.safetensors").unlink()
    assert pictures(unfinished) == expected
    shutil.rmtree(unfinished / "checkpoints")
    assert "neither a model file nor a run folder with final.safetensors or a checkpoint" in refused(unfinished)
    shutil.copy(run / "final.safetensors", unfinished / "best.safetensors")
    assert pictures(unfinished) == expected


def test_a_folder_of_others_names_what_can_be_taken(run: Path, file: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    shutil.copytree(run, runs / "faces")
    shutil.copy(file, runs / "mine.safetensors")
    (runs / "notes").mkdir()
    assert refused(runs).endswith("; in it, these can be named: faces, mine.safetensors")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{", "Expecting property name"),
        ("[]", "it holds no settings"),
        ('{"version": 9}', "written by another version"),
        ('{"version": 1}', "preset"),
        ('{"version": 1, "preset": 3}', "preset: must be settings by name, not 3"),
    ],
)
def test_a_damaged_config_of_an_unfinished_run(run: Path, tmp_path: Path, config: str, message: str) -> None:
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / "final.safetensors").unlink()
    (tmp_path / "run" / "config.json").write_text(config)
    with pytest.raises(DataError, match=message) as caught:
        load_model(tmp_path / "run")
    assert str(tmp_path / "run" / "config.json") in str(caught.value)


@pytest.mark.parametrize("resolution", [3, 32])
def test_a_checkpoint_of_other_networks_than_its_config(run: Path, tmp_path: Path, resolution: int) -> None:
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / "final.safetensors").unlink()
    config = tmp_path / "run" / "config.json"
    values = json.loads(config.read_text())
    values["preset"]["network"]["resolution"] = values["preset"]["schedule"]["resolution"] = resolution
    config.write_text(json.dumps(values))
    message = refused(tmp_path / "run")
    assert "config.json" in message
    assert ("resolution 3: must be a power of two" if resolution == 3 else "does not fit") in message


def test_every_command_refuses_in_one_line(file: Path, run: Path, tmp_path: Path) -> None:
    h5 = run.parent / "ramps.h5"
    rewrite(file, "{broken")
    commands: list[tuple[Command, list[object]]] = [
        (generate.main, ["--model", file, "--out", tmp_path / "pictures"]),
        (evaluate.main, ["--model", file, "--reals", h5]),
        (train.main, ["--init-from", file, "--h5", h5, "--out", tmp_path / "tuned"]),
    ]
    for command, options in commands:
        result = CliRunner().invoke(command, [str(option) for option in options])
        assert result.exit_code == 1
        assert isinstance(result.exception, SystemExit)
        (line,) = result.stderr.splitlines()
        assert f"{file}: the model file is damaged: its heading is not JSON (Expecting property name" in line
    assert not (tmp_path / "tuned").exists()
