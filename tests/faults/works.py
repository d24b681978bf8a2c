"""Works of the program that tests disturb: builds, trainings, exports and others, each a command on a small folder."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datatools.images import save_png
from tests.support.builds import command, datasets, file_names, make_photos, make_tree
from tests.support.exports import read_tree
from tests.support.failing_storage import FOR_EVER, Commands, Ended, Fault
from tests.support.pggan_runs import write_pyramid
from tests.support.pyramid_samples import face, write

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
        compression = [*sys.argv, "none"][3]
        parts = [folder / f"a-{compression}.h5", folder / f"b-{compression}.h5"]
        join(parts, folder / "out.h5", compression=compression, free_parts=len(sys.argv) > 3)
    else:
        write(folder / "out.h5", range(5), side=16, compression=what)
except DataError as error:
    sys.exit(f"Error: {error}")
"""

PYRAMIDS = "import datatools.pyramid, tests.support.pyramid_samples"

BUILDING = "import luigi.cmdline, datatools.faces.recipe, datatools.report.write"


@dataclass(frozen=True)
class Work:
    """Work on storage that fails.

    Attributes:
        imports: statements that take long, done once.
        code, words: Python code that does it, and its arguments, or options of a build; {} is the folder.
        inputs: what is copied into the folder first.
        many: number of tries in `make faults` with calls that fail.
        signals: the same with each signal.
    """

    imports: str
    code: str
    words: str
    inputs: tuple[str, ...]
    many: int
    signals: int


def tool(words: str, *inputs: str, many: int = 40) -> Work:
    return Work("import datatools.h5tool.__main__", TOOL, words, inputs, many, many // 2)


WORKS = {
    "a pyramid is written": Work(PYRAMIDS, LIBRARY, "none {}", (), 60, 30),
    "a compressed pyramid is written": Work(PYRAMIDS, LIBRARY, "gzip {}", (), 60, 30),
    "pyramids are joined": Work(PYRAMIDS, LIBRARY, "join {}", ("a-none.h5", "b-none.h5"), 60, 30),
    "pyramids are joined and freed": Work(PYRAMIDS, LIBRARY, "join {} none", ("a-none.h5", "b-none.h5"), 60, 30),
    "compressed pyramids are joined and freed": Work(
        PYRAMIDS, LIBRARY, "join {} lzf", ("a-lzf.h5", "b-lzf.h5"), 60, 30
    ),
    "a pyramid is read": Work(PYRAMIDS, LIBRARY, "read {}", ("whole.h5",), 60, 30),
    "a pyramid is verified": tool("verify {}/whole.h5", "whole.h5"),
    "images are chosen (subset)": tool("subset {}/whole.h5 {}/out.h5 --indices 1-3", "whole.h5"),
    "from-folder": tool("from-folder {}/pictures {}/out.h5 --resolution 16 --jobs 1", "pictures"),
    "an export (folder)": tool("export {}/whole.h5 {}/out --to folder --jobs 1", "whole.h5", many=20),
    "an export (stylegan-zip)": tool("export {}/whole.h5 {}/out.zip --to stylegan-zip --jobs 1", "whole.h5", many=20),
    "an export (webdataset)": tool("export {}/whole.h5 {}/out --to webdataset --jobs 1", "whole.h5", many=20),
    "an export (lmdb)": tool("export {}/whole.h5 {}/out --to lmdb --jobs 1", "whole.h5", many=20),
    "a build": Work(BUILDING, BUILD, "--count 4", ("tree",), 12, 10),
    "a build of several processes": Work(BUILDING, BUILD, "--count 4 --workers 2 --jobs 2", ("tree",), 0, 10),
    "a training": Work(
        "import pggan.train, torch._dynamo",
        TRAIN,
        "--h5 {}/ramps.h5 --out {}/run --preset tiny --resolution 8 --fmap-max 8 --total-kimg 0.1 "
        "--checkpoint-kimg 0.04 --device cpu --threads 1 --workers 1",
        ("ramps.h5",),
        20,
        10,
    ),
}


def make_inputs(folder: Path) -> None:
    """Write what the works need into a folder."""
    write(folder / "whole.h5", range(6), side=16)
    for compression in ("none", "lzf"):
        write(folder / f"a-{compression}.h5", range(3), side=16, compression=compression)
        write(folder / f"b-{compression}.h5", range(3, 5), side=16, compression=compression)
    write_pyramid(folder / "ramps.h5", 20, 8)
    (folder / "pictures").mkdir()
    for number in range(5):
        save_png(folder / "pictures" / f"{number}.png", face(number, 16))
    make_tree(folder / "tree", make_photos())


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
        folder.mkdir(exist_ok=True)
        for item in self.work.inputs:
            (shutil.copytree if (self._inputs / item).is_dir() else shutil.copy)(self._inputs / item, folder / item)
        return folder

    def run(self, folder: Path, first: int = FOR_EVER, times: int = 1, code: int = 0, prefix: str = "") -> Ended:
        """Run the command, after the statements of `prefix`."""
        words = self.work.words.replace("{}", str(folder)).split()
        if self.work.code == BUILD:
            words = command(folder / "tree", folder / "out", *words)[1:]
        return self._commands.run(prefix + self.work.code, words, Fault(folder, first, times, code))

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
