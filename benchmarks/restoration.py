"""How near restored faces come to the published images, how photographic they look, and what restoring costs.

    python benchmarks/restoration.py pairs --celeba-dir CelebA --published-dir celebahq_published
    python benchmarks/restoration.py texture --celeba-dir faces_hq --photos 000001.jpg,000004.jpg --strip strip.png
    python benchmarks/restoration.py speed

`pairs`: faces made with every restorer next to the published images of the same photos: PSNR, and standard deviation
over that of the face without restoration. `texture`: true faces of 1024 x 1024 are reduced by 4, compressed as JPEG of
quality 75 and restored; per Laplacian level, the standard deviation over the true one's and the sliced Wasserstein
distance of 7 x 7 patches (paper, section 5). `speed`: seconds and memory for a crop of 256 x 256.
"""

import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import click
import cv2
import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.crop import psnr
from benchmarks.published import averaged
from benchmarks.rows import Row, peak_bytes, seconds, show
from datatools.cli import OneLineGroup
from datatools.errors import DataError
from datatools.faces.recipe import make_face
from datatools.faces.resample import enlarge_lanczos
from datatools.files import as_data_error, check_writable
from datatools.images import read_bytes, read_rgb, save_png
from datatools.parallel import available_cores
from datatools.restore import get_restorer
from datatools.restore.fit.degrade import compress, reduce_picture
from datatools.sources.celeba import read_tree

LEVELS = (1024, 512, 256, 128)
PATCHES = 2048
"""Patches per image and level; the paper's 128 suit sets of 16,384 images, and these are a handful."""
SEED = 1
LANCZOS = "lanczos"
"""What faces are enlarged by without a network, as a name in addition to the restorers'."""
STRIP = 256
"""Side of the parts shown in a strip, in pixels, at 100 %."""


@click.group(cls=OneLineGroup)
def main() -> None:
    """Measure restorers."""


def check_strip(strip: Path | None) -> None:
    """Raises DataError for a picture that could not be written."""
    if strip is not None:
        with as_data_error(f"--strip {strip}"):
            check_writable(strip)


@main.command()
@click.option("--celeba-dir", type=click.Path(path_type=Path), required=True, help="CelebA's folder")
@click.option("--published-dir", type=click.Path(path_type=Path), required=True, help="images named by their index")
@click.option("--restorers", default="none,bundled-distortion,bundled-perceptual", help="names, with commas")
@click.option("--strip", type=click.Path(path_type=Path), help="PNG to write: parts of the faces at 100 %")
def pairs(celeba_dir: Path, published_dir: Path, restorers: str, strip: Path | None) -> None:
    """Faces next to the published images of the same photos."""
    check_strip(strip)
    pictures = {int(path.stem): path for path in published_dir.glob("*") if path.stem.isdecimal()}
    records = [record for record in read_tree(celeba_dir).records if record.celebahq_index in pictures]
    if not records:
        raise DataError(f"no photo of {celeba_dir} has its published image in {published_dir}")
    chosen = {name: get_restorer(name, threads=available_cores()) for name in restorers.split(",")}
    sets: dict[str, list[NDArray[np.uint8]]] = {name: [] for name in (*chosen, "published")}
    sizes = (64, 128, 256, 512, 1024)
    click.echo(f"{'photo':10} {'restorer':20}" + "".join(f" {f'PSNR {size}':>10}" for size in sizes) + "   deviation")
    for record in records:
        data = read_bytes(record.path)
        published = read_rgb(pictures[record.celebahq_index])
        plain = make_face(data, record.landmarks, get_restorer("none")).face
        for name, restorer in chosen.items():
            face = make_face(data, record.landmarks, restorer).face
            sets[name].append(face)
            values = [psnr(averaged(face, size), averaged(published, size)) for size in sizes]
            deviations = [averaged(face, size).std() / averaged(plain, size).std() for size in (512, 1024)]
            fine = laplacian(face, 1)[0].std() / laplacian(plain, 1)[0].std()
            click.echo(
                f"{record.file_name:10} {name:20}"
                + "".join(f" {value:10.2f}" for value in values)
                + f"   {deviations[0]:.3f} at 512, {deviations[1]:.3f} at 1024, {fine:.2f} of the finest octave"
            )
        sets["published"].append(published)
    if strip is not None:
        save_png(strip, parts_side_by_side(sets))


