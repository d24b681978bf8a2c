"""One training step of either network: micro-batches, gradients summed over devices, and the update.

A step is a pure function of the networks' state, the minibatch and the images seen. It leaves weights and optimizers
untouched when a loss or gradient is not finite.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import Adam

from datatools.errors import DataError, one_line
from pggan.config.schedule import ScheduleState
from pggan.config.settings import OptimizerConfig, Preset
from pggan.data.stream import Batch, as_floats
from pggan.model.files import NetworkSet
from pggan.model.losses import OVERFITTING, LossTerms, combine, d_step_terms, fade, g_step_terms, statistic_names
from pggan.model.networks import Discriminator, Generator, Network, require_gradients, update_ema, used_parameters
from pggan.precision import LossScale, PrecisionName, autocast
from pggan.rng import Purpose, normals, rng, seeded, torch_seed, uniforms
from pggan.training.augmenter import STRENGTH, Augmenter
from pggan.training.distributed import Team
from pggan.training.microbatches import Part, Partition, partition

Stats = dict[str, float]


class NonFiniteError(Exception):
    """A loss or gradient is not a number, or infinite; nothing was updated."""


@dataclass
class Networks(NetworkSet):
    """Networks in training, with both optimizers."""

    g_optimizer: Adam
    d_optimizer: Adam

    def reset_optimizers(self) -> None:
        """Let Adam start anew: no moments, no steps."""
        self.g_optimizer.state.clear()
        self.d_optimizer.state.clear()


def build_networks(preset: Preset, seed: int, device: torch.device) -> Networks:
    """Return new networks; their weights are drawn on the CPU and so the same for every device."""
    with seeded(torch_seed(seed, "weights", 0), torch.device("cpu")):
        generator, discriminator = Generator(preset.network), Discriminator(preset.network)
    ema, *others = (Generator(preset.network) for _ in range(1 + len(preset.optimizer.ema_kimg)))
    generator.to(device).train()
    discriminator.to(device).train()
    for average in (ema, *others):
        average.load_state_dict(generator.state_dict())
        average.to(device).eval().requires_grad_(False)
    return Networks(
        ema,
        generator,
        discriminator,
        _adam(generator, preset.optimizer),
        _adam(discriminator, preset.optimizer),
        averages=dict(zip(preset.optimizer.ema_kimg, others, strict=True)),
    )


def _adam(network: Network, config: OptimizerConfig) -> Adam:
    parameters = list(network.parameters())
    fused = parameters[0].device.type in ("cpu", "cuda")
    return Adam(parameters, lr=0.0, betas=(config.beta1, config.beta2), eps=config.eps, fused=fused)


@dataclass
class Stepper:
    """Makes steps. `max_batch`: samples at once on this device, None for all; out of memory lowers it.

    `labels` (N, classes) of the whole file, None without; `say` gets lines for the log.
    """

    networks: Networks
    preset: Preset
    seed: int
    precision: PrecisionName
    device: torch.device
    team: Team = field(default_factory=Team)
    max_batch: int | None = None
    labels: NDArray[np.float32] | None = None
    say: Callable[[str], None] = print
    stop_requested: Callable[[], bool] = lambda: False

    def __post_init__(self) -> None:
        self.d_scale = LossScale.for_precision(self.precision)
        self.g_scale = LossScale.for_precision(self.precision)
        self.augmenter = Augmenter(self.preset.augment, self.seed)
        self.stopping = False  # whether any process of the team was asked to stop, as of the last step
        self._reported: set[str] = set()
        self._partitions: dict[tuple[int, int | None], Partition] = {}

    def state(self) -> dict[str, Any]:
        """Return everything that a checkpoint needs to continue."""
        networks = self.networks
        return {
            **{stored: network.state_dict() for stored, network in networks.stored.items()},
            "g_optimizer": networks.g_optimizer.state_dict(),
            "d_optimizer": networks.d_optimizer.state_dict(),
            "g_scale": self.g_scale.state(),
            "d_scale": self.d_scale.state(),
            **self.augmenter.state(),
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
            optimizer.load_state_dict(values[name])
            for group, own in zip(optimizer.param_groups, kept, strict=True):
                group.update(own)  # settings are the run's own: they may have been forked
        self.g_scale.load(values["g_scale"])
        self.d_scale.load(values["d_scale"])
        self.augmenter.load(values)

    def rows(self, minibatch: int) -> NDArray[np.int64]:
        """Return the positions in the minibatch that this device handles, ascending."""
        parts = self._division(minibatch).by_rank[self.team.rank]
        return np.array(sorted(index for part in parts for index in part.indices), np.int64)

    def _division(self, minibatch: int) -> Partition:
        key = (minibatch, self.max_batch)
        if key not in self._partitions:
            found = partition(self.preset.network, minibatch, max_batch=self.max_batch, ranks=self.team.size)
            self._partitions[key] = found
            if found.reason and found.reason not in self._reported:
                self._reported.add(found.reason)
                self.say(f"minibatch {minibatch}: {found.reason}")
        return self._partitions[key]

    def discriminator_step(self, state: ScheduleState, images: int, batch: Batch) -> Stats:
        """Update the discriminator and the generator's EMA once; `batch` holds this device's rows."""
        networks, size = self.networks, state.minibatch
        reals = as_floats(batch, self.device)
        rows = self.rows(size)
        latents = self._latents("latents-d", images, size)
        mixing = uniforms(self.seed, "mixing", images, size).to(self.device)
        labels = None if self.labels is None else self._labels_at(batch.indices.numpy())
        augmentation = self.augmenter.draw("augment-d", state, images, self.device)
        require_gradients(networks.discriminator, state.lod, self.preset.optimizer.freeze_d)
        require_gradients(networks.generator, None)

        def terms(part: Part, group: int) -> LossTerms:
            indices = self._index(part.indices)
            local = self._index(np.searchsorted(rows, part.indices))  # places among this device's rows
            own_labels = None if labels is None else labels[local]
            with autocast(self.precision, self.device):
                with torch.no_grad():
                    fakes = networks.generator(latents[indices], own_labels, state.lod)
                return d_step_terms(
                    networks.discriminator,
                    fade(reals[local], state.below),
                    fakes,
                    mixing[indices],
                    config=self.preset.loss,
                    lod=state.lod,
                    labels=own_labels,
                    group=group,
                    loss_scale=self.d_scale.value,
                    augmentation=augmentation and augmentation.at(indices),
                )

        with self._noise(images, 0):
            stats = self._update(networks.discriminator, networks.d_optimizer, self.d_scale, state, terms, "d")
        update_ema(networks.ema, networks.generator, self.preset.optimizer.decay_at(images, size))
        for kimg, average in networks.averages.items():
            update_ema(average, networks.generator, 0.5 ** (size / (kimg * 1000)))
        networks.discriminator.update_noise(torch.tensor(stats["fake_score"]))
        if self.augmenter.is_adaptive:
            stats[STRENGTH] = self.augmenter.strength
            if not stats["non_finite"]:
                self.augmenter.after(stats[OVERFITTING], size)
        return stats

    def generator_step(self, state: ScheduleState, images: int) -> Stats:
        """Update the generator once, with latents of its own."""
        networks, size = self.networks, state.minibatch
        latents = self._latents("latents-g", images, size)
        labels = None
        if self.labels is not None:
            labels = self._labels_at(rng(self.seed, "labels", images).integers(0, len(self.labels), size))
        augmentation = self.augmenter.draw("augment-g", state, images, self.device)
        require_gradients(networks.generator, state.lod)
        require_gradients(networks.discriminator, None)

        def terms(part: Part, group: int) -> LossTerms:
            indices = self._index(part.indices)
            with autocast(self.precision, self.device):
                return g_step_terms(
                    networks.generator,
                    networks.discriminator,
                    latents[indices],
                    config=self.preset.loss,
                    lod=state.lod,
                    labels=None if labels is None else labels[indices],
                    group=group,
                    augmentation=augmentation and augmentation.at(indices),
                )

        with self._noise(images, 1):
            return self._update(networks.generator, networks.g_optimizer, self.g_scale, state, terms, "g")

    def _update(
        self,
        network: Network,
        optimizer: Adam,
        scale: LossScale,
        state: ScheduleState,
        terms: Callable[[Part, int], LossTerms],
        name: Literal["d", "g"],
    ) -> Stats:
        """Compute the gradients of the whole minibatch, then make a step of Adam, unless something is not finite."""
        frozen = self.preset.optimizer.freeze_d if name == "d" else 0
        parameters = [parameter for _, parameter in used_parameters(network, state.lod, frozen)]
        stats = self._gradients(parameters, optimizer, scale, state.minibatch, terms, name)
        finite = all(map(math.isfinite, stats.values()))
        stats["non_finite"] = 0.0 if finite else 1.0
        stats[f"{name}_loss_scale"] = scale.value
        if not scale.after(finite):
            bad = ", ".join(key for key, value in stats.items() if not math.isfinite(value))
            raise NonFiniteError(f"not finite: {bad}, in the {'discriminator' if name == 'd' else 'generator'}'s step")
        if finite:
            for group in optimizer.param_groups:
                group["lr"] = state.rate
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if not finite:  # of float16, which tries again with a smaller scale: no number to put into means
            return {key: value if math.isfinite(value) else 0.0 for key, value in stats.items()}
        return stats

    def _gradients(
        self,
        parameters: list[torch.nn.Parameter],
        optimizer: Adam,
        scale: LossScale,
        minibatch: int,
        terms: Callable[[Part, int], LossTerms],
        name: Literal["d", "g"],
    ) -> Stats:
        """Fill `.grad` with the gradients of the whole minibatch over all devices; returns its statistics."""
        while True:
            optimizer.zero_grad(set_to_none=True)
            try:
                found = self._own_gradients(scale, minibatch, terms)
                break
            except torch.OutOfMemoryError:
                optimizer.zero_grad(set_to_none=True)
            self._halve(minibatch)
        # a device without samples has none of these statistics, and takes part with zeros
        augmented = name == "d" and self.preset.augment.kind != "none"
        names = statistic_names(name, self.preset.loss, labels=self.labels is not None, augmented=augmented)
        values = torch.stack([found[key] for key in names]) if found else torch.zeros(len(names), device=self.device)
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        if self.team.size > 1:
            stop_votes = torch.full((1,), float(self.stop_requested()), device=self.device)
            self.team.sum([*gradients, values, stop_votes])
            self.stopping = bool(stop_votes.item())
        else:
            self.stopping = self.stop_requested()
        if scale.value != 1.0:
            torch._foreach_mul_(gradients, 1.0 / scale.value)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        norm = torch.stack(torch._foreach_norm(gradients)).norm()
        numbers = torch.cat([values.float(), norm.float().reshape(1)]).tolist()  # the step's one wait for the device
        return dict(zip([*names, f"{name}_gradient"], numbers, strict=True))

    def _own_gradients(
        self, scale: LossScale, minibatch: int, terms: Callable[[Part, int], LossTerms]
    ) -> dict[str, Tensor]:
        division = self._division(minibatch)
        parts = division.by_rank[self.team.rank]
        statistics = []
        for part in parts:
            result = terms(part, division.group)
            (result.loss * (part.weight * scale.value)).backward()
            statistics.append(result.statistics)
        return combine(statistics, [part.weight for part in parts]) if parts else {}

    def _halve(self, minibatch: int) -> None:
        """Halve the parts after running out of memory. Raises DataError where a part is one sample."""
        rows = self.rows(minibatch)
        parts = self._division(minibatch).by_rank[self.team.rank]
        largest = max(len(part.indices) for part in parts)
        if largest == 1:
            raise DataError("out of memory with a single image at once: choose a smaller network or resolution")
        self.max_batch = largest // 2
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self.say(f"out of memory with {largest} images at once; going on with {self.max_batch}")
        if not np.array_equal(rows, self.rows(minibatch)):
            raise DataError(
                "out of memory: a stddev group no longer fits; "
                f"start all devices with --max-batch-per-device {self.max_batch}"
            )

    def _index(self, indices: Sequence[int] | NDArray[np.int64]) -> Tensor | slice:
        """Return what takes these samples; a slice where all are taken in order, which copies nothing."""
        values = np.asarray(indices)
        if np.array_equal(values, np.arange(len(values))):
            return slice(0, len(values))
        return torch.from_numpy(values).to(self.device)

    def _latents(self, purpose: Purpose, images: int, size: int) -> Tensor:
        return normals(self.seed, purpose, images, (size, self.preset.network.latent_size)).to(self.device)

    def _labels_at(self, indices: NDArray[np.int64]) -> Tensor:
        assert self.labels is not None
        return torch.from_numpy(self.labels[indices]).to(self.device)

    def _noise(self, images: int, which: int) -> AbstractContextManager[None]:
        """Seed torch's own random numbers, which only the discriminator's noise uses."""
        if not self.preset.network.d_noise:
            return nullcontext()
        return seeded(torch_seed(self.seed + self.team.rank, "noise", 2 * images + which), self.device)


def initialise_from_reals(stepper: Stepper, state: ScheduleState, batches: Iterable[Batch]) -> None:
    """Start minibatch discrimination from reals, which the paper's row e* does once, before training."""
    reals = fade(torch.cat([as_floats(batch, stepper.device) for batch in batches]), state.below)
    stepper.networks.discriminator.initialise(reals, state.lod)
