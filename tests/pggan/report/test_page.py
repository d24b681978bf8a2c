"""The page about a run: what it says, that it needs nothing beside it, and that little can stop it."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from pggan.config.schedule import Stage
from pggan.report import page as report
from pggan.report import plots
from pggan.report.__main__ import main
from pggan.report.data import Stats
from pggan.report.page import write_report
from pggan.report.plots import charts
from tests.support.pggan_runs import config_of, stats_of, train, write_pyramid
from tests.support.webpages import Page

EVIL = "<b>1</b> & \"2\" '3'"
PHASES = (Stage(0, 10_000, 4, False, 1, 1.0), Stage(10_000, 20_000, 8, True, 1, 1.0))


def grids_of(page: Page) -> list[dict[str, str | None]]:
    return [attributes for attributes in page.all("div") if "data-kimg" in attributes]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pyramid, and the run folder `done` of a finished training on it."""
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("runs")
    train(config_of(write_pyramid(path / "ramps.h5"), path / "done", schedule={"total_kimg": 0.136}))
    return path


@pytest.fixture
def run(folder: Path, tmp_path: Path) -> Path:
    """A copy of `done` to change."""
    return Path(shutil.copytree(folder / "done", tmp_path / "run"))


def written(run: Path, **options: Any) -> Page:
    out = run.parent / "page.html"
    assert write_report(run, out, device="cpu", **options) == out
    page = Page(out)
    for tag, attributes in page.tags:
        for name in ("src", "href", "srcset", "action", "poster", "data"):
            target = attributes.get(name) or "#"
            assert target.startswith(("data:", "#")), f"{tag} needs {target}"
            if name == "href" and target.startswith("#") and len(target) > 1:
                assert f'id="{target[1:]}"' in page.source
    assert "url(" not in page.source
    assert "@import" not in page.source
    assert all(image["alt"] for image in page.all("img"))
    return page


def call(*arguments: object) -> Result:
    result = CliRunner().invoke(main, [*map(str, arguments), "--device", "cpu"])
    assert "Traceback" not in result.output
    assert result.exit_code in (0, 1, 2)
    return result


def change_config(run: Path, **changes: Any) -> None:
    values = json.loads((run / "config.json").read_text())
    for name, value in changes.items():
        place = values
        *parts, last = name.split("__")
        for part in parts:
            place = place[part]
        place[last] = value
    (run / "config.json").write_text(json.dumps(values))


def test_page_of_a_finished_run(run: Path, folder: Path) -> None:
    page = written(run, h5=folder / "ramps.h5")
    for text in (
        "A training run of test at 16 x 16 pixels on 50 faces: 0.136 of 0.136 kimg in",
        "It has finished.",
        "Loss : discriminator (D)",
        "Scores : mean output of the discriminator",
        "Norm of the gradient : of the score",
        "seeds 0 to 7, none left out",
        "the 4 of 50 training faces, mirrored ones included",
        "8 x 8, fading in",
        "finished after 136 images",
        "Precision fp32, TF32 allowed",
        "This version of the program knows no preset of that name.",
    ):
        assert text in page.text, text
    for absent in ("could not be made", "Warnings:", "SWD", "Device memory", "nan", "None"):
        assert absent not in page.text, absent
    last = stats_of(run)[-1]["loss"]
    assert f"Last: D: {last['d_loss']:.4g}, G: {last['g_loss']:.4g}." in page.text
    names = [image["alt"] for image in page.all("img") if str(image["alt"]).startswith("Training face ")]
    assert len(names) == 8 * 4


def test_one_snapshot_is_seen_until_the_slider_moves(run: Path) -> None:
    for kimg in (7, 12, 1000):
        shutil.copy(run / "reals.png", run / f"fakes{kimg:06d}.png")
    page = written(run)
    trained = ["0", "0.024", "0.048", "0.072", "0.096", "0.12", "0.136"]
    assert [image["data-kimg"] for image in grids_of(page)] == [*trained, "7", "12", "1000"]
    assert ["hidden" in image for image in grids_of(page)] == [True] * 9 + [False]
    (slider,) = page.all("input")
    assert (slider["type"], slider["min"], slider["max"], slider["value"]) == ("range", "0", "9", "9")
    assert "after 1,000 kimg, 16 x 16" in page.text
    levels = [str(image["data-level"]) for image in grids_of(page)]
    assert levels[:2] == ["4 \N{MULTIPLICATION SIGN} 4"] * 2
    assert levels[2] == "8 \N{MULTIPLICATION SIGN} 8, fading in (33 %)"


