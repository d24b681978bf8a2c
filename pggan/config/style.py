"""Settings of the style-based networks and their losses: StyleGAN2's configurations A to F and its table 2.

Karras et al., "Analyzing and Improving the Image Quality of StyleGAN" (2020), tables 1 and 2. Where paper and published
code differ, the values are the code's.
"""

from dataclasses import dataclass, replace
from typing import Literal

from datatools.errors import SettingError
from pggan.config.checks import check_choices, check_least, check_resolution

Architecture = Literal["stylegan", "orig", "skip", "resnet"]
"""`stylegan` is the network of the original StyleGAN (configuration A), the others are those of table 2."""


@dataclass(frozen=True)
class StyleConfig:
    """Shapes and layers of both networks.

    A level of r pixels has min(2 fmap_base / r, fmap_max) feature maps, as the progressive GAN's; w has `latent_size`
    values. `growing`: toRGB and fromRGB at every level, so that networks can work at lower levels and fade.

    `classes`: as in StyleGAN2-ADA, a dense layer of the class joins the latents, and the discriminator's last layer has
    as many outputs as 4 x 4 has maps, weighted by a mapping of the class of `label_layers` layers. Such networks come
    from other projects; they are not trained here.
    """

    resolution: int
    g_architecture: Architecture = "skip"
    d_architecture: Architecture = "resnet"
    growing: bool = False
    fmap_base: int = 8192
    fmap_max: int = 512
    latent_size: int = 512
    mapping_layers: int = 8
    stddev_group: int = 4
    classes: int = 0
    label_layers: int = 8

    # What `NetworkConfig` calls these, for code that serves both: no noise of the discriminator, and so on.
    normalize_latents = True
    g_norm = "none"
    d_statistics = "stddev"
    d_noise = 0.0

    def __post_init__(self) -> None:
        check_choices(self)
        check_resolution("resolution", self.resolution)
        check_least(self, 1, "fmap_base", "fmap_max", "latent_size", "mapping_layers", "stddev_group", "label_layers")
        check_least(self, 0, "classes")
        for name in ("g_architecture", "d_architecture"):
            if self.growing and (value := getattr(self, name)) in ("skip", "resnet"):
                raise SettingError(name, f"{value}: only stylegan and orig can grow; set growing to false")

    def fmaps(self, resolution: int) -> int:
        """Return the feature maps of the level of `resolution` pixels; 2: of the discriminator's last hidden layer."""
        return max(1, min(2 * self.fmap_base // resolution, self.fmap_max))

    @property
    def levels(self) -> tuple[int, ...]:
        """Resolutions of the levels, 4 first."""
        return tuple(2**k for k in range(2, self.resolution.bit_length()))

    def places(self, resolution: int) -> int:
        """Return how many places take a w in a generator that works at `resolution`: two for each level."""
        return 2 * (resolution.bit_length() - 2)


@dataclass(frozen=True)
class StyleLossConfig:
    """The non-saturating logistic loss and its regularizers.

    `r1_interval`, `path_interval`: minibatches from one step of the term to the next, each weighted by the interval;
    1 is part of every step. Either interval rescales its network's Adam (`style_losses.lazy_adam`), also where
    `path_weight` is 0, as in configuration C. `mixing`: probability that a second w takes over from a random place on.
    """

    r1_gamma: float = 10.0
    r1_interval: int = 16
    path_weight: float = 2.0
    path_interval: int = 4
    path_decay: float = 0.01
    mixing: float = 0.9

    kind = "logistic"

    def __post_init__(self) -> None:
        check_least(self, 0, "r1_gamma", "path_weight", "mixing", "path_decay")
        check_least(self, 1, "r1_interval", "path_interval")
        for name in ("mixing", "path_decay"):
            if (value := getattr(self, name)) > 1:
                raise SettingError(name, f"{value:g}: must be 0 to 1")


ORIGINAL = StyleConfig(1024, "stylegan", "stylegan", growing=True)
REVISED = StyleConfig(1024, "orig", "orig", growing=True)
IN_EVERY_STEP = StyleLossConfig(r1_interval=1, path_interval=1, path_weight=0.0)

CONFIGURATIONS: dict[str, tuple[StyleConfig, StyleLossConfig]] = {
    "a": (ORIGINAL, IN_EVERY_STEP),
    "b": (REVISED, IN_EVERY_STEP),
    "c": (REVISED, StyleLossConfig(path_weight=0.0)),
    "d": (REVISED, StyleLossConfig()),
    "e": (StyleConfig(1024), StyleLossConfig(r1_gamma=100.0)),
    "f": (StyleConfig(1024, fmap_base=16384), StyleLossConfig()),
}
"""The rows of table 1, at 1024 pixels."""


def table2_pair(generator: Architecture, discriminator: Architecture) -> tuple[StyleConfig, StyleLossConfig]:
    """Return one of the nine pairs of table 2, at 1024 pixels: configuration E with other networks."""
    network, loss = CONFIGURATIONS["e"]
    return replace(network, g_architecture=generator, d_architecture=discriminator), loss
