"""The families of networks behind one interface: those of the progressive GAN and style-based ones."""

from pggan.config.settings import AnyNetworkConfig
from pggan.config.style import StyleConfig
from pggan.model.networks import Discriminator, Generator
from pggan.model.style import StyleGenerator
from pggan.model.style_discriminator import StyleDiscriminator

AnyGenerator = Generator | StyleGenerator
AnyDiscriminator = Discriminator | StyleDiscriminator


def new_generator(config: AnyNetworkConfig) -> AnyGenerator:
    """Return a generator with random weights, from torch's own generator."""
    return StyleGenerator(config) if isinstance(config, StyleConfig) else Generator(config)


def new_discriminator(config: AnyNetworkConfig) -> AnyDiscriminator:
    """Return a discriminator with random weights, from torch's own generator."""
    return StyleDiscriminator(config) if isinstance(config, StyleConfig) else Discriminator(config)
