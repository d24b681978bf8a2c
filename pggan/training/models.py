"""Load a model from a model file, of this or another project, or from a run folder.

from pggan.models import load_model
model = load_model("runs/faces")
pictures = model.pictures(seeds=range(16))  # (16, r, r, 3) uint8
"""

from pathlib import Path

import torch

from datatools.errors import DataError, one_line
from datatools.files import as_data_error
from pggan.config.schedule import state_at
from pggan.foreign import is_pickled, read_foreign
from pggan.model.files import BEST, CHECKPOINTS, FINAL, Model, new_model, read_model
from pggan.training.checkpoints import Checkpoint, Values, load_checkpoint, named_checkpoint, newest_good
from pggan.training.run_config import SavedRun, read_saved_run
from pggan.training.threads import use_fastest

DATA = Path(__file__).parents[1] / "model" / "data"
BUNDLED: tuple[str, ...] = tuple(sorted(file.stem for file in DATA.glob("*.safetensors")))
"""Models that come with this program, described in docs/results/models.md."""
TRIAL_PICTURES = 4  # made at once to find the fastest number of threads


def load_model(path: str | Path, device: torch.device | str = "cpu") -> Model:
    """Return the model of a file or of a run folder, or one that comes with this program, by its name (`BUNDLED`).

    Of a folder: its final model, else its newest checkpoint, else its best snapshot. A file may also be a checkpoint
    in its run's folder. Files of other projects are listed in docs/pretrained.md; nothing that they hold is run. Raises
    DataError, in one line, for anything else.
    """
    path = place_of(Path(path))
    with as_data_error(path, "read"):
        if not path.exists():
            names = f"; models that come with this program: {', '.join(BUNDLED)}" if BUNDLED else ""
            raise DataError(f"{path}: neither a model file nor a run folder: it does not exist{names}")
        if path.is_dir():
            model = _of_folder(path)
        elif (checkpoint := named_checkpoint(path)) is not None:
            model = _of_named(checkpoint)
        elif path.is_file() and is_pickled(path):
            model = read_foreign(path)
        else:
            model = read_model(path)
    return model.to(device)


def place_of(path: Path) -> Path:
    """Return the path itself, or the file of the bundled model of that name where nothing is there."""
    return DATA / f"{path}.safetensors" if str(path) in BUNDLED and not path.exists() else path


def run_folder(path: Path) -> Path:
    """Return the folder of the run that a model, by its path, would be of; it may be no run's."""
    file = place_of(path).absolute()
    if file.is_dir():
        return path
    return file.parent if named_checkpoint(file) is None else file.parents[1]


def use_fastest_threads(model: Model) -> None:
    """Set torch to the number of threads that makes pictures fastest on a CPU; do nothing on other devices."""
    if model.device.type == "cpu":
        use_fastest(lambda: model.pictures(range(TRIAL_PICTURES)))


def _of_folder(folder: Path) -> Model:
    if (folder / FINAL).exists():
        return read_model(folder / FINAL)
    saved = read_saved_run(folder)
    values = newest_good(folder / CHECKPOINTS, lambda _: None)
    if saved is not None and values is not None:
        return _of_checkpoint(folder / CHECKPOINTS, saved, values)
    if (folder / BEST).exists():
        return read_model(folder / BEST)
    names = sorted(entry.name for entry in folder.iterdir() if _has_model(entry))
    hint = f"; in it, these can be named: {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}" if names else ""
    raise DataError(f"{folder}: neither a model file nor a run folder with {FINAL} or a checkpoint{hint}")


def _has_model(path: Path) -> bool:
    return path.suffix == ".safetensors" or (path / FINAL).exists() or (path / CHECKPOINTS).is_dir()


def _of_named(checkpoint: Checkpoint) -> Model:
    path = checkpoint.path
    saved = read_saved_run(run_folder(path))
    if saved is None:
        raise DataError(f"{path}: is a checkpoint; it can be read in the folder of its run only, with config.json")
    try:
        values = load_checkpoint(checkpoint)
    except ValueError as error:
        raise DataError(f"{path}: is damaged ({error}); name another checkpoint, or the folder of the run") from error
    return _of_checkpoint(path, saved, values)


def _of_checkpoint(path: Path, saved: SavedRun, values: Values) -> Model:
    try:
        images = int(values["images"])
        preset = saved.preset
        lod = state_at(preset.schedule, images).lod
        model = new_model(preset.network, lod, images, preset.optimizer.ema_kimg)
        model.load(values)
        return model
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise DataError(f"{path}: does not fit the run's config.json: {one_line(error, 200)}") from error
