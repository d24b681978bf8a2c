"""Estimate phases, parameters, memory and time of a run before it starts.

Work and memory are counted from the networks' shapes. The device's speed, and with CUDA the memory too, is measured
in a step at the levels that are quick enough. So is the number of threads that suits this CPU.
"""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch

from datatools.errors import DataError
from datatools.text import counted, duration
from pggan.config.level import Level
from pggan.config.schedule import ScheduleState, Stage, stages, state_at
from pggan.config.settings import AnyNetworkConfig, Preset
from pggan.config.style import StyleLossConfig
from pggan.data.stream import Batch, as_floats
from pggan.model.networks import Network, used_parameters
from pggan.precision import PrecisionName, computes
from pggan.training.distributed import Team, local_processes
from pggan.training.log import device_peak
from pggan.training.networks import Networks, build_networks
from pggan.training.step import NonFiniteError, Stepper, TooLargeError
from pggan.training.terms import Terms
from pggan.training.threads import use_fastest, using

# In passes of a network forward, for each image of a minibatch. Back to activations and weights costs two more.
SEEN = 3.0
PENALIZED = 8.0  # with a penalty, whose gradient is differentiated again
LIVE_PASSES = 4.5  # of D's activations that the penalty's graph holds at its largest
PROCESS_BYTES = 450 << 20  # Python and torch themselves
MEASURED_SECONDS = 0.7  # of a step, predicted from the level before; larger levels are left to arithmetic
MEASURED_BATCH = 8
SPEED_OF_CPU = 2e10  # multiplications per second, until something is measured
TRIAL_SECONDS, TRIAL_BATCH = 0.25, 4  # at most, of the discriminator's step that numbers of threads are compared in


@dataclass(frozen=True)
class LevelPlan:
    """A level: parameters of both networks at work, samples at once, and what a minibatch costs on one device.

    `seconds`: per image shown, over all devices. `measured`: whether time, and `bytes_measured` whether memory, was.
    """

    g_parameters: int
    d_parameters: int
    at_once: int
    bytes: int
    seconds: float
    measured: bool
    bytes_measured: bool


@dataclass(frozen=True)
class Plan:
    """The whole run. `threads`: of each process, for arithmetic on the CPU; None leaves them to torch.

    `converts`: the device has no instructions for the precision.
    """

    preset: Preset
    stages: tuple[Stage, ...]
    levels: dict[int, LevelPlan]
    device: str
    precision: str
    devices: int
    threads: int | None = None
    converts: bool = False

    def seconds(self, first: int = 0) -> float:
        """Return the time of the run from `first` images on."""
        return sum(
            max(0, stage.end_image - max(stage.first_image, first)) * self.levels[stage.resolution].seconds
            for stage in self.stages
        )

    def seconds_left(self, images: int, resolution: int, seconds_per_image: float) -> float:
        """Return the time from `images` on, given what an image takes now, at `resolution`."""
        expected = self.levels[resolution].seconds
        return self.seconds(images) * (seconds_per_image / expected if expected > 0 else 1.0)

    def lines(self) -> list[str]:
        """Return the plan as a table."""
        preset = self.preset
        found = [
            f"preset {preset.name}: {preset.network.resolution} x {preset.network.resolution}, "
            f"{preset.schedule.total_kimg:g} kimg, {preset.loss.kind}, "
            f"{self.devices} x {self.device}, {self.precision}",
            "  kimg                level        minibatch  at once  rate     parameters G + D     memory   sec/kimg",
        ]
        for stage in self.stages:
            level = self.levels[stage.resolution]
            what = f"{stage.resolution}{' fading in' if stage.fading else ''}"
            span = f"{stage.first_image / 1000:g} - {stage.end_image / 1000:g}"
            about = "" if level.measured else "~"
            memory = f"{'' if level.bytes_measured else '~'}{level.bytes / 2**30:.2f}"
            found.append(
                f"  {span:<19} {what:<14} {stage.minibatch:<9}  {level.at_once:<7}  {stage.learning_rate:<7g}  "
                f"{level.g_parameters:>9,} + {level.d_parameters:<10,} {memory:>6} GiB  "
                f"{about}{level.seconds * 1000:.3g}"
            )
        threads = f" with {counted(self.threads, 'thread')}" if self.threads is not None else ""
        found.append(f"  in all about {duration(self.seconds())}{threads} (~ is estimated, the rest was measured)")
        if self.converts:
            found.append(
                f"  warning: this {self.device} has no instructions for {self.precision} and converts to fp32 and "
                "back; --precision fp32 is faster, on most CPUs several times"
            )
        return found


