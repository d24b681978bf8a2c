"""Compare a set of images with real images, and the reals with each other (the floor).

    images, reals  ->  one pass over each, for all requested metrics  ->  numbers

Results that depend on the reals alone are cached by the digest of the data and every setting that they depend on.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pggan.metrics.arrays import Bytes, Progress
from pggan.metrics.cache import Cache, Key
from pggan.metrics.features import Extractor, Features, Summary, describe, joined
from pggan.metrics.figures import FIGURES, NetworkName, figure_name, figures, networks_of
from pggan.metrics.image_sets import ImageSet, ModelSet
from pggan.metrics.lpips import Lpips
from pggan.metrics.ms_ssim import ms_ssim
from pggan.metrics.options import OF_PAIRS, Options, check, check_described
from pggan.metrics.path_length import PATHS, path_length
from pggan.metrics.reference import Reference, statistics_for
from pggan.metrics.results import Levels, Results
from pggan.metrics.swd import Descriptors, descriptor_bytes, require_room, swd
from pggan.precision import full_products

IN_MEMORY = 1 << 29
"""Descriptors of a set of at most so many bytes are held in memory, others in temporary files.

Two sets are filled at a time, and copied level by level to be compared; at 16 x 16 pixels the one level is the whole
set. Together that is four times as much, which leaves room below 4 GB for the program and the projections.
"""
BATCH_VALUES = 1 << 22
LARGEST_BATCH = 256
VERSION = 2
"""Of what is kept about reals: raised when the same settings give other numbers."""


@full_products()
def measure(
    images: ImageSet,
    reals: ImageSet | None,
    metrics: Sequence[str],
    options: Options,
    progress: Progress = lambda *_: None,
) -> Results:
    """Measure `images` against `reals`, which may be a `Reference`, or None for path lengths alone, by `METRICS`.

    Raises DataError, before any work, for sizes that differ or are too small, for too few images, for too little room
    for temporary files, and for a reference that does not fit.
    """
    check(images, reals, metrics, options)
    paths = [metric for metric in metrics if metric in PATHS]
    results = Results(images.resolution, options.count)
    if reals is not None and (others := [metric for metric in metrics if metric not in PATHS]):
        results = _compared(images, reals, others, options, progress)
    if not paths:
        return results
    if options.distance is None:
        raise ValueError(f"options have no distance for {paths[0]}")
    assert isinstance(images, ModelSet)
    records = [
        path_length(images.model, metric, options.distance, options.count, options.seed, progress) for metric in paths
    ]
    named = {figure_name(record["metric"], record, options.count): record for record in records}
    return replace(results, figures=results.figures | named)


def _compared(
    images: ImageSet, reals: ImageSet, metrics: Sequence[str], options: Options, progress: Progress
) -> Results:
    cache, extractors = Cache(options.cache), _extractors(metrics, options)
    with ExitStack() as stack:
        passes = ImagePasses(options, progress)
        own = theirs = None
        if "swd" in metrics:
            passes.require_room(images.resolution)
            own, theirs = (stack.enter_context(passes.descriptors(images.resolution, which)) for which in (0, 1))
        pairs = passes.pair_measures(metrics)
        results = _reals_alone(passes, reals, theirs, pairs, cache)
        features = real_features(passes, reals, metrics, cache)
        means, described = passes.scan(
            images, "images", options.count, gathered=own, pairs=pairs, extractors=extractors
        )
        results = replace(results, pairs=means, notes=(*results.notes, *cache.notes))
        if own is not None and theirs is not None:
            results = replace(results, swd=passes.distance(own, theirs, "distance"))
        recipes = {network: extractor.recipe for network, extractor in extractors.items()}
        wanted = [metric for metric in metrics if metric in FIGURES]
        return replace(results, figures=figures(described, features, wanted, recipes))


@full_products()
def describe_reals(
    reals: ImageSet, metrics: Sequence[str], options: Options, progress: Progress = lambda *_: None
) -> Reference:
    """Return what `metrics` need of all reals, to measure against them later and elsewhere."""
    check_described(reals, metrics)
    features = real_features(ImagePasses(options, progress), reals, metrics, Cache(options.cache))
    recipes = {network: _extractors(metrics, options)[network].recipe for network in features}
    return Reference(
        name=reals.name,
        count=reals.count,
        resolution=reals.resolution,
        digest=reals.digest,
        settings=reals.settings,
        mirror=options.mirror,
        statistics=statistics_for(features, metrics),
        recipes=recipes,
    )


PairMeasure = Callable[[Bytes, Bytes], NDArray[np.float64]]
"""(n, 3, r, r) uint8 twice -> (n,)."""


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
        pairs: Mapping[str, PairMeasure] | None = None,
        extractors: Mapping[NetworkName, Extractor] | None = None,
    ) -> tuple[dict[str, float], dict[NetworkName, Features]]:
        """Read `count` images from `start` on once, for all metrics; return means over pairs, and features.

        `pairs` compare images 2k and 2k + 1.
        """
        values: dict[str, list[NDArray[np.float64]]] = {name: [] for name in pairs or {}}
        features: dict[NetworkName, list[Features]] = {network: [] for network in extractors or {}}
        size = min(max(BATCH_VALUES // (3 * images.resolution**2) // 2 * 2, 2), LARGEST_BATCH)  # even: whole pairs
        seed = self.options.seed if mirror else None
        for batch in images.batches(count, size, start=start, mirror_seed=seed):
            if gathered is not None:
                gathered.add(batch)
            for name, compared in (pairs or {}).items():
                even = len(batch) // 2 * 2
                values[name].append(compared(batch[0:even:2], batch[1:even:2]))
            for network, extractor in (extractors or {}).items():
                features[network].append(describe([batch], extractor))
            self.progress(what, len(batch), count)
        means = {name: float(np.concatenate(parts).mean()) for name, parts in values.items()}
        return means, {network: joined(parts) for network, parts in features.items()}

    def pair_measures(self, metrics: Sequence[str]) -> dict[str, PairMeasure]:
        """Return what compares pairs for the metrics."""
        measures: dict[str, PairMeasure | None] = {
            "ms-ssim": partial(ms_ssim, device=self.device),
            "lpips": self.options.lpips,
        }
        needed = {name: measures[name] for name in OF_PAIRS if name in metrics}
        if None in needed.values():
            raise ValueError("options have no network for lpips")
        return {name: measure for name, measure in needed.items() if measure is not None}

    def distance(self, a: Descriptors, b: Descriptors, what: str) -> Levels:
        options = self.options
        total = len(a.sizes) * options.repeats
        self.progress(what, 0, total)
        step = partial(self.progress, what, 1, total)
        return Levels(swd(a, b, options.seed, options.repeats, options.directions, step))


def _reals_alone(
    passes: ImagePasses,
    reals: ImageSet,
    gathered: Descriptors | None,
    pairs: Mapping[str, PairMeasure],
    cache: Cache,
) -> Results:
    """Gather the reals' descriptors, and compare reals with other reals unless the cache has it."""
    options = passes.options
    count = min(options.count, reals.count)
    results = Results(reals.resolution, options.count)
    key = _key(reals, options) | {"images": count}
    keys = {
        name: key | ({"recipe": compared.recipe} if isinstance(compared, Lpips) else {})
        for name, compared in pairs.items()
    }
    stored = {name: cache.get(name, own) for name, own in keys.items()} if options.floor else {}
    means = {name: float(values["value"]) for name, values in stored.items() if values is not None}
    missing = {name: pairs[name] for name, values in stored.items() if values is None}
    if gathered is not None or missing:
        found, _ = passes.scan(reals, "reals", count, mirror=options.mirror, gathered=gathered, pairs=missing)
        for name, value in found.items():
            cache.keep(name, keys[name], {"value": value})
        means |= found
    results = replace(results, pairs_reals=means)
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


