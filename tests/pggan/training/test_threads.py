"""How many threads compute: the fastest number wins, whatever disturbs the trial, and a run keeps its own."""

import importlib
import itertools
import json
import math
import os
import socket
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pytest
import torch
from click.testing import CliRunner, Result

from datatools.errors import DataError
from pggan import evaluate, generate
from pggan.model.networks import Generator
from pggan.train import main
from pggan.training import plan as plan_module
from pggan.training import threads
from pggan.training.options import TrainingOptions
from pggan.training.plan import make_plan
from pggan.training.run_config import read_saved_run
from pggan.training.threads import candidates, cgroup_quota, cores, fastest, promising, using
from tests.support.builds import HANGS, environment
from tests.support.paths import ROOT
from tests.support.pggan_runs import PRESET, assert_equal_runs, config_of, train

SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]


class Machine:
    """A timer: `speeds` gives the seconds of each turn of a number of threads, over and over."""

    def __init__(self, **speeds: list[float]) -> None:
        self.turns: list[int] = []
        self.speeds: dict[int, Iterator[float]] = {
            int(name.removeprefix("t")): itertools.cycle(times) for name, times in speeds.items()
        }

    def __call__(self, number: int) -> float:
        self.turns.append(number)
        return next(self.speeds[number])


@pytest.mark.parametrize(
    ("speeds", "expected"),
    [
        ({"t1": [0.04], "t2": [0.022], "t4": [0.012]}, 4),
        ({"t1": [0.04], "t2": [0.022], "t4": [0.021]}, 2),  # a near tie: the other cores may be wanted
        ({"t1": [0.04], "t2": [0.039], "t4": [0.034]}, 4),
        ({"t1": [0.04], "t2": [0.5], "t4": [2.4]}, 1),  # threads that wait for a busy core
        ({"t1": [0.04], "t2": [0.01, 0.6, 0.7], "t4": [0.9]}, 1),  # lucky once
        ({"t1": [0.04], "t2": [0.4, 0.022, 0.022], "t4": [0.3, 0.012, 0.012]}, 4),  # a slow first turn, to set up
        ({"t1": [0.04, 0.9, 0.04], "t2": [0.022, 0.022, 0.9], "t4": [0.03]}, 2),  # disturbed now and then
        ({"t1": [3.0], "t2": [1.6], "t4": [0.9]}, 4),
    ],
)
def test_the_fastest_number_of_threads_is_chosen(speeds: dict[str, list[float]], expected: int) -> None:
    assert fastest(Machine(**speeds), [1, 2, 4]) == expected


def test_a_trial_is_short() -> None:
    crawling = Machine(t1=[0.1], t2=[4.0])
    assert fastest(crawling, [1, 2]) == 1
    assert crawling.turns == [1, 2]
    slow = Machine(t1=[0.5], t2=[0.4])
    assert fastest(slow, [1, 2]) == 2
    assert slow.turns == [1, 2, 1, 2]
    quick = Machine(t1=[0.01], t2=[0.02])
    assert fastest(quick, [1, 2]) == 1
    assert len(quick.turns) == 10
    assert fastest(Machine(), [3]) == 3  # nothing to compare


def test_numbers_that_crawl_are_left_out_before_the_trial() -> None:
    assert promising(Machine(t1=[0.01], t2=[0.006], t4=[0.5, 0.004, 0.004]), [1, 2, 4]) == [1, 2, 4]
    assert promising(Machine(t1=[0.01], t2=[0.3], t4=[0.9]), [1, 2, 4]) == [1]
    assert promising(Machine(), [2]) == [2]


@pytest.mark.parametrize(
    ("offered", "processes", "expected"),
    [(1, 1, (1,)), (2, 1, (1, 2)), (3, 1, (1, 2, 3)), (16, 1, (1, 8, 16)), (16, 4, (1, 2, 4)), (2, 4, (1,))],
)
def test_one_half_and_all_cores_are_tried(
    offered: int, processes: int, expected: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "cores", lambda: offered)
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert candidates(processes) == expected
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert candidates(processes) == (torch.get_num_threads(),)


def test_cores_are_those_that_the_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    monkeypatch.setattr(threads, "cgroup_quota", lambda: math.inf)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    assert cores() == 6
    monkeypatch.setattr(threads, "cgroup_quota", lambda: 2.5)
    assert cores() == 3
    monkeypatch.setattr(threads, "cgroup_quota", lambda: 0.2)
    assert cores() == 1
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(threads, "cgroup_quota", lambda: 4.0)
    assert cores() == 2


