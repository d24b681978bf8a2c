"""The training loop: rounds of steps, and what happens between them.

    from pggan.training.loop import train
    train(RunConfig(h5=Path("celebahq.h5"), out=Path("run"), preset=get_preset("celebahq-v2")))

`images`, the number of reals shown to the discriminator, is the only clock: schedule, data, random numbers, reports
and file names derive from it.
"""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from types import FrameType
from typing import Any

import torch
from numpy.typing import NDArray

from datatools.errors import DataError
from datatools.text import duration
from pggan.config.schedule import ScheduleState, rounds, state_at
from pggan.data.stream import Batch, Order, Request, Source, requests, stream
from pggan.media.grids import grid_size, save_grid, snapshot_name
from pggan.model.files import BEST, CHECKPOINTS, FINAL, Model, render
from pggan.precision import allow_tf32
from pggan.rng import normals, rng
from pggan.training.checkpoints import checkpoints, newest_good, remove_after, save_checkpoint
from pggan.training.distributed import Team, choose_device, join
from pggan.training.log import BOARD, STATS, RunLog, Tick, memory_bytes, status_line
from pggan.training.metrics import MeasuringInterruptedError, TrainingMetrics
from pggan.training.plan import Plan, make_plan
from pggan.training.run_config import FILE_NAME, RunConfig, SavedRun
from pggan.training.run_dir import (
    Position,
    check_resume_settings,
    check_room,
    collect,
    locked,
    restore,
    save_networks,
    start_from,
)
from pggan.training.saving import Saving
from pggan.training.step import NonFiniteError, Stepper, build_networks, initialise_from_reals
from pggan.training.threads import using

INITIAL_REALS = 500  # of minibatch discrimination
SILENCE = 50.0  # seconds on the console after which a line says that the training is at work


@dataclass(frozen=True)
class Result:
    """How a call of `train` ended: images seen, and whether that is the end of the training."""

    images: int
    finished: bool


@dataclass
class Run:
    """What the loop and its chores share."""

    config: RunConfig
    device: torch.device
    team: Team
    log: RunLog
    saving: Saving
    source: Source
    stepper: Stepper
    plan: Plan
    metrics: TrainingMetrics
    stop: "StopFlag"
    position: Position = field(default_factory=lambda: Position(0, None, Tick(), -1))


class StopFlag:
    """Set by SIGTERM or Ctrl-C; a second Ctrl-C interrupts at once."""

    def __init__(self) -> None:
        self.wanted = False

    def __call__(self) -> bool:
        return self.wanted

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self.wanted and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.wanted = True

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Within it the signals set the flag; outside the main thread Python lets nobody listen."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._handle) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def train(config: RunConfig) -> Result:
    """Train, or go on training, in `config.out`, until the schedule ends or SIGTERM or Ctrl-C asks to save and stop.

    Raises DataError for settings, data or a run folder that do not fit, and when losses are no longer finite.
    """
    device = choose_device(config.device)
    allow_tf32(config.tf32)
    torch.backends.cudnn.benchmark = True
    stop = StopFlag()
    with ExitStack() as stack:
        team = stack.enter_context(join(device))
        if team.is_main:
            stack.enter_context(locked(config.out))
        log = RunLog(config.out if team.is_main else None)
        log.event("started", devices=team.size, device=device.type, precision=config.precision)
        saving = Saving(config.out, log.event, stop)
        stack.enter_context(noted(log))
        stack.enter_context(stop.listening())
        source = Source(config.h5, config.labels)
        saved = check_resume_settings(config, source, log.event)
        team.wait()  # nobody writes config.json before all have read it
        metrics = TrainingMetrics(
            config.metrics,
            config.out,
            source,
            config.preset.schedule,
            seed=config.seed,
            mirror=config.preset.mirror,
            device=device,
            stopping=stop,
        )
        threads = config.threads if saved is None else saved.threads_on(device)
        plan = make_plan(config.preset, device, config.precision, team.size, config.max_batch_per_device, threads)
        if device.type == "cpu":
            plan = replace(plan, threads=team.agree(plan.threads))
        stack.enter_context(using(plan.threads))
        log.log("\n".join(plan.lines()))
        stepper = Stepper(
            build_networks(config.preset, config.seed, device),
            config.preset,
            config.seed,
            config.precision,
            device,
            team,
            config.max_batch_per_device,
            source.labels,
            partial(log.event, "note"),
            stop,
        )
        run = Run(config, device, team, log, saving, source, stepper, plan, metrics, stop)
        if team.is_main:
            check_room(config, stepper.networks)
        begin(run)
        if team.is_main:  # not before: a run that cannot begin leaves the folder as it was
            settings = replace(saved or SavedRun.of(config, source), threads=plan.threads)
            saving.must(config.out / FILE_NAME, partial(settings.write, config.out))
        try:
            return run_rounds(run)
        except NonFiniteError as error:
            log.event("warning", f"{error}; going back to the last good checkpoint, once")
        begin(run)
        try:
            return run_rounds(run)
        except NonFiniteError as error:
            raise DataError(f"{error}, again after going back to a checkpoint: the training has diverged") from error


