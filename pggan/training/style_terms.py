"""The steps of the style-based networks: the logistic loss, R1, path length, and the average of w."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pggan.config.level import Level
from pggan.config.style import StyleLossConfig
from pggan.data.stream import as_floats
from pggan.model.augment.augmentation import Augmentation
from pggan.model.layers import shared_weights
from pggan.model.losses import OVERFITTING, LossTerms, augmented, fade
from pggan.model.style import StyleGenerator
from pggan.model.style_discriminator import StyleDiscriminator
from pggan.model.style_losses import logistic_d_loss, logistic_g_loss, path_lengths, path_penalties, r1_penalties
from pggan.precision import autocast
from pggan.training.microbatches import Part
from pggan.training.style_draws import StyleDraw
from pggan.training.terms import Moment, Stats, StepContext, Term, Work

PATH_MEANS = "path_means"


class StyleTerms:
    """The generator's loss and path length, then the discriminator's loss and R1.

    R1 is a part of the discriminator's loss where its interval is 1, and a step of its own otherwise. Its steps see
    all reals of their minibatch, as those of the authors do on eight devices.

    `path_means`: (devices,) running means of the path lengths; each device has its own.
    """

    generator_first = True

    def __init__(
        self, context: StepContext, generator: StyleGenerator, discriminator: StyleDiscriminator, loss: StyleLossConfig
    ) -> None:
        self.context, self.generator, self.discriminator, self.loss = context, generator, discriminator, loss
        self.path_means = torch.zeros(context.team.size, device=context.device)
        d_names = ["d_loss", "fake_score", "real_score", *([OVERFITTING] if context.augments else [])]
        lazy = loss.r1_interval > 1
        found = [Term("g", "g", ["g_loss"], self._generate)]
        if loss.path_weight:
            names = ["path_length", "path_penalty"]
            found.append(Term("path", "g", names, self._path, loss.path_interval))
        self.penalizes = bool(loss.r1_gamma) and not lazy
        found.append(Term("d", "d", [*d_names, *(["r1"] if self.penalizes else [])], self._discriminate))
        if loss.r1_gamma and lazy:
            found.append(Term("r1", "d", ["r1"], self._r1, loss.r1_interval))
        self.all: tuple[Term, ...] = tuple(found)

    def state(self) -> dict[str, Any]:
        return {PATH_MEANS: self.path_means.cpu()} if self.loss.path_weight else {}

    def load(self, values: Mapping[str, Any]) -> None:
        """Take over a checkpoint's means; other devices than wrote it all begin with their mean."""
        if not self.loss.path_weight or PATH_MEANS not in values:
            return
        means, devices = values[PATH_MEANS].to(self.path_means), self.context.team.size
        if len(means) != devices:
            self.context.say(
                f"the checkpoint has running means of path lengths of {len(means)} device(s); each of {devices} begins "
                "with the mean of those"
            )
            means = means.mean().expand(devices)
        self.path_means = means.clone()

    def _generate(self, moment: Moment) -> Work:
        context, lod = self.context, moment.state.lod
        draw = StyleDraw.of(context, "g", moment, self.loss.mixing)
        augmentation = context.augmenter.draw("augment-g", moment.state, moment.images, context.device)
        tracker = _Tracker(self)

        def terms(part: Part, group: int) -> LossTerms:
            with autocast(context.precision, context.device):
                ws = tracker.seen(draw.ws(self.generator, part.indices), part)
                fakes = self.generator.synthesize(ws, lod, draw.noise(self.generator, part.indices))
                transform = augmentation and augmentation.at(context.index(part.indices))
                scores, _ = self.discriminator(augmented(fakes, transform, 0), lod, group=group)
            loss = logistic_g_loss(scores)
            return LossTerms(loss, {"g_loss": loss.detach()})

        return Work(terms, tracker.finish)

    def _path(self, moment: Moment) -> Work:
        context, lod = self.context, moment.state.lod
        half = max(1, context.division(moment.state.minibatch).group // 2)  # of each group of samples
        draw = StyleDraw.of(context, "path", moment, self.loss.mixing, half)
        tracker, rank = _Tracker(self), context.team.rank
        running = [self.path_means[rank]]

        def terms(part: Part, group: int) -> LossTerms:
            own = part.indices[: half * (len(part.indices) // group)]
            with autocast(context.precision, context.device):
                ws = tracker.seen(draw.ws(self.generator, own), part)
                noise, direction = draw.path_noise(self.generator, own)
                images = self.generator.synthesize(ws, lod, noise)
            lengths = path_lengths(images, ws, direction, context.scales["g"].value)
            penalties = []
            for of_group in lengths.view(half, -1).T:  # in their order, however many are in one part
                penalty, running[0] = path_penalties(of_group, running[0], self.loss.path_decay)
                penalties.append(penalty)
            loss = self.loss.path_weight * torch.cat(penalties).mean()
            return LossTerms(loss, {"path_length": lengths.mean().detach(), "path_penalty": loss.detach()})

        def finish(stats: Stats) -> None:
            tracker.finish(stats)
            means = torch.zeros_like(self.path_means)
            means[rank] = running[0]
            context.team.sum([means])
            if not stats["non_finite"]:
                self.path_means = means

        return Work(terms, finish)

    def _discriminate(self, moment: Moment) -> Work:
        context, state = self.context, moment.state
        reals = _Reals(context, moment)
        draw = StyleDraw.of(context, "d", moment, self.loss.mixing)
        tracker = _Tracker(self)

        def terms(part: Part, group: int) -> LossTerms:
            own, transform = reals.of(part)
            with autocast(context.precision, context.device), shared_weights(self.discriminator):
                with torch.no_grad():
                    ws = tracker.seen(draw.ws(self.generator, part.indices), part)
                    fakes = self.generator.synthesize(ws, state.lod, draw.noise(self.generator, part.indices))
                if self.penalizes:  # apart, so that the penalty's graph has the reals alone
                    fake_scores, _ = self.discriminator(augmented(fakes, transform, 1), state.lod, group=group)
                    real_scores, penalty = self._penalized(own, transform, 0, state.lod, group)
                    statistics = {"r1": penalty}
                else:
                    pictures = augmented(torch.cat([own, fakes]), transform, 0, 1)
                    scores, _ = self.discriminator(pictures, state.lod, batches=2, group=group)
                    real_scores, fake_scores = scores.chunk(2)
                    statistics = {}
            loss = logistic_d_loss(real_scores, fake_scores) + sum(statistics.values())
            statistics |= {"d_loss": loss, "real_score": real_scores.mean(), "fake_score": fake_scores.mean()}
            if context.augments:
                statistics[OVERFITTING] = real_scores.sign().mean()  # as in the ADA paper: this loss has a border at 0
            return LossTerms(loss, {name: value.detach() for name, value in statistics.items()})

        return Work(terms, tracker.finish)

    def _r1(self, moment: Moment) -> Work:
        context = self.context
        reals = _Reals(context, moment)

        def terms(part: Part, group: int) -> LossTerms:
            own, transform = reals.of(part)
            with autocast(context.precision, context.device):
                _, penalty = self._penalized(own, transform, 2, moment.state.lod, group)
            return LossTerms(penalty, {"r1": penalty.detach()})

        return Work(terms)

    def _penalized(
        self, reals: Tensor, transform: Augmentation | None, augmented_as: int, lod: float, group: int
    ) -> tuple[Tensor, Tensor]:
        """Return the scores of the reals and R1, a mean over them."""
        reals = reals.detach().requires_grad_()
        scores, _ = self.discriminator(augmented(reals, transform, augmented_as), lod, group=group)
        level = Level(self.discriminator.config.resolution, lod)
        penalties = r1_penalties(scores, reals, level, self.context.scales["d"].value)
        return scores, self.loss.r1_gamma / 2 * penalties.mean()


class _Reals:
    """A minibatch's reals on this device, faded, and their transforms."""

    def __init__(self, context: StepContext, moment: Moment) -> None:
        assert moment.batch is not None
        self.context, self.below = context, moment.state.below
        self.images = as_floats(moment.batch, context.device)
        self.rows = context.rows(moment.state.minibatch)
        self.augmentation = context.augmenter.draw("augment-d", moment.state, moment.images, context.device)

    def of(self, part: Part) -> tuple[Tensor, Augmentation | None]:
        """Return the part's reals (n, 3, r, r) and its transforms."""
        local = self.context.index(np.searchsorted(self.rows, part.indices))  # places among this device's rows
        transform = self.augmentation and self.augmentation.at(self.context.index(part.indices))
        return fade(self.images[local], self.below), transform


class _Tracker:
    """Moves the generator's average of w by the mean of a minibatch's w, of all devices, before mixing."""

    def __init__(self, terms: StyleTerms) -> None:
        self.terms = terms
        self.mean = torch.zeros_like(terms.generator.w_average)

    def seen(self, found: tuple[Tensor, Tensor], part: Part) -> Tensor:
        """Note the mean of a part's w, the second of `found`; return the first."""
        ws, mean = found
        self.mean += mean * part.weight
        return ws

    def finish(self, stats: Stats) -> None:
        """Update the average, unless the step was not finite."""
        self.terms.context.team.sum([self.mean])
        if not stats["non_finite"]:
            self.terms.generator.track(self.mean[None])
