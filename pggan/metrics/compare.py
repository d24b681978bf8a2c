"""Compare a set of images with real images, and the reals with each other (the floor).

    images, reals  ->  one pass over each, for all requested metrics  ->  numbers

Results that depend on the reals alone are cached by the digest of the data and every setting that they depend on.
"""

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from datatools.errors import DataError
from datatools.text import counted
from pggan.metrics import inception as fidelity
from pggan.metrics.cache import Cache, Key
from pggan.metrics.image_sets import ImageSet
from pggan.metrics.inception import Extractor, InceptionFeatures
from pggan.metrics.ms_ssim import SMALLEST as MS_SSIM_SMALLEST
from pggan.metrics.ms_ssim import ms_ssim
from pggan.metrics.swd import Descriptors, descriptor_bytes, levels, require_room, swd

MetricName = Literal["swd", "ms-ssim", "fid", "is", "pr"]
METRICS: tuple[MetricName, ...] = get_args(MetricName)
LEAST: dict[MetricName, int] = {
    "swd": 2,
    "ms-ssim": 2,
    "fid": 2,
    "is": fidelity.SPLITS,
    "pr": fidelity.NEIGHBOURHOOD + 1,
}
"""Images that a metric needs."""
Progress = Callable[[str, int, int], object]
"""What is being done, how much of it is done since the last call, and how much there is in all."""

IN_MEMORY = 1 << 29
"""Descriptors of a set of at most so many bytes are held in memory, others in temporary files.

Two sets are filled at a time, and copied level by level to be compared; at 16 x 16 pixels the one level is the whole
set. Together that is four times as much, which leaves room below 4 GB for the program and the projections.
"""
BATCH_VALUES = 1 << 22
LARGEST_BATCH = 256
VERSION = 2
"""Of what is kept about reals: raised when the same settings give other numbers."""


@dataclass(frozen=True)
class Options:
    """How to measure; only numbers with the same options can be compared.

    Attributes:
        count: images of either set; FID and precision take all reals all the same. seed: of patches, directions and
            mirroring. mirror: whether half of the reals are mirrored, as a run with mirroring sees them.
        patches, repeats, directions: of the sliced Wasserstein distance; those of the paper.
        floor: whether reals are compared with other reals, where there are enough.
        device: where to compute; the CPU in place of "mps", which has no float64.
        cache: folder for what depends on the reals alone; None keeps nothing.
        extractor: network of FID, inception score, precision and recall.
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
    extractor: Extractor | None = None


@dataclass(frozen=True)
class Levels:
    """Sliced Wasserstein distances times 1000 by the size of the level, largest first."""

    by_size: dict[int, float]

    @property
    def average(self) -> float:
        return float(np.mean(list(self.by_size.values())))

    def to_json(self) -> dict[str, Any]:
        """Return {"levels": {"64": ...}, "average": ...}."""
        return {"levels": {str(size): value for size, value in self.by_size.items()}, "average": self.average}


@dataclass(frozen=True)
class Results:
    """Results of a measurement; None for what was not requested. `floor` and `ms_ssim_reals` are of reals alone.

    `figures`: FID and the others by names that state the number of images. `notes`: lines for the user.
    """

    resolution: int
    count: int
    swd: Levels | None = None
    floor: Levels | None = None
    ms_ssim: float | None = None
    ms_ssim_reals: float | None = None
    figures: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return {"swd": {"levels", "average", "floor"} or null, "ms_ssim": number or null, ...}."""
        distances = None
        if self.swd is not None:
            distances = {**self.swd.to_json(), "floor": None if self.floor is None else self.floor.to_json()}
        return {
            "swd": distances,
            "ms_ssim": self.ms_ssim,
            "ms_ssim_reals": self.ms_ssim_reals,
            **self.figures,
            "resolution": self.resolution,
            "images": self.count,
            "notes": list(self.notes),
        }


