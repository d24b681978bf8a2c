"""Steps of every family of networks, pictures and metrics on the pretended device; see `pretend_device`."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from pggan.config.presets import get_preset
from pggan.config.schedule import ScheduleState, state_at
from pggan.config.settings import AnyNetworkConfig, AugmentConfig, Preset
from pggan.data.stream import Batch
from pggan.media.latents import critic_scores, truncation_of
from pggan.media.video import Walk, walk_frames
from pggan.metrics.image_sets import ModelSet
from pggan.metrics.ms_ssim import ms_ssim
from pggan.metrics.neighbours import nearest
from pggan.metrics.swd import Descriptors, swd
from pggan.model.files import Model, new_model
from pggan.model.networks import Discriminator
from pggan.precision import PrecisionName
from pggan.training.networks import build_networks
from pggan.training.step import Stepper, initialise_from_reals
from tests.support.pretend_device import DEVICE, Counts, reports
from tests.support.style_runs import GROWING, SKIP

COUNT = 16
"""Samples of a minibatch."""


def round_of(preset: Preset) -> tuple[ScheduleState, Batch]:
    """Return a minibatch in the middle of the run's largest fade, half of it mirrored."""
    resolution = preset.network.resolution
    state = replace(state_at(preset.schedule, 0), minibatch=COUNT)
    fading = preset.schedule.start_resolution < resolution
    lod = math.log2(resolution / min(16, resolution)) + (0.25 if fading else 0.0)
    state = replace(state, lod=lod)
    images = torch.zeros(COUNT, 3, state.resolution, state.resolution, dtype=torch.uint8)
    flips = torch.from_numpy(np.arange(COUNT) % 2 == 0)
    return state, Batch(images, flips, torch.zeros(COUNT, dtype=torch.int64), 0.0)


def steps_of(
    preset: Preset, precision: PrecisionName, planted: Callable[[Stepper], None] | None = None
) -> Callable[[Counts], None]:
    """Return a case: two steps of each network; the first pair, which sets things up, is not counted."""

    def case(counts: Counts) -> None:
        stepper = Stepper(
            build_networks(preset, 0, DEVICE), preset, 0, precision, DEVICE, say=lambda _: None, max_batch=8,
            labels=np.eye(4, dtype=np.float32)[np.arange(100) % 4] if preset.network.classes else None,
        )  # fmt: skip
        if preset.network.d_statistics == "discrimination":
            stepper.max_batch = None
        state, batch = round_of(preset)
        discriminator = stepper.networks.discriminator
        if isinstance(discriminator, Discriminator) and preset.network.d_statistics == "discrimination":
            initialise_from_reals(stepper, discriminator, state, [batch])
        if stepper.augmenter.is_adaptive:
            stepper.augmenter.strength = 0.5
        if planted is not None:
            planted(stepper)
        for number in (0, 4):  # minibatches in which all regularizers are due
            counts.clear()
            stepper.discriminator_step(state, number * COUNT, batch)
            stepper.generator_step(state, number * COUNT)

    return case


def plant(stepper: Stepper) -> None:
    """Leave a tensor of the generator on the CPU, as a forgotten `.to` does."""
    layer = next(module for module in stepper.networks.generator.modules() if getattr(module, "bias", None) is not None)
    layer.bias = torch.nn.Parameter(torch.zeros(layer.bias.shape))


TINY = get_preset("tiny").with_resolution(16)
PRESETS = {
    "tiny": TINY,
    # batch and layer norm, and the discriminator's several steps; minibatch discrimination; its noise; labels
    **{name: get_preset(name).with_resolution(16) for name in ("table1-b", "table1-e-star")},
    "lsgan": TINY.with_loss("lsgan"),
    "labels": TINY.with_classes(4),
    "ada": replace(TINY, augment=AugmentConfig("ada")),
    "diffaugment": replace(TINY, augment=AugmentConfig("diffaugment")),
    "stylegan2": SKIP,
    "stylegan": GROWING,
}
IMAGES = np.zeros((4, 3, 32, 32), np.uint8)


def distances(_: Counts) -> None:
    first, second = (Descriptors(4, 32, seed, patches=16, device=DEVICE) for seed in (0, 1))
    for descriptors in (first, second):
        descriptors.add(IMAGES)
    swd(first, second, 0, repeats=1, directions=8)


def model(network: AnyNetworkConfig, counts: Counts) -> Model:
    made = new_model(network).to(DEVICE)
    counts.clear()
    return made


def pictures(counts: Counts) -> None:
    made = model(TINY.with_classes(3).network, counts)
    made.pictures([1, 2, 3])
    critic_scores(made, np.zeros((4, 16, 16, 3), np.uint8))
    list(walk_frames(made, Walk(0.2, 10, 0.05, (2, 1)), change=truncation_of(made, 0.5, None)))
    list(ModelSet(made).batches(4, 2))


def style_pictures(counts: Counts) -> None:
    made = model(SKIP.network, counts)
    made.pictures([1, 2, 3])
    list(ModelSet(made).batches(4, 2))


CASES: dict[str, Callable[[Counts], object]] = {
    **{name: steps_of(preset, "fp32") for name, preset in PRESETS.items()},
    "labels bf16": steps_of(PRESETS["labels"], "bf16"),
    "stylegan2 fp16": steps_of(SKIP, "fp16"),
    "swd": distances,
    "ms-ssim": lambda _: ms_ssim(IMAGES[::2], IMAGES[1::2], device=DEVICE),
    "neighbours": lambda _: nearest(IMAGES[:2], [IMAGES], k=3, device=DEVICE),
    "pictures": pictures,
    "pictures of styles": style_pictures,
    "planted": steps_of(TINY, "fp32", plant),
}

if __name__ == "__main__":
    reports(CASES)
