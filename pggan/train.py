"""Train a progressive GAN from a pyramid file, or resume a training run: the same command does both."""

from typing import Any

import click

from datatools.cli import OneLineCommand, run_command
from datatools.console import check_printed
from datatools.errors import DataError
from datatools.text import duration
from pggan.config.presets import get_preset
from pggan.precision import PrecisionName, computes
from pggan.training.loop import train
from pggan.training.options import TrainingOptions, training_options
from pggan.training.plan import make_plan
from pggan.training.run import Run, prepare_run

EXAMPLES = """
\b
Examples:
  python -m pggan.train --h5 celebahq.h5
  python -m pggan.train --h5 mine.h5 --preset faces-32 --out runs/mine
  python -m pggan.train --h5 celebahq.h5 --preset celebahq --dry-run
  python -m pggan.train --h5 mine.h5 --out runs/tuned --init-from runs/faces
  python -m pggan.train --h5 mine.h5 --config theirs/config.json --seed 1 --out runs/second
  torchrun --nproc-per-node 4 -m pggan.train --h5 celebahq.h5 --out runs/four
\b
Stop with Ctrl-C or SIGTERM: the run saves a checkpoint and ends. Run the same command again to resume.
"""
DAY = 86400.0
PATIENCE = 7 * DAY  # a longer run is not started on a CPU unless its preset was named


@click.command(cls=OneLineCommand, resumes=True, help=__doc__, epilog=EXAMPLES)
@training_options
@click.option("--dry-run", is_flag=True, help="Print the plan and stop.")
def main(dry_run: bool, **values: Any) -> None:
    options = TrainingOptions(**{**values, "metrics": parse_intervals(values["metrics"] or "")})
    with prepare_run(options) as run:
        named = options.preset or options.init_from or options.config
        automatic = named is None and run.saved is None
        if run.team.is_main and automatic:
            where = f"{run.team.size} x {run.device.type}"
            size = run.source.resolution
            click.echo(f"{options.h5}: {size} x {size}, {where}: preset {run.preset.name}")
        if run.team.is_main and options.init_from is not None and run.saved is not None:
            click.echo(f"{run.out}: the run has started already; --init-from is not used again")
        if dry_run:
            if run.team.is_main:
                click.echo("\n".join([*run.plan.lines(), f"run folder {run.out}; nothing was started"]))
                check_printed()
            return
        if automatic and run.device.type == "cpu":
            refuse_long_cpu_run(run)
        train(run)


def parse_intervals(text: str) -> tuple[tuple[Any, float], ...]:
    """Return (metric, kimg) of "swd@200,ms-ssim@100"; `TrainingOptions` checks which metrics there are."""
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


def refuse_long_cpu_run(run: Run) -> None:
    """Say how long a preset that nobody named takes on this CPU; raise DataError where that is too long."""
    plan, seconds = run.plan, run.plan.seconds()
    if seconds < PATIENCE:
        click.echo(f"on this CPU that takes about {duration(seconds)}")
        return
    fitting = get_preset("faces-32")
    precision: PrecisionName = "bf16" if computes("bf16", run.device) else "fp32"
    there = make_plan(fitting, run.device, precision, threads=plan.threads).seconds()
    size = plan.preset.network.resolution
    raise DataError(
        f"{run.options.h5}: {plan.preset.name} at {size} x {size} would take about {duration(seconds)} on this CPU; "
        f"--preset faces-32 --precision {precision} takes about {duration(there)}, "
        f"--preset {plan.preset.name} starts it all the same"
    )


def script() -> None:
    """Run the console script `celebahq-train`."""
    run_command(main)


if __name__ == "__main__":
    script()
