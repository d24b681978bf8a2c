"""Write a model file: of the weights of another project's networks, or of a run's, smaller.

Nothing that the file names is run. docs/pretrained.md lists the projects, and where their files are.
"""

from pathlib import Path

import click

from datatools.cli import OneLineCommand, PathOption, run_command
from datatools.errors import DataError
from datatools.files import as_data_error
from datatools.text import byte_size
from pggan.model.files import save_model
from pggan.training.models import load_model

EXAMPLES = """
\b
Examples:
  python -m pggan.convert --model karras2018iclr-celebahq-1024x1024.pkl --out celebahq.safetensors
  python -m pggan.generate --model celebahq.safetensors --out pictures --seeds 0-99
  python -m pggan.convert --model runs/faces --compact --out faces.safetensors

\b
The other commands read such files, too (--model, --init-from); a converted file is read faster, and by programs that
read safetensors.
"""


@click.command(cls=OneLineCommand, help=__doc__, epilog=EXAMPLES)
@click.option("--model", required=True, type=PathOption(), help="Weight file, model file or run folder.")
@click.option("--out", required=True, type=PathOption(dir_okay=False), help="Model file to write, .safetensors.")
@click.option(
    "--compact", is_flag=True, help="Half precision, the EMA in place of the generator: a third of the size or less."
)
def main(model: Path, out: Path, compact: bool) -> None:
    if out.suffix != ".safetensors":
        raise DataError(f"--out {out}: the name of a model file must end in .safetensors")
    loaded = load_model(model)
    with as_data_error(f"--out {out}"):
        out.parent.mkdir(parents=True, exist_ok=True)
        save_model(out, loaded, lod=loaded.lod, images=loaded.images, untrained=loaded.untrained, compact=compact)
    config = loaded.config
    without = "" if not loaded.untrained else ", without a discriminator: the file has none that ours can hold"
    classes = f", {config.classes} classes" if config.classes else ""
    click.echo(
        f"{out}: networks of {config.resolution} x {config.resolution} pixels{classes}, "
        f"{byte_size(out.stat().st_size)}{without}"
    )


def script() -> None:
    """Run the console script `celebahq-convert`."""
    run_command(main)


if __name__ == "__main__":
    script()
