"""What the restoration networks are trained towards. Pictures are (n, 3, h, w) floats, 0..1."""

import torch
from torch import Tensor
from torch.nn import functional

PATCH = 7
"""Side of the patches whose distribution is compared, as in the progressive GAN paper's sliced Wasserstein distance."""
LEVELS = 3
"""Laplacian levels that are compared, finest first."""
DIRECTIONS = 48
POSITIONS = 1024
"""Patches per picture and level."""

EPSILON = 1e-3


def charbonnier(output: Tensor, target: Tensor) -> Tensor:
    """sqrt(d^2 + 1e-6), mean of each picture: the absolute error, smooth at zero (W.-S. Lai et al., CVPR 2017)."""
    return torch.sqrt((output - target).square() + EPSILON**2).mean(dim=(1, 2, 3))


def relative_error(output: Tensor, target: Tensor, given: Tensor) -> Tensor:
    """Each picture's error over that of what was given, mean: decibels count the same at every quality.

    Without the division the worst pictures would have all the say, and nearly perfect ones would be spoiled. Half a
    grey level is added to the given error, which is none in pictures left alone.
    """
    return (charbonnier(output, target) / (charbonnier(given, target) + 0.5 / 255)).mean()


def _blur(pictures: Tensor) -> Tensor:
    """5 x 5 binomial filter, edges mirrored."""
    taps = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], device=pictures.device) / 16
    n, channels, height, width = pictures.shape
    x = functional.pad(pictures, (2, 2, 2, 2), mode="reflect").reshape(n * channels, 1, height + 4, width + 4)
    x = functional.conv2d(functional.conv2d(x, taps.view(1, 1, 1, 5)), taps.view(1, 1, 5, 1))
    return x.reshape(n, channels, height, width)


def laplacian_levels(pictures: Tensor, levels: int) -> list[Tensor]:
    """Differences between a picture and its blurred self, each level half the size of the one before."""
    found = []
    for _ in range(levels):
        blurred = _blur(pictures)
        found.append(pictures - blurred)
        pictures = blurred[:, :, ::2, ::2]
    return found


def sliced_distance(output: Tensor, target: Tensor, generator: torch.Generator) -> Tensor:
    """Sliced Wasserstein distance between the patches of each output and those of its target, mean over levels.

    7 x 7 patches of three Laplacian levels are projected on random directions, sorted, and compared (J. Rabin et al.,
    2011; the progressive GAN's paper uses the same between data sets, section 5). Patches are compared within a
    picture: skin has to look like this skin, not like the average of all photos. Every level is divided by the target's
    standard deviation.
    """
    device = output.device
    total = output.new_zeros(())
    for ours, theirs in zip(laplacian_levels(output, LEVELS), laplacian_levels(target, LEVELS), strict=True):
        directions = torch.randn(DIRECTIONS, 3, PATCH, PATCH, generator=generator).to(device)
        directions = directions / directions.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        scale = theirs.std().clamp_min(1e-3)
        both = functional.conv2d(torch.cat([ours, theirs]) / scale, directions).flatten(
            2
        )  # (2 n, directions, positions)
        count = min(POSITIONS, both.shape[2])
        places = torch.randperm(both.shape[2], generator=generator)[:count].to(device)
        first, second = both[:, :, places].sort(dim=2).values.chunk(2)
        total = total + (first - second).abs().mean()
    return total / LEVELS


def generator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Relativistic average loss of the network (A. Jolicoeur-Martineau, 2018): its pictures should look more like
    photographs than photographs do, on average. Takes the critic's scores."""
    return (functional.softplus(real - fake.mean()).mean() + functional.softplus(real.mean() - fake).mean()) / 2


def critic_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Relativistic average loss of the critic."""
    return (functional.softplus(fake.mean() - real).mean() + functional.softplus(fake - real.mean()).mean()) / 2
