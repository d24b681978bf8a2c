"""Write a page about a training run: settings, curves, pictures over time, samples and the faces nearest to them.

The page is one HTML file that needs no server, no network and no other file.
"""

from pathlib import Path

import click

from datatools.cli import OneLineCommand, PathOption, run_command
from pggan.report.page import write_report
from pggan.training.threads import threads_option

EXAMPLES = """
\b
Examples:
  python -m pggan.report runs/faces
  python -m pggan.report runs/faces --h5 celebahq.h5 --out faces.html
"""
PAGE = "report.html"


@click.command(cls=OneLineCommand, help=__doc__, epilog=EXAMPLES)
@click.argument("run", type=PathOption())
@click.option("--h5", type=PathOption(), help="The run's pyramid file, for the nearest training faces.")
@click.option("--out", type=PathOption(dir_okay=False), help=f"The page.  [default: RUN/{PAGE}]")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), default="auto", show_default=True)
@threads_option
def main(run: Path, h5: Path | None, out: Path | None, device: str) -> None:
    page = write_report(run, out or run / PAGE, h5=h5, device=device)
    click.echo(f"{page}: {page.stat().st_size / 1e6:.1f} MB")


def script() -> None:
    """Run the console script `celebahq-report`."""
    run_command(main)


if __name__ == "__main__":
    script()
