"""How near faces come to the published CelebA-HQ images, next to what the exact procedure reaches.

    python benchmarks/published.py --celeba-dir CelebA --published-dir celebahq_published

The folder holds published images named by their index (00000.jpg, 05212.png ...). Restoration is "none", so the
authors' networks remain as a difference.
"""

import sys
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.crop import psnr
from datatools.cli import OneLineCommand
from datatools.faces.recipe import make_face
from datatools.faces.reference import reference_face
from datatools.images import read_bytes, read_rgb
from datatools.restore import get_restorer
from datatools.sources.celeba import read_tree


def averaged(face: NDArray[np.uint8], size: int) -> NDArray[np.float64]:
    """Box average without rounding, whose noise would hide the difference at small sizes."""
    factor = face.shape[0] // size
    return face.reshape(size, factor, size, factor, 3).mean(axis=(1, 3), dtype=np.float64)


@click.command(cls=OneLineCommand)
@click.option("--celeba-dir", type=click.Path(path_type=Path), required=True, help="CelebA's folder")
@click.option("--published-dir", type=click.Path(path_type=Path), help="[default: celebahq_published next to CelebA]")
def main(celeba_dir: Path, published_dir: Path | None) -> None:
    """Compare faces with published images, at 64, 128, 256, 512 and 1024 pixels."""
    folder = published_dir or celeba_dir.parent / "celebahq_published"
    pictures = {int(path.stem): path for path in folder.glob("*") if path.stem.isdecimal()}
    records = [record for record in read_tree(celeba_dir).records if record.celebahq_index in pictures]
    if not records:
        click.echo(f"# no photo of {celeba_dir} has its published image in {folder}")
        return
    for record in records:
        data = read_bytes(record.path)
        published = read_rgb(pictures[record.celebahq_index])
        fast = make_face(data, record.landmarks, get_restorer("none")).face
        exact = reference_face(data, record.landmarks).face
        for size in (64, 128, 256, 512, 1024):
            ours, theirs = (psnr(averaged(face, size), averaged(published, size)) for face in (fast, exact))
            click.echo(
                f"ratio published_{record.celebahq_index:05d}_{size} {ours / theirs:.3f}  PSNR of ours ({ours:.2f} dB) "
                f"over that of the exact procedure ({theirs:.2f} dB), {record.file_name} at {size} x {size}"
            )
        click.echo(f"# {record.file_name}: mean level {np.mean(fast):.2f}, published {np.mean(published):.2f}")


if __name__ == "__main__":
    main()
