"""Command line: train a restoration network from a folder of photos.

    python -m datatools.restore.fit --task jpeg --photos PHOTOS --out jpeg.safetensors
    python -m datatools.restore.fit --task sr --photos PHOTOS --out sr.safetensors
    python -m datatools.restore.fit --task sr --variant perceptual --init sr.safetensors --photos PHOTOS \\
        --out sharp.safetensors

The same command goes on after an interruption. Beside FILE lie FILE.state (what going on needs; delete it when done)
and FILE.png (the learning curve).
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
from datatools.restore.fit.distillation import Lessons, load_teacher
from datatools.restore.fit.training import Fit, FitSettings, Validation, load_state, run, state_path
from datatools.text import counted

VALIDATION_LEAST = 128
PERCEPTUAL = ("pixels", "texture", "adversarial", "strength")
"""Options that say nothing about another variant."""


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
    help="Pattern of paths of large photos that are used at their own size alone, as they were reduced before.",
)
@click.option("--out", type=PathOption(), required=True, help="Weight file to write (.safetensors).")
@click.option("--init", type=PathOption(), help="Weight file to begin from.")
@click.option("--after", type=PathOption(), help="Artifact remover that the inputs of --task sr go through first.")
@click.option(
    "--after-strength",
    type=FiniteNumber(0, 1),
    default=FitSettings.after_strength,
    help="Share of that remover's change that is made.",
)
@click.option(
    "--blocks",
    type=click.IntRange(1, 64),
    help="Residual blocks of --task sr; more than --init has begin by changing nothing. [default: 12, or --init's]",
)
@click.option(
    "--teacher",
    type=NameOrPath(),
    metavar="FILE",
    help="Weight file of a 4x network whose results are targets, too.",
)
@click.option(
    "--truth",
    type=FiniteNumber(min=0),
    default=FitSettings.truth,
    help="Weight of the true pictures' error beside that of the --teacher's.",
)
@click.option("--steps", type=click.IntRange(min=1), default=FitSettings.steps, help="Steps of the optimizer.")
@click.option("--batch", type=click.IntRange(min=1), default=FitSettings.batch, help="Pictures per step.")
@click.option(
    "--patch",
    type=click.IntRange(min=24, max=512),
    help="Side of the network's input, a multiple of 4. [default: 48; 96 for jpeg]",
)
@click.option(
    "--rate",
    type=FiniteNumber(min=0, min_open=True, max=1),
    default=FitSettings.rate,
    help="Highest learning rate.",
)
@click.option(
    "--bicubic",
    type=FiniteNumber(0, 1),
    default=FitSettings.bicubic,
    help="Part of the pictures reduced by the bicubic kernel.",
)
@click.option(
    "--pixels",
    type=FiniteNumber(min=0),
    default=FitSettings.pixels,
    help="Weight of every pixel's error (perceptual).",
)
@click.option(
    "--texture",
    type=FiniteNumber(min=0),
    default=FitSettings.texture,
    help="Weight of the patches' distance (perceptual).",
)
@click.option(
    "--adversarial",
    type=FiniteNumber(min=0),
    default=FitSettings.adversarial,
    help="Weight of the critic (perceptual).",
)
@click.option(
    "--strength",
    type=FiniteNumber(0, 2),
    default=FitSettings.strength,
    help="Share of the learned texture that the finished network adds (perceptual).",
)
@click.option(
    "--turns",
    type=click.Choice(["1", "2", "4"]),
    default=str(FitSettings.turns),
    callback=lambda _context, _option, value: int(value),
    help="Orientations of a picture that the finished network averages over: less error for more time.",
)
@click.option("--validation", type=click.IntRange(min=1), default=12, help="Photos held out to measure on.")
@click.option("--every", type=click.IntRange(min=1), default=250, help="Steps between measurements, which also save.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=FitSettings.seed)
@click.option("--precision", type=click.Choice(["fp32", "bf16"]), default=FitSettings.precision)
@click.option("--device", default="auto", help="cpu, cuda, cuda:1, mps, or auto.")
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
        raise DataError(f"--validation {validation} holds out {everything}: none is left to train on")
    dataset = Photos(training, settings.side(), kept)
    held = Validation(settings.task, Photos(held_out, VALIDATION_LEAST, kept))
    where = choose_device(device)
    state = load_state(state_path(out))
    fit = Fit(settings, dataset, held, where)
    if state is not None:
        fit.load_state(state)
        click.echo(f"goes on from step {fit.step}")
    if settings.teacher is not None and fit.step < settings.steps:  # last, for it may take minutes
        teacher = load_teacher(settings.teacher)
        with Progress("teacher", len(dataset), "photo") as progress:
            fit.lessons = Lessons(dataset, teacher, where, progress=progress)
    click.echo(f"{counted(len(dataset), 'photo')} to train on, {len(fit.validation.pairs)} to measure on, {fit.device}")
    card = {"variant": settings.variant, "photos": len(dataset), "batch": settings.batch, "patch": settings.patch}
    if settings.after is not None:
        card["after_strength"] = settings.after_strength
    with Progress("fit", settings.steps, "step", initial=fit.step) as progress:
        for row in run(fit, out, every=every, card=card, progress=progress):
            progress.say(
                f"step {row['step']:6d}  loss {row['loss']:.5f}  {row['psnr']:.2f} dB "
                f"(untrained: {row['baseline']:.2f})  contrast {row['contrast']:.2f}  {row['seconds'] / 60:.1f} min"
            )
            plot_curve(fit.curve, curve_path(out), settings)


def check_out(out: Path) -> None:
    """Raises DataError for a file that could not be written, or that restorers would not take for ours by its name."""
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
    """Where the learning curve of the run that writes `out` is drawn."""
    return out.with_name(out.name + ".png")


def settings_from(options: dict[str, Any]) -> FitSettings:
    """Checked settings. Raises DataError for options that do not go together."""
    task, variant = options["task"], options["variant"]
    patch = options.pop("patch") or (96 if task == "jpeg" else FitSettings.patch)
    if patch % 4:
        raise DataError(f"--patch {patch} is no multiple of 4")
    if task == "jpeg" and (variant == "perceptual" or options["after"]):
        raise DataError("--variant perceptual and --after are for --task sr alone")
    blocks = options.pop("blocks")
    if task == "jpeg" and blocks is not None:
        raise DataError("--blocks is for --task sr alone")
    for name in PERCEPTUAL:
        if variant != "perceptual" and options[name] != getattr(FitSettings, name):
            raise DataError(f"--{name} is for --variant perceptual alone")
    if task == "jpeg" and options["bicubic"] != FitSettings.bicubic:
        raise DataError("--bicubic is for --task sr alone")
    if options["after_strength"] != 1 and not options["after"]:
        raise DataError("--after-strength is the share of what --after changes: name that weight file, too")
    if options["teacher"] and (task == "jpeg" or variant == "perceptual"):
        raise DataError("--teacher is for --task sr --variant distortion alone")
    if variant == "perceptual" and not options["init"]:
        raise DataError("--variant perceptual refines a network: give the weight file of a distortion run with --init")
    if options["truth"] != FitSettings.truth and not options["teacher"]:
        raise DataError("--truth weighs the true pictures beside those of a --teacher: name one, too")
    for name in ("init", "after"):
        options[name] = str(options[name]) if options[name] else None
    return FitSettings(patch=patch, network={} if blocks is None else {"blocks": blocks}, **options)


def plot_curve(curve: list[dict[str, float]], path: Path, settings: FitSettings) -> None:
    """PSNR on the validation pictures over the steps, as a PNG. Raises DataError where that cannot be written."""
    from matplotlib.figure import Figure  # takes a second, and only this needs it

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
