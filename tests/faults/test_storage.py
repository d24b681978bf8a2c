"""Commands on storage that fails, below Python too, in HDF5 and other libraries: one line, and nothing lost."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datatools.images import save_png
from tests.support.builds import command, datasets, file_names, make_photos, make_tree
from tests.support.exports import read_tree
from tests.support.failing_storage import CODES, FOR_EVER, Commands, Fault, failing_storage, find_compiler
from tests.support.pggan_runs import write_pyramid
from tests.support.pyramid_samples import face, write
from tests.support.tries import Tries

COMPILER = find_compiler()
pytestmark = pytest.mark.skipif(COMPILER is None, reason="the failing layer needs Linux and a C compiler")

TOOL = "from datatools.h5tool.__main__ import script; script()"
BUILD = "import sys, luigi.cmdline; luigi.cmdline.luigi_run(sys.argv[1:])"
TRAIN = """
from pggan.data import stream
from pggan.train import script
from pggan.training import saving
saving.PATIENCE = 0.0  # for room on a full disk
stream.MEMORY_BYTES = 0  # so that the file is read to the end
script()
"""
LIBRARY = """
import sys
from pathlib import Path
from datatools.errors import DataError
from datatools.pyramid import Pyramid, join
from tests.support.pyramid_samples import write

what, folder = sys.argv[1], Path(sys.argv[2])
try:
    if what == "read":
        pyramid = Pyramid(folder / "whole.h5")
        text = repr([pyramid.levels, pyramid.settings, pyramid.attribute_names, pyramid.optional_columns])
        text += repr([pyramid[level][:].tolist() for level in pyramid.levels])
        text += repr([pyramid.provenance(name).tolist() for name in pyramid.provenance_names])
        print(text)
    elif what == "join":
        join([folder / "a.h5", folder / "b.h5"], folder / "out.h5", free_parts=len(sys.argv) > 3)
    else:
        write(folder / "out.h5", range(5), side=16, compression=what)
except DataError as error:
    sys.exit(f"Error: {error}")
