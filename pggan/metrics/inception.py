"""FID, inception score, precision and recall, by the Inception network of the optional package torch-fidelity.

    images (n, 3, h, w)  ->  features (n, 2048) and logits (n, 1008)  ->  figures whose names state the recipe

FID: Heusel et al. 2017; inception score: Salimans et al. 2016; precision and recall: Kynkäänniemi et al. 2019. Network,
inception score and precision are the library's (Obukhov et al. 2020); the Fréchet distance is `pggan.metrics.frechet`.
"""

import hashlib
import importlib.metadata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import numpy as np
import torch
from torch import Tensor

from datatools.errors import DataError, reason
from datatools.files import unlike
from datatools.optional import import_optional
from pggan.metrics.arrays import Bytes, Floats, require_rgb
from pggan.metrics.frechet import fit, frechet_distance

Metric = Literal["fid", "is", "pr"]
INSTALL = 'pip install --no-deps "torch-fidelity>=0.4,<0.5"'
"""Without the torchvision that it requires: see `datatools.optional`."""
FEATURES, LOGITS = "2048", "logits_unbiased"
SPLITS = 10
"""Parts of the set whose inception scores are averaged."""
NEIGHBOURHOOD = 3
"""A feature's ball reaches to its third nearest neighbour."""
RESIZE = "299 x 299, bilinear without antialiasing, as TensorFlow 1 did"
DISTANCE_ROWS = 10_000
"""Features whose distances are in memory at a time."""


class Extractor(Protocol):
    """A network that describes images; `recipe` identifies it, ready for JSON."""

    recipe: dict[str, str]

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(n, 3, h, w) uint8 on the CPU -> features (n, d), logits (n, c), float32, on the CPU."""


class Inception:
    """The Inception network of 2015 with the original weights, as FID is defined.

    Args:
        weights: file of the weights; None: torch-fidelity downloads it, or takes what it downloaded before.
        device: where the network computes.

    Raises DataError where the package is missing, the weights cannot be had, or they are of another network.
    """

    def __init__(self, weights: Path | None = None, device: str | torch.device = "cpu") -> None:
        module = _library("feature_extractor_inceptionv3")
        url: str = module.URL_INCEPTION_V3
        used = weights or Path(torch.hub.get_dir(), "checkpoints", Path(url).name)
        if weights is not None:
            _require_state(weights)
        try:
            path = None if weights is None else str(weights)
            network = module.FeatureExtractorInceptionV3("inception-v3-compat", [FEATURES, LOGITS], path)
        except OSError as error:
            raise DataError(
                f"the weights of the Inception network cannot be downloaded ({error}): "
                f"fetch {url} elsewhere and give the file's path with --inception"
            ) from error
        except Exception as error:  # of load_state_dict, or whatever the bytes of a damaged download lead to
            if weights is None:
                raise DataError(f"{used}: a damaged download; delete it, or give --inception") from error
            raise DataError(f"{weights}: weights of another network; the right ones are at {url}") from error
        self.device = torch.device(device)
        self.network = network.to(self.device)
        self.recipe = {
            "network": "Inception v3, 2015-12-05",
            "resize": RESIZE,
            "weights_sha256": hashlib.sha256(used.read_bytes()).hexdigest(),
            "library": f"torch-fidelity {importlib.metadata.version('torch-fidelity')}",
        }

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            features, logits = self.network(images.to(self.device))
        return features.cpu(), logits.cpu()


@dataclass(frozen=True)
class InceptionFeatures:
    """`features` (n, d) and `logits` (n, c) of a set of images."""

    features: Floats
    logits: Floats


def describe(batches: Iterable[Tensor | Bytes], extractor: Extractor) -> InceptionFeatures:
    """Return features of a set that comes in batches (n, 3, h, w) uint8. Raises DataError for a set without images."""
    features, logits = [], []
    for batch in batches:
        require_rgb(batch)
        described = extractor(torch.as_tensor(batch))
        features.append(described[0].numpy())
        logits.append(described[1].numpy())
    if not features:
        raise DataError("no images to describe")
    return InceptionFeatures(np.concatenate(features), np.concatenate(logits))


def figure_name(metric: Metric, count: int) -> str:
    """Return the metric with the number of images: fid50k, is2048."""
    return f"{metric}{count // 1000}k" if count and count % 1000 == 0 else f"{metric}{count}"


def figures(
    fakes: InceptionFeatures, reals: InceptionFeatures | None, metrics: Sequence[Metric], recipe: dict[str, str]
) -> dict[str, dict[str, Any]]:
    """Return JSON-ready records by `figure_name`: the numbers, the numbers of images, and the extractor's `recipe`.

    The inception score needs no reals. Raises DataError for too few images and for unknown metrics.
    """
    count = len(fakes.features)
    records: dict[str, dict[str, Any]] = {}
    for metric in metrics:
        if metric not in get_args(Metric):
            raise DataError(f"unknown metric {metric!r}; choose from {', '.join(get_args(Metric))}")
        numbers: dict[str, Any]
        if metric == "is":
            numbers = inception_score(fakes)
        elif reals is None:
            raise DataError(f"{metric} compares with real images, and none were given")
        else:
            numbers = {"fid": fid, "pr": precision_recall}[metric](fakes, reals)
            numbers["reals"] = len(reals.features)
        records[figure_name(metric, count)] = {**numbers, "images": count, **recipe}
    return records


def fid(fakes: InceptionFeatures, reals: InceptionFeatures) -> dict[str, Any]:
    """Return the Fréchet distance of normal distributions fitted to the features: {"value"}."""
    if min(len(fakes.features), len(reals.features)) < 2:
        raise DataError("FID needs at least 2 images of either set")
    return {"value": frechet_distance(fit(fakes.features), fit(reals.features))}


def inception_score(fakes: InceptionFeatures) -> dict[str, Any]:
    """Return mean and standard deviation over `SPLITS` parts of the set, in the library's order: {"mean", ...}."""
    if len(fakes.logits) < SPLITS:
        raise DataError(f"the inception score of {SPLITS} parts needs at least as many images, not {len(fakes.logits)}")
    scores = _library("metric_isc").isc_features_to_metric(torch.from_numpy(fakes.logits), splits=SPLITS)
    return {
        "mean": scores["inception_score_mean"],
        "deviation": scores["inception_score_std"],
        "splits": SPLITS,
    }


