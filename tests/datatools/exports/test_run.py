"""Exports as the command makes them: resumed, replaced, refused, and the same whatever the number of processes."""

import errno
import os
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from datatools.errors import DataError
from datatools.exports import TARGETS, ExportOptions, plan_export, write_export
from datatools.exports.run import LAYOUTS
from datatools.h5tool.__main__ import main
from datatools.pyramid import Pyramid
from datatools.pyramid.folder_parts import parts_folder
from tests.support.builds import environment
from tests.support.exports import read_tree
from tests.support.pyramid_samples import write
from tests.support.tries import Tries

COUNT = 12
PART = 3
LIGHT = ("folder", "stylegan-zip", "webdataset")  # layouts that need no library


@pytest.fixture(scope="module")
def h5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("pyramid") / "a.h5", range(COUNT), side=8)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    for layout in LAYOUTS.values():
        monkeypatch.setattr(layout, "part_images", PART, raising=False)


def out_of(folder: Path, to: str, name: str = "out") -> Path:
    return folder / (f"{name}.zip" if to == "stylegan-zip" else name)


def export(h5: Path, out: Path, to: Any, progress: Any = lambda _: None, **options: Any) -> None:
    pyramid = Pyramid(h5)
    plan = plan_export(pyramid, out, range(len(pyramid)), ExportOptions(to, 8, **options))
    write_export(plan, progress=progress)


def interrupt(_: int) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("to", LIGHT)
@pytest.mark.usefixtures("small_parts")
def test_an_interrupted_export_is_resumed(h5: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str) -> None:
    whole, out = out_of(tmp_path / "whole", to), out_of(tmp_path, to)
    whole.parent.mkdir()
    export(h5, whole, to)
    with pytest.raises(KeyboardInterrupt):
        export(h5, out, to, interrupt)
    assert not out.exists()
    plan = plan_export(Pyramid(h5), out, range(COUNT), ExportOptions(to, 8))
    assert plan.done == PART
    encoded = []
    encode = ExportOptions.encode
    monkeypatch.setattr(ExportOptions, "encode", lambda *a: encoded.append(1) or encode(*a))  # type: ignore[func-returns-value]
    write_export(plan)
    assert len(encoded) == COUNT - PART
    assert read_tree(out) == read_tree(whole)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("to", LIGHT)
@pytest.mark.parametrize("overwrites", [False, True])
@pytest.mark.usefixtures("small_parts")
def test_a_failure_after_the_export_is_in_its_place(
    h5: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str, overwrites: bool
) -> None:
    """The same command only cleans up; one with other options says that there is an export."""
    out = out_of(tmp_path, to)
    pyramid, options = Pyramid(h5), ExportOptions(to, 8)  # type: ignore[arg-type]
    if overwrites:
        export(h5, out, to)
    plan = plan_export(pyramid, out, range(COUNT - 1), options, overwrite=overwrites)
    replace = os.replace

    def failing(source: Any, target: Any) -> None:
        replace(source, target)
        if Path(target) == out:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(DataError, match="Input/output error"):
        write_export(plan)
    monkeypatch.setattr(os, "replace", replace)
    exported, stamp = read_tree(out), out.stat().st_ino
    with pytest.raises(DataError, match="exists; --overwrite replaces it"):
        plan_export(pyramid, out, range(COUNT), options)
    done: list[int] = []
    write_export(plan_export(pyramid, out, range(COUNT - 1), options), progress=done.append)
    assert done == [COUNT - 1]
    assert (read_tree(out), out.stat().st_ino) == (exported, stamp)
    assert [path.name for path in tmp_path.iterdir()] == [out.name]
    with pytest.raises(DataError, match="exists; --overwrite replaces it"):
        plan_export(pyramid, out, range(COUNT - 1), options)


