"""Train a progressive GAN from a pyramid file, or go on with a training: the same command does both."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import torch

from datatools.cli import FiniteNumber, OneLineCommand, PathOption, run_command
from datatools.console import check_printed
from datatools.errors import DataError
from datatools.text import duration
from pggan.config.presets import PRESETS, Preset, get_preset
from pggan.data.stream import Source
from pggan.model.files import load_model
from pggan.training.distributed import choose_device, world_size
from pggan.training.loop import train
from pggan.training.metrics import TrainingMetrics
from pggan.training.plan import Plan, make_plan
from pggan.training.run_config import FREE, MOST_THREADS, MetricsConfig, RunConfig, SavedRun, read_saved_run

EXAMPLES = """
\b
Examples:
  python -m pggan.train --h5 celebahq.h5
  python -m pggan.train --h5 mine.h5 --preset faces-32 --precision bf16 --out runs/mine
  python -m pggan.train --h5 celebahq.h5 --preset celebahq --dry-run
  python -m pggan.train --h5 mine.h5 --out runs/tuned --init-from runs/faces
  torchrun --nproc-per-node 4 -m pggan.train --h5 celebahq.h5 --out runs/four
\b
Stop with Ctrl-C or SIGTERM: the training saves and ends; the same command goes on with it.
"""
DAY = 86400.0
PATIENCE = 7 * DAY  # a training of more than that is not started on a CPU unless it was asked for by name
POWERS = click.Choice([str(2**k) for k in range(2, 11)])


@click.command(cls=OneLineCommand, help=__doc__, epilog=EXAMPLES)
@click.option("--h5", type=PathOption(), required=True, help="The pyramid file.")
@click.option("--out", type=PathOption(), help="Run folder.  [default: runs/<file>-<preset>]")
@click.option("--preset", "preset_name", help=f"One of {', '.join(PRESETS)}.  [default: by resolution and devices]")
@click.option("--seed", type=click.IntRange(0), help="[default: 0]")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), default="auto", show_default=True)
@click.option("--precision", type=click.Choice(["fp32", "bf16", "fp16"]), help="[default: fp32]")
@click.option("--tf32/--no-tf32", default=None, help="Faster, coarser float32 products on CUDA.  [default: tf32]")
@click.option("--labels", help="none, file (<file>-labels.npy), or CelebA attributes with commas.  [default: none]")
@click.option("--init-from", type=PathOption(), help="Start from the weights of a run or model file.")
@click.option("--resolution", type=POWERS, help="Largest level to train, up to that of the file.")
@click.option("--start-resolution", type=POWERS, help="Level to start at; --resolution's to train without growing.")
@click.option("--total-kimg", type=FiniteNumber(0, min_open=True), help="Length, in thousands of reals shown.")
@click.option("--training-kimg", type=FiniteNumber(0), help="Thousands of reals with a level whole.")
@click.option("--transition-kimg", type=FiniteNumber(0), help="Thousands of reals while a level fades in.")
@click.option("--minibatch", type=click.IntRange(1), help="Minibatch at all levels.")
@click.option("--learning-rate", type=FiniteNumber(0, min_open=True), help="Learning rate at all levels.")
@click.option("--fmap-base", type=click.IntRange(1), help="Feature maps: base / 2^stage ...")
@click.option("--fmap-max", type=click.IntRange(1), help="... but at most so many.")
@click.option("--latent-size", type=click.IntRange(1))
@click.option("--stddev-group", type=click.IntRange(0), help="Samples in a minibatch stddev group; 0 is all.")
@click.option("--down-step", type=click.Choice(["fused", "unfused"]))
@click.option("--loss", type=click.Choice(["wgan-gp", "lsgan"]))
@click.option("--gradient-norm", type=click.Choice(["full", "native"]), help="Where the penalty takes its norm.")
@click.option("--mirror/--no-mirror", default=None, help="Mirror half of the reals.")
@click.option("--tick-kimg", type=FiniteNumber(0, min_open=True), help="Thousands of reals between status lines.")
@click.option("--checkpoint-kimg", type=FiniteNumber(0, min_open=True), help="And checkpoints.  [default: a tick]")
@click.option("--keep", type=click.IntRange(1), default=3, show_default=True, help="Checkpoints to keep.")
@click.option("--metrics", help="Measure while training: swd@200,ms-ssim@100 are kimg between two measurements.")
@click.option(
    "--metrics-images", type=click.IntRange(2), help="Of either set.  [default: up to 8192 with CUDA, else 2048]"
)
@click.option(
    "--workers", type=click.IntRange(0), default=2, show_default=True, help="Threads that read large levels ahead."
)
@click.option(
    "--threads",
    type=click.IntRange(1, MOST_THREADS),
    help="Of each process, for arithmetic on a CPU.  [default: as the run began, or the fastest number]",
)
@click.option("--max-batch-per-device", type=click.IntRange(1), help="Samples at once; the minibatch stays.")
@click.option("--fork", is_flag=True, help="Go on with settings that differ from the run's.")
@click.option("--dry-run", is_flag=True, help="Print the plan and stop.")
def main(
    h5: Path,
    out: Path | None,
    preset_name: str | None,
    seed: int | None,
    device: str,
    precision: Any,
    tf32: bool | None,
    labels: str | None,
    init_from: Path | None,
    keep: int,
    workers: int,
    threads: int | None,
    max_batch_per_device: int | None,
    checkpoint_kimg: float | None,
    metrics: str | None,
    metrics_images: int | None,
    fork: bool,
    dry_run: bool,
    **overrides: Any,
) -> None:
    chosen = choose_device(device)
    automatic = preset_name is None and init_from is None
    out = out or Path("runs") / f"{h5.stem}-{preset_name or default_name(h5, init_from)}"
    saved = read_saved_run(out)
    labels = first_of(labels, saved and saved.labels, "none")
    source = Source(h5, labels)
    devices = world_size() if saved is None else saved.devices  # the schedule that the run began with rules
    preset = base_preset(preset_name, saved, init_from, source.resolution, devices)
    preset = with_overrides(preset, overrides, source.resolution).with_classes(source.classes)
    if init_from is not None and saved is None and overrides["start_resolution"] is None:
        preset = replace(preset, schedule=replace(preset.schedule, start_resolution=preset.network.resolution))
    config = RunConfig(
        h5=h5,
        out=out,
        preset=preset,
        seed=first_of(seed, saved and saved.seed, 0),
        precision=first_of(precision, saved and saved.precision, "fp32"),
        tf32=first_of(tf32, saved.tf32 if saved else None, True),
        labels=labels,
        devices=devices,
        init_from=init_from,
        device=device,
        workers=workers,
        threads=threads,
        max_batch_per_device=max_batch_per_device,
        keep=keep,
        checkpoint_kimg=checkpoint_kimg,
        fork=fork,
        metrics=MetricsConfig(parse_intervals(metrics or ""), metrics_images),
    )
    if metrics_images is not None and not config.metrics.every:
        raise DataError("--metrics-images is how many images --metrics measures: name metrics, too, such as swd@200")
    # refuses what cannot be measured before there is a run folder
    TrainingMetrics(
        config.metrics,
        out,
        source,
        preset.schedule,
        seed=config.seed,
        mirror=preset.mirror,
        device=chosen,
        stopping=lambda: False,
    )
    is_main = rank() == 0
    if is_main and automatic and saved is None:
        click.echo(f"{h5}: {source.resolution} x {source.resolution}, {devices} x {chosen.type}: preset {preset.name}")
    if is_main and init_from is not None and saved is not None:
        click.echo(f"{out}: the run has started already; --init-from is not used again")
    if dry_run:
        threads = threads or (saved.threads_on(chosen) if saved else None)
        plan = make_plan(preset, chosen, config.precision, world_size(), max_batch_per_device, threads)
        if is_main:
            click.echo("\n".join([*plan.lines(), f"run folder {out}; nothing was started"]))
            check_printed()
        return
    if automatic and saved is None and chosen.type == "cpu":
        plan = make_plan(preset, chosen, config.precision, threads=threads)
        refuse_long_cpu_run(plan, h5)
        config = replace(config, threads=plan.threads)
    result = train(config)
    if is_main and not result.finished:
        click.echo(f"to go on: the same command, with --out {out}")


def parse_intervals(text: str) -> tuple[tuple[Any, float], ...]:
    """(metric, kimg) of "swd@200,ms-ssim@100"; which metrics there are is for `MetricsConfig` to say."""
    found: dict[str, float] = {}
    for item in filter(None, (item.strip() for item in text.split(","))):
        name, _, kimg = (part.strip() for part in item.partition("@"))
        if name in found:
            raise DataError(f"--metrics names {name} twice: one interval is enough")
        try:
            found[name] = float(kimg)
        except ValueError:
            raise DataError(f"--metrics {item}: must be a metric and its interval in kimg, such as swd@200") from None
    return tuple(found.items())


def default_name(h5: Path, init_from: Path | None) -> str:
    """Second half of a run folder's name when no preset was named."""
    return "tuned" if init_from is not None else suggested_preset(Source(h5).resolution)


