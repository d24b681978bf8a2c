"""Train a restoration network from a folder of photos (command line).

    python -m datatools.restore.fit --task jpeg --photos PHOTOS --out jpeg.safetensors
    python -m datatools.restore.fit --task sr --photos PHOTOS --out sr.safetensors
    python -m datatools.restore.fit --task sr --variant perceptual --init-from sr.safetensors --photos PHOTOS \\
        --out sharp.safetensors

Run the same command again to resume. FILE.state has what resuming needs (delete it in the end), FILE.png shows the
learning curve.
"""

from pathlib import Path
from typing import Any

import click

from datatools.cli import FiniteNumber, NameOrPath, OneLineCommand, PathOption, run_command
from datatools.errors import DataError
from datatools.files import as_data_error, atomic_path, check_writable
from datatools.progress import Progress
from datatools.restore.devices import choose_device
from datatools.restore.fit.dataset import Photos, matching, picture_files, split
from datatools.restore.fit.distillation import TeacherTargets
from datatools.restore.fit.settings import FitSettings
from datatools.restore.fit.training import Fit, load_state, run, state_path
from datatools.restore.fit.validation import Validation
from datatools.restore.restorers import load_network
from datatools.text import counted

VALIDATION_LEAST = 128
PERCEPTUAL = ("pixel_weight", "texture_weight", "adversarial_weight", "texture_strength")
"""Options that have no effect with the other variant."""


