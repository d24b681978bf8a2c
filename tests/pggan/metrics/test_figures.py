"""Figures of features: numbers against NumPy formulations, what is handed to the library, and what records say."""

import json
import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from datatools.errors import DataError
from pggan.metrics.features import Features, Summary, describe
from pggan.metrics.figures import FIGURES, SUBSETS, fid, figure_name, figures, kid, mmd
from pggan.metrics.inception import RESIZES
from pggan.metrics.manifolds import density_coverage, precision_and_recall, radii
from tests.support.metrics_reference import clouds
from tests.support.paths import GOLDEN
from tests.support.style_oracle import numbers


class Means:
    """Describes a picture by the means of its channels."""

    recipe: dict[str, str] = {"network": "means", "weights_sha256": "0" * 64}  # noqa: RUF012

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        means = images.float().mean(dim=(2, 3))
        return means, means * 2


RECIPES = {"inception": Means.recipe}


def described(seed: int, count: int = 30) -> Features:
    images = clouds(count, 16, seed)
    return describe([images[:7], torch.from_numpy(images[7:])], Means())


def normal(count: int, seed: int, mean: float = 0.0, width: int = 6) -> NDArray[np.float32]:
    return (np.random.default_rng(seed).normal(size=(count, width)) + mean).astype(np.float32)


