"""The steps of the progressive GAN: WGAN-GP or LSGAN, with AC-GAN's loss where there are labels."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from pggan.config.settings import LossConfig
from pggan.data.stream import as_floats
from pggan.model.losses import LossTerms, d_step_terms, fade, g_step_terms, statistic_names
from pggan.model.networks import Discriminator, Generator
from pggan.precision import autocast
from pggan.rng import rng, uniforms
from pggan.training.microbatches import Part
from pggan.training.terms import Moment, Stats, StepContext, Term, Work
from pggan.transfer import to_device


class ProgressiveTerms:
    """One term for each network, in every step; the generator follows the discriminator."""

    generator_first = False

    def __init__(
        self, context: StepContext, generator: Generator, discriminator: Discriminator, loss: LossConfig
    ) -> None:
        self.context, self.generator, self.discriminator, self.loss = context, generator, discriminator, loss
        labels = context.labels is not None
        self.all: tuple[Term, ...] = (
            Term("d", "d", statistic_names("d", loss, labels=labels, augmented=context.augments), self._discriminate),
            Term("g", "g", statistic_names("g", loss, labels=labels), self._generate),
        )

    def state(self) -> dict[str, Any]:
        return {}

    def load(self, values: Mapping[str, Any]) -> None:
        pass

    def _discriminate(self, moment: Moment) -> Work:
        context, state, images = self.context, moment.state, moment.images
        assert moment.batch is not None
        reals = as_floats(moment.batch, context.device)
        rows = context.rows(state.minibatch)
        latents = context.latents("latents-d", images, state.minibatch)
        mixing = to_device(uniforms(context.seed, "mixing", images, state.minibatch), context.device)
        labels = None if context.labels is None else context.labels_at(moment.batch.indices.numpy())
        augmentation = context.augmenter.draw("augment-d", state, images, context.device)

        def terms(part: Part, group: int) -> LossTerms:
            indices = context.index(part.indices)
            local = context.index(np.searchsorted(rows, part.indices))  # places among this device's rows
            own_labels = None if labels is None else labels[local]
            with autocast(context.precision, context.device):
                with torch.no_grad():
                    fakes = self.generator(latents[indices], own_labels, state.lod)
                return d_step_terms(
                    self.discriminator,
                    fade(reals[local], state.below),
                    fakes,
                    mixing[indices],
                    config=self.loss,
                    lod=state.lod,
                    labels=own_labels,
                    group=group,
                    loss_scale=context.scales["d"].value,
                    augmentation=augmentation and augmentation.at(indices),
                )

        def finish(stats: Stats) -> None:
            self.discriminator.update_noise(torch.full((), stats["fake_score"], device=context.device))

        return Work(terms, finish)

    def _generate(self, moment: Moment) -> Work:
        context, state, images = self.context, moment.state, moment.images
        latents = context.latents("latents-g", images, state.minibatch)
        labels = None
        if context.labels is not None:
            chosen = rng(context.seed, "labels", images).integers(0, len(context.labels), state.minibatch)
            labels = context.labels_at(chosen)
        augmentation = context.augmenter.draw("augment-g", state, images, context.device)

        def terms(part: Part, group: int) -> LossTerms:
            indices = context.index(part.indices)
            with autocast(context.precision, context.device):
                return g_step_terms(
                    self.generator,
                    self.discriminator,
                    latents[indices],
                    config=self.loss,
                    lod=state.lod,
                    labels=None if labels is None else labels[indices],
                    group=group,
                    augmentation=augmentation and augmentation.at(indices),
                )

        return Work(terms)
