"""Losses and regularizers of the style-based networks (StyleGAN2: sections 3.1 and 3.2, appendix B).

Each function is one term. Regularizers give a value for each sample, float32 at least, also under autocast: a training
step takes their mean, times the weight and, for a lazy term, times its interval.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from pggan.config.level import Level
from pggan.model.convolution import without_weight_gradients
from pggan.model.layers import to_float32
from pggan.model.losses import gradient_powers


def logistic_g_loss(fake_scores: Tensor) -> Tensor:
    """Return the generator's non-saturating loss, the mean of softplus(-D(G))."""
    return functional.softplus(-fake_scores).mean()


def logistic_d_loss(real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """Return the discriminator's loss, the means of softplus(-D(x)) and softplus(D(G)) added."""
    return functional.softplus(-real_scores).mean() + functional.softplus(fake_scores).mean()


def r1_penalties(scores: Tensor, reals: Tensor, level: Level, loss_scale: float = 1.0) -> Tensor:
    """Return the squared norm of each score's gradient by its real, (N,); R1 is its mean times gamma / 2.

    The authors feed images repeated up to the full resolution and differentiate by those: every native pixel's
    gradient is spread over 4^floor(lod) equal ones, and their squares sum to as many times less.

    Args:
        scores: (N,) of the discriminator.
        reals: (N, 3, r, r) that the scores were computed of, requiring gradients.
        loss_scale: keeps the gradients of float16 in range while they are taken.
    """
    return gradient_powers(scores, reals, loss_scale) * (level.resolution / level.full) ** 2


def path_noise(shape: torch.Size | tuple[int, ...]) -> Tensor:
    """Draw the direction of `path_lengths` for images (N, 3, r, r) by torch's own generator: N(0, 1) / r."""
    return torch.randn(shape) / math.sqrt(shape[-1] * shape[-2])


def path_lengths(images: Tensor, ws: Tensor, noise: Tensor, loss_scale: float = 1.0) -> Tensor:
    """Return how far each image moves when w does, in the direction `noise`: (N,), differentiable.

    The length is the root of the mean over places of the squared norm of d sum(images noise) / dw. For images of a
    level below the full size it is distributed as that of repeated ones: sums of 4^k independent normals have 2^k
    times the deviation, which the root of the pixels' number takes away again.

    Args:
        images: (N, 3, r, r) of the generator.
        ws: (N, places, W) in use, that the images were computed of.
        noise: (N, 3, r, r), `path_noise`.
    """
    with torch.autocast(images.device.type, enabled=False), without_weight_gradients():
        moved = (images * noise.to(images)).sum() * loss_scale
        (gradient,) = torch.autograd.grad(moved, ws, create_graph=True)
    return (to_float32(gradient) / loss_scale).square().sum(dim=2).mean(dim=1).sqrt()


def path_penalties(lengths: Tensor, mean: Tensor, decay: float) -> tuple[Tensor, Tensor]:
    """Return the squared distances of path lengths (N,) from their running mean (), and the mean after this batch.

    The mean moves before it is used, and the penalties' gradient includes that; the returned one is detached.
    """
    moved = torch.lerp(mean.to(lengths), lengths.mean(), decay)
    return (lengths - moved).square(), moved.detach()


def lazy_adam(rate: float, betas: tuple[float, float], interval: int) -> tuple[float, tuple[float, float]]:
    """Return Adam's rate and betas for a network with a regularizer in every `interval`-th minibatch.

    The lazy term is a step of its own: interval + 1 steps shall do what interval steps did.
    """
    if interval == 1:
        return rate, betas
    share = interval / (interval + 1)
    return rate * share, (betas[0] ** share, betas[1] ** share)
