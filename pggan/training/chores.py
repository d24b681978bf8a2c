"""What happens between rounds, one call each: status lines, grids, checkpoints and measurements."""

import time
from functools import partial
from typing import Any

import torch
from numpy.typing import NDArray

from datatools.errors import DataError
from datatools.text import duration
from pggan.config.schedule import ScheduleState, state_at
from pggan.data.stream import Order, Request, stream
from pggan.media.contributions import rgb_deviations
from pggan.media.grids import grid_size, save_grid, shrink, snapshot_name, tile
from pggan.model.files import BEST, CHECKPOINTS, Model, render, save_model
from pggan.model.networks import Discriminator
from pggan.rng import normals, rng
from pggan.training.checkpoints import save_checkpoint
from pggan.training.log import STATS, memory_bytes, scalars, status_line
from pggan.training.metrics import MeasuringInterruptedError
from pggan.training.run import Run
from pggan.training.step import initialise_from_reals

INITIAL_REALS = 500  # of minibatch discrimination
PREVIEW = 1024  # pixels of the longer side of grids in TensorBoard, whose file keeps them all
SILENCE = 50.0  # seconds on the console after which a line says that the run is at work


def prepare_start(run: Run, state: ScheduleState) -> None:
    """Start from data what needs it before the first round, and write the pictures to compare with."""
    discriminator = run.stepper.networks.discriminator
    if isinstance(discriminator, Discriminator) and discriminator.needs_initial_images:
        first = Request(state.resolution, torch.arange(min(INITIAL_REALS, run.source.count)).numpy())
        order = Order(run.settings.seed, run.source.count, run.preset.mirror)
        initialise_from_reals(run.stepper, discriminator, state, stream(run.source, order, [first], workers=0))
    if run.team.is_main:
        columns, rows = grid_size(run.preset.network.resolution)
        chosen = rng(run.settings.seed, "grid", 1).permutation(run.source.count)[: columns * rows]
        reals: NDArray = run.source.pyramid[run.preset.network.resolution][chosen]
        path = run.out / "reals.png"
        run.saving.may("reals.png", path, partial(save_grid, path, reals.transpose(0, 2, 3, 1), columns))
        save_snapshot(run)


def report(run: Run, state: ScheduleState) -> None:
    """Write a line on the console, one in stats.jsonl, and points in TensorBoard."""
    position, tick = run.position, run.position.tick
    memory = memory_bytes(run.device)
    eta = run.plan.seconds_left(position.images, state.resolution, tick.seconds / max(tick.images, 1))
    status = "  ".join(filter(None, (run.stepper.augmenter.status(), run.metrics.status())))
    run.log.log(status_line(state, tick, position.images, memory, eta, status))
    # Readers work side by side; in one process reading is a part of waiting.
    readers = max(1, run.options.workers) if tick.reading > tick.waiting else 1
    values = {
        "images": position.images,
        "tick": tick.number,
        "resolution": state.resolution,
        "lod": state.lod,
        "alpha": state.alpha,
        "minibatch": state.minibatch,
        "learning_rate": state.rate,
        "loss": tick.means(),
        "timing": {
            "seconds": tick.elapsed,
            "sec_per_kimg": tick.seconds / max(tick.images, 1) * 1000,
            "images_per_second_step": tick.images / max(tick.seconds - tick.waiting, 1e-9),
            "images_per_second_loader": tick.images / run.team.size / max(tick.reading, 1e-9) * readers,
            "waiting_seconds": tick.waiting,
            "eta_seconds": eta,
        },
        "memory": memory,
    }
    if run.team.is_main and (deviations := rgb_deviations(run.stepper.networks.ema, run.settings.seed)):
        values["rgb_std"] = deviations
    record(run, values)


def record(run: Run, values: dict[str, Any]) -> None:
    """Write a line of stats.jsonl, which resuming needs, and points elsewhere, which may be missing."""
    run.saving.must(run.out / STATS, partial(run.log.stats, values))
    for name, sink in run.log.sinks.items():
        run.saving.may(f"curves in {name}", name, partial(sink.add, run.position.images, scalars(values)))


