"""Run the benchmarks that need neither photos nor a GPU, and write their tables as one page of Markdown.

    python -m benchmarks --out docs/results/benchmarks.md
    python -m benchmarks --celeba-dir CelebA --only crop

Each benchmark runs in a process of its own. What fails, or does not end in time, is named on the page. Without
--celeba-dir, photos are those of `python -m datatools.sample`. Arithmetic of PyTorch uses one thread, which other
programs disturb least.
"""

import datetime
import os
import platform
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import click
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.rows import Row, send_rows
from benchmarks.samples import sample_tree
from datatools.cli import OneLineCommand
from datatools.errors import DataError
from datatools.files import atomic_path
from datatools.parallel import available_cores
from datatools.text import byte_size, counted, duration
from pggan.precision import computes

Options = Mapping[str, Any]
context = get_context("spawn")
PHOTOS = "PHOTOS"
"""Stands for the folder of photos among the options of a part."""
BUSY = 0.1
"""Share of other programs from which on the page calls the machine busy."""


@dataclass(frozen=True)
class Part:
    """A benchmark of the page.

    Attributes:
        title: heading of its table.
        script: name of the module, whose `measure` takes `options`; its command line takes them, too.
        command: subcommand that they belong to.
        note: what the page says of it.
    """

    title: str
    script: str
    options: Options
    command: str = ""
    note: str = ""

    def line(self) -> str:
        """Return the command that measures the same."""
        words = ["python", f"benchmarks/{self.script}.py", *filter(None, [self.command])]
        for name, value in self.options.items():
            flag = f"--{name.replace('_', '-')}"
            if value is True:
                words.append(flag)
            else:
                words += [f"{flag} {one}" for one in (value if isinstance(value, tuple) else (value,))]
        return " ".join(words)


PARTS = (
    Part("Crop", "crop", {"celeba_dir": PHOTOS, "limit": 24}),
    Part("Restoration", "restoration", {"side": 256, "restorers": "bundled-distortion,bundled-perceptual"}, "speed"),
    Part("Pyramid: write, join, verify", "pyramid", {"images": 256, "rounds": 4}),
    Part("Pyramid: read", "read_random", {"images": 200, "rounds": 9}),
    Part("Pyramid and other formats", "read_formats", {"level": 128, "images": 500}),
    Part("Loader", "loader", {"images": 128, "threads": 1}),
    Part("Training step", "train_step", {"seconds": 8.0, "threads": 1, "fp32": True}),
    Part(
        "Training step in bf16",
        "train_step",
        {"resolution": ("8",), "seconds": 4.0, "threads": 1},
        note="One small level: on a CPU without instructions for bf16 larger ones take minutes.",
    ),
    Part(
        "Progressive growing",
        "progressive",
        {"resolution": 1024},
        note="Every level up to 1024 x 1024 is measured. The paper's figure is 5.4, on a GPU.",
    ),
    Part("Metrics", "metrics", {"images": 512, "threads": 1}),
    Part("Exports", "export", {"images": 2000, "rounds": 3}),
)


@dataclass(frozen=True)
class Result:
    """What a part gave: its rows, or why there are none; `others`: share of the CPUs that other programs took."""

    part: Part
    rows: tuple[Row, ...]
    seconds: float
    others: float
    failure: str = ""


def run(part: Part, photos: Path, limit: float) -> Result:
    """Measure a part in a new process, for `limit` seconds at most."""
    options = {name: photos if value == PHOTOS else value for name, value in part.options.items()}
    load, rows, failure = Load(), [], "there was no time"
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=send_rows, args=(sender, part.script, options))
    process.start()
    sender.close()
    try:
        while receiver.poll(max(0.0, limit - load.seconds)):
            received = receiver.recv()
            if not isinstance(received, Row):
                failure = received
                break
            rows.append(received)
    except EOFError:
        failure = "its process was killed"
    if failure:
        process.kill()
    process.join()
    return Result(part, tuple(rows), load.seconds, load.others(), failure)