def measure(
    images: ImageSet,
    reals: ImageSet,
    metrics: Sequence[MetricName],
    options: Options,
    progress: Progress = lambda *_: None,
) -> Results:
    """Measure `images` against `reals`: metrics "swd", "ms-ssim", "fid", "is", "pr".

    Raises DataError, before any work, for sizes that differ or are too small, for too few images, and for too little
    room for temporary files.
    """
    check(images, reals, metrics, options)
    cache, inception = Cache(options.cache), inception_metrics(metrics)
    if inception and options.extractor is None:
        raise ValueError(f"{', '.join(inception)}: options have no extractor")
    with ExitStack() as stack:
        passes = ImagePasses(options, progress)
        own = theirs = features = None
        if "swd" in metrics:
            passes.require_room(images.resolution)
            own, theirs = (stack.enter_context(passes.descriptors(images.resolution, which)) for which in (0, 1))
        results = _reals_alone(passes, reals, theirs, "ms-ssim" in metrics, cache)
        if "fid" in metrics or "pr" in metrics:
            features = _features(passes, reals, cache)
        extractor = options.extractor if inception else None
        similarity, described = passes.scan(
            images, "images", options.count, gathered=own, pairs="ms-ssim" in metrics, extractor=extractor
        )
        results = replace(results, ms_ssim=similarity, notes=(*results.notes, *cache.notes))
        if own is not None and theirs is not None:
            results = replace(results, swd=passes.distance(own, theirs, "distance"))
        if described is not None and extractor is not None:
            results = replace(results, figures=fidelity.figures(described, features, inception, extractor.recipe))
        return results


def check(images: ImageSet, reals: ImageSet, metrics: Sequence[MetricName], options: Options) -> None:
    """Raise DataError where the sets do not suit the metrics."""
    for metric in metrics:
        if metric not in METRICS:
            raise DataError(f"unknown metric {metric!r}; choose from {', '.join(METRICS)}")
    if not metrics:
        raise DataError(f"no metric was named; choose from {', '.join(METRICS)}")
    if images.resolution != reals.resolution:
        raise DataError(
            f"{images.name} has images of {images.resolution} x {images.resolution} pixels, {reals.name} of "
            f"{reals.resolution} x {reals.resolution}: sets that are compared must be of one size"
        )
    if "swd" in metrics:
        levels(images.resolution)
    if "ms-ssim" in metrics and images.resolution % MS_SSIM_SMALLEST:
        raise DataError(
            f"images of {images.resolution} x {images.resolution} pixels: MS-SSIM needs a side that is a multiple of "
            f"{MS_SSIM_SMALLEST}"
        )
    for metric in metrics:  # the inception score needs no reals
        if metric != "is" and reals.count < LEAST[metric]:
            raise DataError(
                f"{reals.name} has too few images for {metric}: {reals.count}, and at least {LEAST[metric]} reals are "
                "needed; give a larger set"
            )
    least = max(LEAST[metric] for metric in metrics)
    if options.count < least:
        are = "is" if options.count == 1 else "are"
        raise DataError(
            f"{counted(options.count, 'image')} {are} too few for {', '.join(metrics)}: at least {least} are needed"
        )
    for each in (images, *([reals] if "swd" in metrics else [])):
        if each.count < options.count:
            raise DataError(
                f"{each.name} has {each.count} images, {options.count} are to be measured: measure fewer or give more"
            )


