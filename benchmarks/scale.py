"""What a build of CelebA's size costs besides the work on pixels: scheduling, ranking, joining, files, memory.

    python benchmarks/scale.py --rows 202599 --count 30000 --images 30000    # all of CelebA, a 256 x 256 file
    python benchmarks/scale.py                                               # a tenth of that

The first part builds from a tree of hard links to a few photos, with the real command line and a stub recipe: it opens
no photo and gives a face of 8 x 8 from the photo's name, so that what is left is the build's own work. The second part
writes shards of random images, joins them and verifies the file. Every step runs in a process of its own.
"""

import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import click
import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from datatools.cli import OneLineCommand
from datatools.errors import DataError
from datatools.files import file_stamp
from datatools.pyramid import Provenance, PyramidWriter
from datatools.sources.records import FaceRecord

PHOTOS = 8
"""Photos that the tree's files are links to; a file system allows some ten thousand links to one."""

SIDE = 8
EVENTS = "SCALE_EVENTS"
"""Environment variable with the file that tasks note their times in."""

LANDMARKS = (69, 111, 109, 110, 88, 135, 72, 152, 107, 151)
COLUMNS = "lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y rightmouth_x rightmouth_y"

READ = """import time
from datatools.sources.celeba import read_tree
start = time.perf_counter()
read_tree(Path(sys.argv[1]))
print(time.perf_counter() - start, Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
"""
WRITE = "from benchmarks.scale import write_shards; write_shards(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))"
JOIN = "from datatools.pyramid import join; join(sorted(Path(sys.argv[1]).glob('part*')), sys.argv[2], free_parts=True)"
VERIFY = "from datatools.pyramid import verify; assert verify(sys.argv[1]) == []"
LUIGI = "from benchmarks.scale import run_luigi; run_luigi()"


# --- what runs in other processes -------------------------------------------------------------------------------------


def write_tree(root: Path, rows: int) -> Path:
    """Write a tree with CelebA's names and files of annotations; returns `root`."""
    random = np.random.default_rng(0)
    names = [f"{number:06d}.jpg" for number in range(1, rows + 1)]
    images = root / "Img" / "img_celeba"
    for folder in (images, root / "Anno", root / "Eval", root / "kept"):
        folder.mkdir(parents=True)
    photos = [root / "kept" / f"{number}.jpg" for number in range(PHOTOS)]
    for photo in photos:
        cv2.imwrite(str(photo), cv2.resize(random.integers(0, 256, (8, 8, 3), dtype=np.uint8), (400, 400)))
    for number, name in enumerate(names):
        os.link(photos[number % PHOTOS], images / name)
    points = LANDMARKS + random.integers(-3, 4, (rows, 10)) + random.integers(0, 120, (rows, 1))
    signs = 2 * random.integers(0, 2, (rows, 40)) - 1
    tables = {
        "Anno/list_landmarks_celeba.txt": (f"{rows}\n{COLUMNS}\n", points, "{:4d}"),
        "Anno/list_attr_celeba.txt": (f"{rows}\n{' '.join(f'Attribute_{i}' for i in range(40))} \n", signs, "{:2d}"),
        "Anno/identity_CelebA.txt": ("", random.integers(1, 10178, (rows, 1)), "{}"),
        "Eval/list_eval_partition.txt": ("", random.integers(0, 3, (rows, 1)), "{}"),
    }
    for file, (heading, values, shape) in tables.items():
        with (root / file).open("w") as stream:
            stream.write(heading)
            for name, row in zip(names, values.tolist(), strict=True):
                stream.write(f"{name} {' '.join(map(shape.format, row))}\n")
    return root


def write_shards(folder: Path, images: int, shard_size: int) -> None:
    """Write shards of 256 x 256 images, each different, of all levels."""
    face = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    none = np.zeros((5, 2))
    for first in range(0, images, shard_size):
        numbers = range(first, min(first + shard_size, images))
        with PyramidWriter(folder / f"part{first:06d}.h5", len(numbers), resolution=256) as writer:
            for index in numbers:
                face[0, 0] = index % 251, index // 251 % 251, 7
                writer.append(face, Provenance(f"{index}.jpg", f"{index:032x}", 0.0, index, -1, none[:4], none))


