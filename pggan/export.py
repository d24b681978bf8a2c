"""Write a model's generator as a program that runs without this project: ONNX, TorchScript, or for `torch.export`.

\b
.onnx   for onnxruntime, TensorRT and others; pip install 'celebahq[onnx]'
.pt     TorchScript, for torch.jit.load in Python and C++; PyTorch will drop it
.pt2    what follows it, for torch.export.load

The file is run and compared with the model before it is there.
"""

from pathlib import Path
from typing import Any

import click

from datatools.cli import FiniteNumber, OneLineCommand, PathOption, run_command
from datatools.errors import DataError
from datatools.files import as_data_error
from datatools.text import byte_size
from pggan.exchange import FORMATS, check_libraries, write_program
from pggan.media.look import NOISE, set_look
from pggan.training.models import load_model
from pggan.training.threads import threads_option

EXAMPLES = """
\b
Examples:
  python -m pggan.export --model runs/faces --out faces.onnx
  python -m pggan.export --model faces-32 --out faces-32.pt
  python -m pggan.export --model final.safetensors --out typical.onnx --truncation 0.7

\b
Input latents, (n, latent size) float32, standard normal; of a model with classes also labels, (n, classes), one 1 in
each row. Output images, (n, 3, r, r) float32 RGB, -1 for black and 1 for white. docs/exports.md has programs to copy.
"""


@click.command(cls=OneLineCommand, help=__doc__, epilog=EXAMPLES)
@click.option("--model", required=True, type=PathOption(), help="A model file, a run folder, or the bundled faces-32.")
@click.option("--ema-kimg", type=FiniteNumber(0, min_open=True), help="Half-life of one of the run's further EMAs.")
@click.option("--out", required=True, type=PathOption(dir_okay=False), help="File to write, .onnx, .pt or .pt2.")
@click.option(
    "--truncation",
    type=FiniteNumber(0, 1),
    default=1.0,
    show_default=True,
    help="Scale of the variety, 1 for all of it; see pggan.generate.",
)
@click.option("--centre", type=click.IntRange(0), help="Seed that --truncation pulls to.  [default: 0]")
@click.option(
    "--noise",
    type=click.Choice(list(NOISE)),
    default="const",
    show_default=True,
    help="Noise maps of style-based models: the model's own, drawn for each picture, or none.",
)
@threads_option
def main(model: Path, ema_kimg: float | None, out: Path, truncation: float, centre: int | None, noise: str) -> None:
    file_format: Any = out.suffix
    if file_format not in FORMATS:
        raise DataError(f"--out {out}: the name must end in {', '.join(FORMATS)}")
    check_libraries(file_format)
    loaded = load_model(model).with_ema(ema_kimg)
    change = set_look(loaded, truncation, centre, noise)
    with as_data_error(f"--out {out}"):
        out.parent.mkdir(parents=True, exist_ok=True)
        difference = write_program(out, loaded, change, drawn=noise == "random")
    side, size = loaded.level.resolution, loaded.config.latent_size
    checked = "not compared, it draws noise" if difference is None else f"differs from the model by {difference:.1g}"
    click.echo(
        f"{out}: latents (n, {size}) to images (n, 3, {side}, {side}), {byte_size(out.stat().st_size)}; {checked}"
    )


def script() -> None:
    """Run the console script `celebahq-export`."""
    run_command(main)


if __name__ == "__main__":
    script()