def test_without_the_pyramid_samples_stand_alone(run: Path) -> None:
    page = written(run)
    assert "The nearest training faces are left out: name the run's pyramid file ( --h5 )" in page.text
    assert sum(str(image["alt"]).startswith("Generated picture, seed") for image in page.all("img")) == 8


def test_a_run_that_has_only_begun(run: Path) -> None:
    for path in run.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != "config.json":
            path.unlink()
    page = written(run)
    for text in (
        "nothing has been reported yet",
        "The run has no grids yet.",
        "There are no samples to show.",
        "The run has reported no numbers yet",
        "No session is known: the run has only begun",
        "The run has reported no times yet.",
        "there are no samples: ",
        "reals.png: cannot be read",
    ):
        assert text in page.text, text
    assert grids_of(page) == []


def test_damage_becomes_notes(run: Path, folder: Path) -> None:
    with (run / "stats.jsonl").open("a") as stream:
        stream.write('{"images": 12\nnonsense\n')
    (run / "fakes000000.png").write_bytes(b"")
    (run / "reals.png").unlink()
    (run / "final.safetensors").write_bytes(b"no model")
    page = written(run, h5=folder / "ramps.h5")
    assert "stats.jsonl: 2 lines are damaged and left out" in page.text
    assert "fakes000000.png: the file is empty" in page.text
    assert "reals.png: cannot be read" in page.text
    assert "there are no samples: " in page.text
    assert f"G: {stats_of_whole(run)['g_loss']:.4g}" in page.text


def stats_of_whole(run: Path) -> dict[str, float]:
    """Losses of the last line that has some."""
    lines = [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()[:-2]]
    loss: dict[str, float] = [line["loss"] for line in lines if "loss" in line][-1]
    return loss