def show_life(run: Run, state: ScheduleState) -> None:
    """Print how far the tick is, where nothing has been printed for a while; log.txt has whole ticks alone."""
    if time.monotonic() - run.log.shown_at < SILENCE:
        return
    images, tick = run.position.images, run.position.tick
    due = tick.start + state.tick_kimg * 1000
    line = f"kimg {images / 1000:.2f}, status line at {due / 1000:.2f}"
    if tick.images:
        line += f" in about {duration(max(due - images, 0) * tick.seconds / tick.images)}"
    run.log.show(line)


def save_snapshot(run: Run) -> None:
    """Write a grid of pictures of the generator's EMA, from latents that are always the same."""
    if not run.team.is_main:
        return
    network = run.preset.network
    columns, rows = grid_size(network.resolution)
    latents = normals(run.settings.seed, "grid", 0, (columns * rows, network.latent_size))
    labels = None
    if run.source.labels is not None:
        chosen = rng(run.settings.seed, "grid", 2).integers(0, run.source.count, columns * rows)
        labels = torch.from_numpy(run.source.labels[chosen])
    lod = state_at(run.preset.schedule, run.position.images).lod
    pictures = render(run.stepper.networks.ema, latents, labels, lod, full=True)
    path = run.out / snapshot_name(run.position.images)
    run.saving.may("grids of fakes", path, partial(save_grid, path, pictures, columns))
    preview = shrink(tile(pictures, columns), PREVIEW)
    for name, sink in run.log.sinks.items():
        run.saving.may(f"grids in {name}", name, partial(sink.add_picture, run.position.images, "fakes", preview))


def save(run: Run) -> None:
    """Save a checkpoint of the position, unless there is one."""
    if run.position.saved_at != run.position.images:
        if run.team.is_main:
            folder, values = run.out / CHECKPOINTS, {**run.position.state(), **run.stepper.state()}
            run.saving.must(folder, partial(save_checkpoint, folder, values, run.options.keep))
        run.position.saved_at = run.position.images


def measure(run: Run, *, ending: bool = False) -> None:
    """Measure what is due: a line in stats.jsonl, points in TensorBoard, and the best snapshot.

    The state of the run does not change. A checkpoint is saved first: a resumed run repeats what is cancelled here.
    """
    names = run.metrics.due(run.position.images, ending=ending) if run.team.is_main and not run.stepper.stopping else []
    if not names:
        return
    save(run)
    networks, images = run.stepper.networks, run.position.images
    lod = state_at(run.preset.schedule, images).lod
    start = time.perf_counter()
    try:
        model = Model(networks.ema, networks.generator, networks.discriminator, lod, images)
        values, notes = run.metrics.measure(model, names)
    except MeasuringInterruptedError:
        run.stepper.stopping = run.team.size == 1  # several find out together, in their next step
        return
    except (DataError, MemoryError, RuntimeError, OSError) as error:  # no reason to end the run
        run.metrics.skip_until_next_interval(names, images)
        # PyTorch adds a trace; a MemoryError may be empty
        message = str(error).partition("\n")[0] or "not enough memory"
        run.log.event("warning", f"not measured after {images} images: {message}")
        return
    values["timing"] = {"seconds": run.position.tick.elapsed, "metrics_seconds": time.perf_counter() - start}
    record(run, values)
    values_text = ", ".join(f"{name} {value:.4g}" for name, value in values["metrics"].items())
    run.log.log(f"measured after {images} images: {values_text}")
    for note in notes:
        run.log.event("note", f"note: {note}")
    for alarm in run.metrics.alarms():
        run.log.event("warning", alarm)
    keep_best(run)


def keep_best(run: Run) -> None:
    """Write best.safetensors when the networks as they are have the lowest distance of all measured."""
    best, images = run.metrics.best, run.position.images
    if run.team.is_main and best is not None and best.images == images:
        path = run.out / BEST
        run.saving.must(path, partial(save_model, path, run.stepper.networks, lod=0.0, images=images))