def suggested_preset(resolution: int) -> str:
    """The preset for data of that resolution; `celebahq-v2` has a row for every number of devices."""
    return "faces-32" if resolution <= 32 else "faces-128" if resolution <= 128 else "celebahq-v2"


def base_preset(
    name: str | None, saved: SavedRun | None, init_from: Path | None, resolution: int, devices: int
) -> Preset:
    """Return the preset before flags: the one named, else that of the run, of the model to start from, or a suggestion.

    A run whose preset is named again keeps its own settings, since the table may have changed after it began; only its
    length and its ticks are those of the table. Resolutions above the data's come down to it.
    """
    if saved is not None and (name is None or init_from is not None):
        return saved.preset
    preset = get_preset(name or suggested_preset(resolution), devices)
    if saved is not None and saved.preset.name == preset.name:
        free = [field.removeprefix("schedule.") for field in FREE if field.startswith("schedule.")]
        schedule = replace(saved.preset.schedule, **{field: getattr(preset.schedule, field) for field in free})
        return replace(saved.preset, schedule=schedule)
    if init_from is not None:
        network = load_model(init_from).config
        preset = replace(preset.with_resolution(network.resolution), network=network)
    return preset.with_resolution(min(preset.network.resolution, resolution))


def with_overrides(preset: Preset, flags: dict[str, Any], resolution: int) -> Preset:
    """The preset with the flags that were given; DataError where they do not fit the data of `resolution`."""
    given = {name: value for name, value in flags.items() if value is not None}
    for name in ("resolution", "start_resolution"):
        if name in given:
            given[name] = int(given[name])
    if "resolution" in given:
        if given["resolution"] > resolution:
            raise DataError(f"--resolution {given['resolution']}: the file has levels up to {resolution}")
        preset = preset.with_resolution(given.pop("resolution"))
    if given.pop("loss", preset.loss.kind) != preset.loss.kind:
        preset = preset.with_lsgan() if preset.loss.kind == "wgan-gp" else without_lsgan(preset)
    if "minibatch" in given:
        given |= {"minibatch_base": given.pop("minibatch"), "minibatch_by_level": ()}
    if "learning_rate" in given:
        given |= {"rate_base": given.pop("learning_rate"), "rate_by_level": ()}
    if "tick_kimg" in given:
        given |= {"tick_kimg_base": given.pop("tick_kimg"), "tick_kimg_by_level": ()}
    for part in ("network", "schedule", "loss"):
        config = getattr(preset, part)
        own = {name: given.pop(name) for name in list(given) if name in vars(config)}
        preset = replace(preset, **{part: replace(config, **own)})
    return replace(preset, **given)