def laplacian(picture: NDArray[np.uint8], levels: int) -> list[NDArray[np.float32]]:
    """Laplacian levels, finest first: a picture less its blurred half, enlarged again (binomial 5 x 5)."""
    level = picture.astype(np.float32)
    found = []
    for _ in range(levels):
        down = cv2.pyrDown(level, borderType=cv2.BORDER_REFLECT_101)
        found.append(level - cv2.pyrUp(down, dstsize=level.shape[1::-1]))
        level = down
    return found


def descriptors(levels: Sequence[NDArray[np.float32]], rng: np.random.Generator) -> NDArray[np.float32]:
    """(images * PATCHES, 147): random 7 x 7 patches of one Laplacian level.

    Places in the true faces are drawn with SEED, those in every set compared with them with SEED + 1: so the true
    faces' distance to themselves is the floor, which other places alone make.
    """
    parts = []
    for level in levels:
        windows = np.lib.stride_tricks.sliding_window_view(level, (7, 7), axis=(0, 1))
        rows, columns = (rng.integers(size, size=PATCHES) for size in windows.shape[:2])
        parts.append(windows[rows, columns].reshape(PATCHES, -1))
    return np.concatenate(parts)


def normalized(patches: NDArray[np.float32]) -> NDArray[np.float32]:
    channels = patches.reshape(len(patches), 3, -1)
    mean, deviation = channels.mean(axis=(0, 2), keepdims=True), channels.std(axis=(0, 2), keepdims=True)
    return ((channels - mean) / deviation).reshape(len(patches), -1)


