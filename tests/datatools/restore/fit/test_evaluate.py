"""The evaluation command: its numbers, its two kinds of JSON, the pictures it saves, and what it refuses."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from safetensors.torch import save_file

from datatools.images import read_rgb, save_png
from datatools.restore import restorers
from datatools.restore.base import Picture
from datatools.restore.fit import evaluate
from datatools.restore.fit.degrade import compress, reduce_picture
from datatools.restore.fit.metrics import psnr_rgb, psnr_y, ssim_y
from datatools.restore.tiling import restore
from datatools.restore.weights import Network, load_weights, save_weights
from tests.support.portraits import Portrait, render
from tests.support.restore_samples import tiny_network

KEYS = {"psnr_y", "psnr_rgb", "ssim_y", "baseline_psnr_y", "baseline_psnr_rgb", "baseline_ssim_y", "seconds"}
LISTS = {"mean_shift_rgb", "band_ratios"}


def portrait(seed: int, size: tuple[int, int]) -> Picture:
    return render(Portrait(seed, size=size, unit=size[0] / 4, centre=(size[0] / 2, size[1] / 2)))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    save_png(folder / "anna.png", portrait(1, (66, 81)))
    save_png(folder / "bert.png", portrait(2, (48, 48)))
    (folder / "notes.txt").write_text("no picture")
    (folder / ".hidden.png").write_text("no picture either")
    (folder / "more").mkdir()
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("weights")
    paths = {task: folder / f"{task}.safetensors" for task in ("jpeg", "sr")}
    for task, path in paths.items():
        save_weights(path, tiny_network(task), task, {})
    return paths


def run(*arguments: object) -> Result:
    arguments = ("--device", "cpu", "--precision", "fp32", *arguments)
    return CliRunner().invoke(evaluate.main, [str(a) for a in arguments])


def good(*arguments: object) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


def refused(*arguments: object) -> str:
    """The one line that a mistake is answered with."""
    result = run(*arguments)
    assert result.exit_code != 0
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.output.count("\n") == 1, result.output
    return result.output


def check_part(part: dict[str, Any]) -> None:
    assert set(part) == {"mean", "images"}
    assert list(part["images"]) == ["anna.png", "bert.png"]
    for scores in (part["mean"], *part["images"].values()):
        assert set(scores) == KEYS | LISTS
        assert all(isinstance(scores[key], float) and np.isfinite(scores[key]) for key in KEYS)
        assert all(len(scores[key]) == 3 and np.isfinite(scores[key]).all() for key in LISTS)
    for key in LISTS:
        means = np.mean([scores[key] for scores in part["images"].values()], axis=0)
        assert part["mean"][key] == pytest.approx(means.tolist())
    for key in KEYS:
        assert part["mean"][key] == pytest.approx(np.mean([scores[key] for scores in part["images"].values()]))


def test_super_resolution(images: Path, weights: dict[str, Path], tmp_path: Path) -> None:
    file, saved = tmp_path / "scores.json", tmp_path / "new" / "saved"
    output = good(
        "--task", "sr", "--images", images, "--restore", weights["sr"], "--json", file, "--save", saved
    )  # fmt: skip
    part = json.loads(file.read_text())
    check_part(part)
    network = load_weights(weights["sr"], "sr")[0]
    clean = read_rgb(images / "anna.png")[:80, :64]
    small = reduce_picture(clean)
    restored = restore(network, small)
    bicubic = np.array(Image.fromarray(small).resize((64, 80), Image.Resampling.BICUBIC))
    anna = part["images"]["anna.png"]
    assert anna["psnr_y"] == pytest.approx(psnr_y(clean, restored, 4))
    assert anna["psnr_rgb"] == pytest.approx(psnr_rgb(clean, restored, 4))
    assert anna["ssim_y"] == pytest.approx(ssim_y(clean, restored, 4))
    assert anna["baseline_psnr_y"] == pytest.approx(psnr_y(clean, bicubic, 4))
    assert anna["baseline_psnr_rgb"] == pytest.approx(psnr_rgb(clean, bicubic, 4))
    assert anna["baseline_ssim_y"] == pytest.approx(ssim_y(clean, bicubic, 4))
    assert 0 < anna["seconds"] < 60
    assert sorted(path.name for path in saved.iterdir()) == ["anna.png", "bert.png"]
    assert np.array_equal(read_rgb(saved / "anna.png"), restored)
    assert f"{anna['psnr_y']:.2f}" in output
    assert "bicubic" in output


def test_jpeg_at_several_qualities(images: Path, weights: dict[str, Path], tmp_path: Path) -> None:
    file, saved = tmp_path / "scores.json", tmp_path / "saved"
    arguments = ["--task", "jpeg", "--images", images, "--restore", weights["jpeg"]]
    output = good(*arguments, "--quality", "50, 10,lossless,50", "--json", file, "--save", saved)
    parts = json.loads(file.read_text())
    assert list(parts) == ["50", "10", "lossless"]
    for part in parts.values():
        check_part(part)
    network = load_weights(weights["jpeg"], "jpeg")[0]
    clean = read_rgb(images / "anna.png")
    for quality, given in (("10", compress(clean, 10)), ("50", compress(clean, 50)), ("lossless", clean)):
        restored = restore(network, given)
        anna = parts[quality]["images"]["anna.png"]
        assert anna["psnr_rgb"] == pytest.approx(psnr_rgb(clean, restored))
        assert anna["baseline_psnr_rgb"] == pytest.approx(psnr_rgb(clean, given))
        assert np.array_equal(read_rgb(saved / quality / "anna.png"), restored)
    assert parts["lossless"]["mean"]["baseline_psnr_y"] == 100
    assert [line.split()[0] for line in output.splitlines()[3:]] == ["50", "10", "lossless"]


def test_one_quality_and_none(images: Path, weights: dict[str, Path], tmp_path: Path) -> None:
    """JSON has a part per quality where --quality was given, if only one; pictures of one quality need no subfolder."""
    file, saved = tmp_path / "scores.json", tmp_path / "saved"
    arguments = ["--task", "jpeg", "--images", images, "--restore", weights["jpeg"], "--json", file]
    good(*arguments, "--quality", "75", "--save", saved)
    given = json.loads(file.read_text())
    assert (saved / "bert.png").is_file()
    good(*arguments)
    default = json.loads(file.read_text())
    check_part(default)
    for name, scores in default["images"].items():
        assert {**given["75"]["images"][name], "seconds": 0} == {**scores, "seconds": 0}


def test_the_table_is_aligned(images: Path, weights: dict[str, Path]) -> None:
    lines = good("--task", "sr", "--images", images, "--restore", weights["sr"]).splitlines()
    assert len(lines) == 1 + 2 + 3
    assert [line.split()[0] for line in lines[2:]] == ["picture", "anna.png", "bert.png", "mean"]
    assert len({len(line) for line in lines[2:]}) == 1
    assert lines[2].split()[1:4] == ["bicubic", "restored", "gain"]


def test_bundled_is_the_default(images: Path, weights: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    def fake(task: str, variant: str) -> Path:
        asked.append((task, variant))
        return weights[task]

    monkeypatch.setattr(restorers, "bundled_weights", fake)
    for task in ("sr", "jpeg"):
        good("--task", task, "--images", images)
    assert asked == [("sr", "distortion"), ("jpeg", "distortion")]


def test_bundled_networks_by_their_full_names(
    images: Path, weights: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the build calls them."""
    asked: list[tuple[str, str]] = []

    def fake(task: str, variant: str) -> Path:
        asked.append((task, variant))
        return weights[task]

    monkeypatch.setattr(restorers, "bundled_weights", fake)
    base = ["--images", images, "--task"]
    good(*base, "sr", "--restore", "bundled-distortion")
    good(*base, "sr", "--restore", "bundled-perceptual")
    good(*base, "jpeg", "--restore", "bundled-distortion")
    good(*base, "jpeg", "--restore", "bundled-perceptual")
    tasks = [("sr", "distortion"), ("sr", "perceptual"), ("jpeg", "distortion"), ("jpeg", "perceptual")]
    assert asked == tasks


