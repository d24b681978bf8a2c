"""Measure a restoration network on a folder of pictures (command line).

    python -m datatools.restore.evaluate --task sr --images Set5
    python -m datatools.restore.evaluate --task jpeg --images Kodak24 --quality 10,25,50,75,95 --json kodak.json

Every picture is degraded, restored, and compared with itself. Super-resolution: reduced by 4 with Pillow's bicubic
filter, with bicubic enlargement as the baseline; 4 pixels at every side are left out, as in papers. JPEG: compressed by
Pillow with colours at half resolution (4:2:0), with the JPEG itself as the baseline.
"""

import json
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import click
import numpy as np
from PIL import Image

from datatools.cli import NameOrPath, OneLineCommand, PathOption
from datatools.console import check_printed
from datatools.errors import DataError
from datatools.files import PICTURE_ENDINGS, as_data_error, atomic_path, check_writable, list_pictures
from datatools.images import ImageError, read_upright, save_png
from datatools.progress import Progress
from datatools.restore.base import Picture
from datatools.restore.devices import torch_device
from datatools.restore.external import REALESRGAN
from datatools.restore.fit.degrade import compress, reduce_picture
from datatools.restore.fit.metrics import SSIM_WINDOW, band_ratios, mean_shift, psnr_rgb, psnr_y, ssim_y
from datatools.restore.restorers import BUNDLED, load_network
from datatools.restore.tiling import Precision, best_precision, restore
from datatools.restore.weights import NETWORKS
from datatools.text import counted

LOSSLESS = "lossless"
DEFAULT_QUALITY = "75"
BORDER = {"sr": 4, "jpeg": 0}
"""Pixels at every side that are left out of the scores."""

Restore = Callable[[Picture], Picture]


@dataclass(frozen=True)
class Scores:
    """Scores of one picture, or the mean of several.

    PSNR in dB (100 for equal pictures), SSIM, seconds of restoration; channel means of the result less those of the
    input, in levels; amplitudes of the result, reduced to the input's size, over the input's in its three octaves.
    """

    psnr_y: float
    psnr_rgb: float
    ssim_y: float
    baseline_psnr_y: float
    baseline_psnr_rgb: float
    baseline_ssim_y: float
    seconds: float
    mean_shift_rgb: tuple[float, ...]
    band_ratios: tuple[float, ...]


def mean_scores(scores: Collection[Scores]) -> Scores:
    """Return the mean of the scores of several pictures."""
    values: dict[str, Any] = {}
    for field in fields(Scores):
        values[field.name] = np.mean([getattr(s, field.name) for s in scores], axis=0, dtype=np.float64).tolist()
    return Scores(**values)


