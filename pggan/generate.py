"""Write pictures of a trained model: one PNG file for every seed, or one for a grid of them."""

from pathlib import Path

import click

from datatools.errors import DataError
from datatools.images import save_png
from pggan.commands import PlainErrors
from pggan.distributed import choose_device
from pggan.folder import find_model
from pggan.grid import save_grid

EXAMPLES = """
\b
Examples:
  python -m pggan.generate --model runs/faces --out pictures --seeds 0-99
  python -m pggan.generate --model final.safetensors --out pictures --seeds 7,12,1000-1020 --device cuda
  python -m pggan.generate --model final.safetensors --out pictures --seeds 0-31 --grid 8x4
"""
BATCH = 64
MAX_SEEDS = 10_000_000


@click.command(cls=PlainErrors, help=__doc__, epilog=EXAMPLES)
@click.option("--model", type=click.Path(path_type=Path), required=True, help="A model file or a run folder.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder for the pictures.")
@click.option("--seeds", default="0-99", show_default=True, help="Such as 0-99,500; each gives one picture.")
@click.option("--grid", metavar="WxH", help="Columns and rows of grids, instead of single pictures.")
@click.option("--label", type=click.IntRange(0), help="Class, of a model with labels.  [default: drawn by the seed]")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), default="auto", show_default=True)
def main(model: Path, out: Path, seeds: str, grid: str | None, label: int | None, device: str) -> None:
    chosen = parse_seeds(seeds)
    size = None if grid is None else parse_grid(grid)
    loaded = find_model(model).to(choose_device(device))
    try:
        out.mkdir(parents=True, exist_ok=True)
        per_file = 1 if size is None else size[0] * size[1]
        step = per_file if size is not None else BATCH
        written = 0
        for start in range(0, len(chosen), step):
            some = chosen[start : start + step]
            pictures = loaded.pictures(some, label=label)
            if size is not None:
                save_grid(out / f"grid{some[0]:06d}.png", pictures, size[0])
                written += 1
                continue
            for seed, picture in zip(some, pictures, strict=True):
                save_png(out / f"seed{seed:06d}.png", picture)
                written += 1
    except OSError as error:
        raise DataError(f"--out {out}: cannot be written: {error.strerror}") from error
    side = pictures.shape[1]
    click.echo(f"{written} files of {len(chosen)} pictures of {side} x {side} pixels in {out}")


def parse_seeds(text: str) -> list[int]:
    """Numbers of "0-99,500", both ends included, in the order given."""
    found: list[int] = []
    for item in text.split(","):
        first, dash, last = item.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise DataError(f"--seeds: {item.strip()!r} is neither a number nor a range such as 0-99")
        begin, end = int(first), int(last) if dash else int(first)
        if end < begin or end - begin >= MAX_SEEDS:
            raise DataError(f"--seeds: {item.strip()} is no range from a smaller to a larger number, or too long")
        found.extend(range(begin, end + 1))
    return found


def parse_grid(text: str) -> tuple[int, int]:
    """(columns, rows) of "8x4"."""
    columns, _, rows = text.lower().partition("x")
    if not (columns.isdecimal() and rows.isdecimal() and 0 < int(columns) <= 1000 and 0 < int(rows) <= 1000):
        raise DataError(f"--grid {text!r}: must be columns x rows, such as 8x4")
    return int(columns), int(rows)


if __name__ == "__main__":
    main(prog_name="python -m pggan.generate")
