"""Commands on storage that fails, below Python too, in HDF5 and other libraries: one line, and nothing lost."""

import os
import shutil
import signal
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
from tests.support.failing_storage import CODES, FOR_EVER, Commands, Ended, Fault, failing_storage, find_compiler
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


class Trial:
    """Work done without a fault, and then again and again in new folders."""

    def __init__(self, name: str, running: Callable[[str], Commands], inputs: Path, folder: Path) -> None:
        self.work, self._inputs, self._parent = WORKS[name], inputs, folder
        self._commands = running(self.work.imports)
        self.random = np.random.default_rng(4)
        first = self.new_folder("undisturbed")
        self.undisturbed = self.run(first)
        assert self.undisturbed.returncode == 0, self.undisturbed.error
        self.expected = results(first)

    def new_folder(self, name: str) -> Path:
        folder = self._parent / name
        folder.mkdir()
        for item in self.work.inputs:
            (shutil.copytree if (self._inputs / item).is_dir() else shutil.copy)(self._inputs / item, folder / item)
        return folder

    def run(self, folder: Path, first: int = FOR_EVER, times: int = 1, code: int = 0) -> Ended:
        words = self.work.words.replace("{}", str(folder)).split()
        words = words or command(folder / "tree", folder / "out", "--count", 4)[1:]
        return self._commands.run(self.work.code, words, Fault(folder, first, times, code))

    def any_call(self) -> int:
        return int(self.random.integers(1, self.undisturbed.seen + 1))

    def check_again(self, folder: Path, fault: object) -> None:
        """Run the same command, unless the result is there; it must be the same."""
        found = results(folder)
        if isinstance(self.expected, dict) and self.expected.items() <= found.items():
            return  # whole, but for unfinished work that could not be removed
        again = self.run(folder)
        assert again.returncode == 0, (fault, again.error[-3000:])
        assert results(folder) == self.expected, fault


@pytest.mark.parametrize("name", WORKS)
def test_storage_that_fails(
    name: str, running: Callable[[str], Commands], inputs: Path, tmp_path: Path, tries: Tries
) -> None:
    """A call fails, once or from then on; then the same command works."""
    trial = Trial(name, running, inputs, tmp_path)
    count, ended = tries.count(2, trial.work.many), 0
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
            assert results(folder) == trial.expected, fault
            assert trial.work.code != LIBRARY or done.output == trial.undisturbed.output, fault
        shutil.rmtree(folder)
    tries.record(
        f"a call of the system fails, once or from then on: {name}",
        count,
        f"{ended} ended in a line, {count - ended} finished; the same bytes in the end",
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("name", [name for name, work in WORKS.items() if work.code in (LIBRARY, TOOL)])
def test_signals_at_any_call(
    name: str, number: signal.Signals, running: Callable[[str], Commands], inputs: Path, tmp_path: Path, tries: Tries
) -> None:
    trial = Trial(name, running, inputs, tmp_path)
    count = tries.count(1, trial.work.many // 2)
    for attempt in range(count):
        folder, first = trial.new_folder(str(attempt)), trial.any_call()
        done = trial.run(folder, first, 1, -number)
        fault = (first, done.returncode, done.error[-3000:])
        assert done.returncode == -number, fault
        assert "Traceback" not in done.error, fault
        trial.check_again(folder, fault)
        shutil.rmtree(folder)
    tries.record(f"{number.name} at a random call of the system: {name}", count, "the same bytes in the end")
