"""Pictures of a model: from a file alone, the same for a seed whatever else is made."""

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors
import torch
from click.testing import CliRunner, Result

from datatools.cli import parse_ranges
from datatools.images import read_rgb
from pggan import generate
from pggan.generate import main
from pggan.media.latents import critic_scores
from pggan.media.video import snapshots
from pggan.training.models import load_model
from tests.support.pggan_runs import config_of, train, write_pyramid


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run folders: `done`, `again` with the same settings, `early` stopped in a fade, `classes` with labels."""
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("runs")
    h5 = write_pyramid(path / "ramps.h5", attributes=True)
    for name, kimg in (("done", 0.13), ("again", 0.13), ("early", 0.05)):
        train(config_of(h5, path / name, schedule={"total_kimg": kimg}))
    (path / "early" / "final.safetensors").unlink()
    train(config_of(h5, path / "classes", schedule={"total_kimg": 0.01}, network={"classes": 2}, labels="Male"))
    return path


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(main, ["--device", "cpu", *map(str, arguments)])
    assert "Traceback" not in result.output
    return result


def test_three_lines(folder: Path) -> None:
    model = load_model(folder / "done" / "final.safetensors")
    pictures = model.pictures(seeds=range(5))
    assert pictures.shape == (5, 16, 16, 3)
    assert pictures.dtype == np.uint8
    assert pictures.std() > 1
    assert not np.array_equal(pictures[0], pictures[1])
    assert model.lod == 0.0


def test_equal_runs_give_equal_files_without_time_path_or_host(folder: Path) -> None:
    data = (folder / "done" / "final.safetensors").read_bytes()
    assert data == (folder / "again" / "final.safetensors").read_bytes()
    with safetensors.safe_open(folder / "done" / "final.safetensors", framework="pt") as file:
        described = json.loads(file.metadata()["pggan"])
    assert sorted(described) == ["format", "images", "lod", "network", "sha256", "version"]


@pytest.mark.parametrize("options", [(), ("--grid", "3x1")])
def test_processes_of_torchrun_share_the_pictures(
    options: tuple[str, ...], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generate, "BATCH", 2)
    words = ("--model", folder / "done", "--seeds", "0-6", *options)
    run(*words, "--out", tmp_path / "alone")
    monkeypatch.setenv("WORLD_SIZE", "2")
    shares = []
    for rank in "01":
        monkeypatch.setenv("RANK", rank)
        result = run(*words, "--out", tmp_path / "two")
        assert bool(result.output.endswith(f"in {tmp_path / 'two'}\n")) == (rank == "0")
        shares.append(len(list((tmp_path / "two").iterdir())))
    assert 0 < shares[0] < shares[1]
    for path in (tmp_path / "alone").iterdir():
        assert (tmp_path / "two" / path.name).read_bytes() == path.read_bytes()


def test_files_of_seeds(folder: Path, tmp_path: Path) -> None:
    result = run("--model", folder / "done", "--out", tmp_path, "--seeds", "3-5,70")
    assert result.exit_code == 0, result.output
    names = ["seed000003.png", "seed000004.png", "seed000005.png", "seed000070.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    expected = load_model(folder / "done" / "final.safetensors").pictures([70])[0]
    assert np.abs(read_rgb(tmp_path / "seed000070.png").astype(int) - expected).max() <= 1  # alone or among others


def test_a_seed_that_is_named_again_makes_no_second_grid_of_its_name(folder: Path, tmp_path: Path) -> None:
    result = run("--model", folder / "done", "--out", tmp_path, "--seeds", "0,1,0,2,1", "--grid", "2x1")
    assert result.exit_code == 0, result.output
    assert "2 files of 3 pictures" in result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["grid000000.png", "grid000002.png"]


def test_grids(folder: Path, tmp_path: Path) -> None:
    result = run("--model", folder / "done" / "final.safetensors", "--out", tmp_path, "--seeds", "0-6", "--grid", "3x2")
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["grid000000.png", "grid000006.png"]
    grid = read_rgb(tmp_path / "grid000000.png")
    assert grid.shape == (32, 48, 3)
    pictures = load_model(folder / "done" / "final.safetensors").pictures(range(6))
    assert np.abs(grid[16:, 32:].astype(int) - pictures[5]).max() <= 1


@pytest.mark.parametrize(("options", "rows"), [((), 6), (("--curate", 20), 1)])
def test_without_seeds_a_grid_is_full(folder: Path, tmp_path: Path, options: tuple[object, ...], rows: int) -> None:
    result = run("--model", folder / "done", "--out", tmp_path, "--grid", "20x6", *options)
    assert result.exit_code == 0, result.output
    (name,) = tmp_path.iterdir()
    grid = read_rgb(name)
    assert grid.shape == (16 * rows, 320, 3)
    assert grid[-16:, -16:].any()


def test_unfinished_run_gives_pictures_of_its_level(folder: Path, tmp_path: Path) -> None:
    result = run("--model", folder / "early", "--out", tmp_path, "--seeds", "1")
    assert result.exit_code == 0, result.output
    assert read_rgb(tmp_path / "seed000001.png").shape == (8, 8, 3)
    assert result.stderr == "note: the model has grown to 8 x 8 pixels of 16 x 16 so far\n"
    assert run("--model", folder / "done", "--out", tmp_path, "--seeds", "1").stderr == ""


def test_labels(folder: Path, tmp_path: Path) -> None:
    model = load_model(folder / "classes" / "final.safetensors")
    first, second = model.pictures([1], label=0), model.pictures([1], label=1)
    assert not np.array_equal(first, second)
    assert model.pictures(range(3)).shape == (3, 4, 4, 3)
    assert model.pictures(range(3), full=True).shape == (3, 16, 16, 3)
    refused = run("--model", folder / "classes", "--out", tmp_path, "--label", 2)
    assert refused.exit_code == 1
    assert "--label 2: the model has classes 0 to 1" in refused.output
    assert "without labels" in run("--model", folder / "done", "--out", tmp_path, "--label", 0).output


def test_mistakes_are_told_in_a_line(folder: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes((folder / "done" / "final.safetensors").read_bytes()[:5000])
    for arguments, message in (
        (("--model", tmp_path / "absent"), "neither a model file nor a run folder"),
        (("--model", cut), "cannot be read as a model file"),
        (("--model", folder / "ramps.h5"), "cannot be read as a model file"),
        (("--model", folder / "done", "--seeds", "5-x"), "--seeds: '5-x' is neither"),
        (("--model", folder / "done", "--seeds", "5-3"), "--seeds: 5-3"),
        (("--model", folder / "done", "--grid", "3"), "--grid '3'"),
        (("--model", folder / "done", "--slerp", "3"), "--slerp: two seeds are needed"),
        (("--model", folder / "done", "--slerp", "3,x"), "--slerp: 'x' is neither"),
        (("--model", folder / "done", "--curate", "4", "--seeds", "0-2"), "--curate 4: more than the 3 seeds"),
        (("--model", folder / "done", "--steps", "4"), "--steps has no effect with pictures of --seeds"),
        (("--model", folder / "done", "--video", "a.mp4"), "--out has no effect with the film of --video"),
        (("--model", folder / "done", "--centre", "4"), "--centre has no effect without a --truncation"),
        (("--seeds", "3"), "--model is missing, for pictures of --seeds"),
        (("--progress", folder / "done"), "--out has no effect with the film of --progress"),
    ):
        result = run("--out", tmp_path / "out", *arguments)
        assert result.exit_code == 1
        assert message in " ".join(result.output.split())


def test_strips_go_from_seed_to_seed(folder: Path, tmp_path: Path) -> None:
    result = run("--model", folder / "done", "--out", tmp_path, "--slerp", "3,17,4", "--steps", 5, "--zoom", 2)
    assert result.exit_code == 0, result.output
    assert "slerp000003.png, 2 rows of 5 pictures" in result.output
    strip = read_rgb(tmp_path / "slerp000003.png")
    assert strip.shape == (64, 160, 3)
    pictures = load_model(folder / "done" / "final.safetensors").pictures([3, 17, 4]).astype(int)
    cells = strip[::2, ::2].reshape(2, 16, 5, 16, 3).swapaxes(1, 2)  # (rows, steps, r, r, 3)
    for (row, step), expected in (((0, 0), 0), ((0, 4), 1), ((1, 0), 1), ((1, 4), 2)):
        assert np.abs(cells[row, step] - pictures[expected]).max() <= 1
    assert np.abs(cells[0, 2] - pictures[0]).max() > 1


def test_rows_of_strips_keep_a_class(folder: Path, tmp_path: Path) -> None:
    result = run("--model", folder / "classes", "--out", tmp_path, "--slerp", "1-3", "--steps", 3)
    assert result.exit_code == 0, result.output
    model = load_model(folder / "classes" / "final.safetensors")
    labels = model.labels(None, [1, 2])
    assert labels is not None
    cells = read_rgb(tmp_path / "slerp000001.png").reshape(2, 4, 3, 4, 3).swapaxes(1, 2)
    for row, label in enumerate(labels.argmax(dim=1).tolist()):
        assert np.abs(cells[row, 2].astype(int) - model.pictures([row + 2], label=label)[0]).max() <= 1


def test_truncated_pictures_are_more_alike(folder: Path, tmp_path: Path) -> None:
    spreads = []
    for strength in (1.0, 0.5, 0.0):
        out = tmp_path / str(strength)
        assert run("--model", folder / "done", "--out", out, "--seeds", "1-9", "--truncation", strength).exit_code == 0
        spreads.append(np.std([read_rgb(path) for path in out.iterdir()], axis=0).mean())
    assert spreads[0] > spreads[1] > spreads[2]
    assert spreads[2] < 0.5
    centre = tmp_path / "centre"
    run("--model", folder / "done", "--out", centre, "--seeds", "1", "--truncation", 0, "--centre", 6)
    expected = load_model(folder / "done" / "final.safetensors").pictures([6])[0]
    assert np.abs(read_rgb(centre / "seed000001.png").astype(int) - expected).max() <= 1


def test_curated_pictures_are_the_best_scored(folder: Path, tmp_path: Path) -> None:
    result = run("--model", folder / "done", "--out", tmp_path, "--seeds", "10-29", "--curate", 3)
    assert result.exit_code == 0, result.output
    assert "kept 3 of 20 seeds" in result.output
    model = load_model(folder / "done" / "final.safetensors")
    best = np.argsort(critic_scores(model, model.pictures(range(10, 30))))[-3:] + 10
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"seed{seed:06d}.png" for seed in best)


def test_the_seeds_of_a_curated_grid_can_be_given_again(folder: Path, tmp_path: Path) -> None:
    model, grid = ("--model", folder / "done"), ("--grid", "2x2")
    result = run(*model, *grid, "--out", tmp_path / "kept", "--seeds", "10-29", "--curate", 4)
    seeds = result.output.partition("the best first: --seeds ")[2].split()[0]
    network = load_model(folder / "done" / "final.safetensors")
    scores = critic_scores(network, network.pictures(range(10, 30)))
    assert parse_ranges(seeds, "--seeds") == [int(seed) for seed in np.argsort(-scores)[:4] + 10]
    run(*model, *grid, "--out", tmp_path / "again", "--seeds", seeds)
    (kept,), (again,) = ((tmp_path / name).iterdir() for name in ("kept", "again"))
    assert kept.name == again.name
    assert kept.read_bytes() == again.read_bytes()


def test_films_without_an_encoder(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generate, "find_encoder", lambda: None)
    film = ("--video", tmp_path / "film.mp4", "--seconds", 6, "--fps", 12, "--smooth-seconds", 0.1)
    result = run("--model", folder / "done", *film, "--grid", "2x1", "--zoom", 1, "--truncation", 0.8)
    assert result.exit_code == 0, result.output
    (line,) = result.output.splitlines()
    assert f"6 pictures, one of each second whatever --fps, in {tmp_path / 'film-frames'}; for the film" in line
    frames = [read_rgb(path) for path in sorted((tmp_path / "film-frames").iterdir())]
    assert len(frames) == 6
    assert frames[0].shape == (16, 32, 3)
    still = run("--model", folder / "done", "--video", tmp_path / "b.mp4", "--seconds", 0.2, "--fps", 10)
    assert "note: the film hardly changes" in still.output
    result = run("--progress", folder / "done", "--video", tmp_path / "training.mp4", "--seconds", 20, "--fps", 8)
    assert result.exit_code == 0, result.output
    (line,) = result.output.splitlines()
    count = len(snapshots(folder / "done"))
    assert (
        f"{count} pictures, one of each snapshot whatever --fps, in {tmp_path / 'training-frames'}; for the film"
        in line
    )
    pictures = [path.read_bytes() for path in (tmp_path / "training-frames").iterdir()]
    assert len(pictures) == len(set(pictures)) == count
    refused = run("--model", folder / "done", "--video", tmp_path / "film.avi")
    assert "the name of a film must end in .mp4" in refused.output


def test_the_help_says_what_options_do() -> None:
    text = " ".join(CliRunner().invoke(main, ["--help"]).output.split())
    assert "--seed INTEGER RANGE Seed of the film's latents." in text
    assert "--steps INTEGER RANGE Number of pictures in a row of --slerp." in text
    assert "Such as" not in text


def test_the_bundled_model_makes_pictures(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        main, ["--model", "faces-32", "--out", str(tmp_path), "--seeds", "0-7", "--device", "cpu"]
    )
    assert result.exit_code == 0, result.output
    pictures = np.stack([read_rgb(path) for path in sorted(tmp_path.iterdir())])
    assert pictures.shape == (8, 32, 32, 3)
    assert pictures.std(axis=0).mean() > 20  # different faces
    middle, corners = pictures[:, 8:24, 8:24].mean(), pictures[:, :4, :4].mean()
    assert abs(float(middle) - float(corners)) > 5
    assert load_model("faces-32").untrained == ()
