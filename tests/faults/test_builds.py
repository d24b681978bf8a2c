"""Builds with clocks that jump, stale files, and photos that change: one line, and nothing lost."""

import hashlib
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from datatools.errors import DataError
from datatools.pyramid import Pyramid
from tests.support.builds import HANGS, build, command, datasets, environment, file_names, make_photos, make_tree, run
from tests.support.pggan_runs import assert_equal_runs, config_of, finish, start, train, write_pyramid
from tests.support.pyramid_samples import face, write
from tests.support.tries import FULL, Tries

LAUNCHER = """
import pathlib, random, sys, time
import luigi.cmdline
import pipelines
from pipelines import photo_work, tasks

fault, photo = sys.argv[1:3]
kind, _, number = fault.partition(" ")
if kind == "clock":
    steps = random.Random(int(number))
    now = time.time
    time.time = lambda: now() + steps.choice([-1, 1]) * steps.uniform(0, 1e6)
if kind in ("changes", "vanishes"):
    write_ranking = tasks.write_ranking
    def then(layout):
        write_ranking(layout)
        if kind == "changes":
            pathlib.Path(photo).write_bytes(pathlib.Path(photo).with_name("900002.jpg").read_bytes())
        else:
            pathlib.Path(photo).unlink()
    tasks.write_ranking = then
if kind in ("exchanged", "removed"):
    read_photo, left = photo_work.read_photo, [int(number)]
    def read_and_act(path):
        left[0] -= 1
        if left[0] == 0 and kind == "removed":
            pathlib.Path(photo).unlink()
        elif left[0] == 0:
            pathlib.Path(photo).write_bytes(pathlib.Path(photo).with_name("900002.jpg").read_bytes())
        return read_photo(path)
    photo_work.read_photo = read_and_act
luigi.cmdline.luigi_run(sys.argv[3:])
"""
"""`luigi`, with a fault: "clock" and a seed, what the photo does, or what is done to it before which photo is read."""


def faulty_build(
    fault: str, tree: Path, out: Path, *options: object, photo: Path | None = None
) -> subprocess.CompletedProcess[str]:
    words = [fault, str(photo), *command(tree, out, *options)[1:]]
    return subprocess.run(
        [sys.executable, "-c", LAUNCHER, *words],
        cwd="/",
        env=environment(),
        capture_output=True,
        text=True,
        timeout=HANGS,
    )


def test_a_clock_that_jumps(tiny_tree: Path, finished_build: Path, tmp_path: Path, tries: Tries) -> None:
    count = tries.count(1, 10)
    for seed in range(count):
        out = tmp_path / f"out{seed}"
        done = faulty_build(f"clock {seed}", tiny_tree, out, "--count", 4)
        assert done.returncode == 0, done.stderr
        assert datasets(out / "celebahq.h5") == datasets(finished_build / "celebahq.h5")
        assert file_names(out) == file_names(finished_build)
    tries.record("a clock that jumps by days, at every look", count, "same bytes")


@pytest.mark.parametrize("fault", ["changes", "vanishes"])
def test_a_photo_that_is_not_as_it_was_scored(fault: str, finished_build: Path, tmp_path: Path, tries: Tries) -> None:
    tree, out, options = make_tree(tmp_path / "tree", make_photos()), tmp_path / "out", ("--count", 2)
    with Pyramid(finished_build / "celebahq.h5") as pyramid:
        best = str(pyramid.provenance("file_name")[0])
    photo = next(tree.rglob(best))
    done = faulty_build(fault, tree, out, *options, photo=photo)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    message = "changed since it was scored; run the same command again" if fault == "changes" else "cannot be read: "
    assert f"error: {photo} {message}" in done.stderr
    build(tree, out, *options)
    with Pyramid(out / "celebahq.h5") as pyramid:
        rows = zip(pyramid.provenance("file_name").tolist(), pyramid.provenance("source_md5").tolist(), strict=True)
        found = dict(rows)
    assert found == {name: hashlib.md5(next(tree.rglob(name)).read_bytes()).hexdigest() for name in found}
    assert len(found) == 2
    assert fault == "changes" or best not in found
    outcome = "one line; the next run uses the photos as they are"
    tries.record(f"a photo that {fault} between score and build", 1, outcome)


@pytest.mark.skipif(not FULL, reason="takes long: `make faults` tries it")
@pytest.mark.parametrize("fault", ["exchanged", "removed"])
def test_a_photo_that_does_not_stay(fault: str, tmp_path: Path, tries: Tries) -> None:
    """At a random moment; what the same command makes at last is what is made of the photos as they are."""
    dice, count, lines = np.random.default_rng(3), tries.count(1, 8), 0
    photos, expected = make_photos(), {}
    for attempt in range(count):
        tree, out = make_tree(tmp_path / f"tree{attempt}", photos), tmp_path / f"out{attempt}"
        name = sorted(photos)[attempt % 2]
        photo = next(tree.rglob(name))
        done = faulty_build(f"{fault} {dice.integers(1, 10)}", tree, out, "--count", 4, photo=photo)
        assert "Traceback" not in done.stderr
        assert done.returncode == 0 or f"error: {photo} " in done.stderr, done.stderr
        lines += done.returncode != 0
        build(tree, out, "--count", 4)
        if name not in expected:
            build(tree, tmp_path / name, "--count", 4)
            expected[name] = datasets(tmp_path / name / "celebahq.h5")
        assert datasets(out / "celebahq.h5") == expected[name], attempt
    outcome = f"{lines} ended in a line; the next run uses the photos as they are"
    tries.record(f"a photo that is {fault} at a random moment of a build", count, outcome)


