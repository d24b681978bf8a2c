"""WGAN-GP, LSGAN and AC-GAN losses of one micro-batch (the paper's sections 3-6, appendices A and B).

`pggan.training.step` calls these functions for the parts of a minibatch and sums their gradients. Every term is a mean
over its samples, so parts weighted by m / N sum to the loss of the whole minibatch, statistics likewise (`combine`).
Parts of all devices together make up the minibatch: with gradients *summed* over devices, N devices get the gradients
of one. Reals and fakes go through the discriminator in one pass, as two batches that know nothing of each other.
Exceptions are those that `partition` reports, and the noise of LSGAN, which is drawn anew for every part.

All results are float32 (float64 with networks of doubles), also under autocast.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from pggan.config.level import Level
from pggan.config.settings import LossConfig
from pggan.model.augment.augmentation import Augmentation
from pggan.model.convolution import without_weight_gradients
from pggan.model.layers import shared_weights, to_float32
from pggan.model.networks import Discriminator, Generator, down2, up2

OVERFITTING = "r_t"
"""Name of the statistic that `overfitting` gives."""


@dataclass(frozen=True)
class LossTerms:
    """The loss to differentiate, a mean over the micro-batch, and what it is made of: detached scalars by name.

    The names are those of `statistic_names`. Penalty, drift and label losses are weighted as in the loss.
    """

    loss: Tensor
    statistics: dict[str, Tensor]


def statistic_names(
    network: Literal["d", "g"], config: LossConfig, *, labels: bool, augmented: bool = False
) -> list[str]:
    """Return the names of the statistics of a network's step, sorted.

    `labels`: whether it has classes; `augmented`: whether it has an augmentation, be it of strength 0.
    """
    if network == "g":
        return ["g_loss", "label_loss"] if labels else ["g_loss"]
    names = ["d_loss", "fake_score", "real_score"]
    if config.kind == "wgan-gp":
        names += ["drift", "gradient_norm", "gradient_penalty", "mixed_score"]
    if augmented:
        names.append(OVERFITTING)
    return sorted([*names, "fake_label_loss", "real_label_loss"] if labels else names)


def overfitting(real_scores: Tensor, fake_scores: Tensor, config: LossConfig) -> Tensor:
    """Return ADA's measure of overfitting, -1..1: the mean sign of how much more real a real looks than a fake.

    The ADA paper's r_t is the mean sign of the reals' scores, because its loss puts the border between reals and fakes
    at 0. Scores of WGAN-GP have neither a border nor a scale, so each of the reals (N,) is compared with one of the
    fakes (N,) instead. The result is 0 where the discriminator cannot tell them apart, and 1 where no fake passes for
    a real; it is P(real above fake) - P(real below fake).
    """
    signs = torch.sign(real_scores - fake_scores)
    return (-signs if config.kind == "lsgan" else signs).mean()  # LSGAN's scores are low for reals


def fade(reals: Tensor, below: float) -> Tensor:
    """Return reals (N, 3, r, r) as the networks see them while a level fades in.

    `below`: weight of the reals at half the detail, 0..1; that of the level below (`Level.below`).
    """
    return torch.lerp(reals, up2(down2(reals)), below) if below > 0 else reals


def gradient_scale(config: LossConfig, level: Level) -> float:
    """Return what the gradient's norm at the level's own size is multiplied with before it meets the penalty's target.

    The authors feed the networks with images repeated up to full resolution and differentiate by those: "full". Then
    every native pixel's gradient is spread over 4^floor(lod) equal ones, and the norm is 2^-floor(lod) times as large.
    """
    return level.resolution / level.full if config.gradient_norm == "full" else 1.0


def gradient_powers(scores: Tensor, images: Tensor, loss_scale: float = 1.0) -> Tensor:
    """Return the squared norm of each score's gradient by its image (N,), over pixels and channels.

    It is float32 (float64 for doubles) and differentiable. `loss_scale` keeps the gradients of float16 in range while
    they are taken.
    """
    # without autocast: the backward pass keeps the types of the forward pass by itself
    with torch.autocast(images.device.type, enabled=False), without_weight_gradients():
        (gradient,) = torch.autograd.grad(scores.sum() * loss_scale, images, create_graph=True)
    return (to_float32(gradient) / loss_scale).square().sum(dim=(1, 2, 3))


def gradient_norms(scores: Tensor, images: Tensor, loss_scale: float = 1.0) -> Tensor:
    """Return the norm of each score's gradient by its image (N,); the root of `gradient_powers`."""
    power = gradient_powers(scores, images, loss_scale)
    # no sqrt at 0, whose slope is infinite: a gradient of zero has none
    return power.clamp(min=torch.finfo(power.dtype).tiny).sqrt()


