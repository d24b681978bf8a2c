"""Build the network that a training run starts from."""

from pathlib import Path

from torch import Tensor, nn

from datatools.errors import DataError
from datatools.restore.fit.settings import FitSettings
from datatools.restore.networks import ResidualBlock, SuperResolver
from datatools.restore.weights import NETWORKS, Network, load_weights

TEXTURE_CHANNELS = 24
"""Channels of the layers that make texture."""


def initial_network(settings: FitSettings) -> Network:
    """Return the network before the first step. Raise DataError for a weight file that does not fit."""
    if settings.init_from is None:
        return NETWORKS[settings.task](**settings.network)
    start, _ = load_weights(Path(settings.init_from), settings.task)
    chosen = start.settings | {"self_ensemble": 1} | settings.network
    if settings.variant == "perceptual" and not chosen["texture"]:
        chosen["texture"] = TEXTURE_CHANNELS
    network = NETWORKS[settings.task](**chosen)
    weights = start.state_dict()
    if isinstance(network, SuperResolver) and isinstance(start, SuperResolver):
        weights = _deepen(network, start, settings.init_from)
    try:
        network.load_state_dict(network.state_dict() | weights)
    except RuntimeError as error:
        raise DataError(
            f"{settings.init_from} does not fit the requested network: {str(error).splitlines()[0]}"
        ) from error
    if settings.variant == "perceptual":
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(name.startswith("texture."))
    return network


def _deepen(network: SuperResolver, start: SuperResolver, path: str) -> dict[str, Tensor]:
    """Return the weights of `start` under the names of `network`, which has as many residual blocks or more.

    New blocks lie evenly between the old ones and start as identities. Raise DataError if `network` has fewer blocks.
    """
    places, blocks = len(network.body), len(start.body)
    if places < blocks:
        raise DataError(f"{path} has {blocks} residual blocks, so --blocks {places} is too few")
    for block in network.body:
        assert isinstance(block, ResidualBlock)
        nn.init.zeros_(block.second.weight)
    weights = {name: value for name, value in start.state_dict().items() if not name.startswith("body.")}
    for number, block in enumerate(start.body):
        place = (number + 1) * places // blocks - 1
        weights |= {f"body.{place}.{name}": value for name, value in block.state_dict().items()}
    return weights
