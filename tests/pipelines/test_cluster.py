"""Several `luigi` processes, as on several machines, make one build: luigid hands the tasks out."""

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


def start(tree: Path, out: Path, url: str, *options: object) -> subprocess.Popen[str]:
    """A worker in a process group of its own, in a folder whose luigi.cfg has the local scheduler."""
    return subprocess.Popen(
        of_cluster(tree, out, url, *options),
        cwd=Path(__file__).parents[2],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_workers_of_which_one_is_killed(scheduler: str, tmp_path: Path) -> None:
    tree, out = make_tree(tmp_path / "tree", make_photos()), tmp_path / "out"
    build(tree, tmp_path / "alone", *OPTIONS)
    workers = [start(tree, out, scheduler) for _ in range(3)]
    for worker in workers:  # all of them are at work when one is killed in a task
        assert worker.stderr is not None
        assert any(line.rstrip().endswith(" running") for line in worker.stderr)
    os.killpg(workers[0].pid, signal.SIGKILL)
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
    while any(worker.poll() is None for worker in workers[1:]):
        assert _answers(f"{scheduler}/api/graph")  # for which luigid looks for dead workers, else once a minute
        time.sleep(0.5)
    logs = []
    for worker in workers:
        printed, log = worker.communicate()
        logs.append(log)
        assert worker is workers[0] or (worker.returncode == 0 and f"{out / 'celebahq.h5'}\n" in printed), log
    for once in ("Join", "Verify", "Report"):
        assert sum(log.count(f"{once} running") for log in logs) == 1
    assert datasets(out / "celebahq.h5") == datasets(tmp_path / "alone" / "celebahq.h5")
    assert file_names(out) == file_names(tmp_path / "alone")