@pytest.mark.skipif(not FULL, reason="tests/pipelines has its like: `make faults` tries it")
def test_two_builds_at_once(tiny_tree: Path, finished_build: Path, tmp_path: Path, tries: Tries) -> None:
    """The second one starts at a random moment, at which the first stands still in half of the tries."""
    count, dice, refused = tries.count(1, 10), np.random.default_rng(2), 0
    for attempt in range(count):
        out = tmp_path / f"out{attempt}"
        words = command(tiny_tree, out, "--count", 4)
        first = subprocess.Popen(words, cwd="/", env=environment(), stderr=subprocess.PIPE, text=True)
        time.sleep(dice.uniform(0, 3))
        if attempt % 2 == 0:
            first.send_signal(signal.SIGSTOP)
        second = run(tiny_tree, out, "--count", 4)
        first.send_signal(signal.SIGCONT)
        error = first.communicate(timeout=HANGS)[1]
        assert first.returncode == 0, error
        if second.returncode:
            refused += 1
            assert f"error: another build is running in {out}" in second.stderr
        assert datasets(out / "celebahq.h5") == datasets(finished_build / "celebahq.h5")
        assert file_names(out) == file_names(finished_build)
    outcome = f"one is refused ({refused}), or waits and finds it built; the same bytes"
    tries.record("two builds at once in one folder", count, outcome)


def test_stale_temporary_files(tiny_tree: Path, finished_build: Path, tmp_path: Path, tries: Tries) -> None:
    """Whatever has the name of an unfinished file is continued only where it is one."""
    count, dice = tries.count(1, 8), np.random.default_rng(12)
    for attempt in range(count):
        out = tmp_path / f"out{attempt}"
        build(tiny_tree, out, "--count", 4, task="Rank")
        finished = [path for path in out.rglob("*") if path.is_file() and path.suffix in (".npz", ".rgb", ".stamps")]
        (out / "work" / "build").mkdir()
        names = [out / "celebahq.h5", out / "ranking.csv", *finished]
        for path in [path for path in names if dice.random() < 0.7 or path == names[0]]:
            for suffix in ("partial", "unfinished") if path.suffix in (".npz", ".rgb") else ("partial",):
                path.with_name(f".{path.name}.{suffix}").write_bytes(dice.bytes(5000))
            if path in finished and dice.random() < 0.5:
                path.unlink()
        build(tiny_tree, out, "--count", 4)
        assert datasets(out / "celebahq.h5") == datasets(finished_build / "celebahq.h5")
        assert file_names(out) == file_names(finished_build)
    tries.record("stale temporary files full of random bytes", count, "same bytes, removed")


def test_a_pyramid_that_is_replaced_while_it_is_read(tmp_path: Path, tries: Tries) -> None:
    """Whoever reads has all images of one of the two files, and verify finds nothing wrong with either."""
    count, h5, read = tries.count(3, 100), tmp_path / "faces.h5", []
    kinds = [range(6), range(6, 12)]
    write(h5, kinds[1])
    writer = threading.Thread(target=lambda: [write(h5, kinds[attempt % 2]) for attempt in range(count)])
    writer.start()
    while writer.is_alive():
        with Pyramid(h5) as pyramid:
            first = [np.array_equal(pyramid.image(0), face(indices[0])) for indices in kinds].index(True)
            assert all(np.array_equal(pyramid.image(i), face(kinds[first][i])) for i in range(6))
            assert [int(rank) for rank in pyramid.provenance("rank")] == list(kinds[first])
        read.append(first)
    assert read
    tries.record("a pyramid that is rebuilt while it is read", count, "a reader keeps the images of the file it opened")


def test_a_pyramid_that_is_rebuilt_while_a_training_reads_it(tmp_path: Path, tries: Tries) -> None:
    """The run ends with the images that it began with; then the same command says that they are others now."""
    count, dice = tries.count(1, 8), random.Random(5)
    h5 = write_pyramid(tmp_path / "ramps.h5")
    other = write_pyramid(tmp_path / "other.h5", 60)
    whole, reference = h5.read_bytes(), config_of(h5, tmp_path / "reference")
    train(reference)
    for attempt in range(count):
        config = config_of(h5, tmp_path / f"run{attempt}", workers=2)
        process = start(config, memory_bytes=0)
        while process.is_alive() and not list(config.out.glob("checkpoints/*.json")):
            time.sleep(0.01)
        time.sleep(dice.uniform(0, 1))
        shutil.copy(other, tmp_path / "new.h5")
        (tmp_path / "new.h5").replace(h5)
        assert finish(process) == 0
        assert_equal_runs(reference.out, config.out)
        with pytest.raises(DataError, match="--h5 is another data set: 60 images"):
            train(config)
        h5.write_bytes(whole)
    tries.record("a pyramid that is rebuilt while a training reads it", count, "the run keeps the file it opened")
