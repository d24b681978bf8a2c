"""Several `luigi` processes, as on several machines, make one build: luigid hands the tasks out."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.builds import HANGS, build, command, datasets, environment, file_names, make_photos, make_tree, run
from tests.support.tries import FULL, Tries

OPTIONS = ("--selection", "all", "--shard-size", 1)


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a luigid that soon gives up workers it no longer hears of."""
    folder = tmp_path_factory.mktemp("luigid")
    (folder / "luigi.cfg").write_text("[scheduler]\nretry_delay = 1\nworker_disconnect_delay = 4\n")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    words = ["--address", "127.0.0.1", "--port", str(port), "--state-path", "state"]
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(
            [str(Path(sys.executable).with_name("luigid")), *words],
            cwd=folder,
            env=environment(),
            stdout=log,
            stderr=log,
        )
    while not _answers(f"{url}/api/graph"):
        assert process.poll() is None, (folder / "log.txt").read_text()
        time.sleep(0.1)
    yield url
    process.kill()
    process.wait()


def _answers(url: str) -> bool:
    with suppress(OSError):
        urllib.request.urlopen(url, timeout=HANGS).close()
        return True
    return False


def of_cluster(tree: Path, out: Path, url: str, *options: object) -> list[str]:
    words = command(tree, out, *OPTIONS, *options)
    words.remove("--local-scheduler")
    return [*words, "--scheduler-url", url]


WAITING = """
import sys, time
from pathlib import Path
import luigi.cmdline
from pipelines import find_faces, photo_work

folder = Path(sys.argv[1])

def wait_in(module, step):
    read_photo = module.read_photo

    def wait_and_read(path):
        (folder / f"{step} begun").touch()
        while not (folder / f"{step} ready").exists():
            time.sleep(0.05)
        return read_photo(path)

    module.read_photo = wait_and_read

wait_in(find_faces, "search")
wait_in(photo_work, "faces")
luigi.cmdline.luigi_run(sys.argv[2:])
"""
"""`luigi` that waits at its first photo of the search, and of the faces, for a file in a folder, having written one."""


def start(words: list[str]) -> subprocess.Popen[str]:
    """A worker in a process group of its own, in a folder whose luigi.cfg has the local scheduler."""
    return subprocess.Popen(
        words,
        cwd=Path(__file__).parents[2],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def start_waiting(words: list[str], folder: Path) -> subprocess.Popen[str]:
    """A worker that waits in its first task of the search, and of the faces; see `WAITING`."""
    folder.mkdir()
    return start([sys.executable, "-c", WAITING, str(folder), *words[1:]])


def until_waiting(worker: subprocess.Popen[str], folder: Path, step: str) -> None:
    deadline = time.monotonic() + HANGS
    while not (folder / f"{step} begun").exists():
        assert worker.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)


def start_in_a_task(words: list[str], folder: Path) -> subprocess.Popen[str]:
    """A worker that is in a task when this returns, and stays there until the file `faces ready` is in the folder."""
    worker = start_waiting(words, folder)
    until_waiting(worker, folder, "faces")
    return worker


def until_at_work(worker: subprocess.Popen[str]) -> None:
    assert worker.stderr is not None
    assert any(line.rstrip().endswith(" running") for line in worker.stderr)


def test_workers_of_which_one_is_killed(scheduler: str, tmp_path: Path, tries: Tries) -> None:
    tree, count = make_tree(tmp_path / "tree", make_photos()), tries.count(1, 4)
    build(tree, tmp_path / "alone", *OPTIONS)
    for attempt in range(count):
        out = tmp_path / f"out{attempt}"
        kill_one_of_three(of_cluster(tree, out, scheduler), scheduler, tmp_path / f"waiting{attempt}", tree, out)
        assert datasets(out / "celebahq.h5") == datasets(tmp_path / "alone" / "celebahq.h5")
        assert file_names(out) == file_names(tmp_path / "alone")
    outcome = "the others did its task; the same bytes in the end"
    tries.record("a machine of a luigid cluster that is killed in a task", count, outcome)


