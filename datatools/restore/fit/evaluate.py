"""Measure a restoration network on a folder of pictures (command line).

    python -m datatools.restore.evaluate --task sr --images Set5
    python -m datatools.restore.evaluate --task jpeg --images Kodak24 --quality 10,25,50,75,95 --json kodak.json

Every picture is degraded, restored, and compared with itself. Super-resolution: reduced by 4 with Pillow's bicubic
filter, with bicubic enlargement as the baseline; 4 pixels at every side are left out, as in papers. JPEG: compressed by
Pillow with colours at half resolution (4:2:0), with the JPEG itself as the baseline.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import click
import numpy as np
from PIL import Image

from datatools.cli import NameOrPath, OneLineCommand, PathOption, run_command
from datatools.console import check_printed
from datatools.errors import DataError
from datatools.files import PICTURE_ENDINGS, as_data_error, atomic_path, check_writable, list_pictures
from datatools.images import ImageError, read_upright, save_png
from datatools.progress import Progress
from datatools.restore.base import Picture
from datatools.restore.devices import choose_device
from datatools.restore.external import REALESRGAN
from datatools.restore.fit.degrade import SCALE, compress, reduce_picture
from datatools.restore.fit.metrics import SSIM_WINDOW, psnr_rgb, psnr_y, ssim_y
from datatools.restore.restorers import BUNDLED, load_network
from datatools.restore.tiling import Precision, best_precision, restore
from datatools.text import counted

LOSSLESS = "lossless"
DEFAULT_QUALITY = "75"
BORDER = {"sr": 4, "jpeg": 0}
"""Pixels at every side that are left out of the scores."""
NETWORK_SCALE = {"sr": SCALE, "jpeg": 1}

Restore = Callable[[Picture], Picture]


@dataclass(frozen=True)
class Scores:
    """Scores of one picture, or the mean of several: dB (100 for equal pictures), SSIM, and seconds of restoration."""

    psnr_y: float
    psnr_rgb: float
    ssim_y: float
    baseline_psnr_y: float
    baseline_psnr_rgb: float
    baseline_ssim_y: float
    seconds: float


@dataclass(frozen=True)
class PictureScores:
    """Scores by the pictures' file names."""

    images: dict[str, Scores]

    @property
    def mean(self) -> Scores:
        """Return the mean over the pictures."""
        return Scores(
            *(float(np.mean([getattr(s, field.name) for s in self.images.values()])) for field in fields(Scores))
        )

    def as_json(self) -> dict[str, Any]:
        """Return the mean and the pictures' scores as plain values."""
        return {"mean": asdict(self.mean), "images": {name: asdict(scores) for name, scores in self.images.items()}}


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
    files = picture_files(images)
    folders = result_folders(save, qualities)
    check_outputs(images, files, Path(name), json_file, list(folders.values()))
    if name == "none":
        raise DataError("--restore none changes nothing: there is nothing to measure")
    network = load_network(name, task)
    where = choose_device(device)
    how: Precision = best_precision(where) if precision == "auto" else precision  # type: ignore[assignment]

    def run(picture: Picture) -> Picture:
        return restore(network, picture, device=where, precision=how)

    run(np.zeros((16, 16, 3), np.uint8))  # leaves one-time costs out of the seconds
    parts: dict[str, PictureScores] = {}
    with Progress("evaluate", len(files) * len(qualities), "picture") as progress:
        for q in qualities:
            parts[q] = measure(task, q, files, run, folders.get(q), progress=progress)
    baseline = "bicubic" if task == "sr" else "JPEG"
    click.echo(f"{task}, {type(network).__name__}, {where}, {how}, {counted(len(files), 'picture')}")
    if len(qualities) == 1:
        (scores,) = parts.values()
        click.echo(table("picture", [*scores.images.items(), ("mean", scores.mean)], baseline))
    else:
        click.echo(table("quality", [(q, scores.mean) for q, scores in parts.items()], baseline))
    if json_file is None:
        check_printed()
    else:
        content = {q: scores.as_json() for q, scores in parts.items()}
        write_json(json_file, content if quality is not None else content[qualities[0]])


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


