"""Train a restoration network from a folder of photos (command line).

    python -m datatools.restore.fit --task jpeg --photos PHOTOS --out jpeg.safetensors
    python -m datatools.restore.fit --task sr --photos PHOTOS --out sr.safetensors
    python -m datatools.restore.fit --task sr --variant perceptual --init-from sr.safetensors --photos PHOTOS \\
        --out sharp.safetensors
    python -m datatools.restore.fit --task jpeg --pairs CelebA celebahq_published --out jpeg.safetensors

Run the same command again to resume. FILE.state has what resuming needs (delete it in the end), FILE.png shows the
learning curve.
"""

from pathlib import Path
from typing import Any

import click

from datatools.cli import NameOrPath, OneLineCommand, PathOption
from datatools.errors import DataError, SettingError
from datatools.files import as_data_error, atomic_path, check_writable
from datatools.progress import Progress
from datatools.restore.devices import torch_device
from datatools.restore.fit.dataset import Photos, matching, picture_files, split
from datatools.restore.fit.distillation import TeacherTargets
from datatools.restore.fit.faces import FaceValidation, PublishedFaces
from datatools.restore.fit.pairs import published_pairs, split_pairs
from datatools.restore.fit.settings import FitSettings, fit_options
from datatools.restore.fit.training import Fit, load_state, run, state_path
from datatools.restore.fit.validation import Validation
from datatools.restore.restorers import load_network
from datatools.text import counted

VALIDATION_LEAST = 128


@click.command(
    cls=OneLineCommand,
    resumes=True,
    context_settings={"show_default": True},
    epilog='Examples: "Train" in docs/restoration.md',
)
@fit_options
@click.option(
    "--blocks",
    type=click.IntRange(1, 64),
    help="Residual blocks of --task sr; those that --init-from lacks start as identities.  [default: 12, or those of "
    "--init-from]",
)
@click.option("--photos", type=PathOption(), multiple=True, help="Folder of photos; repeatable.")
@click.option(
    "--pairs",
    type=PathOption(),
    nargs=2,
    metavar="TREE PUBLISHED",
    help="Instead of --photos: a CelebA tree, and a folder of published images named by their index.",
)
@click.option(
    "--exclude",
    type=NameOrPath(),
    multiple=True,
    help="Pattern of paths that are never used, like '*/portrait_0?.jpg'; repeatable.",
)
@click.option(
    "--keep-size",
    type=NameOrPath(),
    multiple=True,
    help="Pattern of paths of large photos that are not halved, because they were reduced before; repeatable.",
)
@click.option("--out", type=PathOption(), required=True, help="Weight file to write (.safetensors).")
@click.option(
    "--validation", type=click.IntRange(min=1), default=12, help="Photos held out; pairs: at most a quarter of all."
)
@click.option("--every", type=click.IntRange(min=1), default=250, help="Steps between validations, which also save.")
@click.option("--device", default="auto", help="Device: cpu, cuda, cuda:1, mps, or auto.")
def main(
    photos: tuple[Path, ...],
    pairs: tuple[Path, Path] | None,
    exclude: tuple[str, ...],
    keep_size: tuple[str, ...],
    out: Path,
    validation: int,
    every: int,
    device: str,
    **options: Any,
) -> None:
    """Train a restoration network from photos."""
    settings = settings_from(options)
    check_sources(photos, pairs, exclude, keep_size, settings)
    check_out(out)
    dataset, held = (
        read_photos(photos, exclude, keep_size, validation, settings)
        if pairs is None
        else read_faces(pairs, validation, settings)
    )
    where = torch_device(device)
    state = load_state(state_path(out))
    fit = Fit(settings, dataset, held, where)
    if state is not None:
        fit.load_state(state)
        click.echo(f"resuming from step {fit.step}")
    if isinstance(dataset, Photos) and settings.teacher is not None and fit.step < settings.steps:
        # last, because it may take minutes
        teacher = load_network(settings.teacher, "sr")
        with Progress("teacher", len(dataset), "photo") as progress:
            fit.teacher_targets = TeacherTargets(dataset, teacher, where, progress=progress)
    click.echo(f"{counted(len(dataset), 'photo')} for training, {len(held.pairs)} for validation, {fit.device}")
    card: dict[str, Any] = {"variant": settings.variant, "photos": len(dataset)}
    card |= {"minibatch": settings.minibatch, "patch": settings.patch}
    if settings.degrade_with is not None:
        card["degrade_strength"] = settings.degrade_strength
    with Progress("fit", settings.steps, "step", initial=fit.step) as progress:
        for row in run(fit, out, every=every, card=card, progress=progress):
            progress.say(
                f"step {row['step']:6d}  loss {row['loss']:.5f}  {row['psnr']:.2f} dB "
                f"(untrained: {row['baseline']:.2f})  contrast {row['contrast']:.2f}  {row['seconds'] / 60:.1f} min"
            )
            plot_curve(fit.curve, curve_path(out), settings)


