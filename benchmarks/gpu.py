"""Check and measure everything that needs a GPU, in under 8 minutes on one.

    python benchmarks/gpu.py --json gpu.json --table gpu.md
    python benchmarks/gpu.py --device cpu --tiny            # the same at tiny sizes, to try the script itself

Parts: `agreement` of CPU and GPU in networks, losses and gradients; `steps` of celebahq-v2 at every level, time and
memory, in fp32, TF32, bf16 and fp16, without channels-last, and pictures with and without torch.compile; `restoration`
of photos, one by one and in batches; `metrics`, SWD and MS-SSIM; `run`, a training run that is killed and resumed.
Each part has its share of the time; what there was no time for is in the results as left out. Largest levels come
first. A figure is the fastest of a few repetitions.
"""

import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from datatools.errors import one_line, out_of_memory
from datatools.files import atomic_path
from datatools.images import Box
from datatools.pyramid import PyramidWriter
from datatools.pyramid.format import UNKNOWN_ORIGIN
from datatools.restore.base import Picture
from datatools.restore.restorers import bundled_weights
from datatools.restore.tiling import GPU_TILING, Precision, restore_parts
from datatools.restore.weights import load_weights
from pggan.config.presets import get_preset
from pggan.config.settings import Preset
from pggan.data.stream import Batch
from pggan.metrics.ms_ssim import ms_ssim
from pggan.metrics.swd import Descriptors, swd
from pggan.model.files import new_model
from pggan.model.style import seeded_noise
from pggan.precision import PrecisionName, allow_tf32
from pggan.training import style_draws
from pggan.training.log import device_peak
from pggan.training.networks import build_networks
from pggan.training.plan import trial_round
from pggan.training.step import Stepper, TooLargeError

LIMITS = {"fp32": 1e-3, "TF32": 2e-2, "bf16": 2e-1}
"""Largest relative error of a gradient, of its norm, that counts as agreement."""
Row = dict[str, Any]


@dataclass(frozen=True)
class Sizes:
    """How much is measured. `seconds`: after so many, a part begins no other measurement."""

    steps: Preset
    agreement: tuple[Preset, ...]
    crop: int
    photos: int
    images: int
    resolution: int
    kimg: float
    seconds: Mapping[str, float]


WHOLE = Sizes(
    get_preset("celebahq-v2"),
    (get_preset("faces-128"), get_preset("style-faces-64")),
    crop=256,
    photos=32,
    images=16_384,
    resolution=128,
    kimg=4.0,
    seconds={"agreement": 30, "steps": 200, "restoration": 40, "metrics": 60, "run": 90},
)
TINY = Sizes(
    get_preset("tiny").with_resolution(8),
    (get_preset("tiny").with_resolution(8), get_preset("style-tiny")),
    crop=24,
    photos=2,
    images=8,
    resolution=16,
    kimg=0.3,
    seconds=dict.fromkeys(("agreement", "steps", "restoration", "metrics", "run"), 1e9),
)


class Clock:
    """The time of a part. `over` says whether it is up."""

    def __init__(self, seconds: float) -> None:
        self.end = time.perf_counter() + seconds

    @property
    def over(self) -> bool:
        return time.perf_counter() > self.end


def wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def fastest(work: Callable[[], object], device: torch.device, repeats: int = 3) -> float:
    """Return the seconds of the fastest repetition, after one that sets things up."""
    found = []
    for _ in range(1 + repeats):
        wait(device)
        start = time.perf_counter()
        work()
        wait(device)
        found.append(time.perf_counter() - start)
    return min(found[1:])


def stepper_of(preset: Preset, precision: PrecisionName, device: torch.device) -> Stepper:
    return Stepper(build_networks(preset, 0, device), preset, 0, precision, device, say=lambda _: None)


def made_up_batch(batch: Batch) -> Batch:
    """Return the batch with noise in place of black pictures."""
    noise = np.random.default_rng(0).integers(0, 256, tuple(batch.images.shape), np.uint8)
    return replace(batch, images=torch.from_numpy(noise))