@contextmanager
def noted(log: RunLog) -> Iterator[None]:
    """Write the error that ends the run into log.txt, too: its console may be gone."""
    try:
        yield
    except DataError as error:
        log.event("failed", str(error))
        raise


def begin(run: Run) -> None:
    """Puts the run where its newest good checkpoint says, or at its start."""
    config, folder = run.config, run.config.out / CHECKPOINTS
    run.team.wait()
    values = newest_good(folder, partial(run.log.event, "warning"))
    if values is None and (unreadable := checkpoints(folder)):
        raise DataError(
            f"none of the {len(unreadable)} checkpoints in {folder} can be used, and they are left as they are; "
            "bring one back from a copy, or begin anew with another --out"
        )
    if values is None:
        run.stepper.networks = build_networks(config.preset, config.seed, run.device)
        run.position = Position(0, None, Tick(), -1)
        if config.init_from is not None:
            start_from(run.stepper, config.init_from)
            run.log.event("note", f"weights from {config.init_from}")
    else:
        run.position = restore(run.stepper, values)
    run.team.wait()
    if run.team.is_main:
        run.saving.must(folder, partial(remove_after, folder, run.position.images))
    stats = run.saving.must(config.out / STATS, partial(run.log.resume_from, run.position.images))
    if values is not None:
        images = run.position.images
        run.log.event("resumed", f"resumed from {images} images", images=images)
    run.metrics.resume_from(stats)
    keep_best(run)  # unless the training was killed before it was written, it is there already


def run_rounds(run: Run) -> Result:
    """The training loop, from `run.position` to its end."""
    config, stepper, position = run.config, run.stepper, run.position
    schedule = config.preset.schedule
    state = state_at(schedule, position.images)
    if position.stage is None:
        prepare(run, state)
    batches = stream(
        run.source,
        Order(config.seed, run.source.count, config.preset.mirror),
        requests(schedule, position.images, stepper.rows),
        workers=config.workers,
        pin_memory=run.device.type == "cuda",
    )
    measure(run)  # what was given up when the training was stopped or killed
    if stepper.stopping:
        return stopped(run)
    clock = time.perf_counter()
    for state in rounds(schedule, position.images):
        # The stage changes when a level begins to fade in, and when it has.
        if position.stage != state.stage:
            if position.stage is not None and position.stage[0] != state.stage[0]:
                grown = f"growing to {state.resolution} x {state.resolution} after {state.images} images"
                run.log.event("growing", grown, images=state.images, resolution=state.resolution)
            save(run)  # before anything new happens to the networks
            stepper.networks.reset_optimizers()
            position.stage = state.stage

        for _ in range(schedule.minibatch_repeats):
            for _ in range(schedule.d_steps):
                batch = timed_next(batches, position.tick)
                stats = step_or_explain(run, state, batch)
                position.images += state.minibatch
                position.tick.add(stats)
            position.tick.add(step_or_explain(run, state))
            show_life(run, state)

        now = time.perf_counter()
        position.tick.seconds += now - clock
        position.tick.elapsed += now - clock
        position.tick.images += state.round_images
        clock = now

        if position.images - position.tick.start >= state.tick_kimg * 1000:
            report(run, state)
            save_snapshot(run)
            position.tick = position.tick.next(position.images)
            if config.checkpoint_kimg is None:
                save(run)
        if config.checkpoint_kimg and position.images - position.saved_at >= config.checkpoint_kimg * 1000:
            save(run)
        measure(run)
        if stepper.stopping:
            return stopped(run)
        clock = time.perf_counter()
    return finish(run, state)


def stopped(run: Run) -> Result:
    """Saves, before the training's end."""
    save(run)
    images = run.position.images
    run.log.event("stopped", f"stopped after {images} images, as asked; the same command goes on", images=images)
    return Result(images, False)


def prepare(run: Run, state: ScheduleState) -> None:
    """Before the first round: what starts from data, and the pictures to compare with."""
    if run.stepper.networks.discriminator.needs_initial_images:
        first = Request(state.resolution, torch.arange(min(INITIAL_REALS, run.source.count)).numpy())
        order = Order(run.config.seed, run.source.count, run.config.preset.mirror)
        initialise_from_reals(run.stepper, state, stream(run.source, order, [first], workers=0))
    if run.team.is_main:
        columns, rows = grid_size(run.config.preset.network.resolution)
        chosen = rng(run.config.seed, "grid", 1).permutation(run.source.count)[: columns * rows]
        reals: NDArray = run.source.pyramid[run.config.preset.network.resolution][chosen]
        path = run.config.out / "reals.png"
        run.saving.may("reals.png", path, partial(save_grid, path, reals.transpose(0, 2, 3, 1), columns))
        save_snapshot(run)


def timed_next(batches: Iterator[Batch], tick: Tick) -> Batch:
    """The next batch; how long it took to read, and how long it was waited for, go into the tick."""
    start = time.perf_counter()
    batch = next(batches)
    tick.waiting += time.perf_counter() - start
    tick.reading += batch.seconds
    return batch


