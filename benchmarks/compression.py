"""Size of a pyramid and speed of random images by compression, of the pictures in a folder.

    python benchmarks/compression.py --pictures celebahq_published

Pictures are cut to the middle square and stored with all levels from 1024 x 1024 on (--side). Ways take turns; the
fastest of --rounds counts. `lz4` and `zstd` need hdf5plugin: pip install "celebahq[compression]".
"""

import os
import sys
import tempfile
import time
from pathlib import Path

import click
import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from datatools.files import list_pictures
from datatools.images import read_rgb
from datatools.pyramid import COMPRESSIONS, Pyramid, PyramidWriter
from datatools.pyramid.format import UNKNOWN_ORIGIN


def square(path: Path, side: int) -> np.ndarray:
    picture = Image.fromarray(read_rgb(path))
    small = min(picture.size)
    left, top = (picture.width - small) // 2, (picture.height - small) // 2
    return np.asarray(picture.resize((side, side), Image.Resampling.LANCZOS, (left, top, left + small, top + small)))


@click.command(help=__doc__)
@click.option("--pictures", type=click.Path(path_type=Path), help="Folder of pictures.")
@click.option("--side", default=1024, show_default=True, help="Largest level.")
@click.option("--rounds", default=5, show_default=True)
def main(pictures: Path | None, side: int, rounds: int) -> None:
    if pictures is None:
        print("# name a folder of pictures: --pictures FOLDER")
        return
    faces = [square(path, side) for path in list_pictures(pictures).pictures]
    order = np.random.default_rng(0).permutation(len(faces)).tolist()
    with tempfile.TemporaryDirectory() as folder:
        writing: dict[str, float] = {}
        for name in COMPRESSIONS:
            start = time.perf_counter()
            with PyramidWriter(Path(folder, name), len(faces), resolution=side, compression=name) as writer:
                for face in faces:
                    writer.append(face, UNKNOWN_ORIGIN)
            writing[name] = time.perf_counter() - start
        files = {name: Pyramid(Path(folder, name)) for name in COMPRESSIONS}
        reading = dict.fromkeys(COMPRESSIONS, float("inf"))
        for _ in range(rounds):
            for name, file in files.items():
                start = time.perf_counter()
                for index in order:
                    file[side][index]
                reading[name] = min(reading[name], (time.perf_counter() - start) / len(faces))
        print(f"# {len(faces)} pictures of {side} x {side}")
        for name in COMPRESSIONS:
            size = os.path.getsize(Path(folder, name)) / os.path.getsize(Path(folder, "none"))
            per_image = 1e3 * writing[name] / len(faces)
            print(
                f"# {name:5} {size:.2f} of the size, {1e3 * reading[name]:.1f} ms to read, {per_image:.0f} ms to write"
            )
            print(f"ratio compression_{name} {size:.3f}  size of the file over that without compression")


if __name__ == "__main__":
    main()