def gradients_of(preset: Preset, precision: PrecisionName, device: torch.device) -> tuple[dict[str, float], Tensor]:
    """Return the statistics of a step of each network, and all its gradients before Adam, on the CPU."""
    stepper, found = stepper_of(preset, precision, device), []
    state, batch = trial_round(preset, preset.network.resolution, 8)
    gradients = stepper._gradients

    def keep(parameters: list[torch.nn.Parameter], *rest: Any) -> Any:
        result = gradients(parameters, *rest)
        found.extend(p.grad.detach().float().cpu().flatten() for p in parameters if p.grad is not None)
        return result

    stepper._gradients = keep  # type: ignore[method-assign,assignment]
    stats = stepper.discriminator_step(state, 0, made_up_batch(batch)) | stepper.generator_step(state, 0)
    return stats, torch.cat(found)


def noise_of_the_cpu(
    sides: Sequence[int], seeds: Iterable[int], device: torch.device, more: int = 0
) -> tuple[list[Tensor], Tensor]:
    """Stand for `seeded_noise`, which draws on the device."""
    maps, rest = seeded_noise(sides, seeds, torch.device("cpu"), more)
    return [noise.to(device) for noise in maps], rest.to(device)


def agreement(sizes: Sizes, device: torch.device, clock: Clock) -> Iterator[Row]:
    """Compare a step of each family, with all regularizers, with the CPU's in float32."""
    style_draws.seeded_noise = noise_of_the_cpu  # the same draws on both
    for preset in sizes.agreement:
        expected, exact = gradients_of(preset, "fp32", torch.device("cpu"))
        for name, precision in (("fp32", "fp32"), ("TF32", "fp32"), ("bf16", "bf16")):
            if clock.over:
                yield {"preset": preset.name, "precision": name, "left out": "no time"}
                continue
            allow_tf32(name == "TF32")
            stats, gradients = gradients_of(preset, precision, device)  # type: ignore[arg-type]
            difference = float((gradients - exact).norm() / exact.norm())
            losses = [abs(stats[key] - expected[key]) / max(abs(expected[key]), 1.0) for key in ("d_loss", "g_loss")]
            yield {
                "preset": preset.name,
                "precision": name,
                "gradients": difference,
                "losses": max(losses),
                "limit": LIMITS[name],
                "agrees": max(difference, *losses) <= LIMITS[name],
            }


@contextmanager
def without_channels_last() -> Iterator[None]:
    """Keep tensors in PyTorch's own order of axes."""
    before = torch.channels_last
    torch.channels_last = torch.contiguous_format
    try:
        yield
    finally:
        torch.channels_last = before


def steps(sizes: Sizes, device: torch.device, clock: Clock) -> Iterator[Row]:
    """Measure a minibatch of each network at every level: the largest first, in the order of what runs use."""
    preset = sizes.steps
    ways: list[tuple[str, PrecisionName, bool]] = [
        *(("bf16", "bf16", True), ("TF32", "fp32", True), ("fp32", "fp32", True), ("fp16", "fp16", True)),
        ("bf16, not channels-last", "bf16", False),
    ]
    for name, precision, channels_last in ways:
        allow_tf32(name == "TF32")
        stepper = stepper_of(preset, precision, device)
        for resolution in reversed(preset.schedule.levels):
            minibatch = int(dict(preset.schedule.minibatch_by_level).get(resolution, preset.schedule.minibatch_base))
            row: Row = {"level": resolution, "way": name, "minibatch": minibatch}
            yield row | ({"left out": "no time"} if clock.over else _step(stepper, row, channels_last))
        del stepper
        release(device)
    for compiled in (False, True):
        yield {"level": preset.network.resolution, "way": f"pictures{', compiled' * compiled}"} | (
            {"left out": "no time"} if clock.over else _pictures(preset, device, compiled)
        )


def _step(stepper: Stepper, row: Row, channels_last: bool) -> Row:
    device = stepper.device
    state, batch = trial_round(stepper.preset, row["level"], row["minibatch"])
    batch = made_up_batch(batch)
    release(device)

    def step() -> None:
        stepper.discriminator_step(state, 0, batch)
        stepper.generator_step(state, 0)

    try:
        if channels_last:
            seconds = fastest(step, device)
        else:
            with without_channels_last():
                seconds = fastest(step, device)
    except TooLargeError as error:
        return {"left out": one_line(error)}
    used = device_peak(device)
    return {
        "images_per_second": row["minibatch"] / seconds,
        "seconds": seconds,
        "at_once": stepper.max_batch or row["minibatch"],
    } | ({} if used is None else {"bytes": used})


