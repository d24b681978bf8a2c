"""Figures made from features: one table that says what each needs, and the functions.

    features of fakes and reals  ->  figures whose names state the number of images

FID: Heusel et al. 2017, with other features and resizing FD-DINOv2 (Stein et al. 2023) and clean FID (Parmar et al.
2022); KID: Bińkowski et al. 2018; inception score: Salimans et al. 2016; precision and recall: Kynkäänniemi et al.
2019; density and coverage: Naeem et al. 2020.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from datatools.errors import DataError
from pggan.metrics.features import Features, Recipe, Summary
from pggan.metrics.frechet import frechet_distance
from pggan.metrics.inception import RESIZES, library
from pggan.metrics.manifolds import density_coverage, precision_and_recall
from pggan.rng import rng

NetworkName = Literal["inception", "dinov2"]
SPLITS = 10
"""Parts of the set whose inception scores are averaged."""
NEIGHBOURHOOD = 3
"""For precision and recall a feature's ball reaches to its third nearest neighbour."""
DENSITY_NEIGHBOURHOOD = 5
"""For density and coverage to its fifth."""
SUBSETS, SUBSET = 100, 1000
"""KID is the mean over so many subsets of at most so many features of either set."""
SUBSET_CLOCK = 1 << 32  # far from the clocks of other random numbers called "metrics"


def fid(fakes: Features | Summary, reals: Features | Summary) -> dict[str, Any]:
    """Return the Fréchet distance of normal distributions fitted to the features: {"value"}."""
    return {"value": frechet_distance(fakes.gaussian, reals.gaussian)}


def kid(fakes: Features, reals: Features) -> dict[str, Any]:
    """Return the mean of `mmd` over random subsets, and their standard deviation: {"value", "deviation", ...}."""
    size, random = min(SUBSET, fakes.count, reals.count), rng(0, "metrics", SUBSET_CLOCK)
    values = [
        mmd(*(each.features[random.choice(each.count, size, replace=False)] for each in (fakes, reals)))
        for _ in range(SUBSETS)
    ]
    return {
        "value": float(np.mean(values)),
        "deviation": float(np.std(values)),
        "subsets": SUBSETS,
        "subset_size": size,
    }


def mmd(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """Return the unbiased squared maximum mean discrepancy of a, b (n, d) for the kernel (x y / d + 1)^3.

    It may be below 0 where the distributions are alike.
    """
    a, b = a.astype(np.float64), b.astype(np.float64)

    def kernel(x: NDArray[np.floating], y: NDArray[np.floating]) -> NDArray[np.floating]:
        return (x @ y.T / x.shape[1] + 1) ** 3

    def mean_of_pairs(x: NDArray[np.floating]) -> float:
        values = kernel(x, x)
        return (values.sum() - np.trace(values)) / (len(x) * (len(x) - 1))

    return float(mean_of_pairs(a) + mean_of_pairs(b) - 2 * kernel(a, b).mean())


def inception_score(fakes: Features, _: object) -> dict[str, Any]:
    """Return mean and standard deviation over `SPLITS` parts of the set, in the library's order: {"mean", ...}."""
    scores = library("metric_isc").isc_features_to_metric(torch.from_numpy(fakes.logits), splits=SPLITS)
    return {
        "mean": scores["inception_score_mean"],
        "deviation": scores["inception_score_std"],
        "splits": SPLITS,
    }


def precision_recall(fakes: Features, reals: Features) -> dict[str, Any]:
    """Return the shares of fakes near reals and of reals near fakes: {"precision", "recall", ...}, each 0 to 1."""
    precision, recall = precision_and_recall(fakes.features, reals.features, NEIGHBOURHOOD)
    return {"precision": precision, "recall": recall, "neighbourhood": NEIGHBOURHOOD}


def density_and_coverage(fakes: Features, reals: Features) -> dict[str, Any]:
    """Return {"density", "coverage", ...} of the fakes among the reals."""
    density, coverage = density_coverage(fakes.features, reals.features, DENSITY_NEIGHBOURHOOD)
    return {"density": density, "coverage": coverage, "neighbourhood": DENSITY_NEIGHBOURHOOD}


@dataclass(frozen=True)
class Figure:
    """What a figure is made of.

    Attributes:
        network: whose features it takes. function: of the features of fakes, and of reals, to numbers by name.
        least: images of a set that it needs. reals: what of the reals, nothing, mean and covariance, or every feature.
        curves: the numbers that change in a training run.
    """

    network: NetworkName
    function: Callable[[Features, Any], dict[str, Any]]
    least: int
    reals: Literal["nothing", "distribution", "features"]
    curves: tuple[str, ...] = ("value",)


DENSITY = Figure("inception", density_and_coverage, DENSITY_NEIGHBOURHOOD + 1, "features", ("density", "coverage"))
FIGURES: dict[str, Figure] = {
    "fid": Figure("inception", fid, 2, "distribution"),
    "is": Figure("inception", inception_score, SPLITS, "nothing", ("mean",)),
    "pr": Figure("inception", precision_recall, NEIGHBOURHOOD + 1, "features", ("precision", "recall")),
    "kid": Figure("inception", kid, 2, "features"),
    "dc": DENSITY,
    "fd-dinov2": Figure("dinov2", fid, 2, "distribution"),
    "kd-dinov2": Figure("dinov2", kid, 2, "features"),
    "dc-dinov2": replace(DENSITY, network="dinov2"),
}


def networks_of(metrics: Iterable[str], *, reals: bool = False) -> list[NetworkName]:
    """Return the networks that metrics take features of, each once; with `reals`, those that describe reals."""
    needed = [FIGURES[metric] for metric in metrics if metric in FIGURES]
    return list(dict.fromkeys(figure.network for figure in needed if not reals or figure.reals != "nothing"))


def figure_name(metric: str, recipe: Mapping[str, Any], count: int | None = None) -> str:
    """Return the metric with the number of images, if given, and with its resizing: fid50k, fid2048-clean."""
    name, _, suffix = metric.partition("-")
    if count is not None:
        name += f"{count // 1000}k" if count and count % 1000 == 0 else str(count)
    return "-".join(filter(None, (name, suffix, "clean" if recipe.get("resize") == RESIZES["clean"] else "")))


def figures(
    fakes: Mapping[NetworkName, Features],
    reals: Mapping[NetworkName, Features | Summary],
    metrics: Sequence[str],
    recipes: Mapping[NetworkName, Recipe],
) -> dict[str, dict[str, Any]]:
    """Return JSON-ready records by `figure_name`: metric, numbers, numbers of images, and the extractor's recipe.

    Features and recipes are given by network; the inception score needs no reals. Raises DataError for too few images
    and for unknown metrics.
    """
    records: dict[str, dict[str, Any]] = {}
    for metric in metrics:
        if metric not in FIGURES:
            raise DataError(f"unknown metric {metric!r}; choose from {', '.join(FIGURES)}")
        figure = FIGURES[metric]
        own, real = fakes[figure.network], reals.get(figure.network)
        counts = [own.count]
        if figure.reals != "nothing":
            if real is None:
                raise DataError(f"{metric} compares with real images, and none were given")
            counts.append(real.count)
        if min(counts) < figure.least:
            raise DataError(f"{metric} needs at least {figure.least} images of either set, not {min(counts)}")
        numbers = figure.function(own, real)
        if len(counts) > 1:
            numbers["reals"] = counts[1]
        recipe = recipes[figure.network]
        records[figure_name(metric, recipe, own.count)] = {
            "metric": metric,
            **numbers,
            "images": own.count,
            **recipe,
        }
    return records
