"""Write a page about a training run: settings, curves, pictures over time, samples and the faces nearest to them.

The page is one HTML file that needs no server, no network and no other file.
"""

import datetime
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import jinja2

from datatools.cli import OneLineCommand, PathOption, run_command
from datatools.errors import DataError
from datatools.files import atomic_path
from datatools.text import counted, duration
from pggan.config.presets import differences, get_preset
from pggan.data.stream import Source
from pggan.media.video import snapshots
from pggan.model.files import load_model
from pggan.report.data import Phase, Stats, levels_of, measured, phase_at, phases_of, read_stats, speeds
from pggan.report.pictures import (
    Picture,
    data_uri,
    read_grids,
    read_reals,
    samples_of,
    with_neighbours,
)
from pggan.report.plots import HEIGHT, WIDTH, Line, draw
from pggan.training.distributed import choose_device
from pggan.training.run_config import FILE_NAME, SavedRun, read_saved_run

EXAMPLES = """
\b
Examples:
  python -m pggan.report runs/faces
  python -m pggan.report runs/faces --h5 celebahq.h5 --out faces.html
"""
PAGE = "report.html"
GENERATOR = "pggan run report"
MESSAGES = 200  # events on the page
TEXT = 400  # letters of one of them
AVERAGE, REALS = "average", "reals"  # names of curves


@dataclass(frozen=True)
class Chart:
    """Curves on the page. caption: what they mean, and the last values."""

    title: str
    caption: str
    picture: Picture


@click.command(cls=OneLineCommand, help=__doc__, epilog=EXAMPLES)
@click.argument("run", type=PathOption())
@click.option("--h5", type=PathOption(), help="The run's pyramid file, for the nearest training faces.")
@click.option("--out", type=PathOption(dir_okay=False), help=f"The page.  [default: RUN/{PAGE}]")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), default="auto", show_default=True)
def main(run: Path, h5: Path | None, out: Path | None, device: str) -> None:
    page = write_report(run, out or run / PAGE, h5=h5, device=device)
    click.echo(f"{page}: {page.stat().st_size / 1e6:.1f} MB")


def write_report(run: Path, out: Path, *, h5: Path | None = None, device: str = "auto") -> Path:
    """Write the page about the run folder `run`, whole or not at all; what cannot be shown becomes a note on it.

    Args:
        out: the page, .html. h5: the pyramid that the run was trained on, to look for the nearest faces in.

    Returns `out`. Raises DataError when there is no run, for a pyramid that cannot be opened or used for this run, and
    when the page cannot be written.
    """
    if out.suffix.lower() not in (".html", ".htm"):
        raise DataError(f"--out {out}: the name of a page must end in .html")
    chosen = str(choose_device(device))
    saved = read_saved_run(run)
    if saved is None:
        raise DataError(f"{run}: no run folder: there is no {FILE_NAME} in it")
    faces = None if h5 is None else _faces_of(h5, saved)
    page = _template().render(_content(run, saved, faces, chosen))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(out) as temporary:
            temporary.write_bytes(page.encode("utf-8", errors="replace"))  # names on disk need not be valid Unicode
    except OSError as error:
        raise DataError(f"--out {out}: cannot be written: {error.strerror}") from error
    return out


def _faces_of(h5: Path, saved: SavedRun) -> Source:
    """The pyramid, if it is the one that the run was trained on."""
    source = Source(h5, saved.labels)
    if source.digest() != saved.data["digest"]:
        raise DataError(f"--h5 {h5}: is not the data set that this run was trained on; give that one or leave it out")
    return source


def _content(run: Path, saved: SavedRun, faces: Source | None, device: str) -> dict[str, Any]:
    """Everything that the template shows; what it cannot, in `notes`."""
    notes: list[str] = []
    stats = _read(run, notes)
    log = stats.log
    phases = phases_of(saved.preset.schedule)
    took = speeds(stats, phases)
    resolution = saved.preset.network.resolution
    try:
        files = snapshots(run)
    except DataError:
        files = []
    grids, problems = read_grids(files, resolution)
    notes += problems
    reals = None
    try:
        reals = read_reals(run / "reals.png", resolution)
    except DataError as error:
        notes.append(f"reals.png: {error}")
    return {
        "generator": GENERATOR,
        "made": datetime.datetime.now().astimezone(),
        "name": run.absolute().name,
        "saved": saved,
        "total_kimg": saved.preset.schedule.total_kimg,
        "images": max(stats.images, log.sessions[-1].last if log.sessions else 0),
        "stats": stats,
        "log": log,
        "messages": log.messages[-MESSAGES:],
        "differing": _differing(saved),
        "settings": _settings(saved),
        "charts": charts(stats, phases, saved.preset.loss.gradient_target),
        "measured": measured(stats),
        "grids": [(grid, _level_at(phases, grid.kimg)) for grid in grids],
        "snapshots": len(files),
        "reals": reals,
        "speeds": took,
        "has_device_memory": any(not math.isnan(speed.device_bytes) for speed in took),
        **_samples(run, saved, faces, device, notes),
        "notes": notes,
    }


def _read(run: Path, notes: list[str]) -> Stats:
    stats = Stats((), 0)
    try:
        stats = read_stats(run / "stats.jsonl")
    except OSError as error:
        notes.append(f"stats.jsonl cannot be read: {error.strerror}")
    if stats.damaged:
        lines = "1 line is" if stats.damaged == 1 else f"{stats.damaged} lines are"
        notes.append(f"stats.jsonl: {lines} damaged and left out")
    return stats


