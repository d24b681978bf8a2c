"""Statistics of real images as a file that can be shared: numbers without images.

    reals  ->  features  ->  mean and covariance, or the features themselves  ->  file  ->  Reference

A figure is the same number by a reference as by the images that it was made of.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from datatools.errors import DataError, SettingError, one_line
from datatools.files import as_data_error, atomic_path, check_readable, unlike, utf8_path
from pggan.metrics.arrays import Bytes
from pggan.metrics.features import Extractor, Features, Recipe, Summary
from pggan.metrics.figures import FIGURES, NetworkName, networks_of
from pggan.metrics.frechet import Gaussian

FORMAT, VERSION, METADATA = "pggan-reference", 1, "pggan"
LIBRARY = "library"
"""Part of a recipe that does not have to be the same: versions of a library describe images alike."""


@dataclass(frozen=True)
class Reference:
    """Statistics of `count` images of `resolution` pixels, in the place of the images (an `ImageSet` without any).

    Attributes:
        digest, settings: of the images that they were made of. mirror: whether half of these were mirrored.
        statistics, recipes: by network.
    """

    name: str
    count: int
    resolution: int
    digest: str | None
    settings: dict[str, Any]
    mirror: bool
    statistics: Mapping[NetworkName, Features | Summary]
    recipes: Mapping[NetworkName, Recipe]

    def batches(self, *_: object, **__: object) -> Iterator[Bytes]:
        raise DataError(f"{self.name}: has numbers of images, and no images")

    def require(self, metrics: Sequence[str], mirror: bool) -> None:
        """Raise DataError where these statistics are not enough for the metrics, or of images mirrored otherwise."""
        for metric in metrics:
            figure = FIGURES.get(metric)
            if figure is None:
                raise DataError(
                    f"{metric} compares images, {self.name} has none: give real images, or leave {metric} out"
                )
            if figure.reals == "nothing":
                continue
            statistics = self.statistics.get(figure.network)
            if statistics is None or (figure.reals == "features" and not isinstance(statistics, Features)):
                what = "features" if figure.reals == "features" else "statistics"
                raise DataError(
                    f"{self.name}: has no {what} by {figure.network}, which {metric} needs; write it for that metric"
                )
        if mirror != self.mirror:
            raise SettingError(
                "mirror",
                f"is {'on' if mirror else 'off'}, and {self.name} is of reals of which "
                f"{'half' if self.mirror else 'none'} were mirrored: use another one, or change this",
            )

    def require_recipe(self, network: NetworkName, extractor: Extractor) -> None:
        """Raise DataError where another network or another resizing made these statistics."""
        for key in (self.recipes[network].keys() | extractor.recipe.keys()) - {LIBRARY}:
            theirs, ours = self.recipes[network].get(key), extractor.recipe.get(key)
            if theirs != ours:
                raise DataError(
                    f"{self.name}: made with {key} {theirs!r}, not {ours!r}; describe images in the same way"
                )


def statistics_for(
    features: Mapping[NetworkName, Features | Summary], metrics: Sequence[str]
) -> dict[NetworkName, Features | Summary]:
    """Return what the metrics need of the reals: their features, or their mean and covariance where these do."""
    whole = {FIGURES[metric].network for metric in metrics if FIGURES[metric].reals == "features"}
    return {
        network: features[network] if network in whole else Summary(features[network].count, features[network].gaussian)
        for network in networks_of(metrics, reals=True)
    }


def write_reference(path: Path, reference: Reference) -> None:
    """Write the file; its bytes depend on the reference alone. Raises DataError where it cannot be written."""
    arrays: dict[str, NDArray[Any]] = {}
    for network, statistics in reference.statistics.items():
        if isinstance(statistics, Features):
            arrays[f"{network}.features"] = statistics.features
        else:
            arrays[f"{network}.mean"] = statistics.gaussian.mean
            arrays[f"{network}.covariance"] = statistics.gaussian.covariance
    heading = {
        "format": FORMAT,
        "version": VERSION,
        "images": reference.count,
        "resolution": reference.resolution,
        "digest": reference.digest,
        "settings": reference.settings,
        "mirror": reference.mirror,
        "recipes": dict(reference.recipes),
    }
    data = safetensors.numpy.save(
        {name: np.ascontiguousarray(array) for name, array in arrays.items()},
        {METADATA: json.dumps(heading, sort_keys=True)},
    )
    with as_data_error(path), atomic_path(path) as temporary:
        temporary.write_bytes(data)


def read_reference(path: Path) -> Reference:
    """Return the reference of a file that `write_reference` wrote. Raises DataError for any other."""
    check_readable(path, "reference file", "a file of reference statistics")
    try:
        with utf8_path(path) as name, safetensors.safe_open(name, framework="numpy") as file:
            heading = json.loads((file.metadata() or {}).get(METADATA, "null"))
            if not isinstance(heading, dict) or heading.get("format") != FORMAT:
                raise DataError(f"{path}: is not a file of reference statistics")
            if heading.get("version") != VERSION:
                raise DataError(
                    f"{path}: reference statistics of version {heading.get('version')}, this program reads {VERSION}"
                )
            arrays = safetensors.numpy.load_file(name)
        count = int(heading["images"])
        return Reference(
            name=str(path),
            count=count,
            resolution=int(heading["resolution"]),
            digest=heading["digest"],
            settings=dict(heading["settings"]),
            mirror=bool(heading["mirror"]),
            statistics={network: _statistics(arrays, network, count) for network in heading["recipes"]},
            recipes={network: dict(recipe) for network, recipe in heading["recipes"].items()},
        )
    except (
        OSError,
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
        RecursionError,
        safetensors.SafetensorError,
    ) as error:
        what = unlike(path) or one_line(error, 200)
        raise DataError(
            f"{path}: cannot be read as reference statistics ({what}); it is damaged or another file"
        ) from error


def _statistics(arrays: Mapping[str, NDArray[Any]], network: str, count: int) -> Features | Summary:
    """Return the statistics by a network; ValueError for shapes that do not fit each other and for other values."""
    own = {name.partition(".")[2]: array for name, array in arrays.items() if name.startswith(f"{network}.")}
    for name, array in own.items():
        if not np.isfinite(array).all():
            raise ValueError(f"{network}.{name} holds values that are not finite")
    if "features" in own:
        features = own["features"]
        if features.ndim != 2 or len(features) != count or features.dtype != np.float32:
            raise ValueError(f"{network}.features is {features.shape} {features.dtype} for {count} images")
        return Features(features, np.zeros((count, 0), np.float32))
    mean, covariance = own["mean"], own["covariance"]
    if mean.ndim != 1 or covariance.shape != (len(mean), len(mean)) or mean.dtype != np.float64:
        raise ValueError(f"{network}.covariance is {covariance.shape} for a mean of {mean.shape}")
    return Summary(count, Gaussian(mean, covariance))
