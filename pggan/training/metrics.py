"""Metrics in training: when they are due, the best snapshot so far, and whether the generator is collapsing.

What was measured is read back from stats.jsonl, so that a checkpoint, and with it the run, is the same with
metrics and without.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from pggan.config.schedule import stages, state_at
from pggan.config.settings import Preset
from pggan.data.stream import Source
from pggan.metrics.compare import measure
from pggan.metrics.extractors import with_networks
from pggan.metrics.figures import FIGURES, figure_name
from pggan.metrics.image_sets import ModelSet, PyramidSet
from pggan.metrics.inception import RESIZES
from pggan.metrics.options import Options, check
from pggan.metrics.results import Results
from pggan.metrics.swd import SMALLEST
from pggan.model.files import Model
from pggan.training.options import TrainingOptions

CACHE = "metrics-cache"
CPU_IMAGES, DEVICE_IMAGES = 2048, 8192
FAR_ABOVE = 2.0
"""An SWD of so many times the best one warns of a collapse."""
ALIKE = 0.8
"""So does an MS-SSIM above that, or, where that of the reals is known, in the upper half between it and 1."""


class MeasuringInterruptedError(Exception):
    """The run was asked to stop while something was measured."""


@dataclass(frozen=True)
class Record:
    """A line of stats.jsonl that has metrics; `whole`: no level was fading in."""

    images: int
    resolution: int
    whole: bool
    count: int
    metrics: Mapping[str, float]

    @property
    def kind(self) -> tuple[int, bool, int]:
        """Return what records that can be compared have in common."""
        return self.resolution, self.whole, self.count

    @classmethod
    def of(cls, line: Mapping[str, Any]) -> "Record":
        return cls(line["images"], line["resolution"], line["alpha"] == 1, line["metrics_images"], line["metrics"])


class TrainingMetrics:
    """What `options` ask for, of a run in `folder`.

    Args:
        stopping: whether the run was asked to stop; measuring is then cancelled, and repeated on resume.
        measures: whether this process measures, and so opens the networks of the metrics.

    Raises DataError where there are fewer reals than are to be measured, for levels that are too small, and for
    networks' weights that are missing or cannot be used.
    """

    def __init__(
        self,
        options: TrainingOptions,
        preset: Preset,
        folder: Path,
        source: Source,
        *,
        seed: int,
        device: torch.device,
        stopping: Callable[[], bool],
        measures: bool = True,
    ) -> None:
        self.every, self.source, self.schedule, self.stopping = options.metrics, source, preset.schedule, stopping
        self.records: list[Record] = []
        self._tried: dict[str, int] = {}
        self._known_notes: set[str] = set()
        usual = DEVICE_IMAGES if device.type == "cuda" else CPU_IMAGES  # what "mps" has to measure the CPU does
        count = options.metrics_images or max(min(usual, source.count // 2), 2)  # of half of the reals a floor is known
        self.options = Options(count=count, seed=seed, mirror=preset.mirror, device=device, cache=folder / CACHE)
        if self.every:
            reals, names = PyramidSet(source.pyramid.path, self.schedule.resolution), [name for name, _ in self.every]
            check(reals, reals, names, self.options, preset.network)
            if measures:
                self.options = with_networks(
                    self.options, names, options.weights, options.fid_resize, options.distance, download=False
                )
        large = (stage.first_image for stage in stages(self.schedule) if stage.resolution >= SMALLEST)
        self._measurable = next(large, math.inf)

    def resume_from(self, stats: Iterable[Mapping[str, Any]]) -> None:
        """Take over what was measured before, from the lines of stats.jsonl."""
        self._tried = {}
        self.records = [Record.of(line) for line in stats if "metrics" in line]

    def due(self, images: int, *, ending: bool = False) -> list[str]:
        """Return what is to be measured after `images`: all that an interval has passed for since it was measured last.

        Intervals count from the start of the run, but levels below 16 x 16 are not measured. While a level fades in,
        metrics of features wait: the reals change all the time, and all of them would be described each time. At the
        end of the run everything is due that was not just measured.
        """
        if images < self._measurable:
            return []
        found, fading = [], state_at(self.schedule, images).below > 0
        for name, kimg in self.every:
            if fading and name in FIGURES:
                continue
            last = newest.images if (newest := self._newest(name)) else 0
            since, interval = max(last, self._tried.get(name, 0), self._measurable - 1), round(kimg * 1000)
            if (ending and last < images) or images // interval > since // interval:
                found.append(name)
        return found

    def skip_until_next_interval(self, names: Sequence[str], images: int) -> None:
        """Note what could not be measured after `images`: it is due again when the next interval has passed."""
        self._tried |= dict.fromkeys(names, images)

    def measure(self, model: Model, names: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
        """Return the values of a line of stats.jsonl, and notes, each once in a session; the model stays as it is.

        Raises MeasuringInterruptedError.
        """
        state = state_at(self.schedule, model.images)
        reals = PyramidSet(self.source.pyramid.path, state.resolution, fading=state.below, shuffle=self.options.seed)
        # While a level fades in the reals change all the time, and a floor would have to be found each time.
        options = replace(self.options, floor=state.below == 0)

        def progress(*_: object) -> None:
            if self.stopping():
                raise MeasuringInterruptedError

        found = measure(ModelSet(model, self.options.seed, self.source.labels), reals, names, options, progress)
        values = {
            "images": model.images,
            "resolution": state.resolution,
            "lod": state.lod,
            "alpha": state.alpha,
            "metrics_images": options.count,
            "metrics": flat(found),
        }
        self.records.append(Record.of(values))
        notes = [note for note in found.notes if note not in self._known_notes]
        self._known_notes.update(notes)
        return values, notes

    def _newest(self, name: str) -> Record | None:
        names = {key for resize in RESIZES.values() for key in curve_names(name, {"resize": resize}).values()}
        return next((record for record in reversed(self.records) if names & record.metrics.keys()), None)

    @property
    def best(self) -> Record | None:
        """Return the record with the lowest SWD of those at the full resolution, the first of equal ones."""
        full = [r for r in self.records if r.resolution == self.schedule.resolution and r.whole and "swd" in r.metrics]
        alike = [r for r in full if r.count == full[-1].count]  # the distance depends on the number of images
        return min(alike, key=lambda record: record.metrics["swd"], default=None)

    def status(self) -> str:
        """Return the newest values for the status line, "" where nothing is measured."""
        if not self.every:
            return ""
        parts = []
        if newest := self._newest("swd"):
            parts.append(f"swd {newest.metrics['swd']:.2f}")
        if newest := self._newest("ms-ssim"):
            parts.append(f"ms-ssim {newest.metrics['ms_ssim']:.3f}")
        return "  ".join([*parts, *self.alarms()])

    def alarms(self) -> list[str]:
        """Return what says that the generator is collapsing, as of the newest records: no line where nothing does."""
        found = []
        if newest := self._newest("ms-ssim"):
            value, reals = newest.metrics["ms_ssim"], newest.metrics.get("ms_ssim_reals")
            if value > (ALIKE if reals is None else (1 + reals) / 2):
                reference = "" if reals is None else f" (reals {reals:.2f})"
                found.append(f"COLLAPSE? MS-SSIM of fakes {value:.2f}{reference}")
        if newest := self._newest("swd"):
            alike = [r for r in self.records if r.kind == newest.kind and "swd" in r.metrics]
            best = min(alike, key=lambda record: record.metrics["swd"])
            if newest.metrics["swd"] > FAR_ABOVE * best.metrics["swd"]:
                found.append(
                    f"COLLAPSE? SWD {newest.metrics['swd']:.1f}, was {best.metrics['swd']:.1f} "
                    f"at {best.images / 1000:g} kimg"
                )
        return found


def flat(found: Results) -> dict[str, float]:
    """Return what is known of {"swd": average, "swd_32", "swd_floor", "swd_floor_32", "ms_ssim", "ms_ssim_reals", ...}.

    Figures follow, such as {"fid", "pr_precision", "pr_recall", "kid_clean", "fd_dinov2", "ppl_zfull"}.
    """
    values: dict[str, float | None] = {}
    for name, levels in (("swd", found.swd), ("swd_floor", found.floor)):
        if levels is not None:
            values[name] = levels.average
            values |= {f"{name}_{size}": value for size, value in levels.by_size.items()}
    values |= found.of_pairs()
    for record in found.figures.values():
        values |= {name: record[number] for number, name in curve_names(record["metric"], record).items()}
    return {name: value for name, value in values.items() if value is not None}


def curve_names(metric: str, recipe: Mapping[str, Any]) -> dict[str, str]:
    """Return the names in stats.jsonl of a metric's numbers, by their names in a record."""
    name = figure_name(metric, recipe).replace("-", "_")
    curves = FIGURES[metric].curves if metric in FIGURES else ("value",)
    return {number: name if number == "value" else f"{name}_{number}" for number in curves}