def distances(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.linalg.norm(a[:, None].astype(np.float64) - b[None], axis=2)


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A stand-in for torch-fidelity that keeps what it is called with."""
    calls: dict[str, Any] = {}

    def inception_score(logits: Tensor, splits: int) -> dict[str, float]:
        calls["is"] = logits, splits
        return {"inception_score_mean": 3.5, "inception_score_std": 0.25}

    package, isc = (ModuleType(name) for name in ("torch_fidelity", "metric_isc"))
    isc.isc_features_to_metric = inception_score  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch_fidelity", package)
    monkeypatch.setitem(sys.modules, "torch_fidelity.metric_isc", isc)
    return calls


def test_a_set_is_described_in_any_batches() -> None:
    images = clouds(30, 16, 1)
    found = described(1)
    assert np.allclose(found.features, images.mean(axis=(2, 3)), atol=1e-3)
    assert np.allclose(found.logits, 2 * found.features)


@pytest.mark.parametrize(
    ("metric", "count", "resize", "name"),
    [
        ("fid", 50_000, "tensorflow", "fid50k"),
        ("fid", 2048, "tensorflow", "fid2048"),
        ("kid", 1000, "clean", "kid1k-clean"),
        ("fd-dinov2", 20, None, "fd20-dinov2"),
        ("fid", None, "clean", "fid-clean"),
    ],
)
def test_names_state_how_many_and_which_resizing(metric: str, count: int | None, resize: Any, name: str) -> None:
    recipe = {"resize": RESIZES[resize]} if resize else {}
    assert figure_name(metric, recipe, count) == name


def test_fid_is_the_distance_of_the_features_distributions() -> None:
    reals = described(1)
    moved = Features(reals.features + np.float32(2), reals.logits)
    assert fid(moved, reals)["value"] == pytest.approx(3 * 2**2, rel=1e-4)
    assert fid(reals, reals)["value"] == pytest.approx(0, abs=1e-6)
    assert fid(moved, Summary(30, reals.gaussian)) == fid(moved, reals)


def test_mmd_of_every_pair() -> None:
    """The unbiased estimator by its definition, one pair of samples after the other."""
    a, b = normal(7, 1), normal(9, 2, 0.5)

    def kernel(x: NDArray[np.float32], y: NDArray[np.float32]) -> float:
        return float(sum(float(p) * float(q) for p, q in zip(x, y, strict=True)) / 6 + 1) ** 3

    within = [np.mean([kernel(x, y) for i, x in enumerate(s) for j, y in enumerate(s) if i != j]) for s in (a, b)]
    across = np.mean([kernel(x, y) for x in a for y in b])
    assert mmd(a, b) == pytest.approx(within[0] + within[1] - 2 * across, rel=1e-9)


def test_mmd_of_two_points_in_closed_form() -> None:
    """Sets of one feature each, x and y: k(x, x) + k(y, y) - 2 k(x, y)."""
    x, y = np.array([2.0, 0.0]), np.array([0.0, 1.0])
    assert mmd(np.tile(x, (5, 1)), np.tile(y, (4, 1))) == pytest.approx(3.0**3 + 1.5**3 - 2 * 1.0**3)


def test_kid_is_the_mean_over_subsets(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = np.zeros((0, 0), np.float32)
    a, b = Features(normal(40, 1), nothing), Features(normal(60, 2, 0.7), nothing)
    whole = mmd(a.features, b.features)
    monkeypatch.setattr("pggan.metrics.figures.SUBSET", 20)
    found = kid(a, b)
    assert (found["subsets"], found["subset_size"]) == (SUBSETS, 20)
    assert found["value"] == pytest.approx(whole, abs=4 * found["deviation"] / SUBSETS**0.5 + 1e-12)
    assert 0 < found["deviation"] < whole
    assert found == kid(a, b)


def test_radii_and_density_against_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    fakes, reals = normal(50, 1, 0.3), normal(41, 2)
    reach = np.sort(distances(reals, reals), axis=1)[:, 5]
    assert np.allclose(radii(reals, 5), reach, rtol=1e-6)
    within = distances(fakes, reals) < reach
    expected = within.sum() / (5 * 50), within.any(axis=0).mean()
    assert density_coverage(fakes, reals, 5) == pytest.approx(expected)
    monkeypatch.setattr("pggan.metrics.manifolds.VALUES", 41 * 3)  # three rows at a time
    assert density_coverage(fakes, reals, 5) == pytest.approx(expected)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_precision_and_recall_meet_the_golden_numbers(k: int) -> None:
    values = numbers(GOLDEN / "style_pieces.npz")
    found = precision_and_recall(values["pr.fake"], values["pr.real"], k)
    assert found == pytest.approx(tuple(values[f"pr.precision_recall_{k}"]), rel=1e-12)


def test_density_and_coverage_in_closed_form() -> None:
    """Reals 0, 1 ... 9 on a line: with k = 1 every ball has the radius 1, and both ends are outside of it."""
    reals = np.arange(10, dtype=np.float32)[:, None]
    assert density_coverage(np.array([[0.5], [1.5]], np.float32), reals, 1) == (2.0, 0.3)
    assert density_coverage(reals + 100, reals, 1) == (0.0, 0.0)
    assert density_coverage(reals, reals, 1) == (1.0, 1.0)


@pytest.mark.usefixtures("library")
def test_every_figure_is_better_for_what_is_alike() -> None:
    nothing = np.zeros((0, 0), np.float32)
    reals = Features(normal(60, 1), nothing)
    for name, figure in FIGURES.items():
        if figure.reals == "nothing":  # the inception score is the library's
            continue
        alike, other = (figure.function(Features(normal(60, 2, mean), nothing), reals) for mean in (0.0, 1.5))
        for number in figure.curves:
            assert (alike[number] < other[number]) == (number == "value"), (name, number)


def test_records_say_everything(library: dict[str, Any]) -> None:
    fakes, reals = described(1), described(2, 40)
    found = figures({"inception": fakes}, {"inception": reals}, ["fid", "is", "pr", "kid", "dc"], RECIPES)  # type: ignore[arg-type]
    assert json.loads(json.dumps(found)) == found
    assert list(found) == ["fid30", "is30", "pr30", "kid30", "dc30"]
    assert all(record["images"] == 30 and record["weights_sha256"] == "0" * 64 for record in found.values())
    assert found["fid30"]["reals"] == found["pr30"]["reals"] == 40
    assert found["is30"] | {"mean": 3.5, "deviation": 0.25, "splits": 10} == found["is30"]
    precision, recall = precision_and_recall(fakes.features, reals.features, 3)
    assert found["pr30"] | {"precision": precision, "recall": recall, "neighbourhood": 3} == found["pr30"]
    for record in found.values():
        assert set(FIGURES[record["metric"]].curves) <= set(record)
    logits, splits = library["is"]
    assert np.array_equal(logits, fakes.logits)
    assert splits == 10


@pytest.mark.usefixtures("library")
def test_the_inception_score_needs_no_reals() -> None:
    assert list(figures({"inception": described(1)}, {}, ["is"], RECIPES)) == ["is30"]  # type: ignore[arg-type]


@pytest.mark.parametrize("metric", FIGURES)
def test_too_little_to_measure(metric: str) -> None:
    figure, reals = FIGURES[metric], described(2)
    few = Features(*(array[: figure.least - 1] for array in (reals.features, reals.logits)))
    sets: Any = [{figure.network: each} for each in (few, reals)]
    with pytest.raises(DataError, match=f"^{metric} needs at least {figure.least} images of either set"):
        figures(sets[0], sets[1], [metric], {figure.network: {}})


def test_what_cannot_be_a_figure() -> None:
    reals: Any = {"inception": described(2)}
    with pytest.raises(DataError, match="none were given"):
        figures(reals, {}, ["fid"], {})
    with pytest.raises(DataError, match="unknown metric 'nonsense'; choose from fid, is, pr, kid"):
        figures(reals, reals, ["nonsense"], {})
    with pytest.raises(DataError, match="no images"):
        describe([], Means())
    with pytest.raises(DataError, match="expected RGB bytes"):
        describe([np.zeros((2, 1, 16, 16), np.uint8)], Means())