@click.command(
    cls=OneLineCommand,
    context_settings={"show_default": True},
    epilog="Example: python -m datatools.restore.evaluate --task jpeg --images Kodak24 --quality 10,50 --json q.json",
)
@click.option("--task", type=click.Choice(["jpeg", "sr"]), required=True, help="Artifact removal, or 4x enlargement.")
@click.option("--images", type=PathOption(), required=True, help="Folder of undamaged pictures; no subfolders.")
@click.option(
    "--quality",
    metavar="LIST",
    help=f"JPEG qualities such as 10,25,50,{LOSSLESS}; output has one part for each.  [default: {DEFAULT_QUALITY}]",
)
@click.option(
    "--restore",
    "name",
    type=NameOrPath(),
    metavar="NAME|FILE",
    default="bundled",
    help=f"Network: {', '.join([*BUNDLED, REALESRGAN])}, or a weight file.",
)
@click.option("--json", "json_file", metavar="FILE", type=PathOption(), help="File for all scores.")
@click.option(
    "--save",
    metavar="DIR",
    type=PathOption(),
    help="Folder for restored pictures, as PNG; with several qualities DIR/10, DIR/25 ...",
)
@click.option("--device", default="auto", help="Device: cpu, cuda, cuda:1, mps, or auto.")
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16"]),
    default="auto",
    help="Precision of convolutions; auto: bf16 if the device has instructions for it, else fp32.",
)
def main(
    *,
    task: str,
    images: Path,
    quality: str | None,
    name: str,
    json_file: Path | None,
    save: Path | None,
    device: str,
    precision: str,
) -> None:
    """Measure PSNR and SSIM of a restoration network, compared with the JPEG or with bicubic enlargement."""
    qualities = parse_qualities(quality, task)
    files = pictures_to_measure(images)
    folders: dict[str, Path] = {}
    if save is not None:
        folders = {q: save / q if len(qualities) > 1 else save for q in qualities}
    check_outputs(images, files, Path(name), json_file, list(folders.values()))
    if name == "none":
        raise DataError("--restore none changes nothing: there is nothing to measure")
    network = load_network(name, task)
    where = torch_device(device)
    how: Precision = best_precision(where) if precision == "auto" else precision  # type: ignore[assignment]

    def run(picture: Picture) -> Picture:
        return restore(network, picture, device=where, precision=how)

    run(np.zeros((16, 16, 3), np.uint8))  # leaves one-time costs out of the seconds
    parts: dict[str, dict[str, Scores]] = {}
    with Progress("evaluate", len(files) * len(qualities), "picture") as progress:
        for q in qualities:
            parts[q] = measure(task, q, files, run, folders.get(q), progress=progress)
    means = {q: mean_scores(scores.values()) for q, scores in parts.items()}
    click.echo(f"{task}, {type(network).__name__}, {where}, {how}, {counted(len(files), 'picture')}")
    rows = means if len(qualities) > 1 else parts[qualities[0]] | {"mean": means[qualities[0]]}
    click.echo(table("quality" if len(qualities) > 1 else "picture", rows, "bicubic" if task == "sr" else "JPEG"))
    if json_file is None:
        check_printed()
        return
    content = {q: {"mean": means[q], "images": scores} for q, scores in parts.items()}
    text = json.dumps(content if quality is not None else content[qualities[0]], indent=1, default=asdict)
    with as_data_error(f"--json {json_file}"), atomic_path(json_file) as partial:
        partial.write_text(text + "\n", encoding="utf-8")


def parse_qualities(text: str | None, task: str) -> list[str]:
    """Return the qualities of "10,25,lossless", each once, in that order; [""] for super-resolution.

    Raises:
        DataError: a value that is not a quality, or any for super-resolution.
    """
    if task == "sr":
        if text is not None:
            raise DataError("--quality is only for --task jpeg")
        return [""]
    qualities: list[str] = []
    for item in (text if text is not None else DEFAULT_QUALITY).split(","):
        item = item.strip().lower()
        if item != LOSSLESS:
            if not (item.isascii() and item.isdecimal() and 1 <= int(item) <= 100):
                raise DataError(f"--quality: {item!r} is neither a number from 1 to 100 nor {LOSSLESS}")
            item = str(int(item))
        if item not in qualities:
            qualities.append(item)
    return qualities


def pictures_to_measure(folder: Path) -> list[Path]:
    """List the pictures of a folder by name. Raise DataError if there is none."""
    files = list_pictures(folder)
    if not files.pictures:
        raise DataError(f"--images {folder} holds no pictures ({', '.join(sorted(PICTURE_ENDINGS))}){files.hint}")
    if files.below:
        click.echo(f"note: {counted(len(files.below), 'picture')} in subfolders of {folder} left out", err=True)
    return list(files.pictures)