def run_luigi() -> None:
    """Run `luigi` with the stub recipe, and note when tasks begin and end."""
    import luigi
    import luigi.cmdline  # before our tasks, which ask for it

    import pipelines
    from pipelines.options import BuildOptions
    from pipelines.photo_work import FaceMaker

    assert pipelines
    item = BuildOptions.__dataclass_fields__["resolution"]
    item.metadata = MappingProxyType({**item.metadata, "choices": (SIDE,)})
    FaceMaker.prepare, FaceMaker.finish = _stub_prepare, _stub_finish  # type: ignore[assignment,method-assign]

    def note(kind: str) -> Callable[..., None]:
        def write(task: luigi.Task, *_arguments: object) -> None:
            row = {"event": kind, "task": task.task_family, "time": time.time(), "cpu": time.process_time()}
            with Path(os.environ[EVENTS]).open("a") as stream:
                stream.write(json.dumps(row) + "\n")

        return write

    for kind, event in (("start", luigi.Event.START), ("end", luigi.Event.SUCCESS)):
        luigi.Task.event_handler(event)(note(kind))
    luigi.cmdline.luigi_run()


def _stub_prepare(_maker: object, record: FaceRecord) -> tuple[dict[str, Any], None]:
    return {"source_md5": hashlib.md5(record.file_name.encode()).hexdigest(), "stamp": file_stamp(record.path)}, None


