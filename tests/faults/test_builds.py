"""Builds with clocks that jump, stale files, and photos that change: one line, and nothing lost."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from datatools.pyramid import Pyramid
from tests.support.builds import HANGS, build, command, datasets, environment, file_names, make_photos, make_tree
from tests.support.pyramid_samples import face, write
from tests.support.tries import Tries

LAUNCHER = """
import pathlib, random, sys, time
import luigi.cmdline
import pipelines
from pipelines import rank, tasks

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
luigi.cmdline.luigi_run(sys.argv[3:])
"""
"""`luigi`, with a fault: "clock" and a seed, or what the photo does."""


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


def test_stale_temporary_files(tiny_tree: Path, finished_build: Path, tmp_path: Path, tries: Tries) -> None:
    """Whatever has the name of an unfinished file is continued only where it is one."""
    count, random = tries.count(1, 8), np.random.default_rng(12)
    for attempt in range(count):
        out = tmp_path / f"out{attempt}"
        build(tiny_tree, out, "--count", 4, task="Rank")
        finished = [path for path in out.rglob("*") if path.is_file() and path.suffix in (".npz", ".rgb", ".stamps")]
        (out / "work" / "build").mkdir()
        names = [out / "celebahq.h5", out / "ranking.csv", *finished]
        for path in [path for path in names if random.random() < 0.7 or path == names[0]]:
            for suffix in ("partial", "unfinished") if path.suffix in (".npz", ".rgb") else ("partial",):
                path.with_name(f".{path.name}.{suffix}").write_bytes(random.bytes(5000))
            if path in finished and random.random() < 0.5:
                path.unlink()
        build(tiny_tree, out, "--count", 4)
        assert datasets(out / "celebahq.h5") == datasets(finished_build / "celebahq.h5")
        assert file_names(out) == file_names(finished_build)
    tries.record("stale temporary files full of random bytes", count, "same bytes, removed")


def test_a_pyramid_that_is_replaced_while_it_is_read(tmp_path: Path, tries: Tries) -> None:
    h5 = write(tmp_path / "faces.h5", range(4))
    with Pyramid(h5) as before:
        assert np.array_equal(before.image(0), face(0))
        write(h5, range(4, 8))
        assert [np.array_equal(before.image(i), face(i)) for i in range(4)] == [True] * 4
        with Pyramid(h5) as after:
            assert [np.array_equal(after.image(i), face(4 + i)) for i in range(4)] == [True] * 4
    tries.record("a pyramid that is rebuilt while it is read", 1, "the reader keeps the old file's images")
