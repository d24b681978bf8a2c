"""How much sooner a growing network has seen its images than one that has its full size from the start.

    python benchmarks/progressive.py --resolution 1024

The CPU seconds per image of a training step of the preset `celebahq` are measured at every level, both networks wholly
faded in, in one thread, so that other programs disturb little. The time to a number of images follows from them and
from the preset's schedule; a step while a level fades in is counted as one afterwards. The paper (section 6.4) has 5.4
at 6.4 million images of 1024 x 1024 on a GPU, which small levels use badly.
"""

import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import click
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.rows import Row, show
from pggan.config.presets import get_preset
from pggan.config.schedule import ScheduleConfig, stages
from pggan.training.networks import build_networks
from pggan.training.plan import steps, trial_round
from pggan.training.step import Stepper

DAY = 86400
PRESET = "celebahq"
PIXELS = 1 << 12
"""Of the images of a measured step, at least one image and at most the schedule's minibatch."""


def speedup(schedule: ScheduleConfig, seconds: Mapping[int, float], images: int) -> tuple[float, float]:
    """Return the seconds until so many images were seen (growing, not growing), given those per image by level."""
    growing = sum(
        max(0, min(stage.end_image, images) - stage.first_image) * seconds[stage.resolution]
        for stage in stages(schedule)
    )
    return growing, images * seconds[max(seconds)]


def cpu_seconds(stepper: Stepper, level: int, count: int) -> float:
    """Return the CPU time per image of a step of both networks, after one that sets things up."""
    state, batch = trial_round(stepper.preset, level, count)
    for _ in range(2):
        start = time.process_time()
        steps(stepper, state, batch)
        taken = time.process_time() - start
    return taken / count


def measure(resolution: int = 1024, kimg: float = 6400.0) -> Iterator[Row]:
    """Yield the time of a step at every level, and the ratio at `kimg`, at the full size, and at the end of the run."""
    torch.set_num_threads(1)
    preset = get_preset(PRESET).with_resolution(resolution)
    schedule, cpu = preset.schedule, torch.device("cpu")
    stepper = Stepper(build_networks(preset, 0, cpu), preset, 0, "fp32", cpu, say=lambda _: None)
    seconds: dict[int, float] = {}
    for level, minibatch in {stage.resolution: stage.minibatch for stage in stages(schedule)}.items():
        count = max(1, min(minibatch, PIXELS // level**2))
        seconds[level] = cpu_seconds(stepper, level, count)
        yield Row(f"step_{level}", seconds[level], f"CPU seconds per image at {level} x {level}, {count} at once")
    whole = next(stage.first_image for stage in stages(schedule) if stage.resolution == resolution and not stage.fading)
    end = int(1000 * schedule.total_kimg)
    for images in sorted({min(int(1000 * kimg), end), whole, end}):
        growing, fixed = speedup(schedule, seconds, images)
        what = f"{_days(fixed)} days without growing over {_days(growing)} with it, to {images / 1e6:.3g} M images"
        yield Row(f"progressive_{images // 1000}", fixed / growing, what)


def _days(seconds: float) -> str:
    """Return three digits, without an exponent: 1,870."""
    return f"{float(f'{seconds / DAY:.3g}'):,g}"


@click.command(help=__doc__)
@click.option("--resolution", default=1024, show_default=True, help="Full size.")
@click.option("--kimg", default=6400.0, show_default=True, help="Images, in thousands, to compare at.")
def main(resolution: int, kimg: float) -> None:
    show(measure(resolution, kimg))


if __name__ == "__main__":
    main()
