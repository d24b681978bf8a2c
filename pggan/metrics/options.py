"""What can be measured, how, and whether it suits the images: the metrics' names, their options, and checks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from datatools.errors import DataError
from datatools.text import counted
from pggan.config.settings import AnyNetworkConfig
from pggan.metrics.distances import Distance
from pggan.metrics.features import Extractor
from pggan.metrics.figures import FIGURES, NetworkName
from pggan.metrics.image_sets import ImageSet, ModelSet
from pggan.metrics.lpips import SMALLEST as LPIPS_SMALLEST
from pggan.metrics.lpips import Lpips
from pggan.metrics.ms_ssim import SMALLEST as MS_SSIM_SMALLEST
from pggan.metrics.path_length import PATHS, check_paths
from pggan.metrics.reference import Reference
from pggan.metrics.swd import levels

OF_PAIRS = ("ms-ssim", "lpips")
"""Metrics that are means over pairs of images of one set."""
OF_IMAGES = ("swd", *OF_PAIRS)
"""Metrics that compare images themselves; others are in the tables `figures.FIGURES` and `path_length.PATHS`."""
METRICS = (*OF_IMAGES, *FIGURES, *PATHS)
LEAST = dict.fromkeys((*OF_IMAGES, *PATHS), 2) | {name: figure.least for name, figure in FIGURES.items()}
"""Images that a metric needs."""


@dataclass(frozen=True)
class Options:
    """How to measure; only numbers with the same options can be compared.

    Attributes:
        count: images of either set; metrics of features take all reals all the same. seed: of patches, directions and
            mirroring. mirror: whether half of the reals are mirrored, as a run with mirroring sees them.
        patches, repeats, directions: of the sliced Wasserstein distance; those of the paper.
        floor: whether reals are compared with other reals, where there are enough.
        device: where to compute; the CPU in place of "mps", which has no float64.
        cache: folder for what depends on the reals alone; None keeps nothing.
        extractors: the networks of `figures.FIGURES`, by name. lpips: compares pairs for the metric of that name.
        distance: compares the pictures of path lengths.
    """

    count: int = 16_384
    seed: int = 0
    mirror: bool = False
    patches: int = 128
    repeats: int = 4
    directions: int = 128
    floor: bool = True
    device: str | torch.device = "cpu"
    cache: Path | None = None
    extractors: Mapping[NetworkName, Extractor] = field(default_factory=dict)
    lpips: Lpips | None = None
    distance: Distance | None = None


def check(
    images: ImageSet,
    reals: ImageSet | None,
    metrics: Sequence[str],
    options: Options,
    network: AnyNetworkConfig | None = None,
) -> None:
    """Raise DataError where the sets do not suit the metrics; `network`: of the model that `images` stand for."""
    for metric in metrics:
        if metric not in METRICS:
            raise DataError(f"unknown metric {metric!r}; choose from {', '.join(METRICS)}")
    if not metrics:
        raise DataError(f"no metric was named; choose from {', '.join(METRICS)}")
    if isinstance(images, ModelSet):
        network = images.model.config
    check_paths(network, images.resolution, metrics)
    check_count(metrics, options)
    if others := [metric for metric in metrics if metric not in PATHS]:
        if reals is None:
            raise DataError(f"{others[0]} compares with real images, and none were given")
        check_reals(images, reals, others, options)


def check_count(metrics: Sequence[str], options: Options) -> None:
    """Raise DataError where fewer images are to be measured than a metric needs."""
    least = max(LEAST[metric] for metric in metrics)
    if options.count < least:
        are = "is" if options.count == 1 else "are"
        raise DataError(
            f"{counted(options.count, 'image')} {are} too few for {', '.join(metrics)}: at least {least} are needed"
        )


def check_reals(images: ImageSet, reals: ImageSet, metrics: Sequence[str], options: Options) -> None:
    """Raise DataError where the images cannot be compared with the reals by the metrics."""
    if images.resolution != reals.resolution:
        raise DataError(
            f"{images.name} has images of {images.resolution} x {images.resolution} pixels, {reals.name} of "
            f"{reals.resolution} x {reals.resolution}: sets that are compared must be of one size"
        )
    if isinstance(reals, Reference):
        reals.require(metrics, options.mirror)
    if "swd" in metrics:
        levels(images.resolution)
    if "ms-ssim" in metrics and images.resolution % MS_SSIM_SMALLEST:
        raise DataError(
            f"images of {images.resolution} x {images.resolution} pixels: MS-SSIM needs a side that is a multiple of "
            f"{MS_SSIM_SMALLEST}"
        )
    if "lpips" in metrics and images.resolution < LPIPS_SMALLEST:
        raise DataError(
            f"images of {images.resolution} x {images.resolution} pixels: LPIPS needs at least {LPIPS_SMALLEST}"
        )
    for metric in metrics:
        _require_reals(reals, metric)
    for each in (images, *([reals] if "swd" in metrics else [])):
        if each.count < options.count:
            raise DataError(
                f"{each.name} has {each.count} images, {options.count} are to be measured: measure fewer or give more"
            )


def check_described(reals: ImageSet, metrics: Sequence[str]) -> None:
    """Raise DataError unless statistics of the reals are what each of the metrics needs of them."""
    usable = [name for name, figure in FIGURES.items() if figure.reals != "nothing"]
    for metric in metrics:
        if metric not in usable:
            raise DataError(f"{metric} is not computed from statistics of reals; choose from {', '.join(usable)}")
        _require_reals(reals, metric)


def _require_reals(reals: ImageSet, metric: str) -> None:
    if (metric in OF_IMAGES or FIGURES[metric].reals != "nothing") and reals.count < LEAST[metric]:
        raise DataError(
            f"{reals.name} has too few images for {metric}: {reals.count}, and at least {LEAST[metric]} reals are "
            "needed; give a larger set"
        )
