"""One training step of either network: micro-batches, gradients summed over devices, and the update.

A step is a pure function of the networks' state, the minibatch and the images seen. It leaves weights and optimizers
untouched when a loss or gradient is not finite. What is computed is up to the family's terms.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from datatools.errors import DataError, one_line, out_of_memory
from pggan.config.schedule import ScheduleState
from pggan.config.settings import LossConfig
from pggan.config.style import StyleLossConfig
from pggan.data.stream import Batch, as_floats
from pggan.model.losses import OVERFITTING, combine, fade
from pggan.model.networks import Discriminator, Generator, require_gradients, update_ema, used_parameters
from pggan.model.style import StyleGenerator
from pggan.model.style_discriminator import StyleDiscriminator
from pggan.model.style_losses import lazy_adam
from pggan.precision import LossScale
from pggan.rng import seeded, torch_seed
from pggan.training.augmenter import STRENGTH
from pggan.training.networks import NetworkName, lazy_interval
from pggan.training.progressive_terms import ProgressiveTerms
from pggan.training.style_terms import StyleTerms
from pggan.training.terms import Moment, Stats, StepContext, Term, Terms, Work

T = TypeVar("T")


class NonFiniteError(Exception):
    """A loss or gradient is not a number, or infinite; nothing was updated."""


class TooLargeError(DataError):
    """The device's memory does not hold a step, however its minibatch is divided."""


def terms_of(context: StepContext) -> Terms:
    """Return the terms of the networks' family."""
    networks, loss = context.networks, context.preset.loss
    generator, discriminator = networks.generator, networks.discriminator
    if isinstance(loss, StyleLossConfig):
        assert isinstance(generator, StyleGenerator)
        assert isinstance(discriminator, StyleDiscriminator)
        return StyleTerms(context, generator, discriminator, loss)
    assert isinstance(loss, LossConfig)
    assert isinstance(generator, Generator)
    assert isinstance(discriminator, Discriminator)
    return ProgressiveTerms(context, generator, discriminator, loss)


