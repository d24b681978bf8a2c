"""Trainings small enough for tests, and processes that train until they are killed."""

import json
import multiprocessing
import os
import random
import shutil
import signal
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import torch

from datatools.pyramid import Provenance, PyramidWriter
from pggan.config.schedule import ScheduleConfig
from pggan.config.settings import NetworkConfig, Preset
from pggan.training import loop
from pggan.training.checkpoints import checkpoints, load_checkpoint
from pggan.training.options import TrainingOptions
from pggan.training.run import prepare_run
from tests.support.builds import HANGS

IMAGES = 50
ATTRIBUTES = ("Smiling", "Male")
PRESET = Preset(
    "test",
    NetworkConfig(16, fmap_base=64, fmap_max=8, latent_size=8),
    ScheduleConfig(
        16,
        training_kimg=0.032,
        transition_kimg=0.032,
        total_kimg=0.2,
        minibatch_base=4,
        minibatch_repeats=2,
        tick_kimg_base=0.024,
        tick_kimg_by_level=(),
    ),
)
FADING = 48  # images seen, half through the first fade
GROWTH = 32  # images seen when the second level comes in

_context = multiprocessing.get_context("forkserver")
# torch's optimizers import _dynamo when the first one is made, which takes seconds
_context.set_forkserver_preload(["pggan.training.loop", "tests.support.pggan_runs", "torch._dynamo"])


def write_pyramid(
    path: Path,
    count: int = IMAGES,
    resolution: int = 16,
    *,
    attributes: bool = False,
    without: tuple[int, ...] = (),
    levels: tuple[int, ...] | None = None,
) -> Path:
    """Write a pyramid of coloured ramps; the images numbered in `without` have no attributes."""
    rng = np.random.default_rng(5)
    ramp = np.arange(resolution) / resolution
    corners = np.full((5, 2), np.nan), np.zeros((4, 2))
    names = ATTRIBUTES if attributes else ()
    with PyramidWriter(path, count, resolution=resolution, levels=levels, attribute_names=names) as writer:
        for index in range(count):
            a, b, c = rng.uniform(0, 80, (3, 3))
            face = (a + ramp[:, None, None] * b + ramp[None, :, None] * c).astype(np.uint8)
            flags = (1 if index % 2 else -1, 1 if index % 3 else -1) if attributes and index not in without else None
            writer.append(face, Provenance(f"{index}.png", "0" * 32, 0.0, index, -1, corners[1], corners[0], flags))
    return path


def config_of(h5: Path, out: Path, **changes: Any) -> TrainingOptions:
    """A run of `PRESET` on the CPU; names of its parts, such as `schedule`, change settings of them."""
    preset = changes.pop("preset", PRESET)
    for part in ("schedule", "network", "loss", "optimizer", "augment"):
        preset = replace(preset, **{part: replace(getattr(preset, part), **changes.pop(part, {}))})
    return TrainingOptions(h5=h5, out=out, preset=preset, device="cpu", **{"workers": 0, **changes})


def train(options: TrainingOptions) -> loop.Result:
    """Prepare a run and train it."""
    with prepare_run(options) as run:
        return loop.train(run)


@dataclass(frozen=True)
class Death:
    """When a process sends itself a signal, by default the one that leaves no chance to clean up.

    `images`: at that step of the discriminator. `renames`: instead of the so manieth rename of a file into place.
    """

    images: int | None = None
    renames: int | None = None
    signal: int = signal.SIGKILL


def _run(config: TrainingOptions, death: Death, memory_bytes: int | None, environment: Mapping[str, str]) -> None:
    from pggan.data import stream as data
    from pggan.training.step import Stepper

    os.environ.update(environment)
    torch.set_num_threads(1)
    if memory_bytes is not None:
        data.MEMORY_BYTES = memory_bytes
    step, rename, renamed = Stepper.discriminator_step, os.replace, 0

    def dying_step(self: Stepper, state: Any, images: int, batch: Any) -> Any:
        if images == death.images:
            os.kill(os.getpid(), death.signal)
        return step(self, state, images, batch)

    def dying_rename(source: Any, target: Any) -> None:
        nonlocal renamed
        renamed += "checkpoint-" in str(target)
        if renamed == death.renames:
            os.kill(os.getpid(), death.signal)
        rename(source, target)

    Stepper.discriminator_step = dying_step  # type: ignore[method-assign]
    os.replace = dying_rename
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        train(config)


