"""One session of a run: its folder is locked, its log open, and its networks are where the newest checkpoint says."""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from datatools.errors import DataError, reason
from datatools.text import counted
from pggan.model.files import BEST, CHECKPOINTS, FINAL
from pggan.training.checkpoints import checkpoints, newest_good, remove_after
from pggan.training.chores import keep_best
from pggan.training.log import STATS
from pggan.training.models import load_model
from pggan.training.networks import Networks
from pggan.training.run import Position, Run
from pggan.training.run_config import FILE_NAME
from pggan.training.threads import cores, using
from pggan.training.trackers import Tracker


@contextmanager
def session(run: Run) -> Iterator[None]:
    """Hold the run folder, and leave `run` where its newest good checkpoint says, or at its start.

    Raises DataError for a folder that cannot be used; a run that cannot begin leaves the folder as it was. The error
    that ends the run is logged, too: its console may be gone.
    """
    with ExitStack() as stack:
        if run.team.is_main:
            stack.enter_context(locked(run.out))
            if run.saved is None and (run.out / FILE_NAME).exists():
                raise DataError(f"--out {run.out}: another process began a run there meanwhile; run the command again")
            run.log.open(run.out)
        stack.enter_context(run.stop.listening())
        try:
            run.log.event("started", devices=run.team.size, device=run.device.type, precision=run.settings.precision)
            note_changes(run)
            stack.enter_context(using(run.plan.threads))
            run.log.log("\n".join(run.plan.lines()))
            if run.team.is_main:
                options = run.options
                check_room(run.out, run.stepper.networks, keep=options.keep, best=bool(options.metrics))
            if run.team.is_main and run.options.log_to is not None:
                name = run.options.log_to
                run.log.sinks[name] = tracker = Tracker(
                    name, run.out, vars(run.settings) | {"preset": run.preset.to_json()}
                )
                stack.callback(run.saving.may, f"what was not sent to {name}", name, tracker.close)
            begin(run)
            if run.team.is_main:
                run.saving.must(run.out / FILE_NAME, partial(run.settings.write, run.out))
            yield
        except DataError as error:
            run.log.event("failed", str(error))
            raise


def note_changes(run: Run) -> None:
    """Log what differs from the settings that the run in the folder has, and note it among the forks of config.json.

    Raises DataError that names all that would change the results, unless the run is to be forked.
    """
    if run.saved is None:
        return
    changes = run.saved.changes(run.settings)
    if changes and not run.options.fork:
        raise DataError(
            f"--out {run.out}: the run there has other settings; give them, another --out, or --fork to continue with "
            f"the new ones: {'; '.join(changes)}"
        )
    for change in changes:
        run.log.event("forked", change)
    before, now, offered = run.saved.threads, run.options.threads, cores()
    if before is not None and now not in (None, before):
        changes.append(f"--threads is {now}, the run has {before}")
        run.log.event("note", f"{changes[-1]}: the last bits of the results may be others than with {before}")
    elif before is not None and now is None and before > offered:
        run.log.event(
            "note",
            f"{counted(before, 'thread')}, as the run began, on {counted(offered, 'core')}; "
            f"--threads {offered} may be faster, and change the last bits of the results",
        )
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
        run.stepper.load(values)
        run.position = Position.of(values)
    elif run.position.stage is not None:
        raise DataError(f"{folder}: there is no checkpoint to go back to; begin anew with another --out")
    else:
        run.position = Position()
        if run.options.init_from is not None:
            start_from(run, run.options.init_from)
    run.team.wait()
    images = run.position.images
    if run.team.is_main:
        run.saving.must(folder, partial(remove_after, folder, images))
    stats = run.saving.must(run.out / STATS, partial(run.log.resume_from, images))
    if values is not None:
        run.log.event("resumed", f"resumed from {images} images", images=images)
    run.metrics.resume_from(stats)
    keep_best(run)  # unless the run was killed before it was written, it is there already


def start_from(run: Run, path: Path) -> None:
    """Take the weights of a model, and log which networks it lacks; they start as those of a new run do."""
    model, run.initial = run.initial or load_model(path), None
    networks, config = run.stepper.networks, run.preset.network
    if type(model.config) is not type(config):
        raise DataError(
            f"--init-from {path}: its networks are of another family than those of {run.preset.name}; "
            "give a preset of its own family"
        )
    if model.config != config:
        names = [name for name, value in vars(config).items() if getattr(model.config, name) != value]
        raise DataError(f"--init-from {path}: its networks differ in {', '.join(names)}; give the same settings")
    run.log.event("note", f"weights from {path}")
    for stored, network in model.stored.items():
        if stored in model.untrained:
            run.log.event("note", f"the {stored} starts with random weights: {path} has none that fits")
        elif stored in networks.stored:
            networks.stored[stored].load_state_dict(network.state_dict())
    for kimg, average in networks.averages.items():
        if kimg not in model.averages:
            average.load_state_dict(networks.ema.state_dict())


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make the folder and hold it; DataError when another process trains in it. A killed process holds nothing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stream = (folder / ".lock").open("w")
    except (FileExistsError, NotADirectoryError):
        raise DataError(f"--out {folder}: is a file, or lies in one; give the name of a folder") from None
    except OSError as error:
        raise DataError(f"--out {folder}: cannot be written: {reason(error)}") from error
    with stream:
        try:
            # Of this process alone: processes that it starts do not inherit it. Not by filelock, whose soft lock, where
            # the file system has no other, would outlive a kill.
            fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            raise DataError(f"--out {folder}: another process is training there") from None
        except OSError as error:  # some network file systems have no locks
            raise DataError(f"--out {folder}: cannot be locked: {reason(error)}; choose another disk") from error
        yield


def check_room(out: Path, networks: Networks, *, keep: int, best: bool) -> None:
    """Raise DataError where the disk has no room for the checkpoints and models that the run will write.

    Args:
        keep: number of checkpoints kept. best: whether a best model is kept, too.
    """
    g, d = (sum(p.nbytes for p in network.parameters()) for network in (networks.generator, networks.discriminator))
    averages = len(networks.averages) * g
    checkpoint, model = 4 * g + 3 * d + averages, 2 * g + d + averages  # Adam has two moments of every weight
    missing = max(keep + 1 - len(checkpoints(out / CHECKPOINTS)), 1)  # a new one, before the oldest goes
    models = [FINAL, *([BEST] if best else [])]
    needed = missing * checkpoint + model * sum(not (out / name).exists() for name in models)
    usage = shutil.disk_usage(out)
    if usage.total and usage.free < needed:  # some file systems do not report their size
        raise DataError(
            f"--out {out}: the disk is too full for {counted(missing, 'checkpoint')} and the models: "
            f"{needed / 1e6:,.1f} MB needed, {usage.free / 1e6:,.1f} MB free; free some space, choose another --out, "
            "or keep fewer checkpoints (--keep)"
        )
