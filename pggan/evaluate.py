"""Measure a model, or a set of images, beside real images: SWD, MS-SSIM, FID, inception score, precision and recall.

Prints a table, and with --json writes the numbers. A model that is still growing is measured at the
size that it has reached, beside reals of that size: mirrored and faded as its training saw them.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from datatools.cli import OneLineCommand, PathOption, run_command
from datatools.console import check_printed
from datatools.errors import DataError
from datatools.files import atomic_path, check_writable
from datatools.progress import Progress
from datatools.text import counted
from pggan.data.labels import Labels
from pggan.data.stream import Source
from pggan.metrics.compare import METRICS, MetricName, Options, Results, check, inception_metrics, measure
from pggan.metrics.image_sets import FolderSet, ImageSet, ModelSet, open_set
from pggan.metrics.inception import Inception
from pggan.model.files import Model, load_model
from pggan.training.distributed import choose_device
from pggan.training.run_config import SavedRun, read_saved_run

EXAMPLES = """
\b
Examples:
  python -m pggan.evaluate --model runs/faces --h5 celebahq.h5
  python -m pggan.evaluate --model final.safetensors --h5 celebahq.h5 --mirror --metrics swd,fid --json found.json
  python -m pggan.evaluate --against pictures --h5 celebahq.h5 --metrics swd --num-images 2000

\b
SWD     sliced Wasserstein distance times 1000 by level of detail, the smaller the better. The floor is that of
        reals and other reals: a perfect model comes near it. It depends on the number of images; compare only
        numbers that were measured with the same one.
MS-SSIM how much images are alike: near that of the reals is good, towards 1 the model makes the same picture
        over and over.
fid, is, pr  need torch-fidelity: pip install --no-deps 'torch-fidelity>=0.4,<0.5'
"""
DEFAULT_IMAGES = 16_384
CACHE = "metrics-cache"


@dataclass(frozen=True)
class Subject:
    """What is measured, how it is called in the table, and what its training did to reals.

    `run`: the run folder that it comes from. `mirror`: None where that is not known.
    """

    images: ImageSet
    title: str
    run: Path | None = None
    mirror: bool | None = None
    fading: float = 0.0
    notes: tuple[str, ...] = ()


@click.command(cls=OneLineCommand, help=__doc__, epilog=EXAMPLES)
@click.option("--model", type=PathOption(), help="A run folder or a model file.")
@click.option("--against", type=PathOption(), help="Instead: a pyramid file or a folder of pictures.")
@click.option("--h5", type=PathOption(), required=True, help="The reals: a pyramid file or a folder.")
@click.option("--metrics", default="swd,ms-ssim", show_default=True, help=f"Of {', '.join(METRICS)}, with commas.")
@click.option("--num-images", type=click.IntRange(2), help=f"Of either set.  [default: {DEFAULT_IMAGES}, or all reals]")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of latents, choice and patches.")
@click.option("--mirror/--no-mirror", default=None, help="Mirror half of the reals.  [default: as the run's training]")
@click.option("--json", "json_path", type=PathOption(dir_okay=False), help="Write the numbers there.")
@click.option("--cache", type=PathOption(file_okay=False), help=f"[default: {CACHE} in the run folder]")
@click.option("--inception", type=PathOption(), help="Weights for fid, is, pr.  [default: downloaded]")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), default="auto", show_default=True)
def main(
    model: Path | None,
    against: Path | None,
    h5: Path,
    metrics: str,
    num_images: int | None,
    seed: int,
    mirror: bool | None,
    json_path: Path | None,
    cache: Path | None,
    inception: Path | None,
    device: str,
) -> None:
    wanted = parse_metrics(metrics)
    if (model is None) == (against is None):
        raise DataError("name what is to be measured: --model RUN or FILE, or --against FILE or FOLDER, not both")
    if json_path is not None and not json_path.absolute().parent.is_dir():
        raise DataError(f"--json {json_path}: the folder {json_path.absolute().parent} does not exist")
    if json_path is not None:
        with _told(json_path):
            check_writable(json_path)
    chosen = choose_device(device)
    if model is not None:
        loaded = load_model(model).to(chosen)
        loaded.settle_threads()
        subject = of_model(model, h5, seed, loaded)
        reals = open_set(h5, subject.images.resolution, fading=subject.fading, shuffle=seed)
    else:
        assert against is not None
        subject, reals = of_images(against, h5, seed)
    options = Options(
        count=num_images or min(DEFAULT_IMAGES, subject.images.count, reals.count),
        seed=seed,
        mirror=bool(subject.mirror) if mirror is None else mirror,
        device=chosen,
        cache=cache or (subject.run / CACHE if subject.run else None),
    )
    check(subject.images, reals, wanted, options)  # before weights are fetched
    if inception_metrics(wanted):
        options = replace(options, extractor=Inception(inception, chosen))
    with Bar() as bar:
        found = measure(subject.images, reals, wanted, options, bar)
    notes = [*subject.notes, *found.notes]
    if subject.mirror is None and mirror is None:
        notes.insert(0, "whether the training mirrored reals is not known: they are not mirrored; see --mirror")
    for images in (subject.images, reals):
        if isinstance(images, FolderSet) and images.below:
            notes.append(f"{images.name}: {counted(images.below, 'picture')} in subfolders left out")
    if num_images is None and options.count < DEFAULT_IMAGES:
        notes.append(f"there are no more than {options.count} images of either set, the paper has {DEFAULT_IMAGES}")
    seen = f"{' mirrored' if options.mirror else ''}{f', faded by {subject.fading:.2f}' if subject.fading else ''}"
    click.echo(
        f"{subject.title}: {found.count} images of {found.resolution} x {found.resolution}, against {reals.name}{seen}"
    )
    click.echo("\n".join(table(found)))
    for note in notes:
        click.echo(f"note: {note}", err=True)
    if json_path is None:
        check_printed()
    else:
        about = {"what": subject.title, "reals": reals.name, "digest": reals.digest, "mirror": options.mirror}
        values = {**found.to_json(), **about, "fading": subject.fading, "seed": seed, "notes": notes}
        write_json(json_path, values)


def parse_metrics(text: str) -> list[MetricName]:
    """Metrics of "swd,ms-ssim", each once; DataError for others."""
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in METRICS:
            raise DataError(f"--metrics: {name!r} is no metric; known: {', '.join(METRICS)}")
    return [metric for metric in METRICS if metric in names]


def of_model(path: Path, h5: Path, seed: int, model: Model) -> Subject:
    """The model of a run or file; from the run's settings also what its training did to reals."""
    run = path if path.is_dir() else path.absolute().parent
    labels: Labels | None = None
    notes: list[str] = []
    try:
        saved = read_saved_run(run)
    except DataError as error:
        if path.is_dir():
            raise
        saved, notes = None, [str(error)]  # a model file alone is enough, and its folder may be anybody's
    if saved is not None and not h5.is_dir():
        labels, notes = data_of_run(saved, h5)
    if model.config.classes and labels is None:
        notes.append("the labels of the training are not known: every class is made equally often")
    return Subject(
        ModelSet(model, seed, labels),
        f"{path} after {model.images / 1000:g} kimg",
        run if saved else None,
        saved.preset.mirror if saved else None,
        model.level.below,
        tuple(notes),
    )