class Stepper(StepContext):
    """Makes steps."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.terms = terms_of(self)
        self.stopping = False  # whether any process of the team was asked to stop, as of the last step

    @property
    def turns(self) -> tuple[NetworkName, ...]:
        """Whose steps follow each other, before the next minibatch of the generator."""
        discriminator: list[NetworkName] = ["d"] * self.preset.schedule.d_steps
        return ("g", *discriminator) if self.terms.generator_first else (*discriminator, "g")

    def state(self) -> dict[str, Any]:
        """Return everything that a checkpoint needs to continue."""
        networks = self.networks
        return {
            **{stored: network.state_dict() for stored, network in networks.stored.items()},
            "g_optimizer": networks.g_optimizer.state_dict(),
            "d_optimizer": networks.d_optimizer.state_dict(),
            "g_scale": self.scales["g"].state(),
            "d_scale": self.scales["d"].state(),
            **self.augmenter.state(),
            **self.terms.state(),
        }

    def load(self, values: Mapping[str, Any]) -> None:
        """Take over a checkpoint's values. Raises DataError for networks of other shapes."""
        networks = self.networks
        try:
            networks.load(values)
        except RuntimeError as error:
            raise DataError(
                f"the checkpoint's networks are of other shapes; --fork cannot change those: {one_line(error, 200)}"
            ) from error
        for optimizer, name in ((networks.g_optimizer, "g_optimizer"), (networks.d_optimizer, "d_optimizer")):
            kept = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
            # Settings are the run's own: they may have been forked. Also the place of the steps' number, on the CPU or
            # on the device, is that of `fused` here, not of the device that the checkpoint was written on.
            groups = [group | own for group, own in zip(values[name]["param_groups"], kept, strict=True)]
            optimizer.load_state_dict({**values[name], "param_groups": groups})
        for scaled, scale in self.scales.items():
            scale.load(values[f"{scaled}_scale"])
        self.augmenter.load(values)
        self.terms.load(values)

    def discriminator_step(self, state: ScheduleState, images: int, batch: Batch) -> Stats:
        """Update the discriminator once; `batch` holds this device's rows."""
        stats = self._step("d", Moment(state, images, batch))
        if self.augmenter.is_adaptive:
            stats[STRENGTH] = self.augmenter.strength
            if not stats["non_finite"]:
                self.augmenter.after(stats[OVERFITTING], state.minibatch)
        return stats

    def generator_step(self, state: ScheduleState, images: int) -> Stats:
        """Update the generator once, with latents of its own."""
        return self._step("g", Moment(state, images))

    def _step(self, network: NetworkName, moment: Moment) -> Stats:
        """Take the steps of the network's terms that are due, and update the EMA if it is time."""
        networks, lod, size = self.networks, moment.state.lod, moment.state.minibatch
        require_gradients(networks.discriminator, lod if network == "d" else None, self.preset.optimizer.freeze_d)
        require_gradients(networks.generator, lod if network == "g" else None)
        stats: Stats = {"non_finite": 0.0}
        for term in self.terms.all:
            if term.network == network and moment.number % term.interval == 0:
                with self._noise(moment, network):
                    found, work = self._update(term, moment)
                work.finish(found)
                stats |= found | {"non_finite": stats["non_finite"] + found["non_finite"]}
        if self.terms.generator_first == (network == "g"):
            decay = self.preset.optimizer.decay_at(moment.images, size)
            update_ema(networks.ema, networks.generator, decay)
            for kimg, average in networks.averages.items():
                update_ema(average, networks.generator, 0.5 ** (size / (kimg * 1000)))
        return stats

    def _update(self, term: Term, moment: Moment) -> tuple[Stats, Work]:
        """Compute the gradients of the whole minibatch, then make a step of Adam, unless something is not finite."""
        networks, state, scale = self.networks, moment.state, self.scales[term.network]
        of_d = term.network == "d"
        network, optimizer = (
            (networks.discriminator, networks.d_optimizer) if of_d else (networks.generator, networks.g_optimizer)
        )
        frozen = self.preset.optimizer.freeze_d if of_d else 0
        parameters = [parameter for _, parameter in used_parameters(network, state.lod, frozen)]
        stats, work = self._gradients(parameters, optimizer, scale, term, moment)
        finite = all(map(math.isfinite, stats.values()))
        stats["non_finite"] = 0.0 if finite else 1.0
        stats[f"{term.network}_loss_scale"] = scale.value
        if not scale.after(finite):
            bad = ", ".join(key for key, value in stats.items() if not math.isfinite(value))
            raise NonFiniteError(f"not finite: {bad}, in the {'discriminator' if of_d else 'generator'}'s step")
        if finite:
            rate, _ = lazy_adam(state.rate, (0.0, 0.0), lazy_interval(self.preset.loss, term.network))
            for group in optimizer.param_groups:
                group["lr"] = rate
            self._again(lambda: step_whole(optimizer))
        optimizer.zero_grad(set_to_none=True)
        if not finite:  # of float16, which tries again with a smaller scale: no number to put into means
            stats = {key: value if math.isfinite(value) else 0.0 for key, value in stats.items()}
        return stats, work

    def _gradients(
        self,
        parameters: list[torch.nn.Parameter],
        optimizer: torch.optim.Adam,
        scale: LossScale,
        term: Term,
        moment: Moment,
    ) -> tuple[Stats, Work]:
        """Fill `.grad` with the gradients of the whole minibatch over all devices; returns its statistics."""
        minibatch, names = moment.state.minibatch, term.statistics
        while True:
            optimizer.zero_grad(set_to_none=True)
            try:
                work = term.begin(moment)
                found = self._own_gradients(scale, minibatch, work, term.interval)
                # a device without samples has none of these statistics, and takes part with zeros
                none = torch.zeros(len(names), device=self.device)
                values = torch.stack([found[name] for name in names]) if found else none
                gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
                break
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
            optimizer.zero_grad(set_to_none=True)  # here, where the error and all that it holds are gone
            self._halve(minibatch)
        stop_votes = torch.full((1,), float(self.stop_requested()), device=self.device)
        self._again(lambda: self.team.sum([*gradients, values, stop_votes]))
        if scale.value != 1.0:
            torch._foreach_mul_(gradients, 1.0 / scale.value)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient

        def read() -> list[float]:
            norm = torch.stack(torch._foreach_norm(gradients)).norm()
            return torch.cat([values.float(), norm.float().reshape(1), stop_votes]).tolist()

        *numbers, votes = self._again(read)  # the step's one wait for the device
        self.stopping = votes > 0
        return dict(zip([*names, f"{term.name}_gradient"], numbers, strict=True)), work

    def _again(self, work: Callable[[], T]) -> T:
        """Call `work`, which changes nothing before it runs out of memory; then call it again with all that is free.

        Raises TooLargeError when that is not enough, either.
        """
        try:
            return work()
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
        self._release()
        try:
            return work()
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            raise TooLargeError(
                "out of memory for weights, gradients and Adam's moments: choose a smaller network or resolution"
            ) from error

    def _release(self) -> None:
        """Give back the memory that PyTorch keeps for later, which may lie in pieces."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _own_gradients(self, scale: LossScale, minibatch: int, work: Work, factor: int) -> dict[str, Tensor]:
        division = self.division(minibatch)
        parts = division.by_rank[self.team.rank]
        statistics = []
        for part in parts:
            result = work.part(part, division.group)
            (result.loss * (part.weight * scale.value * factor)).backward()
            statistics.append(result.statistics)
        return combine(statistics, [part.weight for part in parts]) if parts else {}

    def _halve(self, minibatch: int) -> None:
        """Halve the parts after running out of memory. Raises TooLargeError where a part is one sample."""
        rows = self.rows(minibatch)
        parts = self.division(minibatch).by_rank[self.team.rank]
        largest = max(len(part.indices) for part in parts)
        if largest == 1:
            raise TooLargeError("out of memory with a single image at once: choose a smaller network or resolution")
        self.max_batch = largest // 2
        self._release()
        self.say(f"out of memory with {largest} images at once; going on with {self.max_batch}")
        if not np.array_equal(rows, self.rows(minibatch)):
            raise DataError(
                "out of memory: a stddev group no longer fits; "
                f"start all devices with --max-batch-per-device {self.max_batch}"
            )

    def _noise(self, moment: Moment, network: NetworkName) -> AbstractContextManager[None]:
        """Seed torch's own random numbers, which only the discriminator's noise uses."""
        if not self.preset.network.d_noise:
            return nullcontext()
        clock = 2 * moment.images + (network == "g")
        return seeded(torch_seed(self.seed + self.team.rank, "noise", clock), self.device)


def step_whole(optimizer: torch.optim.Adam) -> None:
    """Make a step. Adam allocates all moments before it changes a weight: memory can run out only before the step."""
    whole = {"step", "exp_avg", "exp_avg_sq"}
    for parameter in [parameter for parameter, state in optimizer.state.items() if not whole <= state.keys()]:
        del optimizer.state[parameter]  # of a step that ran out of memory
    optimizer.step()


def initialise_from_reals(
    stepper: Stepper, discriminator: Discriminator, state: ScheduleState, batches: Iterable[Batch]
) -> None:
    """Start minibatch discrimination from reals, which the paper's row e* does once, before training."""
    reals = fade(torch.cat([as_floats(batch, stepper.device) for batch in batches]), state.below)
    discriminator.initialise(reals, state.lod)
