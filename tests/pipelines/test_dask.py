"""Photos worked on by a Dask cluster of real processes: the same bytes, in order, whatever happens to a worker."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path

import pytest

from datatools.errors import DataError
from pipelines.cluster import CHUNK, Cluster
from pipelines.photo_files import read_photo
from tests.support.builds import build, datasets, environment, file_names, run
from tests.support.tries import FULL, Tries

pytest.importorskip("distributed", reason="distributed is not installed")


@contextmanager
def running(folder: Path, workers: int, **extra: object) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """A scheduler, by its address, and workers that are not started again when they end."""
    file = folder / "scheduler.json"
    with ExitStack() as stack:

        def start(*words: str) -> subprocess.Popen[bytes]:
            command = [sys.executable, "-m", "dask", *words, "--no-dashboard"]
            process = subprocess.Popen(command, cwd=folder, env=environment(**extra), stderr=subprocess.DEVNULL)
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        scheduler = start("scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(file))
        while not file.exists() or not file.read_text():
            assert scheduler.poll() is None
            time.sleep(0.1)
        address = json.loads(file.read_text())["address"]
        yield address, [start("worker", address, "--no-nanny", "--nthreads", "1") for _ in range(workers)]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a scheduler with one worker."""
    with running(tmp_path_factory.mktemp("dask"), 1) as (address, _):
        yield address


def prepare(item: Path) -> Path:
    return item


def compute(items: list[Path]) -> list[int]:
    time.sleep(0.02 * len(items))
    return [len(items)] * len(items)


def finish(item: Path, group: int) -> tuple[str, int, int]:
    return item.name, group, os.getpid()


def finish_with_bytes(item: Path, _group: int) -> tuple[str, bytes]:
    return item.name, read_photo(item)[0]


def test_order_and_groups_when_a_worker_is_killed(tmp_path: Path, tries: Tries) -> None:
    count = tries.count(1, 5)
    for attempt in range(count):
        (tmp_path / str(attempt)).mkdir()
        with running(tmp_path / str(attempt), 2) as (address, workers):
            check_order_and_groups(address, workers)
    tries.record("a Dask worker that is killed", count, "another one did its work; same results, in order")


def check_order_and_groups(address: str, workers: list[subprocess.Popen[bytes]]) -> None:
    items = [Path(str(i)) for i in range(150)]
    done: list[int] = []
    results = Cluster(address).map_steps(
        prepare, compute, finish, items, lambda item: item, size=3, progress=done.append
    )
    first = [next(results)]
    victim = next(worker for worker in workers if worker.pid == first[0][2])
    victim.kill()
    rest = [*first, *results]
    assert [name for name, _, _ in rest] == [item.name for item in items]
    assert {group for _, group, _ in rest} == {3}
    assert {pid for _, _, pid in rest[-CHUNK:]} == {worker.pid for worker in workers if worker is not victim}
    assert len(done) == len(items)


@pytest.mark.skipif(not FULL, reason="waits until the scheduler gives a worker up: `make faults` tries it")
def test_a_worker_that_stands_still_and_comes_back(tmp_path: Path, tries: Tries) -> None:
    items = [Path(str(i)) for i in range(150)]
    count = tries.count(1, 3)
    for attempt in range(count):
        (tmp_path / str(attempt)).mkdir()
        with running(tmp_path / str(attempt), 2, DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL="15s") as (address, _):
            results = Cluster(address).map_steps(prepare, compute, finish, items, lambda item: item, size=3)
            done = [next(results)]
            victim = done[0][2]
            os.kill(victim, signal.SIGSTOP)
            done += islice(results, 100)  # what the worker had is done by the other one, once it is given up
            os.kill(victim, signal.SIGCONT)
            done += results
        assert [name for name, _, _ in done] == [item.name for item in items]
        assert {group for _, group, _ in done} == {3}
        assert {pid for _, _, pid in done[60:101]} != {victim}
    outcome = "another one did its work; same results, in order"
    tries.record("a Dask worker that stands still, is given up and comes back", count, outcome)


def test_errors_of_the_work(address: str, tmp_path: Path) -> None:
    results = Cluster(address).map_steps(
        prepare, compute, finish_with_bytes, [tmp_path / "missing.jpg"], lambda item: item, size=1
    )
    with pytest.raises(DataError, match=r"missing.jpg cannot be read: No such file"):
        next(results)


def test_shipped_bytes(address: str, tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(b"bytes")
    elsewhere = Path("/nowhere/photo.jpg")
    read = dict.fromkeys([elsewhere], read_photo(photo))
    cluster = Cluster(address, ships_bytes=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipelines.cluster.read_photo", read.__getitem__)
        results = list(cluster.map_steps(prepare, compute, finish_with_bytes, [elsewhere], lambda item: item, size=1))
    assert results == [("photo.jpg", b"bytes")]


def test_no_scheduler() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipelines.cluster.CONNECT", 0.5)
        with pytest.raises(DataError) as raised:
            Cluster("tcp://127.0.0.1:9").check()
    assert str(raised.value) == (
        "--dask-scheduler tcp://127.0.0.1:9: no Dask scheduler answers there (Timed out trying to connect to "
        "tcp://127.0.0.1:9 after 0.5 s); start one with: dask scheduler"
    )


@pytest.mark.parametrize(
    ("scheme", "message"), [("tls", "check your TLS configuration"), ("tcp", "encryption required")]
)
def test_encryption_is_as_dask_is_configured(scheme: str, message: str) -> None:
    import dask

    with dask.config.set({"distributed.comm.require-encryption": True}), pytest.raises(DataError, match=message):
        Cluster(f"{scheme}://127.0.0.1:9").check()


def test_a_server_that_is_no_scheduler() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipelines.cluster.PATIENCE", 1.0)
        with pytest.raises(DataError, match="what listens there says nothing for 1 s"):
            Cluster(f"tcp://127.0.0.1:{server.getsockname()[1]}").check()


def test_no_workers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with running(tmp_path, 0) as (address, _), pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipelines.cluster.PATIENCE", 1.0)
        with pytest.raises(DataError, match="has no workers; start some: dask worker tcp://"):
            next(Cluster(address).map_steps(prepare, compute, finish, [Path("a")], lambda item: item, size=1))
    assert f"{address} has no workers yet; waiting 1 s for one: dask worker {address}\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (
            ("--engine", "dask"),
            "error: --engine dask: give the address of its scheduler, --dask-scheduler tcp://host:8786",
        ),
        (("--ship-bytes",), "error: --ship-bytes is for --engine dask"),
        (("--dask-scheduler", "tcp://host:1"), "error: --dask-scheduler is for --engine dask"),
    ],
)
def test_half_an_address(options: tuple[str, ...], line: str, tiny_tree: Path, tmp_path: Path) -> None:
    done = run(tiny_tree, tmp_path / "out", "--selection", "all", *options)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (1, line)


def test_a_build_has_the_same_bytes(address: str, tiny_tree: Path, tmp_path: Path) -> None:
    options = ("--selection", "all", "--engine", "dask", "--dask-scheduler", address, "--ship-bytes")
    build(tiny_tree, tmp_path / "dask", *options)
    build(tiny_tree, tmp_path / "alone", "--selection", "all")
    assert datasets(tmp_path / "dask" / "celebahq.h5") == datasets(tmp_path / "alone" / "celebahq.h5")
    assert file_names(tmp_path / "dask") == file_names(tmp_path / "alone")
