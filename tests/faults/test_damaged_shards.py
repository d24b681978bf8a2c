"""Shards of an unfinished build, damaged from outside: noticed in a line or made again, and the same bytes."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.faults.works import BUILD, BUILDING
from tests.support.builds import command, datasets, file_names
from tests.support.failing_storage import FOR_EVER, Commands, Ended, Fault
from tests.support.tries import FULL, Tries

SHARDS = {
    "scores": (("ScoreShard", "--index", 0), "work/scores/*.npz"),
    "faces of the first pass": (("Rank",), "work/faces/*.rgb"),
    "part of the pyramid": (("BuildShard", "--index", 0), "work/build/*.h5"),
}
"""Kind of shard -> the task after which it is there, and its files."""
NOTICED = ("was damaged", "is damaged", "did not read back as written")


def damage(data: bytes, random: np.random.Generator) -> bytes:
    """Cut off, flip a bit, or clear a block, as of a disk that lost one."""
    how, place = random.random(), int(random.integers(len(data)))
    if how < 0.2:
        return data[:place]
    if how < 0.5:
        return data[:place] + bytes(4096)[: len(data) - place] + data[place + 4096 :]
    return data[:place] + bytes([data[place] ^ 1 << int(random.integers(8))]) + data[place + 1 :]


@pytest.mark.skipif(not FULL, reason="tests/pipelines has its like: `make faults` tries it")
@pytest.mark.parametrize("kind", SHARDS)
def test_damaged_shards(
    kind: str,
    running: Callable[[str], Commands],
    tiny_tree: Path,
    finished_build: Path,
    tmp_path: Path,
    tries: Tries,
) -> None:
    def build(out: Path, *options: object, task: object = "BuildCelebAHQ") -> Ended:
        words = command(tiny_tree, out, "--count", 4, *options, task=str(task))[1:]
        return running(BUILDING).run(BUILD, words, Fault(out, FOR_EVER))

    (task, *options), files = SHARDS[kind]
    begun = tmp_path / "begun"
    done = build(begun, *options, task=task)
    assert done.returncode == 0, done.error
    count, random, lines = tries.count(1, 12), np.random.default_rng(8), 0
    for attempt in range(count):
        out = tmp_path / f"out{attempt}"
        shutil.copytree(begun, out)
        names = sorted(out.glob(files))
        path = names[int(random.integers(len(names)))]
        path.write_bytes(damage(path.read_bytes(), random))
        done = build(out)
        fault = (attempt, path, done.error[-3000:])
        assert "Traceback" not in done.error, fault
        if done.returncode:
            lines += 1
            assert any(words in done.error for words in NOTICED), fault
            again = build(out)
            assert again.returncode == 0, (fault, again.error[-3000:])
        assert datasets(out / "celebahq.h5") == datasets(finished_build / "celebahq.h5"), fault
        assert file_names(out) == file_names(finished_build), fault
        shutil.rmtree(out)
    outcome = f"{lines} ended in a line, {count - lines} were made again or harmless; the same bytes in the end"
    tries.record(f"shard of a build cut off, with a flipped bit or a lost block: {kind}", count, outcome)