def precision_recall(fakes: InceptionFeatures, reals: InceptionFeatures) -> dict[str, Any]:
    """Return the shares of fakes near reals and of reals near fakes: {"precision", "recall", ...}, each 0 to 1."""
    if min(len(fakes.features), len(reals.features)) <= NEIGHBOURHOOD:
        raise DataError(f"precision and recall need more than {NEIGHBOURHOOD} images of either set")
    scores = _library("metric_prc").prc_features_to_metric(
        torch.from_numpy(fakes.features),
        torch.from_numpy(reals.features),
        prc_neighborhood=NEIGHBOURHOOD,
        prc_batch_size=DISTANCE_ROWS,
        save_cpu_ram=True,
        verbose=False,
    )
    return {"precision": scores["precision"], "recall": scores["recall"], "neighbourhood": NEIGHBOURHOOD}


def _library(module: str) -> Any:
    try:
        return import_optional(f"torch_fidelity.{module}")
    except (ImportError, RuntimeError) as error:
        raise DataError(
            f"FID, inception score, precision and recall need torch-fidelity ({error}): {INSTALL}"
        ) from error


def _require_state(path: Path) -> None:
    """Raise DataError for a file that is not plain tensors: the library would run code that it may hold."""
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise DataError(f"{path}: is not a file; name the file of the Inception network's weights")
    try:
        torch.load(path, weights_only=True, map_location="cpu")
    except OSError as error:
        raise DataError(f"{path}: the weights cannot be read: {reason(error)}") from error
    except Exception as error:  # whatever the bytes lead to
        content = unlike(path, (b"pk", b"\x80"))
        raise DataError(
            f"{path}: is not a file of weights that PyTorch can read safely{f': {content}' if content else ''}"
        ) from error