def kill_one_of_three(words: list[str], scheduler: str, waiting: Path, tree: Path, out: Path) -> None:
    """Kill a worker in its first task; others finish the build, and builds that do not belong to it are refused."""
    workers = [start_in_a_task(words, waiting), start(words)]
    until_at_work(workers[1])  # before a third one can take all tasks
    workers.append(start(words))
    refused = run(tree, out, *OPTIONS)  # with a scheduler of its own
    assert refused.returncode == 1
    assert f"error: another build is running in {out}; wait for it or choose another folder" in refused.stderr
    with pytest.raises(subprocess.CalledProcessError) as other:
        subprocess.run(
            of_cluster(tree, out, scheduler, "--min-level", 1),
            cwd="/",
            env=environment(),
            check=True,
            capture_output=True,
            text=True,
            timeout=HANGS,
        )
    assert "error: another build, with other settings or a scheduler of its own, is running in" in other.value.stderr
    os.killpg(workers[0].pid, signal.SIGKILL)
    deadline = time.monotonic() + HANGS
    while any(worker.poll() is None for worker in workers[1:]):
        assert time.monotonic() < deadline
        assert _answers(f"{scheduler}/api/graph")  # for which luigid looks for dead workers, else once a minute
        time.sleep(0.5)
    logs = []
    for worker in workers:
        printed, log = worker.communicate(timeout=HANGS)
        logs.append(log)
        assert worker is workers[0] or (worker.returncode == 0 and f"{out / 'celebahq.h5'}\n" in printed), log
    for once in ("Join", "Verify", "Report"):
        assert sum(log.count(f"{once} running") for log in logs) == 1


def test_all_workers_make_faces_after_a_search(scheduler: str, tmp_path: Path) -> None:
    check = ("--check-landmarks", "repair", "--check-with", "mtcnn")
    tree, out = make_tree(tmp_path / "tree", make_photos()), tmp_path / "out"
    build(tree, tmp_path / "alone", *OPTIONS, *check)
    folders = [tmp_path / "first", tmp_path / "second"]
    workers = [start_waiting(of_cluster(tree, out, scheduler, *check), folder) for folder in folders]
    try:
        for step in ("search", "faces"):
            for worker, folder in zip(workers, folders, strict=True):
                until_waiting(worker, folder, step)
            for folder in folders:
                (folder / f"{step} ready").touch()
        for worker in workers:
            printed, log = worker.communicate(timeout=HANGS)
            assert worker.returncode == 0, log
            assert f"{out / 'celebahq.h5'}\n" in printed
            assert "ScoreShard" in log
    finally:
        for worker in workers:
            worker.kill()
    assert datasets(out / "celebahq.h5") == datasets(tmp_path / "alone" / "celebahq.h5")
    assert file_names(out) == file_names(tmp_path / "alone")


def workers_of(url: str) -> int:
    """Return how many workers luigid believes to be alive; it looks for dead ones when it is asked."""
    with urllib.request.urlopen(f"{url}/api/worker_list", timeout=HANGS) as answer:
        return len(json.load(answer)["response"])


@pytest.mark.skipif(not FULL, reason="waits until luigid gives a worker up: `make faults` tries it")
def test_a_worker_that_stands_still_and_comes_back(scheduler: str, tmp_path: Path, tries: Tries) -> None:
    tree = make_tree(tmp_path / "tree", make_photos())
    build(tree, tmp_path / "alone", *OPTIONS)
    count = tries.count(1, 3)
    for attempt in range(count):
        out = tmp_path / f"out{attempt}"
        words, waiting = of_cluster(tree, out, scheduler), tmp_path / f"waiting{attempt}"
        workers = [start_in_a_task(words, waiting), start(words)]
        until_at_work(workers[1])
        os.killpg(workers[0].pid, signal.SIGSTOP)
        deadline = time.monotonic() + HANGS
        while workers_of(scheduler) > 1:
            assert time.monotonic() < deadline
            time.sleep(0.5)
        (waiting / "faces ready").touch()
        os.killpg(workers[0].pid, signal.SIGCONT)
        logs = []
        for worker in workers:
            _, log = worker.communicate(timeout=HANGS)
            logs.append(log)
            assert "Traceback" not in log
            assert worker.returncode == 0, log
        for once in ("Join", "Verify", "Report"):
            assert sum(log.count(f"{once} running") for log in logs) == 1
        assert datasets(out / "celebahq.h5") == datasets(tmp_path / "alone" / "celebahq.h5")
        assert file_names(out) == file_names(tmp_path / "alone")
    outcome = "its task was done once; the same bytes in the end"
    tries.record("a machine of a luigid cluster that stands still, is given up and comes back", count, outcome)