def data_of_run(saved: SavedRun, h5: Path) -> tuple[Labels | None, list[str]]:
    """The labels of the run, and a note where they cannot be had or the reals are not what it was trained on."""
    try:
        source = Source(h5, saved.labels)
        if source.digest() == saved.data["digest"]:
            return source.labels, []
    except DataError as error:
        if saved.labels == "none":
            raise
        return None, [str(error)]
    return None, [f"{h5} is not what the run was trained on"]


def of_images(against: Path, h5: Path, seed: int) -> tuple[Subject, ImageSet]:
    """Both sets, at the largest size that both have; a folder of pictures has but one."""
    images, reals = (open_set(path, shuffle=seed) for path in (against, h5))
    size = min(images.resolution, reals.resolution)
    if images.resolution > size and not against.is_dir():
        images = open_set(against, size, shuffle=seed)
    if reals.resolution > size and not h5.is_dir():
        reals = open_set(h5, size, shuffle=seed)
    return Subject(images, str(against), mirror=False), reals


def table(found: Results) -> list[str]:
    """Levels, their average, and the same of reals among themselves; then the other figures, a line each."""
    heads, rows = [""], [["images"], ["floor (reals)"]]
    if found.swd is not None:
        heads += [f"SWD {size}" for size in found.swd.by_size] + ["average"]
        for row, levels in zip(rows, (found.swd, found.floor), strict=True):
            values = [None] * (len(heads) - 1) if levels is None else [*levels.by_size.values(), levels.average]
            row += ["-" if value is None else f"{value:.2f}" for value in values]
    if found.ms_ssim is not None:
        heads.append("MS-SSIM")
        for row, value in zip(rows, (found.ms_ssim, found.ms_ssim_reals), strict=True):
            row.append("-" if value is None else f"{value:.4f}")
    lines = []
    if len(heads) > 1:
        widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
        for cells in (heads, *rows):
            first, *rest = (cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
            lines.append("  ".join([first.lstrip().ljust(widths[0]), *rest]))
    for name, record in found.figures.items():
        numbers = [f"{key} {value:.5g}" for key, value in record.items() if isinstance(value, int | float)]
        lines.append(f"{name}: {', '.join(numbers)}")
    return lines


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write the file, whole or not at all."""
    try:
        text = json.dumps(values, indent=2, allow_nan=False) + "\n"
    except ValueError as error:
        raise DataError(f"--json {path}: not written, one of the numbers is not finite, as the table shows") from error
    with _told(path), atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(f"--json {path}: cannot be written: {error.strerror}") from error


class Bar:
    """Shows the progress of everything that is done in turn."""

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._what = ""

    def __call__(self, what: str, done: int, total: int) -> None:
        if self._what != what:
            self.__exit__()
            self._what = what
            self._progress = Progress(what, total).__enter__()
        assert self._progress is not None
        self._progress(done)

    def __enter__(self) -> "Bar":
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.__exit__()


def script() -> None:
    """Run the console script `celebahq-evaluate`."""
    run_command(main)


if __name__ == "__main__":
    script()