def label_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy of logits (N, classes) to labels (N, classes), one-hot or weights that sum to 1."""
    return -(labels.to(logits) * functional.log_softmax(logits, dim=1)).sum(dim=1).mean()


def augmented(images: Tensor, augmentation: Augmentation | None, *sets: int) -> Tensor:
    """Return the images as the discriminator sees them: transformed, set after set, where there is an augmentation."""
    return images if augmentation is None else augmentation(images, sets)


def d_step_terms(
    discriminator: Discriminator,
    reals: Tensor,
    fakes: Tensor,
    mixing: Tensor,
    *,
    config: LossConfig,
    lod: float,
    labels: Tensor | None = None,
    group: int | None = None,
    loss_scale: float = 1.0,
    augmentation: Augmentation | None = None,
) -> LossTerms:
    """Return the discriminator's loss.

    Args:
        reals: (N, 3, r, r) in -1..1, already faded (`fade`), r the level of `lod`.
        fakes: (N, 3, r, r) of the generator, without its graph.
        mixing: (N,) uniform in 0..1: mixed = reals + (fakes - reals) mixing. LSGAN does not use it.
        labels: (N, classes) of the reals and of the fakes, None without classes.
        group: samples per stddev group, from `partition`; None: derived from N.
        loss_scale: of float16's gradient scaler, for the inner gradient; 1 otherwise.
        augmentation: transforms of the reals, the fakes and the mixed pictures. They count as a part of the
            discriminator: the penalty's gradient is that by the picture before its transform.
    """
    count, level = len(reals), Level(discriminator.config.resolution, lod)
    fakes = fakes.detach()
    with shared_weights(discriminator):
        pictures = augmented(torch.cat([reals, fakes]), augmentation, 0, 1)
        scores, logits = discriminator(pictures, lod, batches=2, group=group)
        real_scores, fake_scores = scores[:count], scores[count:]
        parts: dict[str, Tensor] = {"real_score": real_scores.mean(), "fake_score": fake_scores.mean()}
        if config.kind == "wgan-gp":
            mixed = torch.lerp(reals, fakes, mixing.to(reals).view(-1, 1, 1, 1)).requires_grad_()
            mixed_scores, _ = discriminator(augmented(mixed, augmentation, 2), lod, group=group)
            norms = gradient_norms(mixed_scores, mixed, loss_scale) * gradient_scale(config, level)
            error = (norms - config.gradient_target).square().mean() / config.gradient_target**2
            parts["mixed_score"] = mixed_scores.mean()
            parts["gradient_norm"] = norms.mean()
            parts["gradient_penalty"] = config.gradient_weight * error
            parts["drift"] = config.drift_weight * real_scores.square().mean()
            loss = parts["fake_score"] - parts["real_score"] + parts["gradient_penalty"] + parts["drift"]
        else:
            loss = real_scores.square().mean() + config.lsgan_fake_weight * (fake_scores - 1.0).square().mean()
    if labels is not None and logits.shape[1]:
        parts["real_label_loss"] = config.label_weight * label_loss(logits[:count], labels)
        parts["fake_label_loss"] = config.label_weight * label_loss(logits[count:], labels)
        loss = loss + parts["real_label_loss"] + parts["fake_label_loss"]
    if augmentation is not None:
        parts[OVERFITTING] = overfitting(real_scores, fake_scores, config)
    return LossTerms(loss, {name: value.detach() for name, value in {"d_loss": loss, **parts}.items()})


def g_step_terms(
    generator: Generator,
    discriminator: Discriminator,
    latents: Tensor,
    *,
    config: LossConfig,
    lod: float,
    labels: Tensor | None = None,
    group: int | None = None,
    augmentation: Augmentation | None = None,
) -> LossTerms:
    """Return the generator's loss for fresh latents (N, latent_size) and their labels (N, classes)."""
    fakes = augmented(generator(latents, labels, lod), augmentation, 0)
    scores, logits = discriminator(fakes, lod, group=group)
    loss = scores.square().mean() if config.kind == "lsgan" else -scores.mean()
    parts: dict[str, Tensor] = {}
    if labels is not None and logits.shape[1]:
        parts["label_loss"] = config.label_weight * label_loss(logits, labels)
        loss = loss + parts["label_loss"]
    return LossTerms(loss, {name: value.detach() for name, value in {"g_loss": loss, **parts}.items()})


def combine(parts: Sequence[Mapping[str, Tensor]], weights: Sequence[float]) -> dict[str, Tensor]:
    """Sum the statistics of a minibatch's parts by their weights; weights that sum to 1 give means."""
    return {
        name: torch.stack([part[name] * weight for part, weight in zip(parts, weights, strict=True)]).sum()
        for name in parts[0]
    }
