"""The page about a training run: what it shows, as one HTML file that needs no server, network or other file."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from datatools.errors import DataError
from datatools.files import as_data_error, atomic_path
from datatools.images import read_rgb
from datatools.webpage import TIMES, Notes, PageFigure, render
from pggan.config.presets import get_preset
from pggan.config.schedule import Stage, stages
from pggan.config.settings import LossConfig, differences, flat
from pggan.data.stream import Source
from pggan.media.grids import untile
from pggan.media.video import snapshots
from pggan.model.files import Model
from pggan.report.data import Stats, newest_swd, phase_at, read_stats, speeds
from pggan.report.pictures import read_grids, read_reals, samples_of, with_neighbours
from pggan.report.plots import charts
from pggan.report.spectra import PICTURES, SMALLEST, spectrum_figure
from pggan.training.distributed import choose_device
from pggan.training.models import load_model
from pggan.training.run_config import FILE_NAME, SavedRun, read_saved_run

GENERATOR = "pggan run report"
MESSAGES = 200  # events on the page
SECTIONS = {
    "pictures": "Pictures over time",
    "samples": "Samples",
    "curves": "Curves",
    "course": "What the run did",
    "speed": "Speed",
    "settings": "Settings",
}
FILTERS: dict[str, Callable[..., str]] = {
    "kimg": lambda images: f"{images / 1000:,.5g}",
    "distance": lambda value: "" if math.isnan(value) else f"{value:.2f}",
    "rate": lambda value: "" if math.isnan(value) else f"{value:,.0f}" if value >= 99.5 else f"{value:.3g}",
    "gibibytes": lambda value: "" if math.isnan(value) else f"{value / 2**30:.2f} GiB",
    "device": lambda text: text.replace(" x ", f"\N{NO-BREAK SPACE}{TIMES}\N{NO-BREAK SPACE}"),
    "when": lambda time: time.strftime("%Y-%m-%d %H:%M"),
}


def write_report(run: Path, out: Path, *, h5: Path | None = None, device: str = "auto") -> Path:
    """Write the page about the run folder `run`, whole or not at all; what cannot be shown becomes a note on it.

    Args:
        out: the page, .html. h5: the pyramid that the run was trained on, to look for the nearest faces in.

    Returns `out`. Raises DataError when there is no run, for a pyramid that cannot be opened or is not the run's, and
    when the page cannot be written.
    """
    if out.suffix.lower() not in (".html", ".htm"):
        raise DataError(f"--out {out}: the name of a page must end in .html")
    chosen = str(choose_device(device))
    saved = read_saved_run(run)
    if saved is None:
        raise DataError(f"{run}: is not a run folder: {FILE_NAME} is missing")
    faces = None if h5 is None else _faces_of(h5, saved)
    page = render("pggan.report", _content(run, saved, faces, chosen), FILTERS)
    with as_data_error(f"--out {out}"):
        out.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(out) as temporary:
            temporary.write_bytes(page)
    return out


def _faces_of(h5: Path, saved: SavedRun) -> Source:
    """Open the pyramid. Raises DataError unless it is the one that the run was trained on."""
    source = Source(h5, saved.labels)
    if source.digest() != saved.data["digest"]:
        raise DataError(f"--h5 {h5}: is not the data set that this run was trained on; give that one or leave it out")
    return source


def _content(run: Path, saved: SavedRun, faces: Source | None, device: str) -> dict[str, Any]:
    """Return everything that the template shows; `notes` says what could not be shown."""
    # RuntimeError, KeyError: a model file with networks of other shapes, too little memory
    notes = Notes(expected=(DataError, OSError, RuntimeError, KeyError))
    stats = notes.attempt("stats.jsonl cannot be read", read_stats, run / "stats.jsonl") or Stats((), 0)
    if stats.damaged:
        lines = "1 line is" if stats.damaged == 1 else f"{stats.damaged} lines are"
        notes.texts.append(f"stats.jsonl: {lines} damaged and left out")
    phases, augment = stages(saved.preset.schedule), saved.preset.augment
    took = speeds(stats, phases)
    resolution = saved.preset.network.resolution
    try:
        files = snapshots(run)
    except DataError:
        files = []
    grids, problems = read_grids(files, resolution)
    notes.texts += problems
    return {
        "generator": GENERATOR,
        "name": run.absolute().name,
        "sections": SECTIONS,
        "saved": saved,
        "images": max(stats.images, stats.sessions[-1].last if stats.sessions else 0),
        "stats": stats,
        "messages": stats.messages[-MESSAGES:],
        "warnings": [message for message in stats.messages if message.kind == "warning"],
        "differing": _differing(saved),
        "settings": [(name, _words(value)) for name, value in flat(saved.preset).items()],
        "charts": charts(
            stats,
            phases,
            saved.preset.loss.gradient_target if isinstance(saved.preset.loss, LossConfig) else None,
            augment.target if augment.kind == "ada" else None,
        ),
        "swd": newest_swd(stats),
        "grids": [(grid, _level_at(phases, grid.kimg)) for grid in grids],
        "snapshots": len(files),
        "reals": notes.attempt("reals.png", read_reals, run / "reals.png", resolution),
        "speeds": took,
        "has_device_memory": any(not math.isnan(speed.device_bytes) for speed in took),
        **_samples(run, saved, faces, device, notes),
        "notes": notes.texts,
    }


def _samples(run: Path, saved: SavedRun, faces: Source | None, device: str, notes: Notes) -> dict[str, Any]:
    """Return samples of the newest model, with neighbours where there is a pyramid."""
    model = notes.attempt("there are no samples", lambda: load_model(run).to(device))
    made = notes.attempt("there are no samples", samples_of, model) if model else None
    if not model or not made:
        return {"samples": [], "sampled_at": 0, "searched": None, "spectrum": None}
    pictures, samples = made
    reals = run / "reals.png"
    spectrum = notes.attempt("there are no spectra", _spectrum, model, reals) if reals.exists() else None
    near = faces and notes.attempt(
        "the nearest training faces could not be found",
        with_neighbours,
        *(samples, pictures, faces.pyramid, saved.preset.mirror, device),
    )
    searched = faces.count if faces and near else None
    return {"samples": near or samples, "sampled_at": model.images, "searched": searched, "spectrum": spectrum}


def _spectrum(model: Model, path: Path) -> PageFigure | None:
    """Return spectra of the model's pictures and of the reals in the grid `path`; None where there are too few."""
    side = model.config.resolution
    if side < SMALLEST or model.level.resolution != side:
        return None
    reals = untile(read_rgb(path), side)[:PICTURES]
    return spectrum_figure(model.pictures(range(len(reals))), reals) if len(reals) else None


def _differing(saved: SavedRun) -> list[tuple[str, str, str]] | None:
    """Return (setting, in the preset, in this run) of what differs; None for a preset that is not known by name."""
    try:
        preset = get_preset(saved.preset.name, saved.devices)
    except DataError:
        return None
    return [(name, _words(before), _words(now)) for name, before, now in differences(preset, saved.preset)]


def _words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, tuple | list) and not any(isinstance(item, tuple | list) for item in value) and value:
        return ", ".join(map(_words, value))
    if isinstance(value, tuple | list):  # by level
        return ", ".join(f"{level}: {_words(at)}" for level, at in value) or "the same at all levels"
    return str(value)


def _level_at(phases: Sequence[Stage], kimg: float) -> str:
    """Return the level of a snapshot's pictures in words."""
    phase = phase_at(phases, kimg)
    level = f"{phase.resolution} {TIMES} {phase.resolution}"
    if not phase.fading:
        return level
    first, end = phase.first_image / 1000, phase.end_image / 1000
    return f"{level}, fading in ({100 * min(max((kimg - first) / (end - first), 0), 1):.0f} %)"
