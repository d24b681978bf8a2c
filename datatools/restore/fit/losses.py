"""Losses of the restoration networks. Pictures are (n, 3, h, w) floats, 0..1."""

import torch
from torch import Tensor
from torch.nn import functional

from datatools.restore.devices import to_device
from datatools.restore.fit.degrade import SCALE
from datatools.restore.fit.settings import FitSettings
from datatools.restore.networks import Critic

PATCH = 7
"""Side of the patches whose distribution is compared, as in the progressive GAN paper's sliced Wasserstein distance."""
LEVELS = 4
"""Laplacian levels that are compared, finest first."""
DIRECTIONS = 64
"""Directions per level: a quarter of them is white noise, the others are waves."""
LOWEST_WAVE = 0.1
"""Lowest frequency of the waves, in cycles per pixel of a level; a level has little below."""
WINDOW = 64
"""Side, in pixels, of the windows of a level within which patches are compared."""
POSITIONS = 512
"""Patches per window."""

EPSILON = 1e-3


def charbonnier(output: Tensor, target: Tensor) -> Tensor:
    """Return each picture's mean of sqrt(d^2 + 1e-6), an absolute error smooth at zero (Lai et al., CVPR 2017)."""
    return torch.sqrt((output - target).square() + EPSILON**2).mean(dim=(1, 2, 3))


def balanced_error(output: Tensor, target: Tensor, given: Tensor) -> Tensor:
    """Return the mean over pictures of the error divided by the square root of the input's error.

    Without the division, the worst pictures dominate, and nearly perfect ones get worse. Divided by the input's error
    itself, decibels count the same at every quality, but nearly perfect pictures, which have little to learn from, make
    the gradients noisy. Half a grey level is added to the input's error, which is zero for uncompressed pictures.
    """
    return (charbonnier(output, target) / (charbonnier(given, target) + 0.5 / 255).sqrt()).mean()


def _blur(pictures: Tensor) -> Tensor:
    """Apply a 5 x 5 binomial filter with mirrored edges."""
    x = functional.pad(pictures, (2, 2, 2, 2), mode="reflect")
    for axis in (2, 3):
        # sums of slices: on CPUs a convolution of single channels takes ten times as long
        outer, inner, middle = (x.narrow(axis, at, x.shape[axis] - 4) for at in (0, 1, 2))
        inner_after, outer_after = (x.narrow(axis, at, x.shape[axis] - 4) for at in (3, 4))
        x = (outer + outer_after + 4 * (inner + inner_after) + 6 * middle) / 16
    return x


def laplacian_levels(pictures: Tensor, levels: int) -> list[Tensor]:
    """Return the differences between a picture and its blurred copy, each level half the size of the one before."""
    differences = []
    for _ in range(levels):
        blurred = _blur(pictures)
        differences.append(pictures - blurred)
        pictures = blurred[:, :, ::2, ::2]
    return differences


def _windows(pictures: Tensor) -> Tensor:
    """Return the windows of pictures, (n * windows, 3, WINDOW, WINDOW); a smaller picture is one window."""
    for axis in (2, 3):
        if pictures.shape[axis] > WINDOW:
            pictures = torch.cat([part for part in pictures.split(WINDOW, axis) if part.shape[axis] == WINDOW])
    return pictures