@click.command(
    cls=OneLineCommand, context_settings={"show_default": True}, epilog='Examples: "Train" in docs/restoration.md'
)
@click.option("--task", type=click.Choice(["jpeg", "sr"]), required=True, help="Artifact removal, or 4x enlargement.")
@click.option(
    "--variant", type=click.Choice(["distortion", "perceptual"]), default="distortion", help="Least error, or texture."
)
@click.option("--photos", type=PathOption(), multiple=True, required=True, help="Folder of photos; repeatable.")
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
@click.option("--init-from", type=PathOption(), help="Weight file to start from.")
@click.option("--degrade-with", type=PathOption(), help="Artifact remover to apply to the inputs of --task sr.")
@click.option(
    "--degrade-strength",
    type=FiniteNumber(0, 1),
    default=FitSettings.degrade_strength,
    help="Share of that remover's change that is made.",
)
@click.option(
    "--blocks",
    type=click.IntRange(1, 64),
    help="Residual blocks of --task sr; those that --init-from lacks start as identities.  [default: 12, or those of "
    "--init-from]",
)
@click.option(
    "--teacher",
    type=NameOrPath(),
    metavar="FILE",
    help="Weight file of a 4x network whose results are targets, too.",
)
@click.option(
    "--ground-truth-weight",
    type=FiniteNumber(min=0),
    default=FitSettings.ground_truth_weight,
    help="Weight of the error to the photos; the error to the --teacher's results has the weight 1.",
)
@click.option("--steps", type=click.IntRange(min=1), default=FitSettings.steps, help="Number of optimizer steps.")
@click.option("--minibatch", type=click.IntRange(min=1), default=FitSettings.minibatch, help="Pictures per step.")
@click.option(
    "--patch",
    type=click.IntRange(min=24, max=512),
    help="Side of the network's input, a multiple of 4. [default: 48; 96 for jpeg]",
)
@click.option(
    "--learning-rate",
    type=FiniteNumber(min=0, min_open=True, max=1),
    default=FitSettings.learning_rate,
    help="Highest learning rate.",
)
@click.option(
    "--bicubic",
    type=FiniteNumber(0, 1),
    default=FitSettings.bicubic,
    help="Share of the pictures that is reduced by the bicubic kernel.",
)
@click.option(
    "--pixel-weight",
    type=FiniteNumber(min=0),
    default=FitSettings.pixel_weight,
    help="Weight of the error of every pixel (perceptual).",
)
@click.option(
    "--texture-weight",
    type=FiniteNumber(min=0),
    default=FitSettings.texture_weight,
    help="Weight of the distance between patches (perceptual).",
)
@click.option(
    "--adversarial-weight",
    type=FiniteNumber(min=0),
    default=FitSettings.adversarial_weight,
    help="Weight of the critic (perceptual).",
)
@click.option(
    "--texture-strength",
    type=FiniteNumber(0, 2),
    default=FitSettings.texture_strength,
    help="Share of the learned texture that the finished network adds (perceptual).",
)
@click.option(
    "--self-ensemble",
    type=click.Choice(["1", "2", "4"]),
    default=str(FitSettings.self_ensemble),
    callback=lambda _context, _option, value: int(value),
    help="Orientations of a picture that the finished network averages over: less error, but slower.",
)
@click.option("--validation", type=click.IntRange(min=1), default=12, help="Number of photos held out for validation.")
@click.option("--every", type=click.IntRange(min=1), default=250, help="Steps between validations, which also save.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=FitSettings.seed, help="Seed of all random numbers.")
@click.option(
    "--precision", type=click.Choice(["fp32", "bf16"]), default=FitSettings.precision, help="Precision of convolutions."
)
@click.option("--device", default="auto", help="Device: cpu, cuda, cuda:1, mps, or auto.")
def main(
    photos: tuple[Path, ...],
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
    check_out(out)
    files = picture_files(photos, exclude)
    kept = matching(files, keep_size, "--keep-size")
    training, held_out = split(files, validation)
    if not training:
        everything = "the only photo" if len(held_out) == 1 else f"all {len(held_out)} photos"
        raise DataError(f"--validation {validation} holds out {everything}: none is left for training")
    dataset = Photos(training, settings.side(), kept)
    held = Validation(settings.task, Photos(held_out, VALIDATION_LEAST, kept))
    where = choose_device(device)
    state = load_state(state_path(out))
    fit = Fit(settings, dataset, held, where)
    if state is not None:
        fit.load_state(state)
        click.echo(f"resuming from step {fit.step}")
    if settings.teacher is not None and fit.step < settings.steps:  # last, because it may take minutes
        teacher = load_network(settings.teacher, "sr")
        with Progress("teacher", len(dataset), "photo") as progress:
            fit.teacher_targets = TeacherTargets(dataset, teacher, where, progress=progress)
    click.echo(
        f"{counted(len(dataset), 'photo')} for training, {len(fit.validation.pairs)} for validation, {fit.device}"
    )
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


def check_out(out: Path) -> None:
    """Raise DataError for an output that could not be written, or whose name does not end in .safetensors."""
    if not out.parent.is_dir():
        raise DataError(f"{out.parent}, the folder of --out, does not exist")
    if out.is_dir():
        raise DataError(f"--out {out} is a folder; name the weight file to write (.safetensors)")
    if out.suffix.lower() != ".safetensors":
        raise DataError(f"--out {out} has to end in .safetensors")
    for path in (out, state_path(out), curve_path(out)):
        with as_data_error(path):
            check_writable(path)


def curve_path(out: Path) -> Path:
    """Return the path of the plot of the learning curve."""
    return out.with_name(out.name + ".png")


def settings_from(options: dict[str, Any]) -> FitSettings:
    """Return checked settings. Raise DataError for options that exclude each other."""
    task, variant = options["task"], options["variant"]
    patch = options.pop("patch") or (96 if task == "jpeg" else FitSettings.patch)
    if patch % 4:
        raise DataError(f"--patch {patch} is not a multiple of 4")
    if task == "jpeg" and (variant == "perceptual" or options["degrade_with"]):
        raise DataError("--variant perceptual and --degrade-with are only for --task sr")
    blocks = options.pop("blocks")
    if task == "jpeg" and blocks is not None:
        raise DataError("--blocks is only for --task sr")
    for name in PERCEPTUAL:
        if variant != "perceptual" and options[name] != getattr(FitSettings, name):
            raise DataError(f"--{name.replace('_', '-')} is only for --variant perceptual")
    if task == "jpeg" and options["bicubic"] != FitSettings.bicubic:
        raise DataError("--bicubic is only for --task sr")
    if options["degrade_strength"] != 1 and not options["degrade_with"]:
        raise DataError("--degrade-strength needs the weight file of an artifact remover: add --degrade-with FILE")
    if options["teacher"] and (task == "jpeg" or variant == "perceptual"):
        raise DataError("--teacher is only for --task sr --variant distortion")
    if variant == "perceptual" and not options["init_from"]:
        raise DataError("--variant perceptual starts from a distortion run: give its weight file with --init-from")
    if options["ground_truth_weight"] != FitSettings.ground_truth_weight and not options["teacher"]:
        raise DataError("--ground-truth-weight is relative to the error to a teacher's results: add --teacher FILE")
    for name in ("init_from", "degrade_with"):
        options[name] = str(options[name]) if options[name] else None
    return FitSettings(patch=patch, network={} if blocks is None else {"blocks": blocks}, **options)


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


if __name__ == "__main__":
    run_command(main)
