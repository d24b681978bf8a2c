"""A join that frees its parts needs the disk of the result and one part, and survives whatever ends it."""

import errno
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from datatools.errors import DataError
from datatools.pyramid import Pyramid, join, verify
from datatools.pyramid.join import images_path
from datatools.pyramid.joined import PartTables, joined_path
from tests.support.pyramid_samples import NAMES, write

SETTINGS = {"restore": "none", "seed": 7, "gain": 0.5}
CALLS = ("copy_file_range", "fsync", "replace", "unlink", "ftruncate")
"""Calls of the system that change what is on the disk, or see to it."""


def write_parts(folder: Path, *, borders: tuple[int, ...] = (0, 5, 5, 6, 9), **options: Any) -> list[Path]:
    return [
        write(folder / f"part{k}.h5", range(first, end), **{"attribute_names": NAMES, **options})
        for k, (first, end) in enumerate(pairwise(borders))
    ]


def join_freeing(folder: Path) -> None:
    join(sorted_parts(folder), folder / "joined.h5", settings=SETTINGS, free_parts=True)


def sorted_parts(folder: Path) -> list[Path]:
    return [folder / f"part{k}.h5" for k in range(4)]


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parts")
    write_parts(folder)
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write(tmp_path_factory.mktemp("whole") / "whole.h5", range(9), attribute_names=NAMES).read_bytes()


