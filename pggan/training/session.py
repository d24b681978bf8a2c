"""One session of a run: its folder is locked, its log open, and its networks are where the newest checkpoint says."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial

from datatools.errors import DataError
from pggan.model.files import CHECKPOINTS
from pggan.training.checkpoints import checkpoints, newest_good, remove_after
from pggan.training.chores import keep_best
from pggan.training.log import STATS, RunLog, Tick
from pggan.training.run import Run
from pggan.training.run_config import FILE_NAME
from pggan.training.run_dir import (
    Position,
    check_resume_settings,
    check_room,
    locked,
    restore,
    settle_threads,
    start_from,
)
from pggan.training.threads import using


@contextmanager
def session(run: Run) -> Iterator[None]:
    """Hold the run folder, and leave `run` where its newest good checkpoint says, or at its start.

    Raises DataError for a folder that cannot be used; a run that cannot begin leaves the folder as it was.
    """
    with ExitStack() as stack:
        if run.team.is_main:
            stack.enter_context(locked(run.out))
            if run.saved is None and (run.out / FILE_NAME).exists():
                raise DataError(f"--out {run.out}: another process began a run there meanwhile; run the command again")
            run.log.open(run.out)
        stack.enter_context(_errors_logged(run.log))
        stack.enter_context(run.stop.listening())
        run.log.event("started", devices=run.team.size, device=run.device.type, precision=run.settings.precision)
        note_changes(run)
        stack.enter_context(using(run.plan.threads))
        run.log.log("\n".join(run.plan.lines()))
        if run.team.is_main:
            options = run.options
            check_room(run.out, run.stepper.networks, keep=options.keep, best=bool(options.metrics))
        begin(run)
        if run.team.is_main:
            run.saving.must(run.out / FILE_NAME, partial(run.settings.write, run.out))
        yield


@contextmanager
def _errors_logged(log: RunLog) -> Iterator[None]:
    """Write the error that ends the run into the log, too: its console may be gone."""
    try:
        yield
    except DataError as error:
        log.event("failed", str(error))
        raise


def note_changes(run: Run) -> None:
    """Log what differs from the run's settings so far, and note it among the forks of config.json.

    Raises DataError where the results would change and the run is not to be forked.
    """
    changes = check_resume_settings(run.out, run.saved, run.settings, fork=run.options.fork)
    for change in changes:
        run.log.event("forked", change)
    if run.saved is not None:
        changes += settle_threads(run.saved.threads, run.options.threads, partial(run.log.event, "note"))
    if changes:
        run.settings = replace(run.settings, forks=(*run.settings.forks, {"changes": changes}))


def begin(run: Run) -> None:
    """Put the run where its newest good checkpoint says, or at its start."""
    folder = run.out / CHECKPOINTS
    run.team.wait()
    values = newest_good(folder, partial(run.log.event, "warning"))
    if values is None and (unreadable := checkpoints(folder)):
        raise DataError(
            f"none of the {len(unreadable)} checkpoints in {folder} can be used, and they are left as they are; "
            "bring one back from a copy, or begin anew with another --out"
        )
    if values is not None:
        run.position = restore(run.stepper, values)
    elif run.position.stage is not None:
        raise DataError(f"{folder}: there is no checkpoint to go back to; begin anew with another --out")
    else:
        run.position = Position(0, None, Tick(), -1)
        if run.options.init_from is not None:
            start_from(run.stepper, run.options.init_from)
            run.log.event("note", f"weights from {run.options.init_from}")
    run.team.wait()
    images = run.position.images
    if run.team.is_main:
        run.saving.must(folder, partial(remove_after, folder, images))
    stats = run.saving.must(run.out / STATS, partial(run.log.resume_from, images))
    if values is not None:
        run.log.event("resumed", f"resumed from {images} images", images=images)
    run.metrics.resume_from(stats)
    keep_best(run)  # unless the training was killed before it was written, it is there already