@pytest.mark.parametrize("to", LIGHT)
@pytest.mark.usefixtures("small_parts")
def test_an_export_that_was_to_be_replaced(h5: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str) -> None:
    """An interruption leaves it, whether before or while the new one is put together, and whatever its file number."""
    out = out_of(tmp_path, to)
    export(h5, out, to)
    before = read_tree(out)
    pyramid, options = Pyramid(h5), ExportOptions(to, 8)  # type: ignore[arg-type]
    plan = plan_export(pyramid, out, range(5), options, overwrite=True)
    with pytest.raises(KeyboardInterrupt):
        write_export(plan, progress=interrupt)
    with monkeypatch.context() as patched:
        patched.setattr(type(LAYOUTS[to]), "finish", lambda *_: interrupt(0))
        with pytest.raises(KeyboardInterrupt):
            write_export(plan)
        (shutil.copytree if out.is_dir() else shutil.copy2)(out, tmp_path / "numbered anew")
        shutil.rmtree(out) if out.is_dir() else out.unlink()
        (tmp_path / "numbered anew").rename(out)
        assert read_tree(out) == before
        with pytest.raises(DataError, match="exists; --overwrite replaces it"):
            plan_export(pyramid, out, range(5), options)
    write_export(plan_export(pyramid, out, range(5), options, overwrite=True))
    assert read_tree(out) != before
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