@contextmanager
def watched(event: Callable[[str, Callable[[], Any]], Any]) -> Iterator[None]:
    """Let `event` make the calls of CALLS, given their name and the call."""
    real = {name: getattr(os, name) for name in CALLS}

    def calling(name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            if name == "copy_file_range" and event(f"half of {name}", lambda: False):
                source, target, length, *places = arguments
                real[name](source, target, max(length // 2, 1), *places)
                os.kill(os.getpid(), signal.SIGKILL)
            return event(name, lambda: real[name](*arguments, **more))

        return call

    for name in CALLS:
        setattr(os, name, calling(name))
    try:
        yield
    finally:
        for name, function in real.items():
            setattr(os, name, function)


def killed_at(folder: Path, number: int) -> bool:
    """Join in a process that kills itself before call `number`, or half through it; return whether it got there."""
    return killed(folder, lambda seen: seen == number)


def killed_after_a_part(folder: Path) -> None:
    """Join in a process that kills itself as soon as the first part is gone."""
    assert killed(folder, lambda _: not (folder / "part0.h5").exists())


def killed(folder: Path, when: Callable[[int], bool]) -> bool:
    """Join in a process that kills itself at the first call that `when` says yes to; return whether there was one."""
    child = os.fork()
    if child == 0:
        seen = 0

        def event(name: str, call: Callable[[], Any]) -> Any:
            nonlocal seen
            seen += 1
            if when(seen):
                if name.startswith("half"):
                    return True
                os.kill(os.getpid(), signal.SIGKILL)
            return call()

        with watched(event):
            join_freeing(folder)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) in (0, -signal.SIGKILL)
    return os.WIFSIGNALED(status)


def test_same_bytes_and_nothing_else_is_left(parts: Path, whole: bytes, tmp_path: Path) -> None:
    shutil.copytree(parts, tmp_path, dirs_exist_ok=True)
    done: list[int] = []
    join(sorted_parts(tmp_path), tmp_path / "joined.h5", settings=SETTINGS, progress=done.append, free_parts=True)
    assert (tmp_path / "joined.h5").read_bytes() == whole
    assert [path.name for path in tmp_path.iterdir()] == ["joined.h5"]
    assert sum(done) == 9


def test_killed_at_any_point_and_resumed(parts: Path, whole: bytes, tmp_path: Path) -> None:
    number, kills = 0, 0
    while True:
        number += 1
        folder = tmp_path / str(number)
        shutil.copytree(parts, folder)
        if not killed_at(folder, number):
            break
        if not (folder / "joined.h5").exists():
            killed_at(folder, 1 + number * 7 % 23)  # and the second try, too
        if not (folder / "joined.h5").exists():
            join_freeing(folder)
        assert (folder / "joined.h5").read_bytes() == whole, f"killed at call {number}"
        kills += 1
        shutil.rmtree(folder)
    assert kills > 40


def test_the_disk_holds_the_result_and_one_part_at_most(tmp_path: Path) -> None:
    files = write_parts(tmp_path, borders=tuple(range(0, 57, 8)), side=256)
    part, all_parts = files[0].stat().st_size, sum(path.stat().st_size for path in files)
    sizes: list[int] = []

    def event(_: str, call: Callable[[], Any]) -> Any:
        result = call()
        sizes.append(sum(path.stat().st_blocks * 512 for path in tmp_path.iterdir()))
        return result

    with watched(event):
        join(files, tmp_path / "joined.h5", settings=SETTINGS, free_parts=True)
    result = (tmp_path / "joined.h5").stat().st_size
    # Small parts have as much alignment as images; and HDF5's tables are claimed generously.
    assert max(sizes) < max(result, all_parts) + part + (4 << 20)
    assert max(sizes) < 0.75 * (result + all_parts)


def test_a_full_disk_keeps_everything_for_the_next_try(
    parts: Path, whole: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(parts, tmp_path, dirs_exist_ok=True)
    copy, calls = os.copy_file_range, 0

    def full(*arguments: int) -> int:
        nonlocal calls
        calls += 1
        if calls == 6:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return copy(*arguments)

    monkeypatch.setattr(os, "copy_file_range", full)
    with pytest.raises(DataError, match=r"joined\.h5: cannot be written after 5 of 9 images: No space left"):
        join_freeing(tmp_path)
    assert not (tmp_path / "part0.h5").exists()
    assert (tmp_path / "part3.h5").exists()
    join_freeing(tmp_path)
    assert (tmp_path / "joined.h5").read_bytes() == whole


def test_damage_on_the_way_shows_in_verify(parts: Path, tmp_path: Path) -> None:
    shutil.copytree(parts, tmp_path, dirs_exist_ok=True)
    killed_after_a_part(tmp_path)
    images = images_path(tmp_path / "joined.h5", sorted_parts(tmp_path))
    content = bytearray(images.read_bytes())
    content[6144 + 100] ^= 1  # in the first image of the first part
    images.write_bytes(content)
    assert not (tmp_path / "part0.h5").exists()
    join_freeing(tmp_path)
    assert verify(tmp_path / "joined.h5") == ["data32x32: changed since it was written (checksum): 1 image: 0"]


def test_parts_whose_images_were_lost_are_missing(parts: Path, tmp_path: Path) -> None:
    shutil.copytree(parts, tmp_path, dirs_exist_ok=True)
    killed_after_a_part(tmp_path)
    images_path(tmp_path / "joined.h5", sorted_parts(tmp_path)).unlink()
    with pytest.raises(DataError, match=r"part0\.h5: no such file"):
        join_freeing(tmp_path)
    assert not joined_path(tmp_path / "part0.h5").exists()


def test_parts_that_changed_on_the_way_are_told(parts: Path, tmp_path: Path) -> None:
    """Images that are in the file already would be in the wrong places."""
    shutil.copytree(parts, tmp_path, dirs_exist_ok=True)
    killed_after_a_part(tmp_path)
    write(tmp_path / "part3.h5", range(6, 8), attribute_names=NAMES)
    with pytest.raises(DataError, match=r"joined\.h5: parts changed while they were joined; build those again"):
        join_freeing(tmp_path)
    left = {path.name for path in tmp_path.iterdir()}
    assert "part3.h5" in left
    assert not any(name.endswith((".joined", ".joining")) for name in left)


def test_bytes_of_an_earlier_try_are_overwritten(parts: Path, whole: bytes, tmp_path: Path) -> None:
    shutil.copytree(parts, tmp_path, dirs_exist_ok=True)
    images_path(tmp_path / "joined.h5", sorted_parts(tmp_path)).write_bytes(b"stale" * 100_000)
    join_freeing(tmp_path)
    assert (tmp_path / "joined.h5").read_bytes() == whole


@pytest.mark.parametrize("name", ["open", "unlink"])
def test_a_disk_that_fails_is_told(name: str, parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(parts, tmp_path, dirs_exist_ok=True)
    real = getattr(os, name)

    def fail(path: Any, *rest: Any, **more: Any) -> Any:
        if str(path).endswith((".joining", "part0.h5")):
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return real(path, *rest, **more)

    monkeypatch.setattr(os, name, fail)
    with pytest.raises(DataError, match=r"^[^\n]*cannot be written[^\n]*: Input/output error$"):
        join_freeing(tmp_path)


def test_a_part_is_freed_once(parts: Path, tmp_path: Path) -> None:
    shutil.copytree(parts, tmp_path, dirs_exist_ok=True)
    twice = [tmp_path / "part0.h5"] * 2
    with pytest.raises(ValueError, match="can be joined once"):
        join(twice, tmp_path / "joined.h5", free_parts=True)
    join(twice, tmp_path / "joined.h5")
    assert len(Pyramid(tmp_path / "joined.h5")) == 10


def test_compressed_parts_stay(tmp_path: Path) -> None:
    files = write_parts(tmp_path, compression="lzf")
    join(files, tmp_path / "joined.h5", compression="lzf", settings=SETTINGS, free_parts=True)
    assert all(path.exists() for path in files)
    assert len(Pyramid(tmp_path / "joined.h5")) == 9


def test_tables_of_a_part(parts: Path, tmp_path: Path) -> None:
    part = Pyramid(parts / "part0.h5")
    PartTables.of(part).write(tmp_path / "part0.h5.joined", 3, 9)
    tables = PartTables.read(tmp_path / "part0.h5.joined")
    assert tables.place == (3, 9)
    assert (len(tables), tables.levels, tables.attribute_names) == (5, part.levels, part.attribute_names)
    for name in ("file_name", "score", "face"):
        assert tables.provenance(name).tolist() == part.provenance(name).tolist()
    (tmp_path / "cut").write_bytes((tmp_path / "part0.h5.joined").read_bytes()[:700])
    with pytest.raises(DataError, match="cut: is damaged; remove it"):
        PartTables.read(tmp_path / "cut")