"""

PYRAMIDS = "import datatools.pyramid, tests.support.pyramid_samples"


@dataclass(frozen=True)
class Work:
    """Work on storage that fails.

    Attributes:
        imports: statements that take long, done once.
        code, words: Python code that does it, and its arguments; {} is the folder.
        inputs: what is copied into the folder first.
        many: number of tries in `make faults`.
    """

    imports: str
    code: str
    words: str
    inputs: tuple[str, ...]
    many: int


def tool(words: str, *inputs: str, many: int = 40) -> Work:
    return Work("import datatools.h5tool.__main__", TOOL, words, inputs, many)


WORKS = {
    "a pyramid is written": Work(PYRAMIDS, LIBRARY, "none {}", (), 60),
    "a compressed pyramid is written": Work(PYRAMIDS, LIBRARY, "gzip {}", (), 60),
    "pyramids are joined": Work(PYRAMIDS, LIBRARY, "join {}", ("a.h5", "b.h5"), 60),
    "pyramids are joined and freed": Work(PYRAMIDS, LIBRARY, "join {} free", ("a.h5", "b.h5"), 60),
    "a pyramid is read": Work(PYRAMIDS, LIBRARY, "read {}", ("whole.h5",), 60),
    "a pyramid is verified": tool("verify {}/whole.h5", "whole.h5"),
    "images are chosen (subset)": tool("subset {}/whole.h5 {}/out.h5 --indices 1-3", "whole.h5"),
    "from-folder": tool("from-folder {}/pictures {}/out.h5 --resolution 16 --jobs 1", "pictures"),
    "an export (folder)": tool("export {}/whole.h5 {}/out --to folder --jobs 1", "whole.h5", many=20),
    "an export (stylegan-zip)": tool("export {}/whole.h5 {}/out.zip --to stylegan-zip --jobs 1", "whole.h5", many=20),
    "an export (webdataset)": tool("export {}/whole.h5 {}/out --to webdataset --jobs 1", "whole.h5", many=20),
    "an export (lmdb)": tool("export {}/whole.h5 {}/out --to lmdb --jobs 1", "whole.h5", many=20),
    "a build": Work("import luigi.cmdline, datatools.faces.recipe, datatools.report.write", BUILD, "", ("tree",), 12),
    "a training": Work(
        "import pggan.train, torch._dynamo",
        TRAIN,
        "--h5 {}/ramps.h5 --out {}/run --preset tiny --resolution 8 --fmap-max 8 --total-kimg 0.1 "
        "--checkpoint-kimg 0.04 --device cpu --threads 1 --workers 1",
        ("ramps.h5",),
        20,
    ),
}


@pytest.fixture(scope="module")
def running() -> Iterator[Callable[[str], Commands]]:
    """Commands after given imports; each process is started once."""
    with ExitStack() as stack:
        yield cache(lambda imports: stack.enter_context(failing_storage(str(COMPILER), imports)))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    write(folder / "whole.h5", range(6), side=16)
    write(folder / "a.h5", range(3), side=16)
    write(folder / "b.h5", range(3, 5), side=16)
    write_pyramid(folder / "ramps.h5", 20, 8)
    (folder / "pictures").mkdir()
    for number in range(5):
        save_png(folder / "pictures" / f"{number}.png", face(number, 16))
    make_tree(folder / "tree", make_photos())
    return folder


def results(folder: Path) -> Any:
    """Everything that has to be the same after a failure."""
    out = folder / "out" / "celebahq.h5"
    if out.exists():
        return datasets(out), file_names(folder)
    found = read_tree(folder)
    logs = ("log.txt", "stats.jsonl", "config.json", ".lock", "tensorboard", "checkpoints")
    return {name: data for name, data in found.items() if not any(part in name for part in logs)}


@pytest.mark.parametrize("name", WORKS)
def test_storage_that_fails(
    name: str, running: Callable[[str], Commands], inputs: Path, tmp_path: Path, tries: Tries
) -> None:
    """A call fails, once or from then on; then the same command works."""
    work, random = WORKS[name], np.random.default_rng(4)
    commands = running(work.imports)

    def new_folder(name: str) -> tuple[Path, list[str]]:
        folder = tmp_path / name
        folder.mkdir()
        for item in work.inputs:
            (shutil.copytree if (inputs / item).is_dir() else shutil.copy)(inputs / item, folder / item)
        words = work.words.replace("{}", str(folder)).split()
        return folder, words or command(folder / "tree", folder / "out", "--count", 4)[1:]

    folder, words = new_folder("undisturbed")
    undisturbed = commands.run(work.code, words, Fault(folder, FOR_EVER))
    assert undisturbed.returncode == 0, undisturbed.error
    expected, calls = results(folder), undisturbed.seen
    count, ended = tries.count(2, work.many), 0
    for attempt in range(count):
        folder, words = new_folder(str(attempt))
        code, times = int(random.choice(CODES)), int(random.choice([1, FOR_EVER]))
        fault = Fault(folder, int(random.integers(1, calls + 1)), times, code)
        done = commands.run(work.code, words, fault)
        assert done.returncode >= 0, (fault, done.error[-3000:])
        assert "Traceback" not in done.error, (fault, done.error[-3000:])
        assert "Exception ignored" not in done.error, (fault, done.error[-3000:])
        if done.returncode:
            ended += 1
            assert os.strerror(code) in done.output + done.error, (fault, done.error[-3000:])
            assert work.code == BUILD or len(done.error.splitlines()) == 1, (fault, done.error[-3000:])
        else:
            assert results(folder) == expected, fault
            if work.code == LIBRARY:
                assert done.output == undisturbed.output
        found = results(folder)
        if done.returncode and not (isinstance(expected, dict) and expected.items() <= found.items()):
            again = commands.run(work.code, words, Fault(folder, FOR_EVER))
            assert again.returncode == 0, (fault, again.error[-3000:])
            assert results(folder) == expected, fault
        shutil.rmtree(folder)
    tries.record(
        f"a call of the system fails, once or from then on: {name}",
        count,
        f"{ended} ended in a line, {count - ended} finished; the same bytes in the end",
    )