def change_stats(run: Path, change: Callable[[list[dict[str, Any]]], object]) -> None:
    """Let `change` edit the list of the lines of stats.jsonl."""
    lines = [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]
    change(lines)
    (run / "stats.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_too_small_pictures_have_no_neighbours(folder: Path, tmp_path: Path) -> None:
    train(config_of(folder / "ramps.h5", tmp_path / "run", schedule={"total_kimg": 0.02}))
    page = written(tmp_path / "run", h5=folder / "ramps.h5")
    assert "the nearest training faces could not be found: images of 4 x 4 pixels" in page.text
    assert sum(str(image["alt"]).startswith("Generated picture, seed") for image in page.all("img")) == 8


def test_texts_cannot_become_markup(run: Path) -> None:
    change_config(run, preset__name=EVIL, forks=[{"changes": [EVIL]}])
    time = {"time": "2026-11-22T13:55:46"}
    change_stats(
        run,
        lambda lines: lines.extend(
            [
                {**time, "event": "started", "devices": EVIL, "device": EVIL, "precision": EVIL},
                {**time, "event": "warning", "message": EVIL},
                {**time, "event": EVIL, "message": EVIL},
                {**time, "images": 300, "metrics": {EVIL: 1.5}},
            ]
        ),
    )
    evil = run.rename(run.parent / "<i>&amp;")
    page = written(evil)
    assert page.text.count(EVIL) >= 5
    assert {"b", "i"}.isdisjoint(tag for tag, _ in page.tags)
    assert "<i>&amp;" in page.text


def test_settings_beside_the_preset(run: Path) -> None:
    change_config(run, preset__name="tiny", preset__schedule__minibatch_by_level=[[4, 64], [8, 32]])
    page = written(run)
    assert "What differs from the preset" in page.text
    assert "network.fmap_max 32 8" in page.text
    assert "schedule.minibatch_by_level the same at all levels 4: 64, 8: 32" in page.text


def test_unfinished_runs(run: Path) -> None:
    change_stats(run, lambda lines: lines.pop())
    assert "It is running, or was killed." in written(run).text
    stopped = {"time": "2026-11-22T14:37:32", "event": "stopped", "images": 104}
    change_stats(run, lambda lines: lines.append(stopped))
    page = written(run)
    assert "It was stopped and can be resumed." in page.text
    assert "stopped, as requested" in page.text
    change_stats(run, lambda lines: lines[-1].update(event="failed"))
    assert "It ended with an error." in written(run).text


def test_a_run_of_an_older_version(run: Path) -> None:
    def without_events(lines: list[dict[str, Any]]) -> None:
        lines[:] = [line for line in lines if "event" not in line]
        for line in lines:
            del line["time"]

    change_stats(run, without_events)
    page = written(run)
    assert "0.136 of 0.136 kimg in" in page.text
    assert "an older version of the program trained it" in page.text
    assert "damaged" not in page.text


def stats(*metrics: dict[str, float]) -> Stats:
    rows = [{"images": 1000 * place, "metrics": values} for place, values in enumerate(metrics)]
    return Stats(tuple(rows), 0)


def test_charts_of_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[dict[str, list[float]]] = []

    def draw(lines: Any, *_: object, **__: object) -> bytes:
        drawn.append({line.label: np.round(line.values, 3).tolist() for line in lines})
        return b""

    monkeypatch.setattr(plots, "draw", draw)
    found = charts(
        stats(
            {"swd_16": 30.0, "swd": 30.0, "ms_ssim": 0.5, "fid": 80.0},
            {},
            {"swd_16": 20.0, "swd_32": 40.0, "swd_128": 1.0, "swd": 30.5, "ms_ssim": math.inf, "swd_x": 2.0},
            {"swd_floor": 9.0, "swd_floor_16": 8.0, "ms_ssim_reals": 0.25},
        ),
        PHASES,
        gradient_target=1.0,
    )
    assert [chart.title for chart in found] == ["SWD", "MS-SSIM", "fid", "swd_x"]
    assert drawn[0] == {"128": [1.0], "32": [40.0], "16": [30.0, 20.0], "average": [30.0, 30.5], "reals": [9.0]}
    assert list(drawn[0]) == ["128", "32", "16", "average", "reals"]
    assert "Last: 128: 1, 32: 40, 16: 20, average: 30.5, reals: 9." in found[0].caption
    assert found[1].caption.endswith("Last: fakes: 0.5, reals: 0.25.")
    assert found[2].caption.endswith("Last: 80.")
    assert "Dashed: the average of reals" in found[0].caption
    (alone,) = charts(stats({"swd_16": 30.0, "swd": 30.0, "swd_floor": math.nan}), PHASES, gradient_target=1.0)
    assert "Dashed" not in alone.caption
    assert charts(stats({"swd": math.nan}), PHASES, gradient_target=1.0) == []


def test_the_chart_of_the_augmentation() -> None:
    rows = tuple({"images": 1000 * tick, "loss": {"r_t": 0.5, "augment_p": 0.1 * tick}} for tick in range(3))
    (ada,) = charts(Stats(rows, 0), PHASES, gradient_target=1.0, ada_target=0.6)
    assert ada.title == "Augmentation"
    assert ada.caption.endswith("the dashed line. Last: r_t: 0.5, p: 0.2.")
    for row in rows:
        del row["loss"]["augment_p"]  # type: ignore[attr-defined]
    (other,) = charts(Stats(rows, 0), PHASES, gradient_target=1.0)
    assert "dashed" not in other.caption


def test_the_chart_of_what_each_resolution_adds(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[dict[str, list[float]]] = []
    monkeypatch.setattr(
        plots, "draw", lambda lines, *_, **__: drawn.append({line.label: line.values.tolist() for line in lines}) or b""
    )
    rows = [
        {"images": 1000, "rgb_std": {"16": 0.5, "4": 0.25, "8": 0.25}},
        {"images": 1500, "metrics": {}},
        {"images": 2000, "rgb_std": {"4": 0.0, "8": 0.25, "16": 0.75}},
    ]
    (chart,) = charts(Stats(tuple(rows), 0), PHASES, gradient_target=None)
    assert chart.title == "Contribution of each resolution"
    assert drawn == [{"4": [25.0, 0.0], "8": [25.0, 25.0], "16": [50.0, 75.0]}]
    assert list(drawn[0]) == ["4", "8", "16"]
    assert chart.caption.endswith("Last: 4: 0, 8: 25, 16: 75.")
    zero = {"images": 1, "rgb_std": {"4": 0.0, "8": 0.0}}
    damaged = {"images": 1, "rgb_std": {"4": 1.0, "x": 2.0}}
    assert charts(Stats((zero,), 0), PHASES, gradient_target=None) == []
    assert charts(Stats((*rows, damaged), 0), PHASES, gradient_target=None) == []  # type: ignore[arg-type]


def test_metrics_of_a_run_are_on_its_page(run: Path) -> None:
    lines = [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]
    lines = [line for line in lines if "event" not in line]
    lines[-1]["memory"]["device_peak"] = 3 << 30
    distances = {"swd_16": 12.5, "swd": 12.5, "swd_floor_16": 4.25, "swd_floor": 4.25, "ms_ssim": 0.31}
    timing = {"seconds": 3.0, "metrics_seconds": 130.0}
    lines.append({"images": lines[-1]["images"], "metrics_images": 25, "metrics": distances, "timing": timing})
    (run / "stats.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    page = written(run)
    assert "SWD : sliced Wasserstein distance" in page.text
    assert "Last: 16: 12.5, average: 12.5, reals: 4.25." in page.text
    assert "with 25 images of each kind" in page.text
    assert "16 12.50 4.25 Average 12.50 4.25" in page.text
    assert "Reals among themselves" in page.text
    for name in ("swd_floor_16", "swd_floor"):
        del distances[name]
    (run / "stats.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    without = written(run)
    assert "16 12.50 Average 12.50" in without.text
    assert "among themselves" not in without.text
    assert "MS-SSIM : similarity within a set; values near 1 mean mode collapse" in page.text
    assert "Metrics took 2 min 10 s more." in page.text
    assert "Device memory" in page.text
    assert "3.00 GiB" in page.text


def test_command_line(run: Path, folder: Path) -> None:
    result = call(run)
    assert result.exit_code == 0, result.output
    assert result.output.startswith(f"{run / 'report.html'}: ")
    out = run.parent / "new" / "folder" / "page.HTML"
    assert call(run, "--h5", folder / "ramps.h5", "--out", out).exit_code == 0
    assert "training faces, mirrored" in Page(out).text
    assert sorted(path.name for path in out.parent.iterdir()) == ["page.HTML"]


def test_refusals_are_one_line(run: Path, folder: Path, tmp_path: Path) -> None:
    other = write_pyramid(tmp_path / "other.h5", 20)
    (tmp_path / "file").touch()
    for arguments, expected in (
        ((tmp_path / "none",), "is not a run folder: config.json is missing"),
        ((tmp_path / "file",), "is a file, or lies in one; a run is a folder"),
        ((run, "--h5", tmp_path / "none.h5"), "none.h5"),
        ((run, "--h5", tmp_path / "file"), "file"),
        ((run, "--h5", other), "is not the data set that this run was trained on"),
        ((run, "--out", run / "final.safetensors"), "the name of a page must end in .html"),
        ((run, "--out", tmp_path / "file" / "page.html"), "cannot be written"),
    ):
        result = call(*arguments)
        assert result.exit_code == 1, result.output
        assert result.output.startswith("Error: ")
        assert expected in result.output
        assert result.output.count("\n") == 1
    assert (run / "final.safetensors").read_bytes() == (folder / "done" / "final.safetensors").read_bytes()
    (run / "config.json").write_text("{")
    assert "config.json: cannot be read" in call(run).output


def test_an_interrupted_report_leaves_the_old_page(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (run / "report.html").write_text("old")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(report, "_samples", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_report(run, run / "report.html", device="cpu")
    assert (run / "report.html").read_text() == "old"