def charts(stats: Stats, phases: Sequence[Phase], target: float) -> list[Chart]:
    """Charts of what stats.jsonl has numbers of. target: of the gradient penalty's norm."""

    def chart(title: str, told: str, group: str, names: dict[str, str], **options: Any) -> None:
        lines = [
            Line(label, *stats.series(group, name), strong=label == AVERAGE, soft=label == REALS and group == "metrics")
            for name, label in names.items()
        ]
        lines = [line for line in lines if len(line.finite)]
        if not lines:
            return
        labels = [f"{line.label}: " if len(names) > 1 else "" for line in lines]
        last = ", ".join(f"{label}{line.finite[-1]:.4g}" for label, line in zip(labels, lines, strict=True))
        svg = data_uri(draw(lines, phases, **options).encode(), "svg+xml")
        picture = Picture(svg, WIDTH, HEIGHT, f"{title} over kimg; last: {last}")
        found.append(Chart(title, f"{told}. Last: {last}.", picture))

    found: list[Chart] = []
    told = "of the discriminator (D) and of the generator (G), as they are minimized"
    chart("Loss", told, "loss", {"d_loss": "D", "g_loss": "G"})
    told = "that the discriminator gives on average; mixed images lie between a real one and a fake"
    chart("Scores", told, "loss", {"real_score": "reals", "fake_score": "fakes", "mixed_score": "mixed"})
    told = "of each network's loss by its weights: their norms"
    chart("Gradients", told, "loss", {"d_gradient": "D", "g_gradient": "G"}, logarithmic=True)
    told = "of the score by the mixed image; the penalty pulls it to the dashed line"
    chart("Norm of the gradient", told, "loss", {"gradient_norm": "norm"}, mark=target)

    names = stats.names("metrics")
    swd = {f"swd_{level}": str(level) for level in levels_of(names, "swd")} | {"swd": AVERAGE, "swd_floor": REALS}
    told = "(sliced Wasserstein distance of patches, times 1000) at the levels of a Laplacian pyramid; lower is better"
    if len(Line(REALS, *stats.series("metrics", "swd_floor")).finite):
        told += ". Dashed: the average of reals among themselves"
    chart("SWD", told, "metrics", swd, from_zero=True)
    similarity = {"ms_ssim": "fakes", "ms_ssim_reals": REALS}
    told = "says how alike pictures of one set are: a network that makes nearly the same picture always comes near to 1"
    chart("MS-SSIM", told, "metrics", similarity)
    shown = {*swd, *similarity, *(f"swd_floor_{level}" for level in levels_of(names, "swd_floor"))}
    for name in names:
        if name not in shown:
            chart(name, "as it is in stats.jsonl", "metrics", {name: name})
    return found


def _samples(run: Path, saved: SavedRun, faces: Source | None, device: str, notes: list[str]) -> dict[str, Any]:
    """Samples of the newest model, with neighbours where there is a pyramid."""
    try:
        model = load_model(run).to(device)
        pictures, samples = samples_of(model)
    except (DataError, RuntimeError, KeyError) as error:  # networks of other shapes, too little memory
        notes.append(f"there are no samples: {' '.join(str(error).split())}")
        return {"samples": [], "sampled_at": 0, "searched": None}
    searched = None
    if faces is not None:
        try:
            samples = with_neighbours(samples, pictures, faces.pyramid, saved.preset.mirror, device)
            searched = faces.count
        except DataError as error:
            notes.append(f"the nearest training faces could not be found: {error}")
    return {"samples": samples, "sampled_at": model.images, "searched": searched}


def _differing(saved: SavedRun) -> list[tuple[str, str, str]] | None:
    """(setting, in the preset, in this run); None for a preset that is not known by name."""
    try:
        preset = get_preset(saved.preset.name, saved.devices)
    except DataError:
        return None
    return [(name, _words(before), _words(now)) for name, before, now in differences(preset, saved.preset)]


def _settings(saved: SavedRun) -> list[tuple[str, str]]:
    """All settings of the preset, by their names in config.json."""
    found = []
    for part, values in asdict(saved.preset).items():
        if isinstance(values, dict):
            found += [(f"{part}.{name}", _words(value)) for name, value in values.items()]
        else:
            found.append((part, _words(values)))
    return found


def _words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, tuple | list):  # by level
        return ", ".join(f"{level}: {_words(at)}" for level, at in value) or "the same at all levels"
    return str(value)


def _level_at(phases: Sequence[Phase], kimg: float) -> str:
    """Return the level of a snapshot's pictures in words."""
    phase = phase_at(phases, kimg)
    level = f"{phase.resolution} \N{MULTIPLICATION SIGN} {phase.resolution}"
    if not phase.fading:
        return level
    weight = min(max((kimg - phase.first) / (phase.end - phase.first), 0), 1)
    return f"{level}, fading in ({100 * weight:.0f} %)"


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pggan.report", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        count=lambda number: f"{number:,}",
        counted=counted,
        duration=duration,
        kimg=lambda images: f"{images / 1000:,.5g}",
        distance=lambda value: "" if math.isnan(value) else f"{value:.2f}",
        rate=lambda value: "" if math.isnan(value) else f"{value:,.0f}" if value >= 99.5 else f"{value:.3g}",
        gibibytes=lambda value: "" if math.isnan(value) else f"{value / 2**30:.2f} GiB",
        device=lambda text: text.replace(" x ", "\N{NO-BREAK SPACE}\N{MULTIPLICATION SIGN}\N{NO-BREAK SPACE}"),
        short=lambda text: text if len(text) <= TEXT else text[: TEXT - 1] + "…",
        when=lambda time: time.strftime("%Y-%m-%d %H:%M"),
    )
    return environment.get_template("report.html")


def script() -> None:
    """Run the console script `celebahq-report`."""
    run_command(main)