class ImagePasses:
    """Passes over sets of images with the same options and the same progress bar."""

    def __init__(self, options: Options, progress: Progress) -> None:
        self.options, self.progress = options, progress
        device = torch.device(options.device)
        self.device = torch.device("cpu") if device.type == "mps" else device

    def require_room(self, resolution: int) -> None:
        """Raise DataError where the folder of temporary files has no room for two sets.

        Two are filled at a time: those of the other reals are deleted before the first image is read.
        """
        if folder := self._folder(resolution):
            require_room(folder, 2 * self._bytes(resolution))

    def _bytes(self, resolution: int) -> int:
        return descriptor_bytes(self.options.count, resolution, self.options.patches)

    def _folder(self, resolution: int) -> Path | None:
        return None if self._bytes(resolution) <= IN_MEMORY else Path(tempfile.gettempdir())

    def descriptors(self, resolution: int, which: int) -> Descriptors:
        """Return descriptors for set number `which`: patches of compared sets lie at different places."""
        options = self.options
        return Descriptors(
            options.count,
            resolution,
            3 * options.seed + which,
            patches=options.patches,
            folder=self._folder(resolution),
            device=self.device,
        )

    def scan(
        self,
        images: ImageSet,
        what: str,
        count: int,
        *,
        start: int = 0,
        mirror: bool = False,
        gathered: Descriptors | None = None,
        pairs: bool = False,
        extractor: Extractor | None = None,
    ) -> tuple[float | None, InceptionFeatures | None]:
        """Read `count` images from `start` on once, for all metrics; return MS-SSIM and features, None if not wanted.

        With `pairs`, images 2k and 2k + 1 are compared.
        """
        similarities: list[NDArray[np.float64]] = []
        features: list[InceptionFeatures] = []
        size = min(max(BATCH_VALUES // (3 * images.resolution**2) // 2 * 2, 2), LARGEST_BATCH)  # even: whole pairs
        seed = self.options.seed if mirror else None
        for batch in images.batches(count, size, start=start, mirror_seed=seed):
            if gathered is not None:
                gathered.add(batch)
            if pairs:
                even = len(batch) // 2 * 2
                similarities.append(ms_ssim(batch[0:even:2], batch[1:even:2], device=self.device))
            if extractor is not None:
                features.append(fidelity.describe([batch], extractor))
            self.progress(what, len(batch), count)
        return float(np.concatenate(similarities).mean()) if similarities else None, _joined(features)

    def distance(self, a: Descriptors, b: Descriptors, what: str) -> Levels:
        options = self.options
        total = len(a.sizes) * options.repeats
        self.progress(what, 0, total)
        step = partial(self.progress, what, 1, total)
        return Levels(swd(a, b, options.seed, options.repeats, options.directions, step))


def _reals_alone(
    passes: ImagePasses, reals: ImageSet, gathered: Descriptors | None, pairs: bool, cache: Cache
) -> Results:
    """Gather the reals' descriptors, and compare reals with other reals unless the cache has it."""
    options = passes.options
    count = min(options.count, reals.count)
    results = Results(reals.resolution, options.count)
    key = _key(reals, options) | {"images": count}
    known = cache.get("ms-ssim", key) if pairs and options.floor else None
    similarity = float(known["value"]) if known else None
    missing = pairs and options.floor and known is None
    if gathered is not None or missing:
        found, _ = passes.scan(reals, "reals", count, mirror=options.mirror, gathered=gathered, pairs=missing)
        if missing:
            similarity = found
            cache.keep("ms-ssim", key, {"value": similarity})
    results = replace(results, ms_ssim_reals=similarity)
    if gathered is None or not options.floor:
        return results
    if reals.count < 2 * count:
        note = f"no floor of SWD: {reals.name} has {reals.count} images, fewer than twice {count}"
        if reals.count // 2 > 1:
            note += f"; with {reals.count // 2} there is one"
        return replace(results, notes=(note,))
    key |= {"patches": options.patches, "repeats": options.repeats, "directions": options.directions}
    known = cache.get("swd-floor", key)
    if known is None:
        with passes.descriptors(reals.resolution, 2) as others:
            passes.scan(reals, "other reals", count, start=count, mirror=options.mirror, gathered=others)
            distances = passes.distance(gathered, others, "distance of reals").by_size
        known = {str(size): distance for size, distance in distances.items()}
        cache.keep("swd-floor", key, known)
    return replace(results, floor=Levels({int(size): float(distance) for size, distance in known.items()}))


def _features(passes: ImagePasses, reals: ImageSet, cache: Cache) -> InceptionFeatures:
    """Return the features of all reals, as usual for FID, which depends on their number."""
    options = passes.options
    assert options.extractor is not None
    key = _key(reals, options) | {"images": reals.count, "recipe": options.extractor.recipe}
    known = cache.get("features", key)
    if known is None:
        what = "features of reals"
        _, features = passes.scan(reals, what, reals.count, mirror=options.mirror, extractor=options.extractor)
        assert features is not None
        known = vars(features)
        cache.keep("features", key, known)
    return InceptionFeatures(**known)


def _key(reals: ImageSet, options: Options) -> Key:
    """Return what the images depend on."""
    about = {"mirror": options.mirror, "seed": options.seed, "version": VERSION}
    return {"digest": reals.digest, **reals.settings, **about}


def inception_metrics(metrics: Sequence[MetricName]) -> list[fidelity.Metric]:
    """Return the metrics that need an extractor."""
    return [metric for metric in metrics if metric in ("fid", "is", "pr")]


def _joined(parts: list[InceptionFeatures]) -> InceptionFeatures | None:
    if not parts:
        return None
    return InceptionFeatures(np.concatenate([p.features for p in parts]), np.concatenate([p.logits for p in parts]))
