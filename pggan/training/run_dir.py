"""The run folder: whose it is, what may go on in it, and what is saved there."""

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from datatools.errors import DataError, one_line, reason
from datatools.text import counted
from pggan.model.files import BEST, CHECKPOINTS, FINAL, STORED, save_model
from pggan.model.networks import Network
from pggan.training.checkpoints import Values, checkpoints
from pggan.training.log import Tick
from pggan.training.models import load_model
from pggan.training.run_config import SavedRun
from pggan.training.saving import require_room
from pggan.training.step import Networks, Stepper
from pggan.training.threads import cores


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Makes the folder and holds it; DataError when another process trains in it. A killed process holds nothing."""
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
    checkpoint, model = 4 * g + 3 * d, 2 * g + d  # Adam has two moments of every weight; G has its EMA
    missing = max(keep + 1 - len(checkpoints(out / CHECKPOINTS)), 1)  # a new one, before the oldest goes
    models = [FINAL, *([BEST] if best else [])]
    needed = missing * checkpoint + model * sum(not (out / name).exists() for name in models)
    require_room(out, needed, f"{counted(missing, 'checkpoint')} and the models")


def check_resume_settings(out: Path, saved: SavedRun | None, now: SavedRun, *, fork: bool) -> list[str]:
    """Return what differs from the settings that the run in `out` has, a line for each that would change the results.

    Raises DataError that names them all, unless the run is to be forked.
    """
    changes = [] if saved is None else saved.changes(now)
    if changes and not fork:
        raise DataError(
            f"--out {out}: the run there has other settings; give them, another --out, or --fork to go on with "
            f"the new ones: {'; '.join(changes)}"
        )
    return changes


def settle_threads(before: int | None, now: int | None, say: Callable[[str], None]) -> list[str]:
    """Report the number of threads of a resumed run; return the change to be recorded, if there is one.

    Args:
        before: the run's number of threads, None where it is not known. now: the number asked for, None for `before`.
    """
    if before is None:
        return []
    if now is not None and now != before:
        change = f"--threads is {now}, the run has {before}"
        say(f"{change}: the last bits of the results may be others than with {before}")
        return [change]
    offered = cores()
    if now is None and before > offered:
        say(
            f"{counted(before, 'thread')}, as the run began, on {counted(offered, 'core')}; "
            f"--threads {offered} may be faster, and change the last bits of the results"
        )
    return []


@dataclass
class Position:
    """Where a run stands: images seen, the stage of the last round, None before the first, and the open tick."""

    images: int
    stage: tuple[int, int] | None
    tick: Tick
    saved_at: int


def collect(stepper: Stepper, position: Position) -> Values:
    """Everything that going on needs, for a checkpoint."""
    networks = stepper.networks
    return {
        "images": position.images,
        "stage": list(position.stage) if position.stage is not None else None,
        "tick": position.tick.state(),
        "generator": networks.generator.state_dict(),
        "discriminator": networks.discriminator.state_dict(),
        STORED["ema"]: networks.ema.state_dict(),
        "g_optimizer": networks.g_optimizer.state_dict(),
        "d_optimizer": networks.d_optimizer.state_dict(),
        "g_scale": stepper.g_scale.state(),
        "d_scale": stepper.d_scale.state(),
    }


def restore(stepper: Stepper, values: Values) -> Position:
    """Puts a checkpoint's values where they belong."""
    networks = stepper.networks
    try:
        networks.generator.load_state_dict(values["generator"])
        networks.discriminator.load_state_dict(values["discriminator"])
        networks.ema.load_state_dict(values[STORED["ema"]])
    except RuntimeError as error:
        raise DataError(
            f"the checkpoint's networks are of other shapes; --fork cannot change those: {one_line(error, 200)}"
        ) from error
    for optimizer, state in (
        (networks.g_optimizer, values["g_optimizer"]),
        (networks.d_optimizer, values["d_optimizer"]),
    ):
        kept = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
        optimizer.load_state_dict(state)
        for group, own in zip(optimizer.param_groups, kept, strict=True):
            group.update(own)  # settings are the run's own: they may have been forked
    stepper.g_scale.load(values["g_scale"])
    stepper.d_scale.load(values["d_scale"])
    stage = values["stage"]
    images = int(values["images"])
    return Position(images, None if stage is None else (stage[0], stage[1]), Tick.of(values["tick"]), images)


def start_from(stepper: Stepper, path: Path) -> None:
    """Takes all weights from a model file, or from the final model or newest checkpoint of a run folder."""
    model = load_model(path)
    networks, config = stepper.networks, stepper.preset.network
    if model.config != config:
        names = [name for name, value in vars(config).items() if getattr(model.config, name) != value]
        raise DataError(f"--init-from {path}: its networks differ in {', '.join(names)}; give the same settings")
    for part in ("generator", "discriminator", "ema"):
        getattr(networks, part).load_state_dict(getattr(model, part).state_dict())


def save_networks(path: Path, networks: Networks, lod: float, images: int) -> None:
    """Write a model file of the networks as they are."""
    parts: dict[str, Network] = {
        "ema": networks.ema,
        "generator": networks.generator,
        "discriminator": networks.discriminator,
    }
    save_model(path, parts, lod=lod, images=images)
