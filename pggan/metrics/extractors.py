"""Networks that describe images, by name, with weights by path: the option `--weights` and what opens them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import click

from datatools.cli import expand_home
from datatools.errors import DataError, SettingError
from pggan.metrics.dinov2 import DinoV2
from pggan.metrics.distances import Distance, DistanceName, PixelDistance
from pggan.metrics.features import Extractor
from pggan.metrics.figures import NetworkName, networks_of
from pggan.metrics.inception import RESIZES, FidResize, Inception
from pggan.metrics.lpips import Lpips
from pggan.metrics.options import Options
from pggan.metrics.path_length import PATHS

Weights = Mapping[str, Path]
"""Weight files by the network's name."""
NETWORKS = (*get_args(NetworkName), "lpips")
WEIGHTS_HELP = "Weight files of the networks of metrics: inception=FILE,dinov2=FILE,lpips=FILE."
FID_RESIZE_HELP = "How images come to the Inception network's size."
FID_RESIZE = click.Choice(list(RESIZES))


class WeightFiles(click.ParamType):
    """The value "inception=FILE,lpips=FILE" as paths by name, of which ~ is expanded; commas may be in paths."""

    name = "name=file,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        given = dict(value) if not isinstance(value, str) else {}
        parts = re.split(r",(?=[\w-]+=)", value) if isinstance(value, str) else []
        for part in parts:
            name, equals, path = part.partition("=")
            if not equals or not path or name in given:
                self.fail(f"{part}: must be a network and its file, each network once: inception=FILE", param, ctx)
            try:
                given[name] = Path(expand_home(path))
            except DataError as error:
                self.fail(str(error), param, ctx)
        for name in given:
            if name not in NETWORKS:
                self.fail(f"{name}: unknown network; choose from {', '.join(NETWORKS)}", param, ctx)
        return given


def with_networks(
    options: Options,
    metrics: Sequence[str],
    weights: Weights | None,
    fid_resize: FidResize,
    distance: DistanceName = "lpips",
    *,
    download: bool,
) -> Options:
    """Return the options with the networks that the metrics need, on the options' device.

    `distance`: of path lengths. `download`: let torch-fidelity fetch the Inception network's weights where none are
    given. Raises SettingError for weights that are missing, and DataError for those that cannot be used.
    """
    given, device = weights or {}, options.device
    paths = [metric for metric in metrics if metric in PATHS]
    if paths and distance == "lpips" and "lpips" not in given:
        raise SettingError(
            "distance", f"lpips: {paths[0]} needs --weights lpips=FILE, see docs/training.md; pixels needs no weights"
        )
    needed: dict[str, list[str]] = {}
    for metric in metrics:
        for network in (*networks_of([metric]), *(["lpips"] if metric == "lpips" else [])):
            needed.setdefault(network, []).append(metric)
    for network, users in needed.items():
        if network not in given and not (download and network == "inception"):
            raise SettingError(
                "weights",
                f"{network}=FILE is needed for {', '.join(users)}: give the file of the network's weights, "
                "see docs/training.md",
            )
    extractors: dict[NetworkName, Extractor] = {}
    if "inception" in needed:
        extractors["inception"] = Inception(given.get("inception"), device, fid_resize)
    if "dinov2" in needed:
        extractors["dinov2"] = DinoV2(given["dinov2"], device)
    lpips = Lpips(given["lpips"], device) if "lpips" in needed or (paths and distance == "lpips") else None
    between: Distance | None = PixelDistance() if distance == "pixels" else lpips
    return replace(options, extractors=extractors, lpips=lpips, distance=between)
