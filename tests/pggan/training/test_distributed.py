"""Two processes with half of the minibatch each are one process with all of it."""

import os
import socket
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from datatools.errors import DataError
from pggan.training.checkpoints import checkpoints, load_checkpoint
from pggan.training.distributed import Team, choose_device, join
from pggan.training.networks import build_networks
from pggan.training.options import TrainingOptions
from pggan.training.step import Stepper
from tests.support.builds import HANGS
from tests.support.paths import ROOT
from tests.support.pggan_runs import PRESET, assert_equal_values, config_of, stats_of, write_pyramid

SCRIPT = """
import sys
from contextlib import suppress
from pathlib import Path
import torch
from pggan.training import session
from pggan.training.step import Stepper
from tests.pggan.training.test_distributed import config
from tests.support.pggan_runs import train
torch.set_num_threads(1)
h5, out, kimg, gradients = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
begin, step, found = session.begin, Stepper._gradients, []

def keep(stepper, parameters, *rest):
    stats = step(stepper, parameters, *rest)
    found.append(torch.cat([p.grad.reshape(-1) for p in parameters]))
    if stepper.team.is_main:
        torch.save(found, gradients)
    return stats

def begin_and_keep(run):
    begin(run)
    Stepper._gradients = keep

session.begin = begin_and_keep
train(config(h5, out, kimg))
names = []
for thread in Path("/proc/self/task").iterdir():
    with suppress(OSError):  # threads that end meanwhile are not left behind
        names.append((thread / "comm").read_text())
assert not any("gloo" in name or "tcpstore" in name for name in names), f"left behind: {names}"
"""


def config(h5: Path, out: Path, kimg: float) -> TrainingOptions:
    """Whole stddev groups for two processes: minibatch 8, groups of 4; every picture with a transform of its own."""
    schedule = {"minibatch_base": 8, "total_kimg": kimg}
    return config_of(h5, out, schedule=schedule, augment={"kind": "diffaugment"}, keep=20)


def launch(h5: Path, out: Path, processes: int, kimg: float, gradients: Path) -> None:
    """Trains with that many processes, as torchrun would start them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(processes):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        if processes > 1:
            environment |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}
            environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        command = [sys.executable, "-c", SCRIPT, str(h5), str(out), str(kimg), str(gradients)]
        children.append(
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        )
    for child in children:
        output, _ = child.communicate(timeout=HANGS)
        assert child.returncode == 0, output


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs `one` and `two`, of one and of two processes, and what they found as gradients."""
    path = tmp_path_factory.mktemp("distributed")
    h5 = write_pyramid(path / "ramps.h5")
    for name, processes in (("one", 1), ("two", 2)):
        launch(h5, path / name, processes, 0.048, path / f"{name}.pt")
    return path


def test_gradients_are_those_of_one_process(folder: Path) -> None:
    one, two = (torch.load(folder / f"{name}.pt", weights_only=True) for name in ("one", "two"))
    assert len(one) == len(two) > 8
    for step in (0, 1):  # before Adam, which turns the last bits of small gradients into steps of full size
        assert float(one[step].norm()) > 0
        assert float((one[step] - two[step]).norm() / one[step].norm()) < 1e-6


def test_runs_agree_and_one_process_writes(folder: Path) -> None:
    one, two = stats_of(folder / "one"), stats_of(folder / "two")
    assert [line["images"] for line in one] == [line["images"] for line in two]
    for first, second in zip(one, two, strict=True):
        assert first["loss"]["d_loss"] == pytest.approx(second["loss"]["d_loss"], rel=1e-3, abs=1e-3)
        assert first["loss"].keys() == second["loss"].keys() >= {"r_t"}
    assert (folder / "two" / "log.txt").read_text().count("finished after") == 1


def test_goes_on_with_another_number_of_processes(folder: Path) -> None:
    last = load_checkpoint(checkpoints(folder / "two" / "checkpoints")[0])
    launch(folder / "ramps.h5", folder / "two", 1, 0.08, folder / "after.pt")
    log = (folder / "two" / "log.txt").read_text()
    assert f"resumed from {last['images']} images" in log
    assert "finished after 80 images" in log
    launch(folder / "ramps.h5", folder / "two", 2, 0.112, folder / "after.pt")
    assert "finished after 112 images" in (folder / "two" / "log.txt").read_text()
    assert_equal_values(
        last, load_checkpoint(next(c for c in checkpoints(folder / "two" / "checkpoints") if c.images == 48))
    )


def test_flat_sum_of_one_process_changes_nothing() -> None:
    values = [torch.ones(2, 3), torch.zeros(0), torch.full((), 4.0)]
    Team().sum(values)
    assert torch.equal(values[0], torch.ones(2, 3))
    assert Team().agree("mine") == "mine"
    assert Team(rank=1, size=2).is_main is False


def test_devices_are_chosen_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device("auto") == torch.device("cpu")
    with pytest.raises(DataError, match="--device cuda"):
        choose_device("cuda")
    with pytest.raises(DataError, match="--device mps"):
        choose_device("mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert choose_device("auto") == torch.device("cuda", 1)
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(DataError, match="3 processes for 2 CUDA devices"):
        choose_device("cuda")


class Group:
    """What `join` does with NCCL, on a machine that has none."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        self.WORLD = SimpleNamespace(abort=partial(self.calls.append, "abort"))
        monkeypatch.setenv("WORLD_SIZE", "2")
        monkeypatch.setattr(torch.cuda, "set_device", lambda device: self.calls.append(f"set {device}"))
        monkeypatch.setattr(torch.distributed, "init_process_group", self.begin)
        monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
        monkeypatch.setattr(torch.distributed, "destroy_process_group", partial(self.calls.append, "destroy"))
        monkeypatch.setattr(torch.distributed, "group", self)

    def begin(self, backend: str, *, device_id: object, **_: object) -> None:
        self.calls.append(f"{backend} {device_id}")


def test_a_process_with_cuda_names_its_device(monkeypatch: pytest.MonkeyPatch) -> None:
    group = Group(monkeypatch)
    with join(torch.device("cuda", 1)) as team:
        assert (team.rank, team.size) == (1, 2)
    assert group.calls == ["set cuda:1", "nccl cuda:1", "destroy"]


def test_a_process_that_fails_waits_for_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    group = Group(monkeypatch)
    with pytest.raises(DataError, match="full"), join(torch.device("cuda", 1)):
        raise DataError("the disk is full")
    assert group.calls[-1] == "abort"
    with pytest.raises(DataError, match="full"), join(torch.device("cpu")):
        raise DataError("the disk is full")
    assert group.calls[-2:] == ["gloo None", "destroy"]


def test_groups_that_cannot_be_shared_are_told() -> None:
    said: list[str] = []
    whole = replace(PRESET, network=replace(PRESET.network, stddev_group=0))
    stepper = Stepper(
        build_networks(whole, 0, torch.device("cpu")),
        whole,
        0,
        "fp32",
        torch.device("cpu"),
        Team(0, 2),
        say=said.append,
    )
    assert len(stepper.rows(8)) == 4
    assert "groups of 4 samples instead of 8" in said[0]
