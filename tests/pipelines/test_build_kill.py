"""Kill or interrupt a build, then run the same command: the same bytes, finished work kept, nothing left behind."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from datatools.pyramid import Pyramid, verify
from pipelines.interruption import SAME_KEYSTROKE
from tests.support.builds import CHOSEN, HANGS, build, command, datasets, digest, environment, file_names, file_states
from tests.support.tries import Tries

OPTIONS = ("--selection", "all", "--workers", 2, "--jobs", 2)
LEAST_DELAY = 0.1
"""Seconds: tasks that start side by side have no time of their own in the log."""

FINISHED_SHARD = re.compile(r"work/(scores/[^.]*\.npz|faces/[^.]*\.rgb|build/[^.]*\.h5)")


@dataclass
class Stage:
    """A line of the log that tells of a task's start, and the seconds from there to the next line."""

    line: str
    seconds: float


def start(tree: Path, out: Path, temporary: Path) -> subprocess.Popen[str]:
    """The build in a process group of its own, its log readable as it goes."""
    return subprocess.Popen(
        command(tree, out, *OPTIONS),
        cwd="/",
        env=environment(TMPDIR=temporary, JOBLIB_TEMP_FOLDER=temporary, PYTHONUNBUFFERED=1),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def undisturbed(tree: Path, out: Path, temporary: Path) -> list[Stage]:
    """Build to the end; returns its stages, the start of the program first."""
    stages = [Stage("", 0)]
    begin = time.monotonic()
    process = start(tree, out, temporary)
    assert process.stderr is not None
    with process, process.stderr as log:
        for line in log:
            if line.rstrip().endswith((" running", "Luigi Execution Summary =====")):
                stages[-1].seconds = time.monotonic() - begin
                begin = time.monotonic()
                stages.append(Stage(line.rstrip(), 0))
    assert process.returncode == 0
    return [stage for stage in stages if not stage.line.endswith("=")]


def group_members(group: int) -> list[int]:
    """Live processes of a process group."""
    members = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                state, _parent, its_group = (folder / "stat").read_text().rpartition(")")[2].split()[:3]
            except OSError:
                continue
            if int(its_group) == group and state != "Z":
                members.append(int(folder.name))
    return members


def wait_until_gone(group: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while group_members(group) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not group_members(group)


def build_and_kill(tree: Path, out: Path, temporary: Path, stage: Stage, delay: float) -> list[int] | None:
    """Kill the build's process group `delay` seconds after the stage's line. None: it had finished by then."""
    process = start(tree, out, temporary)
    assert process.stderr is not None
    with process, process.stderr as log:
        reached = not stage.line or any(line.rstrip() == stage.line for line in log)
        try:
            process.wait(delay if reached else HANGS)
        except subprocess.TimeoutExpired:
            members = group_members(process.pid)
            os.killpg(process.pid, signal.SIGKILL)
            log.read()  # ends when the last process that writes to it does
        else:
            assert process.returncode == 0
            return None
    assert wait_until_gone(process.pid, HANGS)
    return members


def finished_shards(out: Path) -> dict[str, tuple[int, int]]:
    """Faces are written before their scores, and made again with them if a kill came between."""
    states = file_states(out)
    found = {name: state for name, state in states.items() if FINISHED_SHARD.fullmatch(name)}
    scored = {Path(name).stem for name in found if name.startswith("work/scores")}
    unscored = {
        name for name in found if name.startswith("work/faces") and Path(name).stem.rpartition("-")[0] not in scored
    }
    return {name: state for name, state in found.items() if name not in unscored}


def scores_of(shards: dict[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
    return {name: state for name, state in shards.items() if name.startswith("work/scores")}


def left_in_shared_memory(pids: set[int]) -> list[str]:
    """Semaphores and folders whose name has one of these process numbers."""
    folder = Path("/dev/shm")
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return [name for name in names if pids & {int(number) for number in re.findall(r"\d+", name)}]


def test_kills_at_random_moments(tiny_tree: Path, tmp_path: Path, tries: Tries) -> None:
    goal = tries.count(14, 60)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    reference = tmp_path / "reference"
    stages = undisturbed(tiny_tree, reference, temporary)
    names = " ".join(stage.line for stage in stages)
    assert all(name in names for name in ("ScoreShard", "Rank", "BuildShard", "Join", "Verify", "Report"))
    expected = datasets(reference / "celebahq.h5")

    random = np.random.default_rng(9)
    kills, attempt, pids, hit = 0, 0, set(), set()
    out = tmp_path / "out0"
    while kills < goal:
        assert attempt < 6 * goal
        stage = stages[attempt % len(stages)]
        before = finished_shards(out)
        killed = build_and_kill(tiny_tree, out, temporary, stage, random.uniform(0, max(stage.seconds, LEAST_DELAY)))
        attempt += 1
        after = finished_shards(out)
        unfinished = sorted(path.name for path in out.rglob("*.partial"))
        print(f"{stage.line[6:] or 'start'}: {len(after)} shards finished, unfinished: {', '.join(unfinished)}")
        if killed is None:
            # Finished before its turn to be killed: check it and begin another.
            assert datasets(out / "celebahq.h5") == expected
            assert file_names(out) == file_names(reference)
            out = tmp_path / f"out{attempt}"
            continue
        if any((out / "work").glob("reported-*")):  # cleaning up may have begun: only scores stay
            before = scores_of(before)
        joined = [name for name in before if name.startswith("work/build") and name not in after]
        finished = (out / "celebahq.h5").exists()
        assert finished or all((out / f"{name}.joined").exists() for name in joined), stage.line
        before = {name: state for name, state in before.items() if name not in joined}
        assert {name: after.get(name) for name in before} == before, stage.line
        kills += 1
        pids.update(killed)
        hit.add(re.sub(r"INFO: (\w*).*", r"\1", stage.line))
    assert len(hit) >= 5, hit  # the kills were spread over the stages

    before = finished_shards(out)
    process = start(tiny_tree, out, temporary)
    log = process.communicate(timeout=HANGS)[1]
    assert process.returncode == 0, log
    assert scores_of(before).items() <= file_states(out).items()
    assert datasets(out / "celebahq.h5") == expected
    assert verify(out / "celebahq.h5") == []
    for name in ("celebahq.h5", "ranking.csv", "rejected.csv"):
        assert digest(out / name) == digest(reference / name)
    assert file_names(out) == file_names(reference)
    assert not [path for path in out.rglob("*") if ".partial" in path.name or ".previous" in path.name]
    assert list(temporary.rglob("*")) == []
    assert left_in_shared_memory(pids) == []
    tries.record("kill -9 of a build at random moments", goal, "finished shards kept; the same bytes in the end")


KILLED_IN_THE_JOIN = """
import os, sys
from pathlib import Path
import luigi.cmdline

unlink = Path.unlink

def removed(path, *options, **more):
    unlink(path, *options, **more)
    if path.name.startswith("00000-") and path.parent.name == "build" and path.suffix == ".h5":
        os.kill(os.getpid(), 9)

Path.unlink = removed
luigi.cmdline.luigi_run(sys.argv[1:])
"""


def test_a_compressed_build_killed_when_its_first_shard_is_gone(tiny_tree: Path, tmp_path: Path) -> None:
    options = ("--count", CHOSEN, "--compression", "gzip")
    for name in ("undisturbed", "out"):
        words = command(tiny_tree, tmp_path / name, *options, task="Verify")[1:]
        if name == "out":
            code = [sys.executable, "-c", KILLED_IN_THE_JOIN, *words]
            done = subprocess.run(code, env=environment(), capture_output=True, text=True, timeout=HANGS, check=False)
            assert done.returncode == -signal.SIGKILL, done.stderr
            assert [path.suffix for path in sorted((tmp_path / name / "work/build").iterdir())] == [".joined", ".h5"]
        done = build(tiny_tree, tmp_path / name, *options, task="Verify")
    assert "INFO: BuildShard" not in done.stderr
    assert digest(tmp_path / "out" / "celebahq.h5") == digest(tmp_path / "undisturbed" / "celebahq.h5")


# --- one process is asked to end, or killed, while photos are under way -----------------------------------------------

LAUNCHER = """
import hashlib, sys, time
import luigi.cmdline
from pipelines import interruption, photo_work

log, slow, opening, how = sys.argv[1:5]
read_photo = photo_work.read_photo
if how == "native for ever":
    interruption.DEADLINE = 3600.0

def note(path):
    with open(log, "a+") as stream:
        stream.write(path.name + "\\n")
        stream.seek(0)
        is_slow = path.name == slow and stream.read().split().count(slow) == int(opening)
    if is_slow and how == "asleep":
        time.sleep(600)
    elif is_slow:  # in native code, without a look at signals
        hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)
    return read_photo(path)

photo_work.read_photo = note
luigi.cmdline.luigi_run(sys.argv[5:])
"""
"""`luigi`, with a list of the photos that are opened, and one that takes ten minutes."""

NEVER = 300
"""Seconds until what waits for the slow photo would still be there."""

SLOW = "900003.jpg"
"""The last photo of the second score shard of three."""


@dataclass
class NotedBuild:
    """A build that lists the photos that it opens, in a process group of its own."""

    process: subprocess.Popen[str]
    log: Path

    def opened(self) -> list[str]:
        """Names of the photos opened so far."""
        return self.log.read_text().split()

    def end(self, number: int, *, group: bool = False) -> str:
        """Send the signal to the first process, or all; returns standard error. All processes must have ended."""
        assert self.process.poll() is None
        (os.killpg if group else os.kill)(self.process.pid, number)
        error = self.process.communicate(timeout=NEVER)[1]  # ends with the last process that could write there
        assert wait_until_gone(self.process.pid, NEVER)
        return error


@contextmanager
def noted_build(
    tree: Path, out: Path, *options: object, slow: str = "", opening: int = 1, how: str = "asleep"
) -> Iterator[NotedBuild]:
    """Start a build and wait until it opens the photo `slow`, where one is named, for the n-th time."""
    log = out.with_name("photos.txt")
    log.write_text("")
    with subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, str(log), slow, str(opening), how, *command(tree, out, *options)[1:]],
        cwd="/",
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=take_signals,
    ) as process:
        build = NotedBuild(process, log)
        try:
            while slow and build.opened().count(slow) < opening:
                assert process.poll() is None
                time.sleep(0.02)
            yield build
        finally:
            for left in group_members(process.pid):
                os.kill(left, signal.SIGKILL)


def take_signals() -> None:
    """As a terminal starts a program: tests in the background have SIGINT ignored, those under nohup SIGHUP."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def interruption_lines(error: str) -> list[str]:
    """Return what the line about a signal begins with; others may be Luigi's on tasks and progress."""
    assert "Traceback" not in error
    assert "Exception" not in error
    lines = [line for line in error.splitlines() if not line.startswith(("INFO: ", "score: ", "build: "))]
    assert all("run the same command again to resume" in line for line in lines)
    return [line.partition(":")[0] for line in lines]


@pytest.mark.parametrize("options", ["--workers 2 --jobs 2", "--workers 1 --jobs 2"])
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGKILL", "SIGINT"])
def test_no_process_outlives_the_first(
    name: str, options: str, tiny_tree: Path, finished_build: Path, tmp_path: Path
) -> None:
    number = signal.Signals[name]
    out = tmp_path / "out"
    words = ("--count", CHOSEN, *options.split())
    with noted_build(tiny_tree, out, *words, slow=SLOW) as interrupted:
        assert len(group_members(interrupted.process.pid)) >= (4 if "--workers 2" in options else 3)
        error = interrupted.end(number)
    if number == signal.SIGKILL:
        assert interrupted.process.returncode == -number
    else:
        assert interrupted.process.returncode == 128 + number
        assert interruption_lines(error) == [f"interrupted ({name})"]
        assert not list(out.rglob("*.partial"))
    build(tiny_tree, out, *words, task="Verify")  # at once: nobody holds the folder
    assert digest(out / "celebahq.h5") == digest(finished_build / "celebahq.h5")


@pytest.mark.parametrize(
    ("options", "how"),
    [("--workers 2 --jobs 2", "asleep"), ("--workers 2 --jobs 1", "native"), ("--workers 1 --jobs 1", "native")],
)
def test_ctrl_c_on_a_terminal(options: str, how: str, tiny_tree: Path, tmp_path: Path) -> None:
    """All processes get the signal; those in native code, as in a network's layer, are killed after a few seconds."""
    with noted_build(tiny_tree, tmp_path / "out", *options.split(), "--count", CHOSEN, slow=SLOW, how=how) as stopped:
        error = stopped.end(signal.SIGINT, group=True)
    assert stopped.process.returncode == 130
    assert interruption_lines(error) == ["interrupted (SIGINT)"]


def test_a_second_ctrl_c_ends_at_once(tiny_tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with noted_build(tiny_tree, out, "--count", CHOSEN, slow=SLOW, how="native for ever") as stopped:
        os.killpg(stopped.process.pid, signal.SIGINT)
        assert stopped.process.stderr is not None
        while "interrupted" not in stopped.process.stderr.readline():
            assert stopped.process.poll() is None
        time.sleep(2 * SAME_KEYSTROKE)
        assert stopped.end(signal.SIGINT, group=True) == ""
    assert stopped.process.returncode == 130


# --- photos of a shard that was not finished --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def few_chosen(tiny_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed build of three photos: too few for the first pass to keep its faces."""
    out = tmp_path_factory.mktemp("few") / "out"
    build(tiny_tree, out, "--count", 3, task="Verify")
    return out


@pytest.mark.parametrize(
    ("stage", "name"),
    [("score, faces kept", "SIGKILL"), ("score", "SIGINT"), ("build", "SIGTERM"), ("build", "SIGKILL")],
)
def test_finished_photos_are_not_made_again(
    stage: str, name: str, tiny_tree: Path, finished_build: Path, few_chosen: Path, tmp_path: Path
) -> None:
    out, reference = tmp_path / "out", finished_build if stage == "score, faces kept" else few_chosen
    with Pyramid(reference / "celebahq.h5") as faces:
        chosen = faces.provenance("file_name").tolist()
    options = ("--count", len(chosen), "--workers", 1, "--jobs", 1)
    slow, opening = (chosen[-1], 2) if stage == "build" else (SLOW, 1)
    with noted_build(tiny_tree, out, *options, slow=slow, opening=opening) as stopped:
        stopped.end(signal.Signals[name], group=name == "SIGINT")
    third = [] if any((out / "work" / "scores").glob("00002-*.npz")) else ["900004.jpg", "900005.jpg"]  # in any order
    states = {path: state for path, state in file_states(out).items() if path.endswith((".npz", ".rgb"))}
    with noted_build(tiny_tree, out, *options) as resumed:
        error = resumed.process.communicate(timeout=HANGS)[1]
    assert resumed.process.returncode == 0, error
    again = {"score, faces kept": [], "score": chosen, "build": [slow]}[stage]
    rest = [] if stage == "build" else [SLOW, *third]
    assert sorted(resumed.opened()) == sorted(rest + again)
    assert states.items() <= {**states, **file_states(out)}.items()
    for file in ("celebahq.h5", "ranking.csv", "rejected.csv"):
        assert digest(out / file) == digest(reference / file)
    assert not list(out.rglob("*.unfinished"))