def test_quota_of_the_cgroup(tmp_path: Path) -> None:
    own, root = tmp_path / "own", tmp_path / "cgroup"
    assert cgroup_quota(root, own) == math.inf  # not Linux
    own.write_text("1:cpu:/\n0::/user/job\n")
    assert cgroup_quota(root, own) == math.inf
    (root / "user" / "job").mkdir(parents=True)
    (root / "user" / "job" / "cpu.max").write_text("max 100000\n")
    assert cgroup_quota(root, own) == math.inf
    (root / "user" / "cpu.max").write_text("250000 100000\n")
    assert cgroup_quota(root, own) == 2.5
    (root / "cpu").mkdir()
    (root / "cpu" / "cpu.cfs_quota_us").write_text("150000\n")
    (root / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert cgroup_quota(root, own) == 1.5
    (root / "cpu" / "cpu.cfs_quota_us").write_text("-1\n")
    assert cgroup_quota(root, own) == 2.5


def test_using_restores_the_number() -> None:
    before = torch.get_num_threads()
    with using(before + 1):
        assert torch.get_num_threads() == before + 1
    with using(None):
        torch.set_num_threads(before + 1)
    assert torch.get_num_threads() == before


def test_the_plan_measures_with_the_fastest_number(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[int] = []
    measure = plan_module.measure

    def noting(*rest: object) -> object:
        measured.append(torch.get_num_threads())
        return measure(*rest)  # type: ignore[arg-type]

    monkeypatch.setattr(plan_module, "measure", noting)
    monkeypatch.setattr(threads, "candidates", lambda _: (1, 2, 3))
    monkeypatch.setattr(threads, "promising", lambda _, numbers: numbers)
    monkeypatch.setattr(threads, "fastest", lambda seconds, numbers: numbers[1] if seconds(3) > 0 else 0)
    before = torch.get_num_threads()
    plan = make_plan(PRESET, torch.device("cpu"), "fp32")
    assert plan.threads == 2
    assert set(measured) == {2}
    assert torch.get_num_threads() == before
    assert "with 2 threads" in plan.lines()[-1]
    assert make_plan(PRESET, torch.device("cpu"), "fp32", threads=1).threads == 1
    assert measured[-1] == 1


@pytest.fixture
def choice(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets the number of threads that a trial on this machine finds fastest."""
    return lambda number: monkeypatch.setattr(threads, "fastest", lambda *_: number)


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of threads of every step of a run."""
    from pggan.training.step import Stepper

    found: list[int] = []
    step = Stepper.generator_step

    def noting(self: Stepper, state: object, images: int) -> dict[str, float]:
        found.append(torch.get_num_threads())
        return step(self, state, images)  # type: ignore[arg-type]

    monkeypatch.setattr(Stepper, "generator_step", noting)
    return found


def test_many_pictures_are_made_with_the_fastest_number(
    h5: Path, tmp_path: Path, choice: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, out = tmp_path / "run", tmp_path / "pictures"
    train(config_of(h5, model, schedule={"total_kimg": 0.136}))
    found: set[int] = set()
    forward = Generator.forward

    def noting(self: Generator, *inputs: Any) -> torch.Tensor:
        found.add(torch.get_num_threads())
        return forward(self, *inputs)

    monkeypatch.setattr(Generator, "forward", noting)
    choice(3)

    def numbers(main: click.Command, *arguments: object) -> set[int]:
        found.clear()
        with using(1):
            words = ["--model", str(model), "--device", "cpu", *map(str, arguments)]
            result = CliRunner().invoke(main, words, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return set(found)

    assert numbers(generate.main, "--out", out, "--seeds", "0-3") == {1}
    assert numbers(generate.main, "--out", out, "--seeds", "0-299", "--grid", "300x1") == {3}
    film = ("--video", out / "film.mp4", "--seconds", 4, "--fps", 8, "--grid")
    assert numbers(generate.main, *film, "1x1") == {1}
    assert numbers(generate.main, *film, "8x1") == {3}
    measured = ("--h5", h5, "--metrics", "ms-ssim", "--num-images", 20)
    assert numbers(evaluate.main, *measured) == {3}
    monkeypatch.setattr(threads, "fastest", lambda _, candidates: candidates[0])
    assert numbers(evaluate.main, *measured, "--threads", 2) == {2}
    assert numbers(generate.main, "--out", out, "--seeds", "0-3", "--threads", 2) == {2}
    assert candidates()[0] == 1 or os.environ.get("OMP_NUM_THREADS")  # the option is of that command alone


@pytest.mark.parametrize("name", [name for name, target in SCRIPTS.items() if target.startswith("pggan.")])
def test_commands_that_compute_have_the_option(name: str) -> None:
    command: click.Command = importlib.import_module(SCRIPTS[name].partition(":")[0]).main
    options = {option for parameter in command.params for option in parameter.opts}
    assert ("--threads" in options) == (name != "celebahq-convert")


def threads_of(out: Path) -> int | None:
    saved = read_saved_run(out)
    assert saved is not None
    return saved.threads


def test_a_run_keeps_its_threads(h5: Path, tmp_path: Path, choice: Callable[[int], None], used: list[int]) -> None:
    choice(2)
    config = config_of(h5, tmp_path / "run", schedule={"total_kimg": 0.048})
    straight = config_of(h5, tmp_path / "straight", schedule={"total_kimg": 0.08})
    train(straight)
    before = torch.get_num_threads()
    train(config)
    assert torch.get_num_threads() == before
    assert json.loads((config.out / "config.json").read_text())["threads"] == 2
    choice(1)
    used.clear()
    train(replace(straight, out=config.out))
    assert set(used) == {2}
    assert threads_of(config.out) == 2
    assert_equal_runs(straight.out, config.out)
    log = (config.out / "log.txt").read_text()
    assert "2 threads, as the run began, on 1 core; --threads 1 may be faster" in log


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)


def test_the_option_sets_the_number_and_notes_the_change(
    h5: Path, tmp_path: Path, choice: Callable[[int], None], used: list[int]
) -> None:
    choice(1)
    out = tmp_path / "run"
    size = ("--fmap-base", 64, "--fmap-max", 8, "--latent-size", 8, "--tick-kimg", 0.032)
    command = ("--h5", h5, "--out", out, "--preset", "tiny", *size, "--workers", 0, "--device", "cpu", "--threads")
    first = run(*command, 3, "--total-kimg", 0.032)
    assert "with 3 threads" in first.output
    assert set(used) == {3}
    assert threads_of(out) == 3
    planned = run(*command, 1, "--total-kimg", 0.032, "--dry-run")
    assert "with 1 thread (" in planned.output
    assert threads_of(out) == 3
    used.clear()
    second = run(*command, 2, "--total-kimg", 0.064)
    assert second.exit_code == 0
    assert "--threads is 2, the run has 3: the last bits of the results may be others than with 3" in second.output
    assert set(used) == {2}
    saved = read_saved_run(out)
    assert saved is not None
    assert saved.threads == 2
    assert saved.forks == ({"changes": ["--threads is 2, the run has 3"]},)
    third = run(*command[:-1], "--total-kimg", 0.096)
    assert third.exit_code == 0
    assert used[-1] == 2
    assert "with 2 threads" in run(*command[:-1], "--dry-run").output


def test_runs_of_older_versions_go_on_with_torchs_own_number(
    h5: Path, tmp_path: Path, choice: Callable[[int], None], used: list[int]
) -> None:
    config = config_of(h5, tmp_path / "run", schedule={"total_kimg": 0.016})
    train(config)
    path = config.out / "config.json"
    values = json.loads(path.read_text())
    del values["threads"]
    path.write_text(json.dumps(values))
    choice(2)
    used.clear()
    train(config_of(h5, config.out, schedule={"total_kimg": 0.032}))
    assert set(used) == {torch.get_num_threads()} == {1}
    assert threads_of(config.out) == 1


@pytest.mark.parametrize("number", [0, -1, 1025])
def test_numbers_that_cannot_be(h5: Path, tmp_path: Path, number: int) -> None:
    result = run("--h5", h5, "--out", tmp_path / "run", "--preset", "tiny", "--threads", number)
    assert result.exit_code == 2
    assert "--threads: " in result.output
    with pytest.raises(DataError, match=f"threads {number} "):
        TrainingOptions(h5, tmp_path / "run", PRESET, threads=number)


def test_damaged_number(h5: Path, tmp_path: Path) -> None:
    config = config_of(h5, tmp_path / "run", schedule={"total_kimg": 0.016})
    train(config)
    path = config.out / "config.json"
    path.write_text(path.read_text().replace('"threads": 1', '"threads": "many"'))
    with pytest.raises(DataError, match=r"config\.json: cannot be read: threads 'many'"):
        read_saved_run(config.out)


TEAM = """
import os, sys
from pathlib import Path
import torch
from pggan.training import threads
from pggan.training.step import Stepper
from tests.pggan.training.test_distributed import config
from tests.support.pggan_runs import train

os.environ.pop("OMP_NUM_THREADS")
rank, found, step = int(os.environ["RANK"]), set(), Stepper.generator_step
threads.fastest = lambda *_: 2 + rank

def noting(stepper, *rest):
    found.add((stepper.team.size, torch.get_num_threads()))
    return step(stepper, *rest)

Stepper.generator_step = noting
train(config(Path(sys.argv[1]), Path(sys.argv[2]), 0.016))
assert (2, 2) in found and (2, 3) not in found, found
"""


def test_processes_of_a_run_agree_on_the_first_ones_number(h5: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    team = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    children = [
        subprocess.Popen(
            [sys.executable, "-c", TEAM, str(h5), str(tmp_path / "run")],
            env=environment(**team, RANK=rank, LOCAL_RANK=rank),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    for child in children:
        output, _ = child.communicate(timeout=HANGS)
        assert child.returncode == 0, output
    assert threads_of(tmp_path / "run") == 2
