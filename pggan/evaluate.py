"""Measure a model, or a set of images, against real images: SWD, MS-SSIM, FID, KID and others.

Prints a table, and with --json writes the numbers. A model that is still growing is measured at the size that it has
reached, with reals of that size: mirrored and faded as its training saw them.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import click

from datatools.cli import FiniteNumber, OneLineCommand, PathOption, run_command
from datatools.console import check_printed
from datatools.errors import DataError, SettingError
from datatools.files import as_data_error, atomic_path, check_writable
from datatools.progress import Progress
from datatools.text import byte_size, counted
from pggan.metrics.compare import describe_reals, measure
from pggan.metrics.distances import DISTANCE, DISTANCE_HELP, DistanceName
from pggan.metrics.extractors import FID_RESIZE, FID_RESIZE_HELP, WEIGHTS_HELP, WeightFiles, with_networks
from pggan.metrics.image_sets import FolderSet, ImageSet, open_set
from pggan.metrics.inception import FidResize
from pggan.metrics.options import METRICS, Options, check, check_described
from pggan.metrics.path_length import PATHS
from pggan.metrics.reference import Reference, read_reference, write_reference
from pggan.metrics.results import Results
from pggan.subject import Subject, open_sets
from pggan.training.distributed import choose_device, rank
from pggan.training.threads import threads_option

EXAMPLES = """
\b
Examples:
  python -m pggan.evaluate --model runs/faces --reals celebahq.h5
  python -m pggan.evaluate --model final.safetensors --reals celebahq.h5 --mirror --metrics swd,fid --json scores.json
  python -m pggan.evaluate --images pictures --reals celebahq.h5 --metrics swd --num-images 2000
  python -m pggan.evaluate --reals celebahq.h5 --write-reference celebahq-fid.safetensors --metrics fid
  python -m pggan.evaluate --model final.safetensors --reference celebahq-fid.safetensors --metrics fid
  python -m pggan.evaluate --model stylegan.safetensors --metrics ppl --weights lpips=lpips.pth

\b
SWD     Sliced Wasserstein distance times 1000 by level of detail; smaller is better. The floor is the distance
        between reals and other reals: a perfect model comes near it. Both depend on the number of images; compare
        only numbers that were measured with the same one.
MS-SSIM Similarity within a set; near that of the reals is good, values near 1 mean mode collapse.
lpips   Distance within a set: low values mean mode collapse; needs weights: --weights lpips=FILE
fid, kid, is, pr, dc (Fréchet and kernel distance, inception score, precision and recall, density and coverage) use the
        Inception network, and need torch-fidelity: pip install --no-deps 'torch-fidelity>=0.4,<0.5'
fd-dinov2, kd-dinov2, dc-dinov2 use DINOv2, and need its weights: --weights dinov2=FILE
ppl     Perceptual path length of style-based models, of as many pairs as --num-images says; needs no reals, but
        --weights lpips=FILE, or --distance pixels. ppl is that of StyleGAN2's tables; docs/style.md has the others.
