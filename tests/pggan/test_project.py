"""The command that projects: what it leaves, what it does not make again, and mistakes in a line."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from click.testing import CliRunner, Result
from PIL import Image

from datatools.images import read_rgb, save_png
from pggan import project
from pggan.config.settings import NetworkConfig
from pggan.media.video import frames_folder
from pggan.model.files import new_model, save_model
from pggan.model.style import StyleGenerator
from pggan.pixels import to_bytes
from pggan.project import main
from pggan.projection.attribution import separation
from pggan.training.models import load_model
from tests.support.extractors import write_dinov2, write_lpips
from tests.support.style_runs import noisy_style_model

SIDE, ZOOM = 16, 32


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`model.safetensors`; `pictures`, two that fit and a damaged one in between."""
    torch.set_num_threads(1)
    monkeypatch.setattr(project, "find_encoder", lambda: None)
    save_model(tmp_path / "model.safetensors", noisy_style_model(SIDE), lod=0.0, images=1000)
    (tmp_path / "pictures").mkdir()
    dice = np.random.default_rng(2)
    save_png(tmp_path / "pictures" / "a.png", dice.integers(0, 256, (SIDE, SIDE, 3), np.uint8))
    (tmp_path / "pictures" / "b.png").write_bytes(b"no picture")
    save_png(tmp_path / "pictures" / "c.png", np.full((2 * SIDE, 2 * SIDE, 3), 90, np.uint8))
    return tmp_path


def run(folder: Path, *arguments: object, model: str = "model.safetensors", out: str = "out") -> Result:
    words = ("--model", folder / model, "--out", folder / out, "--device", "cpu", *arguments)
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert "Traceback" not in result.output
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def record(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "out" / "distances.json").read_text())


def test_a_bad_picture_does_not_lose_the_others(folder: Path) -> None:
    result = run(folder, "--images", folder / "pictures", "--steps", 6)
    assert result.exit_code == 1
    first, second, third, last = result.output.splitlines()
    assert first == "note: no weights of LPIPS are given: the distance is of pixels at several scales"
    assert second.startswith("note: no encoder for films: each is a folder of about ten PNG files")
    assert third.startswith(f"2 pictures in {folder / 'out'}: distance ")
    assert last.startswith("Error: 1 picture of 3 not projected: b.png: not a picture of a known format")
    found = record(folder)
    assert list(found["images"]) == ["a", "c"]
    assert found["settings"]["distance"].startswith("mean squared difference of pixels")
    assert all(entry["distance"] > 0 for entry in found["images"].values())
    films = [f"{frames_folder(Path(name)).name}" for name in ("a.mp4", "c.mp4")]
    files = {f"{name}.{ending}" for name in "ac" for ending in ("png", "safetensors")}
    assert {path.name for path in (folder / "out").iterdir()} == {*files, *films, "distances.json"}

    both = read_rgb(folder / "out" / "a.png")[::ZOOM, ::ZOOM]
    assert np.array_equal(both[:, :SIDE], read_rgb(folder / "pictures" / "a.png"))
    generator = load_model(folder / "model.safetensors").ema
    assert isinstance(generator, StyleGenerator)
    tensors = safetensors.torch.load_file(folder / "out" / "a.safetensors")
    maps = [tensors[f"noise{number:02d}"][None, None] for number in range(len(generator.noise_sides()))]
    with torch.no_grad():
        again = to_bytes(generator.synthesize(generator.broadcast(tensors["w"][None]), 0.0, maps))
    assert np.abs(both[:, SIDE:].astype(int) - again[0]).max() <= 1
    frames = sorted((folder / "out" / films[0]).iterdir())
    assert len(frames) == 6
    assert np.array_equal(read_rgb(frames[-1]), read_rgb(folder / "out" / "a.png"))


def test_without_an_encoder_a_film_is_a_picture_of_each_second(folder: Path) -> None:
    for name in "bc":
        (folder / "pictures" / f"{name}.png").unlink()
    assert run(folder, "--images", folder / "pictures", "--steps", 32).exit_code == 0
    assert len(list((folder / "out" / "a-frames").iterdir())) == 9  # after steps 1, 5, 9 ... 29, and the last


def test_what_is_done_is_not_made_again(folder: Path) -> None:
    arguments = ("--images", folder / "pictures", "--no-film")
    (folder / "pictures" / "b.png").unlink()
    assert run(folder, *arguments, "--steps", 4).exit_code == 0
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in (folder / "out").glob("*.png")}
    save_png(folder / "pictures" / "c.png", np.full((SIDE, SIDE, 3), 200, np.uint8))
    save_png(folder / "pictures" / "d.png", np.full((SIDE, SIDE, 3), 20, np.uint8))
    assert run(folder, *arguments, "--steps", 4, "--batch", 2).exit_code == 0
    changed = {path.name for path, value in before.items() if value != (path.stat().st_mtime_ns, path.read_bytes())}
    assert changed == {"c.png"}
    assert list(record(folder)["images"]) == ["a", "c", "d"]
    other = run(folder, *arguments, "--steps", 5)
    assert other.exit_code == 1
    assert "out: has projections with steps 4, not 5; choose another --out" in other.output
    (folder / "out" / "distances.json").write_text("[]")
    assert "distances.json: is not a file that pggan.project wrote" in run(folder, *arguments, "--steps", 4).output