def passes(preset: Preset) -> tuple[float, float]:
    """Return the passes of (generator, discriminator) for a real shown, with lazy penalties averaged in.

    The discriminator sees reals and fakes in its own steps; the generator's step goes through it and back. A penalty
    is of mixed images or reals, that of path lengths is of half as many images as the minibatch has.
    """
    d, g, generators = 2 * SEEN, 1.0, 1 / preset.schedule.d_steps
    if not isinstance(preset.loss, StyleLossConfig):
        return g + SEEN * generators, d + PENALIZED
    paths = PENALIZED / 2 / preset.loss.path_interval if preset.loss.path_weight else 0.0
    r1 = PENALIZED / preset.loss.r1_interval if preset.loss.r1_gamma else 0.0
    return g + (SEEN + paths) * generators, d + 2 * generators + r1


def multiplications(config: AnyNetworkConfig, resolution: int) -> tuple[float, float]:
    """Return those of one image forward through (generator, discriminator) at the level of `resolution`."""
    g = config.latent_size * config.fmaps(4) * 16.0 + 9.0 * 16 * config.fmaps(4) ** 2
    d = 9.0 * 16 * config.fmaps(4) ** 2 + 16.0 * config.fmaps(4) * config.fmaps(2)
    for r in (r for r in config.levels if 4 < r <= resolution):
        maps, below = config.fmaps(r), config.fmaps(r // 2)
        resampled = 9.0 * (r // 2) ** 2 * maps * below  # at the smaller size, whichever way
        same = 9.0 * r * r * maps * maps
        g, d = g + resampled + same, d + resampled + same
    color = 3.0 * resolution**2 * config.fmaps(resolution)
    return g + color, d + color


def activations(config: AnyNetworkConfig, resolution: int) -> float:
    """Return the values that a pass of one image through the discriminator keeps for its way back."""
    total = 4.0 * 16 * config.fmaps(4)
    for r in (r for r in config.levels if 4 < r <= resolution):
        # fromRGB or the level above, the first convolution, the box filter; then the smaller result
        total += 3.0 * r * r * config.fmaps(r) + (r // 2) ** 2 * config.fmaps(r // 2)
    return total


def make_plan(preset: Preset, device: torch.device, precision: PrecisionName, threads: int | None = None) -> Plan:
    """Make the plan of a run on one device with new networks; for `threads` see `plan_from`."""
    return plan_from(Stepper(build_networks(preset, 0, device), preset, 0, precision, device), threads=threads)


def plan_from(stepper: Stepper, devices: int = 1, threads: int | None = None) -> Plan:
    """Build every level, measure what is quick to measure, and estimate the rest.

    The networks of `stepper` have afterwards the weights that they had, and no moments of Adam. Where a level does not
    fit into the device's memory, its `max_batch` is what does.

    Args:
        devices: processes that share the work.
        threads: of each process; None takes the fastest number on a CPU, and torch's own on other devices.
    """
    preset, device = stepper.preset, stepper.device
    labels = np.eye(preset.network.classes, dtype=np.float32) if preset.network.classes else None
    # alone, also where there are more processes: every one measures for itself, without waiting for others
    trial = replace(stepper, team=Team(), labels=labels, say=lambda _: None, stop_requested=lambda: False)
    with unchanged(stepper.networks):
        if threads is None and device.type == "cpu":
            threads = fastest_threads(trial)
        with using(threads):
            levels = plan_levels(trial, devices)
    stepper.max_batch = trial.max_batch  # lowered where a level did not fit
    converts = not computes(stepper.precision, device)
    return Plan(preset, stages(preset.schedule), levels, device.type, stepper.precision, devices, threads, converts)


@contextmanager
def unchanged(networks: Networks) -> Iterator[None]:
    """Give the networks their weights back after the context, and Adam no moments."""
    before = {
        stored: {name: value.cpu().clone() for name, value in network.state_dict().items()}
        for stored, network in networks.stored.items()
    }
    try:
        yield
    finally:
        networks.load(before)
        networks.reset_optimizers()


def fastest_threads(stepper: Stepper) -> int:
    """Return the number of threads with which the discriminator's step takes the least time on this CPU.

    The step is that of the largest level which takes a fraction of a second. The networks are worthless afterwards.
    """
    work = {
        r: passes(stepper.preset)[1] * TRIAL_BATCH * multiplications(stepper.preset.network, r)[1]
        for r in stepper.preset.schedule.levels
    }
    quick = [r for r in work if work[r] / SPEED_OF_CPU <= TRIAL_SECONDS]
    state, batch = trial_round(stepper.preset, max(quick, default=min(work)), TRIAL_BATCH)
    reals = as_floats(batch, stepper.device)

    @torch.no_grad()
    def forward() -> None:
        stepper.networks.discriminator(reals, state.lod)

    with using(None):
        return use_fastest(lambda: steps(stepper, state, batch, generator=False), local_processes(), forward)


def plan_levels(stepper: Stepper, devices: int) -> dict[int, LevelPlan]:
    """Return what each level needs and takes; the networks of `stepper` are worthless afterwards."""
    preset, device, networks, max_batch = stepper.preset, stepper.device, stepper.networks, stepper.max_batch
    found: dict[int, LevelPlan] = {}
    speed = SPEED_OF_CPU if device.type == "cpu" else 50 * SPEED_OF_CPU
    for resolution, minibatch in {stage.resolution: stage.minibatch for stage in stages(preset.schedule)}.items():
        g, d = multiplications(preset.network, resolution)
        work = sum(a * b for a, b in zip(passes(preset), (g, d), strict=True))
        at_once = min(max(1, minibatch // devices), max_batch or minibatch)
        quick = work / speed * min(at_once, MEASURED_BATCH) < MEASURED_SECONDS
        measured = measure(stepper, resolution, at_once) if quick or device.type == "cuda" else None
        if measured is not None:
            seconds, peak = measured
            speed = work / seconds
        else:
            seconds, peak = work / speed, None
        at_once = min(at_once, stepper.max_batch or at_once)
        found[resolution] = LevelPlan(
            parameters(networks.generator, resolution),
            parameters(networks.discriminator, resolution),
            at_once,
            peak or estimated_bytes(preset.network, resolution, at_once, stepper.precision, networks),
            seconds / devices,
            measured is not None,
            peak is not None,
        )
    return found


def parameters(network: Network, resolution: int) -> int:
    """Return the number of parameters that work at the level of `resolution`, once it has faded in."""
    level = Level.whole(network.config.resolution, resolution)
    return sum(parameter.numel() for _, parameter in used_parameters(network, level.lod))


def estimated_bytes(
    config: AnyNetworkConfig, resolution: int, at_once: int, precision: PrecisionName, networks: Networks
) -> int:
    """Return the peak memory of a process: weights, gradients, Adam's two moments, the EMA, activations."""
    weights = [sum(p.numel() for p in network.parameters()) for network in (networks.generator, networks.discriminator)]
    fixed = 4 * (4 * sum(weights) + weights[0])
    size = 4 if precision == "fp32" else 2
    return int(PROCESS_BYTES + fixed + LIVE_PASSES * size * at_once * activations(config, resolution))


def measure(stepper: Stepper, resolution: int, at_once: int) -> tuple[float, int | None] | None:
    """Return (seconds per image, bytes at the peak or None) of both steps at the level of `resolution`.

    The networks' weights are worthless afterwards. None when the level does not fit into the device's memory.
    """
    device, schedule, max_batch = stepper.device, stepper.preset.schedule, stepper.max_batch
    count = at_once if device.type == "cuda" else min(at_once, MEASURED_BATCH)
    state, batch = trial_round(stepper.preset, resolution, count)
    seconds = 0.0
    try:
        steps(stepper, state, batch)  # sets things up
        for number, share in kinds_of_minibatches(stepper.terms):
            start = time.perf_counter()
            steps(stepper, replace(state, number=number), batch)
            if device.type != "cpu":
                torch.accelerator.synchronize(device)
            seconds += share * (time.perf_counter() - start)
    except TooLargeError:
        stepper.max_batch = max_batch  # levels below it fit
        return None
    peak = device_peak(device)
    if peak is not None:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    return seconds / (count * schedule.d_steps), peak


def kinds_of_minibatches(terms: Terms) -> list[tuple[int, float]]:
    """Return (number, share) of minibatches that differ in the terms that are due: a number of each kind."""
    cycle = math.lcm(*(term.interval for term in terms.all))
    due = [tuple(number % term.interval == 0 for term in terms.all) for number in range(cycle)]
    return [(due.index(kind), due.count(kind) / cycle) for kind in dict.fromkeys(due)]


def trial_round(preset: Preset, resolution: int, count: int) -> tuple[ScheduleState, Batch]:
    """Return a round at the level of `resolution`, wholly faded in, and black reals for its minibatch of `count`."""
    lod = Level.whole(preset.network.resolution, resolution).lod
    state = replace(state_at(preset.schedule, 0), lod=lod, minibatch=count)
    images = torch.zeros(count, 3, resolution, resolution, dtype=torch.uint8)
    return state, Batch(images, torch.zeros(count, dtype=torch.bool), torch.zeros(count, dtype=torch.int64), 0.0)


def steps(stepper: Stepper, state: ScheduleState, batch: Batch, *, generator: bool = True) -> None:
    """Make the steps of a minibatch. DataError for losses that are not finite."""
    try:
        for network in stepper.turns:
            if network == "d":
                stepper.discriminator_step(state, 0, batch)
            elif generator:
                stepper.generator_step(state, 0)
    except NonFiniteError as error:
        raise DataError(f"{error}, in a trial before the training: these settings diverge at once") from error