"""
DEFAULT_IMAGES = 16_384
CACHE = "metrics-cache"


OLD_NAMES = {"against": "images", "h5": "reals"}
"""Options that were called otherwise; the old names still work."""


@click.command(
    cls=OneLineCommand,
    help=__doc__,
    epilog=EXAMPLES,
    context_settings={"token_normalize_func": lambda name: OLD_NAMES.get(name, name)},
)
@click.option("--model", type=PathOption(), help="Model to measure: a run folder, a model file, or faces-32.")
@click.option("--ema-kimg", type=FiniteNumber(0, min_open=True), help="Half-life of one of its further EMAs.")
@click.option("--images", type=PathOption(), help="Images to measure instead: a pyramid file or a folder of pictures.")
@click.option("--reals", "reals_path", type=PathOption(), help="Real images: a pyramid file or a folder.")
@click.option("--reference", type=PathOption(), help="Statistics of reals instead, from --write-reference.")
@click.option(
    "--write-reference",
    "reference_out",
    type=PathOption(dir_okay=False),
    help="Write what --metrics need of the reals to this file, and measure nothing.",
)
@click.option(
    "--resolution", type=click.IntRange(1), help="Side of the reals of --write-reference.  [default: largest]"
)
@click.option(
    "--metrics",
    help=f"Any of {', '.join(METRICS)}, with commas.  [default: swd,ms-ssim; fid for reference statistics]",
)
@click.option(
    "--num-images",
    type=click.IntRange(2),
    help=f"Number of images to take from each set.  [default: {DEFAULT_IMAGES}, or all reals]",
)
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of latents, choice and patches."
)
@click.option("--mirror/--no-mirror", default=None, help="Mirror half of the reals.  [default: as the run's training]")
@click.option("--json", "json_path", type=PathOption(dir_okay=False), help="Write the numbers to this file.")
@click.option(
    "--cache",
    type=PathOption(file_okay=False),
    help=f"Folder to keep results of reals in.  [default: {CACHE} in the run folder]",
)
@click.option("--weights", type=WeightFiles(), help=f"{WEIGHTS_HELP}  [default: Inception's are downloaded]")
@click.option("--inception", type=PathOption(), hidden=True)  # an older name of --weights inception=FILE
@click.option("--fid-resize", type=FID_RESIZE, default="tensorflow", show_default=True, help=FID_RESIZE_HELP)
@click.option("--distance", type=DISTANCE, default="lpips", show_default=True, help=DISTANCE_HELP)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), default="auto", show_default=True)
@threads_option
def main(
    model: Path | None,
    ema_kimg: float | None,
    images: Path | None,
    reals_path: Path | None,
    reference: Path | None,
    reference_out: Path | None,
    resolution: int | None,
    metrics: str | None,
    num_images: int | None,
    seed: int,
    mirror: bool | None,
    json_path: Path | None,
    cache: Path | None,
    weights: dict[str, Path] | None,
    inception: Path | None,
    fid_resize: FidResize,
    distance: DistanceName,
    device: str,
) -> None:
    if rank():
        return  # torchrun's first process measures
    if metrics is None:
        metrics = "swd,ms-ssim" if reference is reference_out is None else "fid"
    names = parse_metrics(metrics)
    check_output("--json", json_path)
    check_output("--write-reference", reference_out)
    if inception is not None:
        weights = {"inception": inception} | (weights or {})
    chosen = choose_device(device)
    open_networks = partial(
        with_networks, metrics=names, weights=weights, fid_resize=fid_resize, distance=distance, download=True
    )
    if reference_out is not None:
        if reals_path is None or any((model, images, reference)):
            raise SettingError("write_reference", f"{reference_out}: is made of --reals alone; nothing is measured")
        options = Options(seed=seed, mirror=bool(mirror), device=chosen, cache=cache)
        make_reference(reference_out, open_set(reals_path, resolution, shuffle=seed), names, options, open_networks)
        return
    if resolution is not None:
        raise SettingError("resolution", f"{resolution}: is for --write-reference; sets are compared at their own size")
    given = reals_path or (read_reference(reference) if reference else None)
    if (given is None and not set(names) <= PATHS.keys()) or (reals_path and reference):
        raise DataError("name real images, --reals FILE or FOLDER, or their statistics, --reference FILE, not both")
    subject, reals = open_sets(model, ema_kimg, images, given, seed, chosen)
    if mirror is None and subject.mirror is None and isinstance(reals, Reference):
        mirror = reals.mirror
    options = Options(
        count=num_images or min(DEFAULT_IMAGES, subject.images.count, reals.count if reals else DEFAULT_IMAGES),
        seed=seed,
        mirror=bool(subject.mirror) if mirror is None else mirror,
        device=chosen,
        cache=cache or (subject.run / CACHE if subject.run else None),
    )
    check(subject.images, reals, names, options)  # before weights are fetched
    options = open_networks(options)
    with progress_bars() as progress:
        results = measure(subject.images, reals, names, options, progress)
    notes = [*subject.notes, *results.notes]
    if reals is not None and subject.mirror is None and mirror is None:
        notes.insert(0, "whether the training mirrored reals is not known: they are not mirrored; see --mirror")
    notes += [*left_out(subject.images), *(left_out(reals) if reals else [])]
    if num_images is None and options.count < DEFAULT_IMAGES:
        notes.append(f"there are no more than {options.count} images of either set, the paper has {DEFAULT_IMAGES}")
    show(subject, reals, results, options, notes)
    if json_path is None:
        check_printed()
    else:
        about: dict[str, Any] = {"what": subject.title, "reals": None, "digest": None}
        if reals is not None:
            about |= {"reals": reals.name, "digest": reals.digest, "mirror": options.mirror}
        write_json(json_path, {**results.to_json(), **about, "fading": subject.fading, "seed": seed, "notes": notes})


def show(subject: Subject, reals: ImageSet | None, results: Results, options: Options, notes: list[str]) -> None:
    """Print what was measured, a table of the results, and notes."""
    changes = f"{' mirrored' if options.mirror else ''}{f', faded by {subject.fading:.2f}' if subject.fading else ''}"
    size = f"{results.resolution} x {results.resolution}"
    against = "" if reals is None else f", against {reals.name}{changes}"
    click.echo(f"{subject.title}: {results.count} images of {size}{against}")
    click.echo("\n".join(table(results)))
    print_notes(notes)


def make_reference(
    path: Path,
    reals: ImageSet,
    metrics: list[str],
    options: Options,
    open_networks: Callable[[Options], Options],
) -> None:
    """Write what the metrics need of the reals, and print what was written."""
    check_described(reals, metrics)  # before weights are fetched
    with progress_bars() as progress:
        written = describe_reals(reals, metrics, open_networks(options), progress)
    write_reference(path, written)
    size = f"{written.resolution} x {written.resolution}"
    mirrored = " mirrored" if written.mirror else ""
    click.echo(
        f"{path}: {byte_size(path.stat().st_size)} for {', '.join(metrics)} against "
        f"{counted(written.count, 'image')} of {size}{mirrored}, {reals.name}"
    )
    print_notes(left_out(reals))


def left_out(images: ImageSet) -> list[str]:
    """Return a note where a folder has pictures in subfolders."""
    if isinstance(images, FolderSet) and images.below:
        return [f"{images.name}: {counted(images.below, 'picture')} in subfolders left out"]
    return []


def print_notes(notes: list[str]) -> None:
    """Print each note as a line on stderr."""
    for note in notes:
        click.echo(f"note: {note}", err=True)


def check_output(option: str, path: Path | None) -> None:
    """Raise DataError, before any work, where the file could not be written."""
    if path is None:
        return
    if not path.absolute().parent.is_dir():
        raise DataError(f"{option} {path}: the folder {path.absolute().parent} does not exist")
    with as_data_error(f"{option} {path}"):
        check_writable(path)


def parse_metrics(text: str) -> list[str]:
    """Return the metrics of "swd,ms-ssim", each once; DataError for unknown ones."""
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in METRICS:
            raise DataError(f"--metrics: unknown metric {name!r}; choose from {', '.join(METRICS)}")
    return [metric for metric in METRICS if metric in names]


def table(results: Results) -> list[str]:
    """Return lines: SWD by level, MS-SSIM and LPIPS, of the images and of reals alone; then the other figures."""
    heads, rows = [""], [["images"], ["floor (reals)"]]
    if results.swd is not None:
        heads += [f"SWD {size}" for size in results.swd.by_size] + ["average"]
        for row, levels in zip(rows, (results.swd, results.floor), strict=True):
            values = [None] * (len(heads) - 1) if levels is None else [*levels.by_size.values(), levels.average]
            row += ["-" if value is None else f"{value:.2f}" for value in values]
    for metric, mean in results.pairs.items():
        heads.append(metric.upper())
        for row, value in zip(rows, (mean, results.pairs_reals.get(metric)), strict=True):
            row.append("-" if value is None else f"{value:.4f}")
    lines = []
    if len(heads) > 1:
        widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
        for cells in (heads, *rows):
            first, *rest = (cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
            lines.append("  ".join([first.lstrip().ljust(widths[0]), *rest]))
    for name, record in results.figures.items():
        numbers = [f"{key} {value:.5g}" for key, value in record.items() if isinstance(value, int | float)]
        lines.append(f"{name}: {', '.join(numbers)}")
    return lines


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write the file, whole or not at all."""
    try:
        text = json.dumps(values, indent=2, allow_nan=False) + "\n"
    except ValueError as error:
        raise DataError(f"--json {path}: not written, one of the numbers is not finite, as the table shows") from error
    with as_data_error(f"--json {path}"), atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def progress_bars() -> Iterator[Callable[[str, int, int], None]]:
    """Yield a function that shows the progress of one task after another."""
    with ExitStack() as stack:
        bars: dict[str, Progress] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in bars:
                stack.close()  # the task before has ended
                bars[what] = stack.enter_context(Progress(what, total))
            bars[what](done)

        yield show


def script() -> None:
    """Run the console script `celebahq-evaluate`."""
    run_command(main)


if __name__ == "__main__":
    script()
