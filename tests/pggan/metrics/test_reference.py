"""Statistics of reals in a file: the same figures as by the images, and files and questions that do not fit."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
from torch import Tensor

from datatools.errors import DataError
from pggan.metrics.compare import describe_reals, measure
from pggan.metrics.features import Features, Summary
from pggan.metrics.image_sets import PyramidSet
from pggan.metrics.options import Options
from pggan.metrics.reference import read_reference, write_reference
from tests.support.pggan_runs import write_pyramid


class Halves:
    """Means of the channels in either half of a picture."""

    def __init__(self, weights: str = "none") -> None:
        self.recipe = {"network": "means", "weights_sha256": weights, "library": "1"}

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        halves = images.float().unflatten(3, (2, -1)).mean(dim=(2, 4)).flatten(1) / 25
        return halves, halves[:, :4]


OPTIONS = Options(count=20, extractors={"inception": Halves(), "dinov2": Halves("others")})


@pytest.fixture(scope="module")
def reals(tmp_path_factory: pytest.TempPathFactory) -> PyramidSet:
    torch.set_num_threads(1)
    return PyramidSet(write_pyramid(tmp_path_factory.mktemp("reals") / "reals.h5", 30), shuffle=0)


@pytest.fixture(scope="module")
def fakes(tmp_path_factory: pytest.TempPathFactory) -> PyramidSet:
    return PyramidSet(write_pyramid(tmp_path_factory.mktemp("fakes") / "fakes.h5", 24, 16), shuffle=1)


def written(path: Path, reals: PyramidSet, metrics: list[str], options: Options = OPTIONS) -> Path:
    write_reference(path, describe_reals(reals, metrics, options))
    return path


@pytest.mark.parametrize("mirror", [False, True])
def test_figures_are_those_by_the_images(fakes: PyramidSet, reals: PyramidSet, tmp_path: Path, mirror: bool) -> None:
    options = replace(OPTIONS, mirror=mirror)
    metrics = ["fid", "kid", "dc", "fd-dinov2"]
    reference = read_reference(written(tmp_path / "r.safetensors", reals, metrics, options))
    assert isinstance(reference.statistics["inception"], Features)
    assert isinstance(reference.statistics["dinov2"], Summary)
    assert (reference.count, reference.resolution, reference.mirror) == (30, 16, mirror)
    assert reference.digest == reals.digest
    assert measure(fakes, reference, metrics, options).figures == measure(fakes, reals, metrics, options).figures


def test_the_file_has_neither_images_nor_paths(reals: PyramidSet, tmp_path: Path) -> None:
    path = written(tmp_path / "r.safetensors", reals, ["fid"])
    assert list(safetensors.numpy.load_file(path)) == ["inception.covariance", "inception.mean"]
    assert reals.name.encode() not in path.read_bytes()
    assert path.read_bytes() == written(tmp_path / "again.safetensors", reals, ["fid"]).read_bytes()


@pytest.mark.parametrize(
    ("metrics", "changes", "message"),
    [
        (["swd"], {}, r"swd compares images, .*r\.safetensors has none"),
        (["kid"], {}, r"r\.safetensors: has no features by inception, which kid needs"),
        (["fd-dinov2"], {}, r"r\.safetensors: has no statistics by dinov2, which fd-dinov2 needs"),
        (["fid"], {"mirror": True}, "mirror is on, and .* none were mirrored"),
        (["fid"], {"extractors": {"inception": Halves("new")}}, "made with weights_sha256 'none', not 'new'"),
    ],
)
def test_questions_that_do_not_fit(
    metrics: list[str], changes: dict[str, Any], message: str, fakes: PyramidSet, reals: PyramidSet, tmp_path: Path
) -> None:
    reference = read_reference(written(tmp_path / "r.safetensors", reals, ["fid"]))
    with pytest.raises(DataError, match=message):
        measure(fakes, reference, metrics, replace(OPTIONS, **changes))


def test_sizes_that_do_not_fit(fakes: PyramidSet, reals: PyramidSet, tmp_path: Path) -> None:
    reference = read_reference(written(tmp_path / "r.safetensors", reals, ["fid"]))
    with pytest.raises(DataError, match="must be of one size"):
        measure(fakes, replace(reference, resolution=32), ["fid"], OPTIONS)
    newer = {"inception": {**reference.recipes["inception"], "library": "2"}}
    assert measure(fakes, replace(reference, recipes=newer), ["fid"], OPTIONS).figures


def test_metrics_that_need_no_statistics(reals: PyramidSet) -> None:
    for metric in ("swd", "is"):
        with pytest.raises(DataError, match=f"{metric} is not computed from statistics of reals; choose from fid, pr"):
            describe_reals(reals, [metric], OPTIONS)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def changed(change: Callable[[dict[str, Any], dict[str, Any]], object]) -> Callable[[Path], None]:
    def rewrite(path: Path) -> None:
        with safetensors.safe_open(path, framework="numpy") as file:
            heading = json.loads(file.metadata()["pggan"])
        arrays = safetensors.numpy.load_file(path)
        change(heading, arrays)
        safetensors.numpy.save_file(arrays, path, {"pggan": json.dumps(heading)})

    return rewrite


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut, "cannot be read as reference statistics"),
        (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100)), "cannot be read as reference statistics"),
        (lambda path: safetensors.numpy.save_file({"a": np.zeros(2)}, path), "is not a file of reference statistics"),
        (changed(lambda heading, _: heading.update(format="pggan-model")), "is not a file of reference statistics"),
        (changed(lambda heading, _: heading.update(version=2)), "of version 2, this program reads 1"),
        (changed(lambda heading, _: heading.pop("images")), "cannot be read"),
        (changed(lambda heading, _: heading.update(recipes=3)), "cannot be read"),
        (changed(lambda _, arrays: arrays.pop("inception.mean")), "cannot be read"),
        (changed(lambda _, arrays: arrays.update({"inception.mean": np.zeros(2)})), r"covariance is \(6, 6\)"),
        (changed(lambda _, arrays: arrays["inception.mean"].fill(np.nan)), "inception.mean holds .* not finite"),
        (changed(lambda _, arrays: arrays.update({"inception.features": np.zeros((3, 6), "f4")})), "for 30 images"),
        (lambda path: path.unlink(), "no such reference file"),
    ],
)
def test_files_that_cannot_be_used(
    damage: Callable[[Path], None], message: str, reals: PyramidSet, tmp_path: Path
) -> None:
    path = written(tmp_path / "r.safetensors", reals, ["fid"])
    damage(path)
    with pytest.raises(DataError, match=message) as raised:
        read_reference(path)
    assert "\n" not in str(raised.value)