def check_sources(
    photos: tuple[Path, ...],
    pairs: tuple[Path, Path] | None,
    exclude: tuple[str, ...],
    keep_size: tuple[str, ...],
    settings: FitSettings,
) -> None:
    """Raise SettingError unless there are either photos or pairs, and for options that do nothing with pairs."""
    if bool(photos) == (pairs is not None):
        raise SettingError("photos", "or --pairs is needed, and not both")
    if pairs is None:
        return
    if settings.variant != "distortion":
        raise SettingError("variant", f"{settings.variant} is only for --photos")
    for name, value in (("exclude", exclude), ("keep_size", keep_size), ("teacher", settings.teacher)):
        if value:
            raise SettingError(name, "is only for --photos")


def read_photos(
    photos: tuple[Path, ...],
    exclude: tuple[str, ...],
    keep_size: tuple[str, ...],
    validation: int,
    settings: FitSettings,
) -> tuple[Photos, Validation]:
    """Read the photos to train on, and the held-out ones. Raise DataError if none is left for training."""
    files = picture_files(photos, exclude)
    kept = matching(files, keep_size, "--keep-size")
    training, held_out = split(files, validation)
    if not training:
        everything = "the only photo" if len(held_out) == 1 else f"all {len(held_out)} photos"
        raise DataError(f"--validation {validation} holds out {everything}: none is left for training")
    dataset = Photos(training, settings.side(), kept)
    return dataset, Validation(settings.task, Photos(held_out, VALIDATION_LEAST, kept))


def read_faces(
    pairs: tuple[Path, Path], validation: int, settings: FitSettings
) -> tuple[PublishedFaces, FaceValidation]:
    """Read the published faces to train on, and the held-out ones. Raise DataError for fewer than four pairs."""
    training, held_out = split_pairs(published_pairs(*pairs), validation)
    if not held_out:
        raise DataError(f"--pairs: {counted(len(training), 'pair')} found; at least 4 are needed, one to hold out")
    return PublishedFaces(training, settings.patch), FaceValidation(PublishedFaces(held_out, settings.patch))


def check_out(out: Path) -> None:
    """Raise DataError for an output that could not be written, or whose name does not end in .safetensors."""
    if out.suffix.lower() != ".safetensors":
        raise DataError(f"--out {out} has to end in .safetensors")
    for path in (out, state_path(out), curve_path(out)):
        with as_data_error(path):
            check_writable(path)


def curve_path(out: Path) -> Path:
    """Return the path of the plot of the learning curve."""
    return out.with_name(out.name + ".png")


def settings_from(options: dict[str, Any]) -> FitSettings:
    """Return checked settings. Raise SettingError for options that exclude each other."""
    blocks = options.pop("blocks")
    if blocks is not None and options["task"] != "sr":
        raise SettingError("blocks", "is only for --task sr")
    settings = FitSettings(network={} if blocks is None else {"blocks": blocks}, **options)
    settings.check()
    return settings


def plot_curve(curve: list[dict[str, float]], path: Path, settings: FitSettings) -> None:
    """Plot PSNR on the validation pictures over the steps, as a PNG. Raise DataError if it cannot be written."""
    from matplotlib.figure import Figure  # takes a second to import

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    steps = [row["step"] for row in curve]
    axes.plot(steps, [row["psnr"] for row in curve], label="network")
    axes.plot(steps, [row["baseline"] for row in curve], "--", label="bicubic" if settings.task == "sr" else "JPEG")
    axes.set(xlabel="step", ylabel="validation PSNR (dB, RGB)", title=f"{settings.task}, {settings.variant}")
    axes.legend()
    with as_data_error(path), atomic_path(path) as partial:
        figure.savefig(partial, dpi=110, format="png")