class Load:
    """Watches from its construction on what other programs than this one and its children take of the CPUs."""

    def __init__(self) -> None:
        self._start, self._before = time.perf_counter(), self._now()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._start

    def others(self) -> float:
        """Return the share of the CPU time, 0 to 1."""
        total, busy, own = (after - before for after, before in zip(self._now(), self._before, strict=True))
        return max(0.0, (busy - own) / total) if total else 0.0

    def _now(self) -> tuple[float, float, float]:
        """Return the seconds of all CPUs, those in which they worked, and those of this program."""
        fields = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        idle, ticks = fields[3] + fields[4], os.sysconf("SC_CLK_TCK")
        return sum(fields) / ticks, (sum(fields) - idle) / ticks, sum(os.times()[:4])


def machine() -> list[str]:
    """Return what the figures depend on, a line each."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown CPU")
    native = computes("bf16", torch.device("cpu"))
    bf16 = "instructions for bf16" if native else "no instructions for bf16, which is converted to fp32 and back"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return [
        f"{model}, {counted(available_cores(), 'core')}, {torch.backends.cpu.get_cpu_capability()}, {bf16}",
        f"{byte_size(memory)} of memory",
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}, PyTorch {torch.__version__}",
    ]


def shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def page(results: Sequence[Result], facts: Sequence[str], photos: str) -> str:
    """Return the results as Markdown."""
    seconds = sum(result.seconds for result in results)
    others = sum(result.others * result.seconds for result in results) / max(seconds, 1e-9)
    lines = [
        "# Benchmarks",
        "",
        f"Written by `make bench` on {datetime.date.today()} in {duration(seconds)}. A figure is a ratio of two ways",
        "measured in turn in one run, unless its row has a unit. Other programs took",
        f"{others:.0%} of the CPUs meanwhile{': the machine was busy' if others > BUSY else ''}. PHOTOS is {photos}.",
        "",
        *(f"- {fact}" for fact in facts),
    ]
    for result in results:
        part = result.part
        lines += ["", f"## {part.title}", "", f"    {part.line()}", ""]
        lines += [part.note, ""] if part.note else []
        lines += [f"In {duration(result.seconds)}, other programs took {result.others:.0%} of the CPUs.", ""]
        if result.failure:
            lines += [f"Left out{', in part' if result.rows else ''}: {result.failure}.", ""]
        if result.rows:
            lines += ["| figure | value | what |", "|---|---|---|"]
            lines += [f"| `{row.name}` | {shown(row.value)} | {row.what} |" for row in result.rows]
    return "\n".join(lines).rstrip("\n") + "\n"


@click.command(cls=OneLineCommand, help=__doc__)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the page here.  [default: print]")
@click.option("--celeba-dir", type=click.Path(path_type=Path, exists=True), help="CelebA's folder.")
@click.option("--minutes", default=19.0, show_default=True, help="Time for all of them.")
@click.option("--only", type=click.Choice(sorted({part.script for part in PARTS})), multiple=True, help="Benchmarks.")
def main(out: Path | None, celeba_dir: Path | None, minutes: float, only: tuple[str, ...]) -> None:
    results: list[Result] = []
    with tempfile.TemporaryDirectory() as folder:
        photos = celeba_dir or sample_tree(Path(folder))
        for part in PARTS:
            if not only or part.script in only:
                click.echo(f"# {part.line()}", err=True)
                left = 60 * minutes - sum(result.seconds for result in results)
                results.append(run(part, photos, left))
                for row in results[-1].rows:
                    click.echo(row, err=True)
                if results[-1].failure:
                    click.echo(f"# left out: {results[-1].failure}", err=True)
    text = page(results, machine(), "a CelebA tree" if celeba_dir else "a folder made by `python -m datatools.sample`")
    if out is None:
        click.echo(text, nl=False)
        return
    with atomic_path(out) as temporary:
        temporary.write_text(text, encoding="utf-8")
    failed = [result.part.title for result in results if result.failure]
    if failed:
        raise DataError(f"{out} is written, without {', '.join(failed)}")


if __name__ == "__main__":
    main()