def _places(side: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Return the pixels of patches at random places in a picture of that height and width, one patch after another."""
    height, width = (size - PATCH + 1 for size in side)
    count = min(POSITIONS, height * width)
    places = torch.randperm(height * width, generator=generator)[:count]
    corners = places // width * side[1] + places % width
    offsets = torch.arange(PATCH)[:, None] * side[1] + torch.arange(PATCH)
    return (corners[:, None] + offsets.flatten()).flatten()


def _patches(pictures: Tensor, where: Tensor) -> Tensor:
    """Return the patches at `_places`, the same in every picture: (n, positions, 3 * PATCH * PATCH)."""
    patches = pictures.flatten(2)[:, :, where].unflatten(2, (-1, PATCH**2))  # (n, 3, positions, PATCH * PATCH)
    return patches.transpose(1, 2).flatten(2)


def _directions(generator: torch.Generator) -> Tensor:
    """Return (DIRECTIONS, 3 * PATCH * PATCH) of unit length: a quarter is white noise, the others windowed waves.

    White directions respond to all frequencies at once and hardly to a weave: grain with its power along the axes,
    where photographs have as much along the diagonals. A wave of random colour and angle responds to one frequency.
    There are no waves beyond half a cycle per pixel, in the corners of the spectrum, where photographs have least.
    """
    waves = DIRECTIONS * 3 // 4
    white = torch.randn(DIRECTIONS - waves, 3, PATCH, PATCH, generator=generator)
    angle, phase = (2 * torch.pi * torch.rand(waves, 1, 1, generator=generator) for _ in range(2))
    frequency = LOWEST_WAVE + (0.5 - LOWEST_WAVE) * torch.rand(waves, 1, 1, generator=generator)
    place = torch.arange(PATCH) - PATCH // 2
    along = torch.cos(angle) * place[:, None] + torch.sin(angle) * place
    window = torch.cos(torch.pi / (PATCH + 1) * place)
    wave = torch.cos(2 * torch.pi * frequency * along + phase) * window[:, None] * window
    colour = 1 + torch.randn(waves, 3, 1, 1, generator=generator) / 2  # around grey: most texture is grey
    both = torch.cat([white, colour * wave[:, None]]).flatten(1)
    return both / both.norm(dim=1, keepdim=True)


def sliced_distance(output: Tensor, target: Tensor, generator: torch.Generator) -> Tensor:
    """Return the sliced Wasserstein distance between the patches of outputs and targets, mean over levels.

    7 x 7 patches of four Laplacian levels are projected on random directions, sorted, and compared (J. Rabin et al.,
    2011; the progressive GAN's paper uses the same between data sets, section 5). Patches are compared within windows
    of a level, so that missing detail of an eyebrow is not compensated by noise on the cheek. Every level is divided by
    the target's standard deviation.
    """
    total = output.new_zeros(())
    levels = [laplacian_levels(pictures, LEVELS) for pictures in (output, target)]
    sides = [(min(level.shape[2], WINDOW), min(level.shape[3], WINDOW)) for level in levels[0]]
    drawn = [(_places(side, generator), _directions(generator)) for side in sides]
    # one copy to the device for all levels
    places = to_device(torch.cat([where for where, _ in drawn]), output.device).split([len(w) for w, _ in drawn])
    directions = to_device(torch.stack([lines for _, lines in drawn]), output.device)
    for ours, theirs, where, lines in zip(*levels, places, directions, strict=True):
        scale = theirs.std().clamp_min(1e-3)
        windows = torch.cat([_windows(level / scale) for level in (ours, theirs)])
        both = _patches(windows, where) @ lines.T
        both = both.transpose(1, 2).contiguous()  # (windows, directions, positions): sorting is fastest along rows
        first, second = both.sort(dim=2).values.chunk(2)
        total = total + (first - second).abs().mean()
    return total / LEVELS


def relativistic_loss(higher: Tensor, lower: Tensor) -> Tensor:
    """Return the relativistic average loss of a critic's scores (A. Jolicoeur-Martineau, 2018).

    It falls as each of `higher` exceeds the mean of `lower`, and each of `lower` stays below the mean of `higher`.
    """
    return (functional.softplus(lower.mean() - higher).mean() + functional.softplus(lower - higher.mean()).mean()) / 2


class PerceptualLoss:
    """The losses of the perceptual variant: of pixels, of texture, and of a critic that is trained along.

    The reduced picture has to match; texture may differ from the true one pixel by pixel.
    """

    def __init__(self, settings: FitSettings, device: torch.device) -> None:
        self.settings = settings
        self.critic = Critic().to(device)
        self.critic_optimizer = torch.optim.Adam(self.critic.parameters(), 2e-4, betas=(0.5, 0.99))

    def __call__(self, outputs: Tensor, targets: Tensor, seed: int, autocast: torch.autocast) -> Tensor:
        """Return the loss of the network's outputs, and train the critic by one step."""
        s = self.settings
        small, small_targets = (functional.avg_pool2d(p, SCALE) for p in (outputs, targets))
        loss = charbonnier(small, small_targets).mean() + s.pixel_weight * charbonnier(outputs, targets).mean()
        loss = loss + s.texture_weight * sliced_distance(outputs, targets, torch.Generator().manual_seed(seed))
        with autocast:
            real, fake = self.critic(targets), self.critic(outputs.detach())
            critic_loss = relativistic_loss(real.float(), fake.float())
        self.critic_optimizer.zero_grad(set_to_none=True)
        critic_loss.backward()
        self.critic_optimizer.step()
        self.critic.requires_grad_(False)
        with autocast:
            real, fake = self.critic(targets), self.critic(outputs)
        self.critic.requires_grad_(True)
        return loss + s.adversarial_weight * relativistic_loss(fake.float(), real.float().detach())