def check_outputs(
    images: Path, files: Sequence[Path], weights: Path, json_file: Path | None, folders: Sequence[Path]
) -> None:
    """Make the folders. Raise DataError for outputs that cannot be written, or that would overwrite what is read."""
    if json_file is not None:
        if json_file.resolve() in {path.resolve() for path in (*files, weights)}:
            raise DataError(f"--json {json_file} is read by this command: it would be overwritten")
        with as_data_error(f"--json {json_file}"):
            check_writable(json_file)
    stems = [path.stem for path in files]
    twice = next((stem for stem in stems if stems.count(stem) > 1), None)
    if folders and twice is not None:
        raise DataError(f"--save: two pictures of {images} are called {twice}; rename one")
    for folder in folders:
        if folder.resolve() == images.resolve():
            raise DataError(f"--save: {folder} is the folder of --images: its pictures would be overwritten")
    for folder in folders:
        with as_data_error(f"--save {folder}"):
            folder.mkdir(parents=True, exist_ok=True)


def measure(
    task: str,
    quality: str,
    files: Sequence[Path],
    run: Restore,
    save: Path | None,
    progress: Callable[[int], object] = lambda _: None,
) -> dict[str, Scores]:
    """Degrade, restore and compare every picture; return the scores by file name.

    Raises:
        DataError: a file that is not a picture, a picture that is too small, or a folder that cannot be written.
    """
    images: dict[str, Scores] = {}
    for path in files:
        picture = read_picture(path, task)
        degraded, baseline = degrade(picture, task, quality)
        start = time.perf_counter()
        restored = run(degraded)
        seconds = time.perf_counter() - start
        images[path.name] = Scores(
            *_compare(picture, restored, task),
            *_compare(picture, baseline, task),
            seconds,
            mean_shift(restored, degraded),
            band_ratios(restored, degraded),
        )
        if save is not None:
            with as_data_error(f"--save {save}"):
                save_png(save / f"{path.stem}.png", restored)
        progress(1)
    return images


def _compare(picture: Picture, other: Picture, task: str) -> tuple[float, float, float]:
    border = BORDER[task]
    return psnr_y(picture, other, border), psnr_rgb(picture, other, border), ssim_y(picture, other, border)


def read_picture(path: Path, task: str) -> Picture:
    """Return a picture whose sides fit the task, cut at the right and at the bottom. Raise DataError for others."""
    try:
        picture = read_upright(path)
    except ImageError as error:
        raise DataError(f"{path}: {error}") from error
    least, unit = SSIM_WINDOW + 2 * BORDER[task], NETWORKS[task].scale
    height, width = (side // unit * unit for side in picture.shape[:2])
    if min(height, width) < least:
        least = -(-least // unit) * unit
        raise DataError(f"{path} has {picture.shape[1]} x {picture.shape[0]} pixels; at least {least} x {least} needed")
    return np.ascontiguousarray(picture[:height, :width])


def degrade(picture: Picture, task: str, quality: str) -> tuple[Picture, Picture]:
    """Return the network's input, and the baseline at the picture's size."""
    if task == "sr":
        small = reduce_picture(picture)
        size = (picture.shape[1], picture.shape[0])
        return small, np.array(Image.fromarray(small).resize(size, Image.Resampling.BICUBIC))
    degraded = picture if quality == LOSSLESS else compress(picture, int(quality))
    return degraded, degraded


def table(first: str, rows: Mapping[str, Scores], baseline: str) -> str:
    """Return the scores as text in columns: baseline, restored, and gain."""
    pairs = (("PSNR Y", "psnr_y", 2), ("PSNR RGB", "psnr_rgb", 2), ("SSIM Y", "ssim_y", 4))
    width = max(map(len, (first, *rows)))
    lines = [
        " " * width + "".join(f"  {title:^25}" for title, _, _ in pairs),
        f"{first:{width}}" + f"  {baseline:>8} {'restored':>8} {'gain':>7}" * len(pairs) + "  seconds",
    ]
    for name, scores in rows.items():
        line = f"{name:{width}}"
        for _, key, digits in pairs:
            restored, plain = getattr(scores, key), getattr(scores, f"baseline_{key}")
            line += f"  {plain:8.{digits}f} {restored:8.{digits}f} {restored - plain:+7.{digits}f}"
        lines.append(f"{line}  {scores.seconds:7.3f}")
    return "\n".join(lines)
