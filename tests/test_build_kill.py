"""`kill -9` at random moments, then the same command: the same bytes, finished shards kept, nothing left behind."""

import os
import re
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datatools.pyramid import verify
from tests.builds import HANGS, command, datasets, digest, environment, file_names, file_states

OPTIONS = ("--selection", "all", "--workers", 2, "--jobs", 2)
KILLS = 14
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


def test_kills_at_random_moments(tiny_tree: Path, tmp_path: Path) -> None:
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
    while kills < KILLS:
        assert attempt < 6 * KILLS
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


def test_workers_end_with_a_killed_parent(tiny_tree: Path, tmp_path: Path) -> None:
    """Only the leader dies, as when the system runs out of memory: nobody may keep the folder locked."""
    process = start(tiny_tree, tmp_path / "out", tmp_path)
    assert process.stderr is not None
    with process, process.stderr as log:
        assert any("ScoreShard" in line for line in log)
        process.send_signal(signal.SIGKILL)
        assert wait_until_gone(process.pid, HANGS)
    again = start(tiny_tree, tmp_path / "out", tmp_path)
    stderr = again.communicate(timeout=HANGS)[1]
    assert again.returncode == 0, stderr