def picture_files(folder: Path) -> list[Path]:
    """List the pictures of a folder by name. Raise DataError if there is none."""
    if not folder.is_dir():
        raise DataError(f"--images {folder} is not a folder")
    files = list_pictures(folder)
    if not files.pictures:
        raise DataError(f"--images {folder} holds no pictures ({', '.join(sorted(PICTURE_ENDINGS))}){files.hint}")
    if files.below:
        click.echo(f"note: {counted(len(files.below), 'picture')} in subfolders of {folder} left out", err=True)
    return list(files.pictures)


def result_folders(save: Path | None, qualities: Sequence[str]) -> dict[str, Path]:
    """Return the folder for the restored pictures of each quality; empty if they are not saved."""
    if save is None:
        return {}
    return {q: save / q if len(qualities) > 1 else save for q in qualities}


def check_outputs(
    images: Path, files: Sequence[Path], weights: Path, json_file: Path | None, folders: Sequence[Path]
) -> None:
    """Raise DataError for outputs that could not be written, or that would overwrite pictures or the weight file."""
    if json_file is not None and (json_file.is_dir() or not json_file.absolute().parent.is_dir()):
        raise DataError(f"--json {json_file} is a folder, or lies in one that does not exist")
    if json_file is not None and json_file.resolve() in {path.resolve() for path in (*files, weights)}:
        raise DataError(f"--json {json_file} is read by this command: it would be overwritten")
    if json_file is not None:
        with as_data_error(f"--json {json_file}"):
            check_writable(json_file)
    for folder in folders:
        if folder.resolve() == images.resolve():
            raise DataError(f"--save: {folder} is the folder of --images: its pictures would be overwritten")
        for path in (folder.parent, folder):
            if path.exists() and not path.is_dir():
                raise DataError(f"--save: {path} is not a folder")
    if not folders:
        return
    stems = [path.stem for path in files]
    twice = next((stem for stem in stems if stems.count(stem) > 1), None)
    if twice is not None:
        raise DataError(f"--save: two pictures of {images} are called {twice}; rename one")


def measure(
    task: str,
    quality: str,
    files: Sequence[Path],
    run: Restore,
    save: Path | None,
    progress: Callable[[int], object] = lambda _: None,
) -> PictureScores:
    """Degrade, restore and compare every picture.

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
        images[path.name] = Scores(*_compare(picture, restored, task), *_compare(picture, baseline, task), seconds)
        if save is not None:
            with as_data_error(f"--save {save}"):
                save.mkdir(parents=True, exist_ok=True)
                save_png(save / f"{path.stem}.png", restored)
        progress(1)
    return PictureScores(images)


def _compare(picture: Picture, other: Picture, task: str) -> tuple[float, float, float]:
    border = BORDER[task]
    return psnr_y(picture, other, border), psnr_rgb(picture, other, border), ssim_y(picture, other, border)


def read_picture(path: Path, task: str) -> Picture:
    """Return a picture whose sides fit the task, cut at the right and at the bottom. Raise DataError for others."""
    try:
        picture = read_upright(path)
    except ImageError as error:
        raise DataError(f"{path}: {error}") from error
    least, unit = SSIM_WINDOW + 2 * BORDER[task], NETWORK_SCALE[task]
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


def table(first: str, rows: Sequence[tuple[str, Scores]], baseline: str) -> str:
    """Return the scores as text in columns: baseline, restored, and gain."""
    pairs = (("PSNR Y", "psnr_y", 2), ("PSNR RGB", "psnr_rgb", 2), ("SSIM Y", "ssim_y", 4))
    width = max(len(first), *(len(name) for name, _ in rows))
    lines = [
        " " * width + "".join(f"  {title:^25}" for title, _, _ in pairs),
        f"{first:{width}}" + f"  {baseline:>8} {'restored':>8} {'gain':>7}" * len(pairs) + "  seconds",
    ]
    for name, scores in rows:
        line = f"{name:{width}}"
        for _, key, digits in pairs:
            restored, plain = getattr(scores, key), getattr(scores, f"baseline_{key}")
            line += f"  {plain:8.{digits}f} {restored:8.{digits}f} {restored - plain:+7.{digits}f}"
        lines.append(f"{line}  {scores.seconds:7.3f}")
    return "\n".join(lines)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file whole or not at all. Raise DataError if it cannot be written."""
    with as_data_error(f"--json {path}"), atomic_path(path) as partial:
        partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run_command(main)
