"""The run folder: whose it is, what may go on in it, and what is saved there."""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from datatools.errors import DataError, one_line, reason
from datatools.text import counted
from pggan.model.files import BEST, CHECKPOINTS, FINAL
from pggan.training.checkpoints import Values, checkpoints
from pggan.training.log import Tick
from pggan.training.models import load_model
from pggan.training.step import Networks, Stepper


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
    usage = shutil.disk_usage(out)
    if usage.total and usage.free < needed:  # some file systems do not report their size
        raise DataError(
            f"--out {out}: the disk is too full for {counted(missing, 'checkpoint')} and the models: "
            f"{needed / 1e6:,.1f} MB needed, {usage.free / 1e6:,.1f} MB free; free some space, choose another --out, "
            "or keep fewer checkpoints (--keep)"
        )


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
        **{stored: network.state_dict() for stored, network in networks.stored.items()},
        "g_optimizer": networks.g_optimizer.state_dict(),
        "d_optimizer": networks.d_optimizer.state_dict(),
        "g_scale": stepper.g_scale.state(),
        "d_scale": stepper.d_scale.state(),
    }


def restore(stepper: Stepper, values: Values) -> Position:
    """Puts a checkpoint's values where they belong."""
    networks = stepper.networks
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
    networks.load({stored: network.state_dict() for stored, network in model.stored.items()})