def _pictures(preset: Preset, device: torch.device, compiled: bool) -> Row:
    generator = new_model(preset.network).to(device).ema
    count = 8
    latents = torch.randn(count, preset.network.latent_size, device=device)
    run = torch.compile(generator) if compiled else generator

    @torch.no_grad()
    def make() -> None:
        with torch.autocast(device.type, torch.bfloat16):
            run(latents)

    try:
        return {"images_per_second": count / fastest(make, device)}
    except Exception as error:  # a compiler or a part that it cannot translate may be missing
        return {"left out": one_line(error, 200)}


def release(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def restoration(sizes: Sizes, device: torch.device, clock: Clock) -> Iterator[Row]:
    """Measure both bundled networks on crops of a face's size, a photo at a time and all in one batch."""
    rng = np.random.default_rng(0)
    side = sizes.crop
    crops: list[tuple[Picture, Box]] = [
        (rng.integers(0, 256, (side, side, 3), dtype=np.uint8), (0, 0, side, side)) for _ in range(sizes.photos)
    ]
    for task in ("jpeg", "sr"):
        network, _ = load_weights(bundled_weights(task, "distortion"), task)
        ways: list[tuple[Precision, int]] = [("bf16", len(crops)), ("bf16", 1), ("fp32", len(crops)), ("fp32", 1)]
        for precision, together in ways:
            row: Row = {"network": task, "precision": precision, "together": together, "side": side}
            if clock.over:
                yield row | {"left out": "no time"}
                continue

            def restore(precision: Precision = precision, together: int = together, network: Any = network) -> None:
                for start in range(0, len(crops), together):
                    some = crops[start : start + together]
                    restore_parts(network, some, device=device, precision=precision, tiling=GPU_TILING)

            yield row | {"seconds_per_photo": fastest(restore, device, 1) / len(crops)}


def metrics(sizes: Sizes, device: torch.device, clock: Clock) -> Iterator[Row]:
    """Measure SWD of two sets and MS-SSIM within one, of noise; reading and making images is not in it."""
    rng, count, side = np.random.default_rng(0), sizes.images, sizes.resolution
    some = rng.integers(0, 256, (min(count, 256), 3, side, side), dtype=np.uint8)
    start = time.perf_counter()
    with Descriptors(count, side, 0, device=device) as first, Descriptors(count, side, 1, device=device) as second:
        for gathered in (first, second):
            for begin in range(0, count, len(some)):
                gathered.add(some[: count - begin])
        distances = swd(first, second, 0)
    yield {
        "metric": "SWD",
        "images": count,
        "side": side,
        "seconds": time.perf_counter() - start,
        "value": float(np.mean(list(distances.values()))),
    }
    if clock.over:
        yield {"metric": "MS-SSIM", "images": count, "side": side, "left out": "no time"}
        return
    start, values = time.perf_counter(), []
    for begin in range(0, count, len(some)):
        batch = some[: (count - begin) // 2 * 2]
        values.append(ms_ssim(batch[::2], batch[1::2], device=device))
    seconds = time.perf_counter() - start
    yield {"metric": "MS-SSIM", "images": count, "side": side, "seconds": seconds, "value": float(np.mean(values[0]))}


def run(sizes: Sizes, device: torch.device, clock: Clock) -> Iterator[Row]:
    """Train on noise, kill the run after its first checkpoint, and resume it."""
    del clock  # it has to be whole
    with tempfile.TemporaryDirectory() as folder:
        h5, out = Path(folder, "noise.h5"), Path(folder, "run")
        side, rng = 32 if sizes is WHOLE else 8, np.random.default_rng(0)
        with PyramidWriter(h5, 64, resolution=side) as writer:
            for _ in range(64):
                writer.append(rng.integers(0, 256, (side, side, 3), dtype=np.uint8), UNKNOWN_ORIGIN)
        options = {
            "--h5": h5,
            "--out": out,
            "--device": device.type,
            "--preset": "tiny",
            "--resolution": side,
            "--total-kimg": sizes.kimg,
            "--checkpoint-kimg": sizes.kimg / 10,
            "--workers": 1,
        }
        command = [sys.executable, "-m", "pggan.train", *(str(word) for pair in options.items() for word in pair)]
        root = Path(__file__).resolve().parent.parent
        start = time.perf_counter()
        with Path(folder, "out.txt").open("w") as output:
            process = subprocess.Popen(command, cwd=root, stdout=output, stderr=subprocess.STDOUT)
            while process.poll() is None and not list(out.glob("checkpoints/*.json")):
                time.sleep(0.01)
            killed = process.poll() is None
            if killed:
                os.kill(process.pid, signal.SIGKILL)
            process.wait()
            ended = subprocess.run(command, cwd=root, stdout=output, stderr=subprocess.STDOUT, check=False)
        log = (out / "log.txt").read_text() if (out / "log.txt").exists() else ""
        row = {"killed": killed, "resumed": "resumed from" in log, "finished": (out / "final.safetensors").exists()}
        if not row["finished"]:
            row["left out"] = f"exit code {ended.returncode}: {Path(folder, 'out.txt').read_text()[-300:]}"
        yield {"preset": "tiny", "kimg": sizes.kimg, "seconds": time.perf_counter() - start, **row}


PARTS: dict[str, Callable[[Sizes, torch.device, Clock], Iterator[Row]]] = {
    "agreement": agreement,
    "steps": steps,
    "restoration": restoration,
    "metrics": metrics,
    "run": run,
}


def measured(part: str, sizes: Sizes, device: torch.device) -> list[Row]:
    """Return the rows of a part; what goes wrong in it ends the part alone."""
    rows: list[Row] = []
    try:
        for row in PARTS[part](sizes, device, Clock(sizes.seconds[part])):
            rows.append(row)
            click.echo(f"# {part}: {line(row)}", err=True)
    except Exception as error:  # the other parts are worth their minutes
        what = "out of memory" if out_of_memory(error) else one_line(error, 300)
        rows.append({"left out": f"{type(error).__name__}: {what}"})
        click.echo(f"# {part}: {line(rows[-1])}", err=True)
    release(device)
    return rows


def shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def line(row: Row) -> str:
    return ", ".join(f"{name} {shown(value)}" for name, value in row.items())


def table(results: Mapping[str, Any]) -> str:
    """Return the results as Markdown, a table for each part."""
    machine = results["machine"]
    lines = [f"{machine['device']}, PyTorch {machine['torch']}, {results['seconds']:.0f} s in all."]
    for part, rows in results["parts"].items():
        names = list(dict.fromkeys(name for row in rows for name in row))
        lines += ["", f"### {part}", "", f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
        lines += [f"| {' | '.join(shown(row.get(name, '')) for name in names)} |" for row in rows]
    return "\n".join(lines) + "\n"


@click.command(help=__doc__)
@click.option("--device", default="auto", help="Device: auto (CUDA), cuda, cuda:1, cpu.", show_default=True)
@click.option("--tiny", is_flag=True, help="Tiny sizes, for a CPU.")
@click.option("--part", "parts", type=click.Choice(list(PARTS)), multiple=True, help="Part to run.  [default: all]")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the results to this file.")
@click.option("--table", "table_path", type=click.Path(path_type=Path), help="Write tables in Markdown to this file.")
def main(
    device: str,
    tiny: bool,
    parts: tuple[str, ...],
    json_path: Path | None,
    table_path: Path | None,
) -> None:
    if device == "auto" and not torch.cuda.is_available():
        click.echo("# no CUDA device here: nothing was measured (--device cpu --tiny tries the script)")
        return
    where = torch.device("cuda" if device == "auto" else device)
    if where.type == "cuda":
        torch.cuda.set_device(where)
        torch.backends.cudnn.benchmark = True
    start = time.perf_counter()
    sizes = TINY if tiny else WHOLE
    found = {part: measured(part, sizes, where) for part in parts or PARTS}
    name = torch.cuda.get_device_name(where) if where.type == "cuda" else platform.processor() or "a CPU"
    results = {
        "machine": {"device": name, "torch": torch.__version__, "cuda": torch.version.cuda},
        "seconds": time.perf_counter() - start,
        "parts": found,
    }
    for path, text in ((json_path, json.dumps(results, indent=2) + "\n"), (table_path, table(results))):
        if path is not None:
            with atomic_path(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
    click.echo(table(results))


if __name__ == "__main__":
    main()