def sliced_distance(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> float:
    """Mean over 4 x 128 directions of the distance between sorted projections, times 1000 (paper, section 5)."""
    rng = np.random.default_rng(SEED)
    total = 0.0
    for _ in range(4):
        directions = rng.standard_normal((ours.shape[1], 128)).astype(np.float32)
        directions /= np.linalg.norm(directions, axis=0)
        first, second = (np.sort((patches @ directions).T, axis=1) for patches in (ours, theirs))
        total += float(np.abs(first - second).mean())
    return 1000 * total / 4


@main.command()
@click.option("--celeba-dir", type=click.Path(path_type=Path), required=True, help="a tree of sharp portraits")
@click.option("--photos", required=True, help="file names, with commas: none that the networks were trained on")
@click.option("--restorers", default="lanczos,bundled-distortion,bundled-perceptual", help="names, with commas")
@click.option("--strip", type=click.Path(path_type=Path), help="PNG to write: parts of the faces at 100 %")
def texture(celeba_dir: Path, photos: str, restorers: str, strip: Path | None) -> None:
    """Restored faces next to the true ones, level by level."""
    names, wanted = restorers.split(","), photos.split(",")
    records = {record.file_name: record for record in read_tree(celeba_dir).records}
    if unknown := [name for name in wanted if name not in records]:
        raise DataError(f"--photos: {celeba_dir} has no photo {', '.join(unknown)}")
    for name in names:
        if name != LANCZOS:
            get_restorer(name)
    check_strip(strip)
    none = get_restorer("none")
    made = [make_face(read_bytes(records[n].path), records[n].landmarks, none) for n in wanted]
    if small := [name for name, face in zip(wanted, made, strict=True) if face.frame.side < LEVELS[0]]:
        raise DataError(f"--photos: the faces of {', '.join(small)} have less than {LEVELS[0]} pixels in the photo")
    faces = [face.face for face in made]
    given = [compress(reduce_picture(face), 75) for face in faces]
    sets = {"true": faces} | {name: [restored(picture, name) for picture in given] for name in names}
    pyramids = {name: [laplacian(face, len(LEVELS)) for face in found] for name, found in sets.items()}
    click.echo(
        f"{'restorer':20} {'PSNR':>6}"
        + "".join(f" {f'std {size}':>9}" for size in LEVELS)
        + "".join(f" {f'SWD {size}':>9}" for size in LEVELS)
    )
    for name, found in sets.items():
        deviations, distances = [], []
        for index in range(len(LEVELS)):
            ours, theirs = ([levels[index] for levels in pyramids[n]] for n in (name, "true"))
            deviations.append(np.std(np.stack(ours)) / np.std(np.stack(theirs)))
            patches = (descriptors(levels, np.random.default_rng(SEED + (levels is ours))) for levels in (ours, theirs))
            distances.append(sliced_distance(*map(normalized, patches)))
        quality = np.mean([psnr(a, b) for a, b in zip(found, faces, strict=True)]) if name != "true" else np.inf
        click.echo(
            f"{name:20} {quality:6.2f}"
            + "".join(f" {d:9.3f}" for d in deviations)
            + "".join(f" {d:9.1f}" for d in distances)
        )
    if strip is not None:
        save_png(strip, parts_side_by_side(sets))


def restored(picture: NDArray[np.uint8], name: str) -> NDArray[np.uint8]:
    """(256, 256, 3) -> (1024, 1024, 3)."""
    if name == LANCZOS:
        return enlarge_lanczos(picture, 4)
    restorer = get_restorer(name, super_resolution="always", threads=available_cores())
    (result,) = restorer.run([(restorer.plan(256), picture, (0, 0, picture.shape[1], picture.shape[0]))])
    if result.shape[0] != 4 * picture.shape[0]:
        raise DataError(f"{name} does not enlarge by 4")
    return result


def parts_side_by_side(sets: dict[str, list[NDArray[np.uint8]]]) -> NDArray[np.uint8]:
    """A row for every face: eye and cheek of it in each of the sets, with the sets' names on top."""
    top, left = 400, 280
    columns = []
    for name, faces in sets.items():
        head = np.full((24, STRIP, 3), 255, np.uint8)
        cv2.putText(head, name, (4, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
        columns.append(np.concatenate([head, *(face[top : top + STRIP, left : left + STRIP] for face in faces)]))
    return np.concatenate(columns, axis=1)


def measure(restorers: str, side: int) -> Iterator[Row]:
    """Yield the seconds of each restorer for a crop, measured in a process of its own."""
    for name in restorers.split(","):
        get_restorer(name)  # a wrong name shows before anything is measured
    for name in restorers.split(","):
        with ProcessPoolExecutor(1, get_context("spawn")) as process:
            yield process.submit(speed_of, name, side).result()


def speed_of(name: str, side: int) -> Row:
    restorer = get_restorer(name, super_resolution="always", threads=available_cores())
    picture = np.random.default_rng(SEED).integers(0, 256, (side, side, 3), dtype=np.uint8)
    crop = (restorer.plan(side), picture, (0, 0, side, side))
    restorer.run([crop])
    taken = min(seconds(lambda: restorer.run([crop])) for _ in range(3))
    what = f"seconds for {side} x {side} on {available_cores()} cores; {peak_bytes() >> 20} MiB at most"
    return Row(f"restoration_{name}", taken, what)


@main.command()
@click.option("--restorers", default="bundled-distortion,bundled-perceptual", help="names, with commas")
@click.option("--side", type=click.IntRange(min=1), default=256, help="of the crop, in pixels")
def speed(restorers: str, side: int) -> None:
    """Seconds and peak memory for a crop, each restorer in a process of its own."""
    show(measure(restorers, side))


if __name__ == "__main__":
    main()
