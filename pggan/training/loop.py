"""The training loop: rounds of steps. What happens between them is in `chores`, what comes before in `session`.

`images`, the number of reals shown to the discriminator, is the only clock: schedule, data, random numbers, reports
and file names derive from it.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from datatools.errors import DataError
from pggan.config.schedule import ScheduleState, rounds, state_at
from pggan.data.stream import Batch, Order, requests, stream
from pggan.model.files import FINAL, save_model
from pggan.training.chores import measure, prepare_start, report, save, save_snapshot, show_life
from pggan.training.log import Tick
from pggan.training.run import Run
from pggan.training.session import begin, session
from pggan.training.step import NonFiniteError


@dataclass(frozen=True)
class Result:
    """How a call of `train` ended: images seen, and whether that is the end of the run."""

    images: int
    finished: bool


def train(run: Run) -> Result:
    """Train until the schedule ends or SIGTERM or Ctrl-C asks to save and stop; resume where the run folder stands.

    Raises DataError for a run folder that cannot be used, and when losses are no longer finite.
    """
    with session(run):
        try:
            return run_rounds(run)
        except NonFiniteError as error:
            run.log.event("warning", f"{error}; going back to the last good checkpoint, once")
        begin(run)
        try:
            return run_rounds(run)
        except NonFiniteError as error:
            raise DataError(f"{error}, again after going back to a checkpoint: the training has diverged") from error


def run_rounds(run: Run) -> Result:
    """Run the training loop from `run.position` to its end."""
    options, stepper, position = run.options, run.stepper, run.position
    schedule = run.preset.schedule
    state = state_at(schedule, position.images)
    if position.stage is None:
        prepare_start(run, state)
    batches = stream(
        run.source,
        Order(run.settings.seed, run.source.count, run.preset.mirror),
        requests(schedule, position.images, stepper.rows),
        workers=options.workers,
        pin_memory=run.device.type == "cuda",
    )
    measure(run)  # what was given up when the run was stopped or killed
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
            for network in stepper.turns:
                batch = timed_next(batches, position.tick) if network == "d" else None
                position.tick.add(step_or_explain(run, state, batch))
                position.images += state.minibatch if network == "d" else 0
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
            if options.checkpoint_kimg is None:
                save(run)
        if options.checkpoint_kimg and position.images - position.saved_at >= options.checkpoint_kimg * 1000:
            save(run)
        measure(run)
        if stepper.stopping:
            return stopped(run)
        clock = time.perf_counter()
    return finish(run, state)


def stopped(run: Run) -> Result:
    """Save, before the end of the run."""
    save(run)
    images = run.position.images
    run.log.event(
        "stopped", f"stopped after {images} images, as asked; run the same command again to resume", images=images
    )
    return Result(images, False)


def timed_next(batches: Iterator[Batch], tick: Tick) -> Batch:
    """Return the next batch; note in the tick how long it took to read, and how long it was waited for."""
    start = time.perf_counter()
    batch = next(batches)
    tick.waiting += time.perf_counter() - start
    tick.reading += batch.seconds
    return batch


def step_or_explain(run: Run, state: ScheduleState, batch: Batch | None = None) -> dict[str, float]:
    """Make a step of the discriminator, or without a batch of the generator; errors say in which phase."""
    images = run.position.images
    try:
        if batch is not None:
            return run.stepper.discriminator_step(state, images, batch)
        return run.stepper.generator_step(state, images)
    except NonFiniteError as error:
        fading = f", fading in with weight {state.alpha:.2f}" if state.alpha < 1 else ""
        phase = f"after {images} images, at {state.resolution} x {state.resolution}{fading}"
        raise NonFiniteError(f"{phase}: {error}") from error


def finish(run: Run, state: ScheduleState) -> Result:
    """Write the last report, pictures, checkpoint, and the model file."""
    position = run.position
    final = run.out / FINAL
    if position.images > position.tick.start:
        report(run, state)
        position.tick = position.tick.next(position.images)
    save_snapshot(run)
    save(run)
    if run.team.is_main:
        lod = state_at(run.preset.schedule, position.images).lod
        run.saving.must(final, partial(save_model, final, run.stepper.networks, lod=lod, images=position.images))
    measure(run, ending=True)
    run.log.event("finished", f"finished after {position.images} images: {final}", images=position.images)
    return Result(position.images, True)