def _stub_finish(maker: Any, photo: tuple[dict[str, Any], None], _restored: None) -> tuple[dict[str, Any], Any]:
    row, data = photo[0], bytes.fromhex(photo[0]["source_md5"])
    if maker.scores:
        numbers = np.frombuffer(hashlib.sha256(data).digest(), np.uint64).tolist()  # no duplicates
        quad = [[0.0, 0.0], [0.0, 99.0], [99.0, 99.0], [99.0, 0.0]]
        row |= {"score": numbers[0] / 2.0**64, "hash": numbers, "quad": quad}
    face = np.frombuffer(data * (3 * SIDE * SIDE // 16), np.uint8).reshape(SIDE, SIDE, 3)
    return row, face if maker.keeps_faces else None


# --- measuring --------------------------------------------------------------------------------------------------------


@dataclass
class Peaks:
    """Largest values of a process, those that it started, and a folder, by looking now and then.

    Attributes:
        process, all: bytes of memory of the largest process, and of all, memory that they share counted once.
        files, disk: number of files, and bytes that they take.
    """

    process: int = 0
    all: int = 0
    files: int = 0
    disk: int = 0

    def look(self, pid: int, folder: Path) -> None:
        sizes = [_memory(process) for process in _descendants(pid)]
        self.process = max([self.process, *(peak for peak, _ in sizes)])
        self.all = max(self.all, sum(share for _, share in sizes))
        files, disk = _usage(folder)
        self.files, self.disk = max(self.files, files), max(self.disk, disk)


def _descendants(pid: int) -> Iterator[int]:
    yield pid
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            for child in Path(f"/proc/{pid}/task/{thread}/children").read_text().split():
                yield from _descendants(int(child))
    except OSError:  # it has ended
        return


def _memory(pid: int) -> tuple[int, int]:
    """Return the most bytes of memory that a process had, and those that it has, its share where others have them."""
    try:
        peak = Path(f"/proc/{pid}/status").read_text().split("VmHWM:")[1]
        now = Path(f"/proc/{pid}/smaps_rollup").read_text().split("\nPss:")[1]
    except (OSError, IndexError):  # it has ended
        return 0, 0
    return 1024 * int(peak.split()[0]), 1024 * int(now.split()[0])


def _usage(folder: Path) -> tuple[int, int]:
    files = disk = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                status = os.stat(os.path.join(parent, name))
            except OSError:  # removed or renamed meanwhile
                continue
            files, disk = files + 1, disk + 512 * status.st_blocks
    return files, disk


@dataclass
class Step:
    """What a process did; cpu: seconds, also of those that it started."""

    seconds: float
    cpu: float
    output: str
    peaks: Peaks = field(default_factory=Peaks)


def run(code: str, arguments: Sequence[object], folder: Path, interval: float, **environment: object) -> Step:
    """Run Python code in a process, and watch it and the folder. Raises DataError where it fails."""
    command = [sys.executable, "-c", f"import sys; from pathlib import Path; {code}", *map(str, arguments)]
    root = str(Path(__file__).resolve().parent.parent)
    values = os.environ | {"PYTHONPATH": root} | {name: str(value) for name, value in environment.items()}
    start, cpu = time.perf_counter(), _cpu_of_children()
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, cwd="/", env=values, stdout=output, stderr=subprocess.STDOUT)
        with _watched(process.pid, folder, interval) as peaks:
            code_of_exit = process.wait()
        seconds = time.perf_counter() - start
        output.seek(0)
        text = output.read()
    if code_of_exit:
        raise DataError(f"{code.splitlines()[0]} failed: {' | '.join(text.strip().splitlines()[-3:])}")
    return Step(seconds, _cpu_of_children() - cpu, text, peaks)


def _cpu_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


@contextmanager
def _watched(pid: int, folder: Path, interval: float) -> Iterator[Peaks]:
    peaks, done = Peaks(), threading.Event()

    def watch() -> None:
        peaks.look(pid, folder)
        while not done.wait(interval):
            peaks.look(pid, folder)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peaks
    finally:
        done.set()
        thread.join()


def build(tree: Path, work: Path, count: int, workers: int, interval: float) -> dict[str, Any]:
    """Build with the stub recipe, twice; returns what it took."""
    out, events = work / "out", work / "events"
    options = ["--module", "pipelines", "BuildCelebAHQ", "--celeba-dir", tree, "--output-dir", out, "--restore", "none"]
    options += ["--local-scheduler", "--resolution", SIDE, "--count", count, "--jobs", 1, "--workers", workers]
    began = time.time()
    first = run(LUIGI, options, out, interval, **{EVENTS: events})
    rows = [json.loads(line) for line in events.read_text().splitlines()]
    stages: dict[str, dict[str, float]] = {}
    for name in dict.fromkeys(row["task"] for row in rows):
        starts, ends = ([r for r in rows if (r["task"], r["event"]) == (name, kind)] for kind in ("start", "end"))
        stages[name] = {
            "tasks": len(starts),
            "seconds": max(row["time"] for row in ends) - min(row["time"] for row in starts),
            "cpu": sum(row["cpu"] for row in ends) - sum(row["cpu"] for row in starts),
        }
    again = run(LUIGI, options, out, interval, **{EVENTS: events})
    tasks = sum(stage["tasks"] for stage in stages.values())
    in_tasks = sum(stage["cpu"] for stage in stages.values())
    files, disk = _usage(out)
    return {
        "tasks": tasks,
        "seconds": first.seconds,
        "cpu": first.cpu,
        "seconds_before_the_first_task": min(row["time"] for row in rows) - began,
        "stages": stages,
        # What the same command takes for a finished build, it took here, too: to start, read and look at all tasks.
        "cpu_of_luigi_per_task": (first.cpu - in_tasks - again.cpu) / tasks,
        "seconds_of_the_same_command_again": again.seconds,
        "cpu_of_the_same_command_again": again.cpu,
        "memory_of_the_largest_process": first.peaks.process,
        "memory_of_all_processes": first.peaks.all,
        "files_at_most": first.peaks.files,
        "files_at_the_end": files,
        "bytes_at_the_end": disk,
    }


def join_and_verify(work: Path, images: int, shard_size: int, interval: float) -> dict[str, Any]:
    """Write, join and verify random images; returns what each step took."""
    folder, whole = work / "images", work / "images" / "whole.h5"
    folder.mkdir()
    steps = {
        "write": (WRITE, (folder, images, shard_size)),
        "join": (JOIN, (folder, whole)),
        "verify": (VERIFY, (whole,)),
    }
    found: dict[str, Any] = {"images": images}
    for name, (code, arguments) in steps.items():
        step = run(code, arguments, folder, interval)
        found[name] = {
            "seconds": step.seconds,
            "cpu": step.cpu,
            "memory": step.peaks.process,
            "disk_at_most": step.peaks.disk,
        }
    found["bytes"] = whole.stat().st_size
    for name in steps:
        found[name]["bytes_per_second"] = found["bytes"] / found[name]["seconds"]
    return found


def table(results: dict[str, Any]) -> str:
    """Return the results as lines for people."""
    read, built, joined = results["read_tree"], results["build"], results["join"]
    lines = [
        f"read_tree    {read['seconds']:7.2f} s  {results['rows']:,} rows, {read['memory'] / 1e6:.0f} MB",
        f"build        {built['seconds']:7.2f} s  {built['cpu']:.1f} s of CPU, {built['tasks']} tasks by "
        f"{results['workers']} workers, Luigi {1e3 * built['cpu_of_luigi_per_task']:.0f} ms of CPU per task",
        f"  to begin   {built['seconds_before_the_first_task']:7.2f} s",
    ]
    for name, stage in built["stages"].items():
        lines.append(f"  {name:10} {stage['seconds']:7.2f} s  {stage['cpu']:.1f} s of CPU, {stage['tasks']} tasks")
    lines += [
        f"  again      {built['seconds_of_the_same_command_again']:7.2f} s  "
        f"{built['cpu_of_the_same_command_again']:.1f} s of CPU, the same command when all is done",
        f"  memory {built['memory_of_the_largest_process'] / 1e6:.0f} MB in the largest process, "
        f"{built['memory_of_all_processes'] / 1e6:.0f} MB in all",
        f"  files {built['files_at_most']} at most, {built['files_at_the_end']} at the end "
        f"({built['bytes_at_the_end'] / 1e6:.1f} MB)",
    ]
    for name in ("write", "join", "verify"):
        step = joined[name]
        lines.append(
            f"{name:12} {step['seconds']:7.2f} s  {step['cpu']:.1f} s of CPU, {joined['images']:,} images, "
            f"{step['bytes_per_second'] / 1e6:.0f} MB/s, {step['memory'] / 1e6:.0f} MB of memory, at most "
            f"{step['disk_at_most'] / 1e9:.2f} GB on the disk ({joined['bytes'] / 1e9:.2f} GB file)"
        )
    return "\n".join(lines)


@click.command(cls=OneLineCommand, help=__doc__)
@click.option("--rows", default=20_000, show_default=True, help="Photos of the tree.")
@click.option("--count", default=3_000, show_default=True, help="Faces of the build.")
@click.option("--images", default=3_000, show_default=True, help="Images of 256 x 256 that are joined; 0.26 MB each.")
@click.option("--shard-size", default=1_000, show_default=True, help="Images in each of the files that are joined.")
@click.option("--workers", default=2, show_default=True, help="Processes of the build.")
@click.option("--interval", default=0.5, show_default=True, help="Seconds between two looks at memory and disk.")
@click.option("--folder", type=click.Path(path_type=Path), help="Where the temporary files go.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="File for the results.")
def main(
    rows: int,
    count: int,
    images: int,
    shard_size: int,
    workers: int,
    interval: float,
    folder: Path | None,
    json_path: Path | None,
) -> None:
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        work = Path(temporary)
        tree = write_tree(work / "CelebA", rows)
        seconds, memory = run(READ, [tree], tree / "kept", interval).output.split()
        results = {
            "rows": rows,
            "workers": workers,
            "read_tree": {"seconds": float(seconds), "memory": 1024 * int(memory)},
            "build": build(tree, work, count, workers, interval),
            "join": join_and_verify(work, images, shard_size, interval),
        }
    if json_path is not None:
        json_path.write_text(json.dumps(results, indent=1) + "\n")
    click.echo(table(results))


if __name__ == "__main__":
    main()
