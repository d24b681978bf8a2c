"""What is measured, a model or images, and the real images that it is compared with."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from datatools.errors import DataError
from datatools.pyramid.labels import Labels
from pggan.data.stream import Source
from pggan.metrics.image_sets import ImageSet, ModelSet, open_set
from pggan.metrics.reference import Reference
from pggan.model.files import Model
from pggan.training.models import load_model, run_folder, use_fastest_threads
from pggan.training.run_config import SavedRun, read_saved_run


@dataclass(frozen=True)
class Subject:
    """What is measured, its title in the table, and what its training did to reals.

    `run`: the run folder that it comes from. `mirror`: None where that is not known.
    """

    images: ImageSet
    title: str
    run: Path | None = None
    mirror: bool | None = None
    fading: float = 0.0
    notes: tuple[str, ...] = ()


def open_sets(
    model: Path | None,
    ema_kimg: float | None,
    images: Path | None,
    reals: Path | Reference | None,
    seed: int,
    device: torch.device,
) -> tuple[Subject, ImageSet | None]:
    """Open what is measured, a model or images, and the reals in the same size; statistics may stand for them.

    `reals` None: there are none.
    """
    if model is not None and images is None:
        loaded = load_model(model).with_ema(ema_kimg).to(device)
        use_fastest_threads(loaded)
        subject = of_model(model, reals, seed, loaded)
        if ema_kimg is not None:
            subject = replace(subject, title=f"{subject.title}, EMA of {ema_kimg:g} kimg")
        if isinstance(reals, Path):
            return subject, open_set(reals, subject.images.resolution, fading=subject.fading, shuffle=seed)
        if subject.fading and reals is not None:
            raise DataError(f"{model}: is fading in a level; compare it with real images, not with statistics")
        return subject, reals
    if images is not None and model is None:
        if ema_kimg is not None:
            raise DataError(f"--ema-kimg {ema_kimg:g}: is for a model; remove it, or name one with --model")
        if isinstance(reals, Path):
            return of_images(images, reals, seed)
        size = None if images.is_dir() or reals is None else reals.resolution
        return Subject(open_set(images, size, shuffle=seed), str(images)), reals
    raise DataError("name what is to be measured: --model RUN or FILE, or --images FILE or FOLDER, not both")


def of_model(path: Path, reals: Path | Reference | None, seed: int, model: Model) -> Subject:
    """Return the model of a run or file; from the run's settings also what its training did to reals."""
    run = run_folder(path)
    labels: Labels | None = None
    notes: list[str] = []
    try:
        saved = read_saved_run(run)
    except DataError as error:
        if path.is_dir():
            raise
        saved, notes = None, [str(error)]  # a model file alone is enough, and its folder may be anybody's
    if saved is not None and isinstance(reals, Path) and not reals.is_dir():
        labels, notes = data_of_run(saved, reals)
    if model.config.classes and labels is None:
        notes.append("the labels of the training are not known: every class is made equally often")
    return Subject(
        ModelSet(model, seed, labels),
        f"{path} after {model.images / 1000:g} kimg",
        run if saved else None,
        saved.preset.mirror if saved else None,
        model.level.below,
        tuple(notes),
    )


def data_of_run(saved: SavedRun, reals: Path) -> tuple[Labels | None, list[str]]:
    """Return the run's labels, and a note where they cannot be read or the reals are not what it was trained on."""
    try:
        source = Source(reals, saved.labels)
        if source.digest() == saved.data["digest"]:
            return source.labels, []
    except DataError as error:
        if saved.labels == "none":
            raise
        return None, [str(error)]
    return None, [f"{reals} is not what the run was trained on"]


def of_images(path: Path, reals_path: Path, seed: int) -> tuple[Subject, ImageSet]:
    """Return both sets at the largest size that both have; a folder of pictures has only one."""
    images, reals = (open_set(each, shuffle=seed) for each in (path, reals_path))
    size = min(images.resolution, reals.resolution)
    if images.resolution > size and not path.is_dir():
        images = open_set(path, size, shuffle=seed)
    if reals.resolution > size and not reals_path.is_dir():
        reals = open_set(reals_path, size, shuffle=seed)
    return Subject(images, str(path), mirror=False), reals
