"""The command line that measures: a table, a file, the reals as the training saw them, and mistakes in a line."""

import json
import math
import os
import shutil
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from datatools.errors import DataError
from datatools.images import save_png
from datatools.pyramid import Pyramid
from datatools.text import byte_size
from pggan import evaluate
from pggan.config.settings import NetworkConfig
from pggan.data.stream import Source
from pggan.evaluate import main
from pggan.metrics.compare import measure
from pggan.metrics.image_sets import ImageSet, ModelSet, PyramidSet
from pggan.metrics.options import Options
from pggan.metrics.results import Results
from pggan.model.files import new_model, save_model
from pggan.subject import of_model
from pggan.training.models import load_model
from pggan.training.run import resolve_settings
from tests.support.extractors import write_dinov2
from tests.support.pggan_runs import PRESET, config_of, write_pyramid
from tests.support.style_runs import noisy_style_model

COUNT = 20


def write_model(path: Path, lod: float = 0.0, classes: int = 0) -> Path:
    torch.manual_seed(3)
    config = NetworkConfig(16, fmap_base=64, fmap_max=8, latent_size=8, classes=classes)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_model(path, new_model(config), lod=lod, images=120_000)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`ramps.h5`; `run`, a run that mirrors; `plain`, one that does not; `pictures`; `alone`, a model without a run."""
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("evaluate")
    h5 = write_pyramid(path / "ramps.h5", COUNT, attributes=True)
    for name, mirror in (("run", True), ("plain", False)):
        write_model(path / name / "final.safetensors")
        resolve_settings(config_of(h5, path, preset=replace(PRESET, mirror=mirror)), None, Source(h5), 1).write(
            path / name
        )
    write_model(path / "alone" / "model.safetensors")
    write_model(path / "run" / "fading.safetensors", lod=0.25)
    write_model(path / "run" / "small.safetensors", lod=1.0)
    (path / "pictures").mkdir()
    for index, picture in enumerate(Pyramid(h5)[16][:12]):
        save_png(path / "pictures" / f"{index:03d}.png", np.ascontiguousarray(picture.transpose(1, 2, 0)))
    return path


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(main, ["--device", "cpu", *map(str, arguments)])
    assert "Traceback" not in result.output
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[ImageSet, ImageSet, Options]]:
    """What is measured from now on, without measuring it."""
    found: list[tuple[ImageSet, ImageSet, Options]] = []

    def note(images: ImageSet, reals: ImageSet, _: object, options: Options, __: object) -> Results:
        found.append((images, reals, options))
        return Results(images.resolution, options.count)

    monkeypatch.setattr(evaluate, "measure", note)
    return found


def test_a_run_table_file_and_cache(folder: Path, tmp_path: Path) -> None:
    out, cache = tmp_path / "found.json", folder / "run" / "metrics-cache"
    arguments = ("--model", folder / "run", "--reals", folder / "ramps.h5", "--num-images", 8, "--json", out)
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(out.read_text())
    swd = found["swd"]
    assert sorted(swd) == ["average", "floor", "levels"]
    assert list(swd["levels"]) == list(swd["floor"]["levels"]) == ["16"]
    model, reals = ModelSet(load_model(folder / "run")), PyramidSet(folder / "ramps.h5", shuffle=0)
    expected = measure(model, reals, ["swd", "ms-ssim"], Options(count=8, mirror=True))
    assert expected.swd is not None
    assert expected.floor is not None
    assert swd["average"] == pytest.approx(expected.swd.average, rel=1e-6)
    assert swd["floor"]["average"] == pytest.approx(expected.floor.average, rel=1e-6)
    assert found["ms_ssim"] == pytest.approx(expected.pairs["ms-ssim"], rel=1e-6)
    head, names, images, floor = result.output.splitlines()
    assert "after 120 kimg: 8 images of 16 x 16" in head
    assert head.endswith("mirrored")
    assert names.split() == ["SWD", "16", "average", "MS-SSIM"]
    assert images.split() == ["images", *[f"{swd['average']:.2f}"] * 2, f"{found['ms_ssim']:.4f}"]
    assert floor.split()[-3] == f"{swd['floor']['average']:.2f}"
    kept = {path.name: path.read_bytes() for path in cache.iterdir()}
    assert len(kept) == 2
    assert run(*arguments).output == result.output
    assert {path.name: path.read_bytes() for path in cache.iterdir()} == kept


def test_reals_are_as_the_training_saw_them(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = asked(monkeypatch)
    for model, mirror, fading in (("run", True, 0), ("plain", False, 0), ("run/fading.safetensors", True, 0.25)):
        result = run("--model", folder / model, "--reals", folder / "ramps.h5", "--num-images", 8)
        assert result.exit_code == 0, result.output
        reals, options = found[-1][1:]
        assert isinstance(reals, PyramidSet)
        assert (options.mirror, reals.fading, reals.resolution) == (mirror, fading, 16)
        assert options.cache == folder / model.partition("/")[0] / "metrics-cache"
    run("--model", folder / "run", "--reals", folder / "ramps.h5", "--num-images", 8, "--no-mirror")
    assert not found[-1][2].mirror


def test_a_model_alone_does_not_tell_of_mirroring(folder: Path, tmp_path: Path) -> None:
    arguments = ("--model", folder / "alone" / "model.safetensors", "--reals", folder / "ramps.h5", "--metrics", "swd")
    result = run(*arguments)
    assert "note: whether the training mirrored reals is not known" in result.output
    assert "note: no floor of SWD: " in result.output
    assert "with 10 there is one" in result.output
    assert f"no more than {COUNT} images" in result.output
    assert [path.name for path in (folder / "alone").iterdir()] == ["model.safetensors"]  # no cache of its own accord
    known = run(*arguments, "--mirror", "--num-images", 10, "--cache", tmp_path / "kept")
    assert "note" not in known.output
    assert len(list((tmp_path / "kept").iterdir())) == 1


def test_other_data_than_the_training_had_are_told(folder: Path, tmp_path: Path) -> None:
    other = write_pyramid(tmp_path / "other.h5", COUNT - 1)
    result = run("--model", folder / "run", "--reals", other, "--num-images", 8, "--metrics", "ms-ssim")
    assert f"note: {other} is not what the run was trained on" in result.output


def test_two_sets(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    numbers = []
    for against, h5 in (("pictures", "ramps.h5"), ("ramps.h5", "pictures"), ("pictures", "pictures")):
        result = run("--images", folder / against, "--reals", folder / h5, "--num-images", 6, "--json", out)
        assert result.exit_code == 0, result.output
        numbers.append(json.loads(out.read_text()))
    assert all(found["swd"]["average"] > 0 and found["swd"]["floor"]["average"] > 0 for found in numbers)
    assert numbers[0]["digest"] == PyramidSet(folder / "ramps.h5").digest
    assert numbers[1]["digest"] is None
    assert not numbers[0]["mirror"]


def test_pyramids_are_compared_at_the_smaller_size(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    larger = write_pyramid(tmp_path / "larger.h5", COUNT, 32)
    found = asked(monkeypatch)
    for against, h5 in ((larger, folder / "ramps.h5"), (folder / "ramps.h5", larger), (larger, folder / "pictures")):
        assert run("--images", against, "--reals", h5, "--num-images", 6).exit_code == 0
        assert found[-1][0].resolution == found[-1][1].resolution == 16


def test_labels_of_the_training(folder: Path, tmp_path: Path) -> None:
    h5, path = folder / "ramps.h5", tmp_path / "run"
    write_model(path / "final.safetensors", classes=2)
    resolve_settings(config_of(h5, path, labels="Male"), None, Source(h5), 1).write(path)
    subject = of_model(path, h5, 0, load_model(path))
    assert isinstance(subject.images, ModelSet)
    assert subject.images.labels is not None
    assert np.array_equal(subject.images.labels, Source(h5, "Male").labels)
    assert subject.notes == ()
    elsewhere = of_model(path, folder / "pictures", 0, load_model(path))
    assert "every class is made equally often" in elsewhere.notes[0]


def test_labels_that_are_gone_are_told(folder: Path, tmp_path: Path) -> None:
    h5, path = Path(shutil.copy(folder / "ramps.h5", tmp_path)), tmp_path / "run"
    labels = tmp_path / "ramps-labels.npy"
    np.save(labels, np.eye(2, dtype=np.float32)[np.arange(COUNT) % 2])
    write_model(path / "final.safetensors", classes=2)
    resolve_settings(config_of(h5, path, labels="file"), None, Source(h5), 1).write(path)
    labels.unlink()
    first, second = of_model(path, h5, 0, load_model(path)).notes
    assert f"labels file: {labels} cannot be read" in first
    assert "every class is made equally often" in second


def test_statistics_in_the_place_of_reals(folder: Path, tmp_path: Path) -> None:
    statistics, weights = tmp_path / "reals.safetensors", f"dinov2={write_dinov2(tmp_path / 'dinov2.pth')}"
    common = ("--metrics", "fd-dinov2,kd-dinov2,dc-dinov2", "--weights", weights)
    made = run("--reals", folder / "ramps.h5", "--write-reference", statistics, "--mirror", *common)
    assert made.exit_code == 0, made.output
    assert f"{statistics}: {byte_size(statistics.stat().st_size)} for fd-dinov2, kd-dinov2, dc-dinov2" in made.output
    assert f"against {COUNT} images of 16 x 16 mirrored" in made.output
    figures = []
    for what in (("--model", "run"), ("--model", "alone/model.safetensors"), ("--images", "pictures", "--mirror")):
        paths = [str(folder / part) if not part.startswith("--") else part for part in what]
        for reals in (("--reals", folder / "ramps.h5", "--mirror"), ("--reference", statistics)):
            out = tmp_path / "found.json"
            result = run(*paths, *reals, *common, "--num-images", 8, "--json", out, "--cache", tmp_path / "cache")
            assert result.exit_code == 0, result.output
            found = json.loads(out.read_text())
            figures.append([found[name] for name in ("fd8-dinov2", "kd8-dinov2", "dc8-dinov2")])
        assert figures[-1] == figures[-2]
        assert found["mirror"]
        assert found["digest"] == PyramidSet(folder / "ramps.h5").digest
    assert figures[0] != figures[-1]
    assert figures[0][0]["reals"] == COUNT
    default = run("--model", folder / "run", "--reference", statistics, *common[2:], "--num-images", 8)
    assert "reals.safetensors: has no statistics by inception, which fid needs" in default.output
    damaged = run("--model", folder / "run", "--reference", folder / "ramps.h5", *common)
    assert "ramps.h5: cannot be read as reference statistics" in damaged.output
    fading = run("--model", folder / "run/fading.safetensors", "--reference", statistics, *common, "--num-images", 8)
    assert "fading.safetensors: is fading in a level; compare it with real images" in fading.output


def test_path_length_of_a_model_alone(folder: Path, tmp_path: Path) -> None:
    save_model(tmp_path / "style.safetensors", noisy_style_model(), lod=0.0, images=1000)
    common, out = ("--model", tmp_path / "style.safetensors", "--num-images", 4), tmp_path / "found.json"
    result = run(*common, "--metrics", "ppl", "--distance", "pixels", "--json", out)
    assert result.exit_code == 0, result.output
    found = json.loads(out.read_text())
    assert found["ppl4"]["value"] > 0
    assert found["reals"] is None
    title, line = result.output.splitlines()
    assert title == f"{tmp_path / 'style.safetensors'} after 1 kimg: 4 images of 16 x 16"
    assert line.startswith(f"ppl4: value {found['ppl4']['value']:.5g}, images 4")
    reals = ("--reals", folder / "ramps.h5", "--no-mirror", "--json", out)
    both = run(*common, "--metrics", "ppl,ms-ssim", "--distance", "pixels", *reals)
    assert both.exit_code == 0, both.output
    assert json.loads(out.read_text())["ppl4"] == found["ppl4"]
    assert json.loads(out.read_text())["ms_ssim"] > 0
    for arguments, message in (
        (("--metrics", "ppl"), "--distance lpips: ppl needs --weights lpips=FILE, see docs/training.md; pixels needs"),
        (("--metrics", "ppl", "--weights", f"lpips={write_dinov2(tmp_path / 'd.pth')}"), "weights of another network"),
        (("--metrics", "ppl,swd", "--distance", "pixels"), "name real images"),
    ):
        wrong = run(*common, *arguments)
        assert wrong.exit_code == 1
        assert wrong.output.count("\n") == 1
        assert message in wrong.output


def test_numbers_that_json_has_no_words_for_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"--json .*found\.json: not written, .*not finite"):
        evaluate.write_json(tmp_path / "found.json", {"value": math.nan})
    assert list(tmp_path.iterdir()) == []


def test_figures_are_lines_of_the_table() -> None:
    record = {"metric": "fid", "value": 34.5678, "images": 50000, "reals": 300, "resize": "299 x 299"}
    assert evaluate.table(Results(16, 50000, figures={"fid50k": record})) == [
        "fid50k: value 34.568, images 50000, reals 300"
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--model", "run", "--num-images", 21), "ramps.h5 has 20 images, 21 are to be measured: measure fewer"),
        (("--model", "run/small.safetensors"), "8 x 8 pixels have no sliced Wasserstein distance"),
        (
            ("--model", "run", "--metrics", "swd,nonsense"),
            "--metrics: unknown metric 'nonsense'; choose from swd, ms-ssim",
        ),
        (("--model", "run", "--metrics", ""), "--metrics: unknown metric ''"),
        (("--model", "absent"), "absent: neither a model file nor a run folder"),
        (("--images", "absent"), "absent"),
        (("--images", "run"), "run: holds no pictures"),
        ((), "name what is to be measured: --model RUN or FILE, or --images"),
        (
            ("--model", "run", "--reference", "run/config.json"),
            "or their statistics, --reference FILE, not both",
        ),
        (("--model", "run", "--write-reference", "new"), "--write-reference new: is made of --reals alone"),
        (("--write-reference", "absent/new"), "--write-reference absent/new: the folder"),
        (("--write-reference", "new", "--metrics", "swd"), "swd is not computed from statistics of reals"),
        (("--write-reference", "new", "--resolution", 64), "64"),
        (("--model", "run", "--resolution", 8), "--resolution 8: is for --write-reference"),
        (("--model", "run", "--metrics", "fd-dinov2"), "--weights dinov2=FILE is needed for fd-dinov2: give the file"),
        (
            ("--model", "run", "--metrics", "fd-dinov2", "--weights", "dinov2=run/config.json"),
            "run/config.json: is not a file of weights",
        ),
        (("--model", "run", "--metrics", "ppl"), "ppl measures style-based models, and this model is a progressive"),
        (("--images", "pictures", "--metrics", "ppl"), "ppl measures style-based models, and no model is measured"),
        (("--model", "run", "--images", "pictures"), "not both"),
        (("--model", "run", "--json", "absent/found.json"), "absent does not exist"),
        (("--model", "run", "--json", "pipe"), "--json pipe: cannot be written: is not a regular file"),
        (
            ("--model", "run", "--metrics", "fid", "--weights", "inception=run/config.json"),
            "config.json: is not a file of",
        ),
        (("--model", "run", "--metrics", "fid", "--inception", "run/config.json"), "config.json: is not a file of"),
    ],
)
def test_mistakes_are_told_in_a_line(
    arguments: tuple[str, ...], message: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "fid" in arguments and not find_spec("torch_fidelity"):
        pytest.skip("torch_fidelity is not installed")
    monkeypatch.chdir(folder)
    if "pipe" in arguments:
        os.mkfifo("pipe")
    result = run("--reals", "ramps.h5", *arguments)
    assert result.exit_code == 1, result.output
    assert result.output.count("\n") == 1
    assert message in result.output


def test_old_names_of_options_still_work(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    new = run("--images", "pictures", "--reals", "ramps.h5", "--num-images", 6)
    assert new.exit_code == 0, new.output
    assert run("--against", "pictures", "--h5", "ramps.h5", "--num-images", 6).output == new.output
    assert run("--against=pictures", "--h5=ramps.h5", "--num-images=6").output == new.output
    assert "--against" not in run("--help").output


@pytest.mark.parametrize("text", ['{"model_type": "x"}', "3", '"a"', "[]", "{"])
def test_a_model_file_beside_somebodys_config(folder: Path, tmp_path: Path, text: str) -> None:
    shutil.copy(folder / "run" / "final.safetensors", tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(text)
    arguments = ("--reals", folder / "ramps.h5", "--metrics", "ms-ssim", "--num-images", 8)
    result = run("--model", tmp_path / "model.safetensors", *arguments)
    assert result.exit_code == 0, result.output
    assert "config.json: cannot be read" in result.output
    result = run("--model", tmp_path, *arguments)
    assert result.exit_code == 1
    assert "config.json: cannot be read" in result.output


def test_a_missing_library_is_told_before_work(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    monkeypatch.delitem(sys.modules, "torch_fidelity.feature_extractor_inceptionv3", raising=False)
    found = asked(monkeypatch)
    result = run("--model", folder / "run", "--reals", folder / "ramps.h5", "--metrics", "swd,fid", "--num-images", 8)
    assert result.exit_code == 1
    assert 'pip install --no-deps "torch-fidelity>=0.4,<0.5"' in result.output
    assert found == []
