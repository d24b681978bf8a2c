"""What each level adds to the pictures of a generator with skip connections (StyleGAN2, section 4 and figure 8)."""

from typing import Any

import torch
from torch import Tensor

from pggan.model.families import AnyGenerator
from pggan.model.files import BATCH_PIXELS, DEVICE_PIXELS
from pggan.model.style import StyleGenerator
from pggan.rng import normals

SAMPLES = 64  # the paper takes 1024, of finished networks; pixels and channels are samples, too
CLOCK = 32  # draws of the purpose "grid"


class _Moments:
    """Sums over values, added to by each call of a toRGB."""

    def __init__(self) -> None:
        self.count = 0
        self.sums = torch.zeros(2, dtype=torch.float64)  # of values, of squares

    def __call__(self, _: Any, __: Any, rgb: Tensor) -> None:
        of_samples = torch.stack([rgb.sum(dim=(1, 2, 3)), rgb.square().sum(dim=(1, 2, 3))])
        self.count += rgb.numel()
        self.sums += of_samples.cpu().double().sum(dim=1)

    @property
    def deviation(self) -> float:
        mean, square = (self.sums / self.count).tolist()
        return float(max(square - mean**2, 0.0) ** 0.5)


@torch.no_grad()
def rgb_deviations(generator: AnyGenerator, seed: int) -> dict[str, float]:
    """Return the standard deviation of the pixel values of each level's toRGB, by its resolution.

    Of `SAMPLES` latents that the seed gives, without truncation and with the model's own noise. Other generators than
    those with skip connections do not sum pictures of levels: there is nothing to return.
    """
    if not isinstance(generator, StyleGenerator) or generator.config.g_architecture != "skip":
        return {}
    config, device = generator.config, generator.w_average.device
    latents = normals(seed, "grid", CLOCK, (SAMPLES, config.latent_size))
    found = {r: _Moments() for r in config.levels}
    handles = [generator.level(r).to_rgb.register_forward_hook(moments) for r, moments in found.items()]
    step = max(1, (BATCH_PIXELS if device.type == "cpu" else DEVICE_PIXELS) // config.resolution**2)
    try:
        for some in latents.split(step):
            generator(some.to(device), noise="fixed", psi=1.0)
    finally:
        for handle in handles:
            handle.remove()
    return {str(r): moments.deviation for r, moments in found.items()}