def step_or_explain(run: Run, state: ScheduleState, batch: Batch | None = None) -> dict[str, float]:
    """A step of the discriminator, or without a batch of the generator; errors say in which phase."""
    images = run.position.images
    try:
        if batch is not None:
            return run.stepper.discriminator_step(state, images, batch)
        return run.stepper.generator_step(state, images)
    except NonFiniteError as error:
        fading = f", fading in with weight {state.alpha:.2f}" if state.alpha < 1 else ""
        phase = f"after {images} images, at {state.resolution} x {state.resolution}{fading}"
        raise NonFiniteError(f"{phase}: {error}") from error


def report(run: Run, state: ScheduleState) -> None:
    """A line on the console, one in stats.jsonl, points in TensorBoard."""
    position, tick = run.position, run.position.tick
    memory = memory_bytes(run.device)
    eta = run.plan.seconds_left(position.images, state.resolution, tick.seconds / max(tick.images, 1))
    run.log.log(status_line(state, tick, position.images, memory, eta, run.metrics.status()))
    # Readers work side by side; in one process reading is a part of waiting.
    readers = max(1, run.config.workers) if tick.reading > tick.waiting else 1
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
    record(run, values)


def record(run: Run, values: dict[str, Any]) -> None:
    """Write a line of stats.jsonl, which resuming needs, and points for TensorBoard, which may be missing."""
    run.saving.must(run.config.out / STATS, partial(run.log.stats, values))
    folder = run.config.out / BOARD
    run.saving.may("TensorBoard's curves", folder, partial(run.log.points, run.position.images, values))


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
    config, network = run.config, run.config.preset.network
    columns, rows = grid_size(network.resolution)
    latents = normals(config.seed, "grid", 0, (columns * rows, network.latent_size))
    labels = None
    if run.source.labels is not None:
        chosen = rng(config.seed, "grid", 2).integers(0, run.source.count, columns * rows)
        labels = torch.from_numpy(run.source.labels[chosen])
    lod = state_at(config.preset.schedule, run.position.images).lod
    pictures = render(run.stepper.networks.ema, latents, labels, lod, full=True)
    path = config.out / snapshot_name(run.position.images)
    run.saving.may("grids of fakes", path, partial(save_grid, path, pictures, columns))


def save(run: Run) -> None:
    """A checkpoint of the position, unless there is one."""
    if run.position.saved_at != run.position.images:
        if run.team.is_main:
            folder, values = run.config.out / CHECKPOINTS, collect(run.stepper, run.position)
            run.saving.must(folder, partial(save_checkpoint, folder, values, run.config.keep))
        run.position.saved_at = run.position.images


def measure(run: Run, *, ending: bool = False) -> None:
    """The metrics that are due: a line in stats.jsonl, points in TensorBoard, and the best snapshot.

    Afterwards the training is where it was. A checkpoint comes first: what is given up here is done when it goes on.
    """
    names = run.metrics.due(run.position.images, ending=ending) if run.team.is_main and not run.stepper.stopping else []
    if not names:
        return
    save(run)
    networks, images = run.stepper.networks, run.position.images
    lod = state_at(run.config.preset.schedule, images).lod
    start = time.perf_counter()
    try:
        model = Model(networks.ema, networks.generator, networks.discriminator, lod, images)
        values = run.metrics.measure(model, names)
    except MeasuringInterruptedError:
        run.stepper.stopping = run.team.size == 1  # several find out together, in their next step
        return
    except (DataError, MemoryError, RuntimeError, OSError) as error:  # no reason to end a training
        run.metrics.skip_until_next_interval(names, images)
        told = str(error).partition("\n")[0] or "not enough memory"  # PyTorch adds a trace; a MemoryError may be empty
        run.log.event("warning", f"not measured after {images} images: {told}")
        return
    values["timing"] = {"seconds": run.position.tick.elapsed, "metrics_seconds": time.perf_counter() - start}
    record(run, values)
    told = ", ".join(f"{name} {value:.4g}" for name, value in values["metrics"].items())
    run.log.log(f"measured after {images} images: {told}")
    for note in run.metrics.new_notes():
        run.log.event("note", f"note: {note}")
    for alarm in run.metrics.alarms():
        run.log.event("warning", alarm)
    keep_best(run)


def keep_best(run: Run) -> None:
    """best.safetensors, when the networks as they are have the lowest distance of all measured."""
    best, images = run.metrics.best, run.position.images
    if run.team.is_main and best is not None and best.images == images:
        path = run.config.out / BEST
        run.saving.must(path, partial(save_networks, path, run.stepper.networks, 0.0, images))


def finish(run: Run, state: ScheduleState) -> Result:
    """The last report, pictures, checkpoint, and the model file."""
    position = run.position
    final = run.config.out / FINAL
    if position.images > position.tick.start:
        report(run, state)
        position.tick = position.tick.next(position.images)
    save_snapshot(run)
    save(run)
    if run.team.is_main:
        lod = state_at(run.config.preset.schedule, position.images).lod
        run.saving.must(final, partial(save_networks, final, run.stepper.networks, lod, position.images))
    measure(run, ending=True)
    run.log.event("finished", f"finished after {position.images} images: {final}", images=position.images)
    return Result(position.images, True)