def test_pictures_of_the_model_are_told_from_others(folder: Path) -> None:
    (folder / "pictures" / "b.png").unlink()
    weights = ("--weights", f"lpips={write_lpips(folder / 'lpips.pth')}")
    result = run(folder, "--images", folder / "pictures", "--generated", 2, "--steps", 12, "--no-film", *weights)
    assert result.exit_code == 0, result.output
    assert "note" not in result.output
    found = record(folder)
    assert found["settings"]["network"] == "LPIPS 0.1, VGG16"
    assert list(found["generated"]) == ["seed000000", "seed000001"]
    distances = {group: [entry["distance"] for entry in found[group].values()] for group in ("generated", "images")}
    assert found["separation"] == separation(*(np.array(values) for values in distances.values()))
    assert read_rgb(folder / "out" / "histogram.png").std() > 1
    assert (folder / "out" / "generated" / "seed000001.png").exists()
    assert (
        f"histogram.png: the chance that a generated picture is nearer than another is {found['separation']:.3f}"
        in (result.output)
    )


def test_chance_of_being_nearer() -> None:
    assert separation(np.array([1.0, 2.0]), np.array([3.0, 4.0])) == 1
    assert separation(np.array([1.0, 3.0]), np.array([3.0, 4.0])) == 0.875
    assert separation(np.array([5.0]), np.array([3.0, 4.0])) == 0


def test_mistakes_are_told_in_a_line(folder: Path) -> None:
    config = NetworkConfig(16, fmap_base=64, fmap_max=8, latent_size=8)
    save_model(folder / "progressive.safetensors", new_model(config), lod=0.0, images=0)
    save_model(folder / "small.safetensors", noisy_style_model(8), lod=0.0, images=0)
    (folder / "empty").mkdir()
    for name in ("one", "wide", "tiny"):
        (folder / name).mkdir()
    save_png(folder / "one" / "a.png", np.zeros((SIDE, SIDE, 3), np.uint8))
    Image.new("RGB", (SIDE, SIDE)).save(folder / "one" / "a.jpg")
    save_png(folder / "wide" / "a.png", np.zeros((SIDE, 2 * SIDE, 3), np.uint8))
    save_png(folder / "tiny" / "a.png", np.zeros((8, 8, 3), np.uint8))
    pictures, lpips = ("--images", folder / "pictures"), write_lpips(folder / "lpips.pth")
    progressive = run(folder, *pictures, model="progressive.safetensors")
    small = run(folder, *pictures, "--weights", f"lpips={lpips}", model="small.safetensors")
    for result, message in (
        (progressive, "progressive.safetensors: is a progressive GAN, which has no w; projection needs a style-based"),
        (small, "small.safetensors: makes pictures of 8 x 8 pixels, LPIPS needs 16"),
        (run(folder), "name what is to be projected: --images FOLDER, --generated COUNT, or both"),
        (run(folder, "--images", folder / "empty"), "empty: holds no pictures; name a folder of"),
        (run(folder, "--images", folder / "one"), "a.png: a.jpg has the same name but for its ending; rename one"),
        (run(folder, *pictures, out="pictures"), "pictures: results would replace the pictures of --images"),
        (run(folder, *pictures, "--weights", f"inception={lpips}"), "--weights inception: is not a distance"),
        (
            run(folder, *pictures, "--weights", f"lpips={write_dinov2(folder / 'd.pth')}"),
            "d.pth: weights of another network; LPIPS needs those of lpips.LPIPS",
        ),
        (run(folder, "--images", folder / "absent"), "absent: cannot be read as a folder"),
    ):
        assert result.exit_code == 1, result.output
        assert result.output.count("\n") == 1
        assert message in result.output
    assert not (folder / "out").exists()
    for name, message in (
        ("wide", "a.png: 32 x 16 pixels are not square; crop it, or use --crop center"),
        ("tiny", "a.png: smaller than the model's pictures of 16 x 16 pixels"),
    ):
        assert message in run(folder, "--images", folder / name, out="unsuitable").output.splitlines()[-1]
    cropped = run(folder, "--images", folder / "wide", "--crop", "center", "--steps", 2, "--no-film", out="cropped")
    assert cropped.exit_code == 0, cropped.output