def without_lsgan(preset: Preset) -> Preset:
    """The same training with WGAN-GP."""
    return replace(preset, network=replace(preset.network, d_noise=0.0), loss=replace(preset.loss, kind="wgan-gp"))


def refuse_long_cpu_run(plan: Plan, h5: Path) -> None:
    """Tells how long a training that nobody asked for by name takes on this CPU; DataError where that is too long."""
    seconds = plan.seconds()
    if seconds < PATIENCE:
        click.echo(f"on this CPU that takes about {duration(seconds)}")
        return
    fitting = get_preset("faces-32")
    there = make_plan(fitting, torch.device("cpu"), "bf16", threads=plan.threads).seconds()
    raise DataError(
        f"{h5}: {plan.preset.name} at {plan.preset.network.resolution} x {plan.preset.network.resolution} would take "
        f"about {duration(seconds)} on this CPU; --preset faces-32 --precision bf16 takes about {duration(there)}, "
        f"--preset {plan.preset.name} starts it all the same"
    )


def rank() -> int:
    """Of this process among those that torchrun started."""
    return int(os.environ.get("RANK", "0"))


def first_of(*values: Any) -> Any:
    """The first value that is not None; a caller's last one is the default."""
    return next(value for value in values if value is not None)


def script() -> None:
    """Run the console script `celebahq-train`."""
    run_command(main)


if __name__ == "__main__":
    script()
