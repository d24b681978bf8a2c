"""Networks that describe images, by name, with weights by path: the option `--weights` and what opens them."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import click
import torch

from datatools.cli import expand_home
from datatools.errors import DataError, SettingError
from pggan.metrics.dinov2 import DinoV2
from pggan.metrics.features import Extractor
from pggan.metrics.figures import NetworkName, networks_of
from pggan.metrics.inception import RESIZES, FidResize, Inception

Weights = Mapping[str, Path]
"""Weight files by the network's name."""
NETWORKS: tuple[NetworkName, ...] = get_args(NetworkName)
WEIGHTS_HELP = "Weight files of the networks of metrics: inception=FILE,dinov2=FILE."
FID_RESIZE_HELP = "How images come to the Inception network's size."
FID_RESIZE = click.Choice(list(RESIZES))


class WeightFiles(click.ParamType):
    """The value "inception=FILE,dinov2=FILE" as paths by name, of which ~ is expanded; commas may be in paths."""

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


def open_extractors(
    metrics: Sequence[str],
    weights: Weights | None,
    fid_resize: FidResize,
    device: str | torch.device,
    *,
    download: bool,
) -> dict[NetworkName, Extractor]:
    """Return the networks that the metrics need.

    `download`: let torch-fidelity fetch the Inception network's weights where none are given. Raises SettingError for
    weights that are missing, and DataError for those that cannot be used.
    """
    given = weights or {}
    opened: dict[NetworkName, Extractor] = {}
    for network in networks_of(metrics):
        if network == "inception" and (download or network in given):
            opened[network] = Inception(given.get(network), device, fid_resize)
        elif network == "dinov2" and network in given:
            opened[network] = DinoV2(given[network], device)
        else:
            names = ", ".join(metric for metric in metrics if network in networks_of([metric]))
            raise SettingError(
                "weights",
                f"{network}=FILE is needed for {names}: give the file of the network's weights, see docs/training.md",
            )
    return opened