def real_features(
    passes: ImagePasses, reals: ImageSet, metrics: Sequence[str], cache: Cache
) -> Mapping[NetworkName, Features | Summary]:
    """Return the features that metrics need of all reals, as usual for FID, which depends on their number."""
    options = passes.options
    extractors = _extractors(metrics, options, reals=True)
    if isinstance(reals, Reference):
        for network, extractor in extractors.items():
            reals.require_recipe(network, extractor)
        return reals.statistics
    about = _key(reals, options) | {"images": reals.count}
    keys = {network: about | {"recipe": extractor.recipe} for network, extractor in extractors.items()}
    stored = {network: cache.get("features", key) for network, key in keys.items()}
    features = {network: Features(**values) for network, values in stored.items() if values is not None}
    missing = {network: extractor for network, extractor in extractors.items() if network not in features}
    if missing:
        what = "features of reals"
        _, found = passes.scan(reals, what, reals.count, mirror=options.mirror, extractors=missing)
        for network, each in found.items():
            cache.keep("features", keys[network], {"features": each.features, "logits": each.logits})
        features |= found
    return features


def _extractors(metrics: Sequence[str], options: Options, *, reals: bool = False) -> dict[NetworkName, Extractor]:
    """Return the networks that describe images, or with `reals` those that describe reals, for the metrics."""
    needed = networks_of(metrics, reals=reals)
    if missing := [network for network in needed if network not in options.extractors]:
        raise ValueError(f"{', '.join(missing)}: options have no extractor of that name")
    return {network: options.extractors[network] for network in needed}


def _key(reals: ImageSet, options: Options) -> Key:
    """Return what the images depend on."""
    about = {"mirror": options.mirror, "seed": options.seed, "version": VERSION}
    return {"digest": reals.digest, **reals.settings, **about}
