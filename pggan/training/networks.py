"""The networks in training, and their optimizers."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch.optim import Adam

from pggan.config.settings import AnyLossConfig, OptimizerConfig, Preset
from pggan.config.style import StyleLossConfig
from pggan.model.families import new_discriminator, new_generator
from pggan.model.files import NetworkSet
from pggan.model.networks import Network
from pggan.model.style_losses import lazy_adam
from pggan.rng import seeded, torch_seed

NetworkName = Literal["d", "g"]


@dataclass
class Networks(NetworkSet):
    """Networks in training, with both optimizers."""

    g_optimizer: Adam
    d_optimizer: Adam

    def reset_optimizers(self) -> None:
        """Let Adam start anew: no moments, no steps."""
        self.g_optimizer.state.clear()
        self.d_optimizer.state.clear()


def build_networks(preset: Preset, seed: int, device: torch.device) -> Networks:
    """Return new networks; their weights are drawn on the CPU and so the same for every device."""
    with seeded(torch_seed(seed, "weights", 0), torch.device("cpu")):
        generator, discriminator = new_generator(preset.network), new_discriminator(preset.network)
    ema, *others = (new_generator(preset.network) for _ in range(1 + len(preset.optimizer.ema_kimg)))
    generator.to(device).train()
    discriminator.to(device).train()
    for average in (ema, *others):
        average.load_state_dict(generator.state_dict())
        average.to(device).eval().requires_grad_(False)
    return Networks(
        ema,
        generator,
        discriminator,
        _adam(generator, preset.optimizer, lazy_interval(preset.loss, "g")),
        _adam(discriminator, preset.optimizer, lazy_interval(preset.loss, "d")),
        averages=dict(zip(preset.optimizer.ema_kimg, others, strict=True)),
    )


def lazy_interval(loss: AnyLossConfig, network: NetworkName) -> int:
    """Return the interval that rescales the network's Adam, see `lazy_adam`; 1 leaves it as it is."""
    if not isinstance(loss, StyleLossConfig):
        return 1
    return loss.path_interval if network == "g" else loss.r1_interval


def _adam(network: Network, config: OptimizerConfig, interval: int) -> Adam:
    parameters = list(network.parameters())
    fused = parameters[0].device.type in ("cpu", "cuda")
    _, betas = lazy_adam(0.0, (config.beta1, config.beta2), interval)
    return Adam(parameters, lr=0.0, betas=betas, eps=config.eps, fused=fused)