def start(
    config: TrainingOptions,
    death: Death | None = None,
    memory_bytes: int | None = None,
    environment: Mapping[str, str] | None = None,
) -> BaseProcess:
    """Trains in a process of its own."""
    process = _context.Process(target=_run, args=(config, death or Death(), memory_bytes, environment or {}))
    process.start()
    return process


def train_on(devices: int, config: TrainingOptions) -> None:
    """Trains in that many processes, as torchrun would start them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(devices)}
    processes = [
        start(config, environment=environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)}) for rank in range(devices)
    ]
    assert [finish(process) for process in processes] == [0] * devices


def finish(process: BaseProcess) -> int:
    """Waits; the exit code, negative for a signal."""
    process.join(HANGS)
    assert process.exitcode is not None, "the training hangs"
    return process.exitcode


def kill_at_random_times(config: TrainingOptions, dice: random.Random, seconds: float) -> int:
    """Kills a run three times at random and resumes it; `seconds` is about what the whole run takes.

    Returns the number of kills.
    """
    assert config.out is not None
    folder, seen, kills = config.out / "checkpoints", -1, 0
    while kills < 3:
        process = start(config)
        while process.is_alive() and max((c.images for c in checkpoints(folder)), default=-1) <= seen:
            time.sleep(0.001)  # until it has got further than the one before
        time.sleep(dice.uniform(0, seconds / 10))
        process.kill()
        if finish(process) == 0:  # this process was kept waiting: a run that finished says nothing, begin another
            shutil.rmtree(config.out)
            seen, kills = -1, 0
            continue
        assert process.exitcode == -signal.SIGKILL
        kills += 1
        seen = checkpoints(folder)[0].images
    assert finish(start(config)) == 0
    return kills


def stats_of(out: Path) -> list[dict[str, Any]]:
    """Lines of stats.jsonl without what differs from run to run: events, timing and memory."""
    lines = [json.loads(line) for line in (out / "stats.jsonl").read_text().splitlines()]
    varying = ("time", "timing", "memory")
    return [{k: v for k, v in line.items() if k not in varying} for line in lines if "event" not in line]


def events_of(out: Path) -> list[tuple[str, int | None]]:
    """(kind, images) of the events of stats.jsonl."""
    lines = map(json.loads, (out / "stats.jsonl").read_text().splitlines())
    return [(line["event"], line.get("images")) for line in lines if "event" in line]


def assert_equal_values(first: Any, second: Any, where: str = "") -> None:
    """Nested values with tensors, equal bit for bit."""
    assert type(first) is type(second), where
    if isinstance(first, torch.Tensor):
        assert first.dtype == second.dtype, where
        assert torch.equal(first, second), where
    elif isinstance(first, dict):
        assert first.keys() == second.keys(), where
        for key in first:
            assert_equal_values(first[key], second[key], f"{where}.{key}")
    elif isinstance(first, list):
        assert len(first) == len(second), where
        for index, (one, other) in enumerate(zip(first, second, strict=True)):
            assert_equal_values(one, other, f"{where}[{index}]")
    else:
        assert first == second, where


def assert_equal_runs(first: Path, second: Path) -> None:
    """Weights, Adam, averages, statistics, pictures and model file of two finished runs are the same, bit for bit."""
    values = []
    for out in (first, second):
        newest = load_checkpoint(checkpoints(out / "checkpoints")[0])
        newest["tick"].pop("elapsed")
        values.append(newest)
    assert_equal_values(*values)
    assert stats_of(first) == stats_of(second)
    pictures = sorted(path.name for path in first.glob("*.png"))
    assert pictures == sorted(path.name for path in second.glob("*.png"))
    for name in (*pictures, "final.safetensors"):
        assert (first / name).read_bytes() == (second / name).read_bytes(), name
