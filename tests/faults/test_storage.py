"""Commands on storage that fails, below Python too, in HDF5 and other libraries: one line, and nothing lost."""

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.luigi_setup import RETURN_CODES
from tests.faults.works import BUILD, LIBRARY, TOOL, TRAIN, WORKS, Trial, results
from tests.support.failing_storage import CODES, FOR_EVER, Commands
from tests.support.tries import FULL, Tries


@pytest.mark.parametrize("name", [name for name, work in WORKS.items() if work.many])
def test_storage_that_fails(
    name: str, running: Callable[[str], Commands], inputs: Path, tmp_path: Path, tries: Tries
) -> None:
    """A call fails, once or from then on; then the same command works."""
    trial = Trial(name, running, inputs, tmp_path)
    count, ended = tries.count(1, trial.work.many), 0
    for attempt in range(count):
        folder = trial.new_folder(str(attempt))
        code, times = int(trial.random.choice(CODES)), int(trial.random.choice([1, FOR_EVER]))
        first = trial.any_call()
        done = trial.run(folder, first, times, code)
        fault = (first, times, code, done.returncode, done.error[-3000:])
        assert done.returncode >= 0, fault
        assert "Traceback" not in done.error, fault
        assert "Exception ignored" not in done.error, fault
        if done.returncode:
            ended += 1
            assert os.strerror(code) in done.output + done.error, fault
            assert trial.work.code == BUILD or len(done.error.splitlines()) == 1, fault
            trial.check_again(folder, fault)
        else:
            found = results(folder)
            if "the run continues without" in done.output:  # a training says so of pictures that are for looking only
                lost = trial.expected.keys() - found.keys()
                assert all(name.endswith(".png") for name in lost), fault
                found |= {name: trial.expected[name] for name in lost}
            assert found == trial.expected, fault
            assert trial.work.code != LIBRARY or done.output == trial.undisturbed.output, fault
        shutil.rmtree(folder)
    tries.record(
        f"a call of the system fails, once or from then on: {name}",
        count,
        f"{ended} ended in a line, {count - ended} finished; the same bytes in the end",
    )


SEVERAL = "a build of several processes"
HANDLED = {
    LIBRARY: (signal.SIGKILL, signal.SIGTERM),
    TOOL: (signal.SIGKILL, signal.SIGTERM, signal.SIGINT),
    BUILD: (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP),
    TRAIN: (signal.SIGKILL, signal.SIGTERM, signal.SIGINT),
}
"""Signals after which each kind of command is promised to leave nothing half-written."""
IN_BOTH = (signal.SIGKILL, signal.SIGTERM)
LONG = pytest.mark.skipif(not FULL, reason="takes long, and tests/pipelines has its like: `make faults` tries it")


def endings(name: str, number: signal.Signals) -> set[int]:
    """Return codes with which a command may end when it, or one of its processes, gets a signal."""
    code = WORKS[name].code
    if number == signal.SIGKILL or code == LIBRARY:
        return {-number, int(RETURN_CODES["task_failed"])} if name == SEVERAL else {-number}
    if code == BUILD:
        return {128 + number}
    if number == signal.SIGTERM:
        return {0, -number} if code == TRAIN else {-number}
    # A training that has begun saves and ends; a tool may end before Ctrl-C is raised again, where Python lost it.
    return {0, 128 + number}


def signal_trials() -> Iterator[Any]:
    for name, work in WORKS.items():
        for number in HANDLED[work.code] if name != SEVERAL else (signal.SIGKILL,):
            short = number in IN_BOTH and work.code in (LIBRARY, TOOL)
            yield pytest.param(name, number, id=f"{number.name}, {name}", marks=() if short else LONG)


@pytest.mark.parametrize(("name", "number"), list(signal_trials()))
def test_signals_at_any_call(
    name: str, number: signal.Signals, running: Callable[[str], Commands], inputs: Path, tmp_path: Path, tries: Tries
) -> None:
    """A process gets a signal at one of its calls; then the same command works."""
    trial = Trial(name, running, inputs, tmp_path)
    count, hit, ended, attempt = tries.count(1, trial.work.signals), 0, 0, 0
    while hit < count:
        assert attempt < 2 * count + 3  # few runs have fewer calls than the undisturbed one
        folder, first = trial.new_folder(str(attempt)), trial.any_call()
        done = trial.run(folder, first, 1, -number)
        fault = (first, done.returncode, done.error[-3000:])
        assert "Traceback" not in done.error, fault
        assert "Exception ignored" not in done.error, fault
        assert done.returncode in (endings(name, number) if done.failed else {0}), fault
        trial.check_again(folder, fault)
        shutil.rmtree(folder)
        attempt, hit, ended = attempt + 1, hit + done.failed, ended + bool(done.returncode)
    assert 2 * ended > count or trial.work.code == TRAIN
    tries.record(f"{number.name} at a random call of the system: {name}", count, "the same bytes in the end")