@pytest.mark.usefixtures("small_parts")
def test_parts_of_other_options_or_sizes_are_made_again(h5: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        export(h5, out, "folder", interrupt)
    other = plan_export(Pyramid(h5), out, range(COUNT), ExportOptions("folder", 8, "jpeg"))
    assert other.done == 0
    next((parts_folder(out) / "content").glob("*.png")).write_bytes(b"")
    plan = plan_export(Pyramid(h5), out, range(COUNT), ExportOptions("folder", 8))
    assert plan.done == 0
    write_export(other)
    assert {path.suffix for path in out.iterdir()} == {".jpg", ".json", ".jsonl"}


def test_a_killed_export_is_resumed(h5: Path, tmp_path: Path, tries: Tries) -> None:
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom datatools.exports import *\n"
        "from datatools.exports.run import LAYOUTS\nfrom datatools.pyramid import Pyramid\n"
        f"LAYOUTS['stylegan-zip'].part_images = {PART}\n"
        f"plan = plan_export(Pyramid(sys.argv[1]), Path(sys.argv[2]), range({COUNT}), "
        "ExportOptions('stylegan-zip', 8, jobs=int(sys.argv[3])))\n"
        "print(plan.done)\n"
        "calls = iter(range(int(sys.argv[4]), -1, -1))\n"
        "write_export(plan, progress=lambda _: os.kill(os.getpid(), 9) if next(calls) == 0 else None)\n"
    )

    def run(out: Path, jobs: int, kill_after: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", code, str(h5), str(out), str(jobs), str(kill_after)]
        return subprocess.run(command, env=environment(), capture_output=True, text=True)

    whole = tmp_path / "whole.zip"
    export(h5, whole, "stylegan-zip")
    count = tries.count(1, 10)
    for attempt in range(count):
        out = tmp_path / f"out{attempt}.zip"
        assert run(out, 2, attempt % (COUNT // PART)).returncode == -9
        assert not out.exists()
        done = run(out, 1, COUNT)
        assert done.returncode == 0, done.stderr
        assert int(done.stdout) >= PART * (attempt % (COUNT // PART))
        assert out.read_bytes() == whole.read_bytes()
    tries.record("kill -9 of an export", count, "finished parts kept; the same bytes in the end")


def test_two_processes_do_not_write_one_export(h5: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datatools.files.LOCK_PATIENCE", 0.0)
    out = tmp_path / "out"
    second = plan_export(Pyramid(h5), out, range(COUNT), ExportOptions("folder", 8))
    refused = []

    def interfere(_: int) -> None:
        with pytest.raises(DataError, match=r"out: another process is writing it; wait for it, or give another name"):
            write_export(second)
        refused.append(1)

    export(h5, out, "folder", interfere)
    assert refused
    whole = read_tree(out)
    with pytest.raises(DataError, match=r"out: exists"):  # planned before the first one had finished
        write_export(second)
    assert read_tree(out) == whole


@pytest.mark.parametrize("to", [target for target in TARGETS if target not in ("tfrecord", "lmdb")])
@pytest.mark.usefixtures("small_parts")
def test_processes_do_not_change_an_export(h5: Path, tmp_path: Path, to: str) -> None:
    if to == "huggingface":
        pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    one, two = out_of(tmp_path, to, "one"), out_of(tmp_path, to, "two")
    labels = "file"
    shutil.copy(h5, tmp_path / "a.h5")
    np.save(tmp_path / "a-labels.npy", np.eye(2, dtype=np.float32)[np.arange(COUNT) % 2])
    export(tmp_path / "a.h5", one, to, labels=labels, jobs=1)
    export(tmp_path / "a.h5", two, to, labels=labels, jobs=2)
    assert list(read_tree(one).values()) == list(read_tree(two).values())


def test_a_full_disk_leaves_nothing_half_written(h5: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("datatools.exports.stylegan_zip.write_zip", fail)
    with pytest.raises(DataError, match=r"out.zip: cannot be written: No space left on device"):
        export(h5, tmp_path / "out.zip", "stylegan-zip")
    assert [path.name for path in tmp_path.iterdir()] == [".out.zip.parts"]
    Usage = namedtuple("Usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage(9, 9, 9))
    with pytest.raises(DataError, match=r"the disk is too full: about .* needed while exporting, half of that"):
        export(h5, tmp_path / "other.zip", "stylegan-zip")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["export", *map(str, arguments)])


def test_the_command(h5: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = (h5, out, "--to", "folder", "--level", 4, "--attribute", "Young", "--split", "train", "--jobs", 1)
    done = run(*options, "--dry-run")
    assert done.exit_code == 0
    assert done.output.startswith("about ")
    assert "for 2 pictures;" in done.output
    assert list(tmp_path.iterdir()) == []
    done = run(*options)
    assert (done.exit_code, done.output) == (0, f"{out}: 2 pictures of 4 x 4 pixels\n")
    assert sorted(read_tree(out)) == ["00003.png", "00009.png", "export.json", "metadata.jsonl"]
    assert run(*options).output == f"Error: {out}: exists; --overwrite replaces it\n"
    assert run(*options, "--overwrite", "--rank", "3").exit_code == 0
    assert sorted(read_tree(out)) == ["00003.png", "export.json", "metadata.jsonl"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--to", "folder", "--level", "7"), "no level 7; it has 8, 4"),
        (("--to", "folder", "--quality", "90"), "--quality 90: PNG has none"),
        (("--to", "folder", "--picture-format", "jpeg", "--quality", "0"), "--quality 0: must be 1 to 100"),
        (("--to", "stylegan-zip"), "give a name that ends in .zip"),
        (("--to", "imagefolder"), "--labels are needed: a folder is made for each class"),
        (("--to", "folder", "--labels", "identity"), "--labels identity: 4 of 12 images have none"),
        (("--to", "folder", "--labels", "file"), "a-labels.npy cannot be read: No such file or directory"),
        (("--to", "folder", "--labels", "Smile"), "did you mean 'Smiling'"),
        (("--to", "folder", "--split", "test", "--rank", "0"), "none of its 12 images meets"),
    ],
)
def test_mistakes_end_in_one_line(h5: Path, tmp_path: Path, options: tuple[str, ...], message: str) -> None:
    done = run(h5, tmp_path / "out", *options)
    assert done.exit_code == 1
    assert len(done.output.splitlines()) == 1
    assert message in done.output
    assert list(tmp_path.iterdir()) == []


def test_a_stylegan_zip_becomes_a_pyramid_again(h5: Path, tmp_path: Path) -> None:
    out, again = tmp_path / "out.zip", tmp_path / "again.h5"
    assert run(h5, out, "--to", "stylegan-zip", "--labels", "Young", "--indices", "0-1,3-4,6-7").exit_code == 0
    arguments = ["from-folder", str(out), str(again), "--resolution", "8", "--labels", "json", "--jobs", "1"]
    assert CliRunner().invoke(main, arguments).exit_code == 0
    chosen = [0, 1, 3, 4, 6, 7]
    assert np.array_equal(Pyramid(again)[8][:], Pyramid(h5)[8][chosen])
    young = Pyramid(h5).attribute("Young")[chosen] > 0
    assert np.load(tmp_path / "again-labels.npy").argmax(axis=1).tolist() == young.tolist()


def test_other_files_are_never_replaced(h5: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("all my work")
    done = run(h5, tmp_path / "mine", "--to", "folder", "--overwrite")
    assert done.output == f"Error: {tmp_path}/mine: is a folder of other files, give another name\n"
    assert run(h5, h5, "--to", "folder", "--overwrite").output == f"Error: {h5}: is a file, give another name\n"
    assert read_tree(tmp_path) == {"mine/thesis.txt": b"all my work"}


@pytest.mark.parametrize(("to", "library"), [("tfrecord", "tfrecord"), ("lmdb", "lmdb"), ("huggingface", "pyarrow")])
def test_missing_libraries_are_named(
    h5: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str, library: str
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    done = run(h5, tmp_path / "out", "--to", to)
    assert done.exit_code == 1
    assert f"pip install 'celebahq[{to}]'" in done.output