def test_foreign_networks_go_through_their_own_loader(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restorers, "load_external", lambda _: tiny_network("sr"))
    assert "SuperResolver" in good("--task", "sr", "--images", images, "--restore", "realesrgan")
    assert "realesrgan enlarges 4x" in refused("--task", "jpeg", "--images", images, "--restore", "realesrgan")
    monkeypatch.setattr(restorers, "load_external", lambda _: tiny_network("jpeg"))
    assert "some.pth enlarges 1x" in refused("--task", "sr", "--images", images, "--restore", "some.pth")


def test_a_foreign_safetensors_file_is_not_taken_for_ours(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def fake(name: str) -> Network:
        asked.append(name)
        return tiny_network("sr")

    monkeypatch.setattr(restorers, "load_external", fake)
    file = tmp_path / "other.safetensors"
    save_file({"conv.weight": torch.zeros(2, 2)}, file)
    good("--task", "sr", "--images", images, "--restore", file)
    assert asked == [str(file)]


def test_mistakes_about_the_network(images: Path, weights: dict[str, Path], tmp_path: Path) -> None:
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(weights["sr"].read_bytes()[:-10])
    base = ["--images", images, "--task"]
    assert "damaged" in refused(*base, "sr", "--restore", broken)
    assert "task 'jpeg', needed is 'sr'" in refused(*base, "sr", "--restore", weights["jpeg"])
    assert "task 'sr', needed is 'jpeg'" in refused(*base, "jpeg", "--restore", weights["sr"])
    assert "nothing to measure" in refused(*base, "sr", "--restore", "none")
    assert "--device cuda:99" in refused(*base, "sr", "--restore", weights["sr"], "--device", "cuda:99")


@pytest.mark.parametrize("quality", ["0", "101", "10,,20", "ten", "-5", "9.5", "\u0665"])
def test_mistaken_qualities(images: Path, weights: dict[str, Path], quality: str) -> None:
    arguments = ["--task", "jpeg", "--images", images, "--restore", weights["jpeg"]]
    assert "--quality" in refused(*arguments, "--quality", quality)


def test_quality_is_for_jpeg(images: Path, weights: dict[str, Path]) -> None:
    arguments = ["--task", "sr", "--images", images, "--restore", weights["sr"]]
    assert "only for --task jpeg" in refused(*arguments, "--quality", "50")


def test_mistaken_folders(images: Path, weights: dict[str, Path], tmp_path: Path) -> None:
    base = ["--task", "sr", "--restore", weights["sr"], "--images"]
    assert "nowhere: cannot be read as a folder: No such file" in refused(*base, tmp_path / "nowhere")
    assert "no pictures" in refused(*base, tmp_path)
    (tmp_path / "inside").mkdir()
    assert refused(*base, tmp_path).endswith(".webp)\n")
    save_png(tmp_path / "inside" / "a.png", np.zeros((64, 64, 3), np.uint8))
    assert "it has 1 picture in subfolders, such as " in refused(*base, tmp_path)
    assert "scores.json: cannot be written: No such file" in refused(
        *base, images, "--json", tmp_path / "nowhere" / "scores.json"
    )
    assert "overwritten" in refused(*base, images, "--save", images / "more" / "..")
    os.mkfifo(tmp_path / "pipe")
    assert "pipe: cannot be written: is not a regular file" in refused(*base, images, "--json", tmp_path / "pipe")
    assert (tmp_path / "pipe").is_fifo()
    assert "notes.txt: cannot be written: File exists" in refused(*base, images, "--save", images / "notes.txt")


def test_nothing_that_is_read_is_written_over(weights: dict[str, Path], tmp_path: Path) -> None:
    """Neither by the folder of one of several qualities, nor by the numbers."""
    folder = tmp_path / "set" / "10"
    folder.mkdir(parents=True)
    save_png(folder / "a.png", portrait(1, (48, 48)))
    before = (folder / "a.png").read_bytes()
    base = ["--task", "jpeg", "--restore", weights["jpeg"], "--images", folder]
    assert "overwritten" in refused(*base, "--quality", "50,10", "--save", tmp_path / "set")
    assert "overwritten" in refused(*base, "--json", folder / "a.png")
    assert "overwritten" in refused(*base, "--json", folder / ".." / "10" / "a.png")
    assert "overwritten" in refused(*base, "--json", weights["jpeg"])
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "50").write_text("no folder")
    assert "50: cannot be written: File exists" in refused(*base, "--quality", "50,10", "--save", tmp_path / "other")
    assert (folder / "a.png").read_bytes() == before
    good(*base, "--quality", "50", "--save", tmp_path / "set")  # a single quality needs no folder of its own
    assert sorted(path.name for path in tmp_path.joinpath("set").iterdir()) == ["10", "a.png"]


def test_two_pictures_of_one_name_cannot_be_saved(weights: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("a.png", "a.bmp"):
        Image.fromarray(portrait(1, (48, 48))).save(folder / name)
    base = ["--task", "sr", "--restore", weights["sr"], "--images", folder]
    assert "a.bmp" in good(*base)
    assert "are called a" in refused(*base, "--save", tmp_path / "saved")


@pytest.mark.parametrize(("task", "size", "least"), [("sr", (3, 3), 20), ("sr", (40, 19), 20), ("jpeg", (10, 40), 11)])
def test_pictures_too_small(
    weights: dict[str, Path], tmp_path: Path, task: str, size: tuple[int, int], least: int
) -> None:
    save_png(tmp_path / "small.png", np.zeros((size[1], size[0], 3), np.uint8))
    line = refused("--task", task, "--images", tmp_path, "--restore", weights[task])
    assert f"small.png has {size[0]} x {size[1]} pixels; at least {least} x {least} needed" in line


def test_a_damaged_picture_is_named(weights: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    assert "bad.png" in refused("--task", "sr", "--images", tmp_path, "--restore", weights["sr"])


def test_help_has_an_example() -> None:
    assert "python -m datatools.restore.evaluate" in good("--help")
