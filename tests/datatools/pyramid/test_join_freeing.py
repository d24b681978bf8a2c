"""A join that frees its parts needs the disk of the result and one part, and survives whatever ends it."""

import errno
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datatools.errors import DataError
from datatools.pyramid import Pyramid, join, verify
from datatools.pyramid.join import images_path
from datatools.pyramid.joined import PartTables, Place, joined_path
from tests.support.pyramid_samples import NAMES, write
from tests.support.tries import Tries

SETTINGS = {"restore": "none", "seed": 7, "gain": 0.5}
CALLS = ("copy_file_range", "pwrite", "fsync", "replace", "unlink", "ftruncate")
"""Calls of the system that change what is on the disk, or see to it."""


def write_parts(folder: Path, *, borders: tuple[int, ...] = (0, 5, 5, 6, 9), **options: Any) -> list[Path]:
    return [
        write(folder / f"part{k}.h5", range(first, end), **{"attribute_names": NAMES, **options})
        for k, (first, end) in enumerate(pairwise(borders))
    ]


def join_freeing(folder: Path, compression: str = "none") -> None:
    join(sorted_parts(folder), folder / "joined.h5", compression=compression, settings=SETTINGS, free_parts=True)


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
            if name == "pwrite" and event(f"half of {name}", lambda: False):
                target, data, place = arguments
                real[name](target, data[: len(data) // 2], place)
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


def killed_at(folder: Path, number: int, compression: str) -> bool:
    """Join in a process that kills itself before call `number`, or half through it; return whether it got there."""
    return killed(folder, lambda seen: seen == number, compression)


def killed_after_a_part(folder: Path, compression: str = "none") -> None:
    """Join in a process that kills itself as soon as the first part is gone."""
    assert killed(folder, lambda _: not (folder / "part0.h5").exists(), compression)


def killed(folder: Path, when: Callable[[int], bool], compression: str) -> bool:
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
            join_freeing(folder, compression)
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


# Of 256 x 256 pixels and more a chunk has one image, of smaller levels several, also of two parts.
@pytest.mark.parametrize(("compression", "side"), [("none", 32), ("lzf", 256), ("gzip", 32)])
def test_killed_at_any_point_and_resumed(compression: str, side: int, tmp_path: Path, tries: Tries) -> None:
    (tmp_path / "parts").mkdir()
    options: dict[str, Any] = {"attribute_names": NAMES, "side": side, "compression": compression}
    write_parts(tmp_path / "parts", **options)
    whole = write(tmp_path / "whole.h5", range(9), **options).read_bytes()
    step = tries.count(23, 1)
    for number in count(1, step):
        folder = tmp_path / str(number)
        shutil.copytree(tmp_path / "parts", folder)
        if not killed_at(folder, number, compression):
            break
        if not (folder / "joined.h5").exists():
            killed_at(folder, 1 + number * 7 % 97, compression)  # and the second try, too
        if not (folder / "joined.h5").exists():
            join_freeing(folder, compression)
        assert (folder / "joined.h5").read_bytes() == whole, f"killed at call {number}"
        shutil.rmtree(folder)
    assert number > 150


@pytest.mark.parametrize("compression", ["none", "lzf"])
def test_the_disk_holds_the_result_and_one_part_at_most(compression: str, tmp_path: Path) -> None:
    files = write_parts(tmp_path, borders=tuple(range(0, 57, 8)), side=256, compression=compression)
    part, all_parts = files[0].stat().st_size, sum(path.stat().st_size for path in files)
    sizes: list[int] = []

    def event(_: str, call: Callable[[], Any]) -> Any:
        result = call()
        sizes.append(sum(path.stat().st_blocks * 512 for path in tmp_path.iterdir()))
        return result

    with watched(event):
        join(files, tmp_path / "joined.h5", compression=compression, settings=SETTINGS, free_parts=True)
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


@pytest.mark.parametrize(("of_parts", "compression"), [("none", "gzip"), ("gzip", "none"), ("lzf", "gzip")])
def test_parts_compressed_otherwise(of_parts: str, compression: str, tmp_path: Path) -> None:
    write_parts(tmp_path, compression=of_parts)
    killed_after_a_part(tmp_path, compression)
    join_freeing(tmp_path, compression)
    assert [path.name for path in tmp_path.iterdir()] == ["joined.h5"]
    whole = write(tmp_path / "whole.h5", range(9), compression=compression)
    assert (tmp_path / "joined.h5").read_bytes() == whole.read_bytes()


@pytest.mark.parametrize(
    ("compression", "change"),
    [("none", "settings"), ("gzip", "settings"), ("gzip", "compression"), ("gzip", "earlier part")],
)
def test_what_moves_images_of_parts_that_are_gone(compression: str, change: str, tmp_path: Path) -> None:
    """What is left stays, and the next try says what is missing."""
    write_parts(tmp_path, side=256, compression=compression)
    killed(tmp_path, lambda _: not (tmp_path / "part2.h5").exists(), compression)
    options: dict[str, Any] = {"compression": compression, "settings": SETTINGS, "free_parts": True}
    if change == "compression":
        options["compression"] = "lzf"
    elif change == "settings":
        options["settings"] = {"restore": "none" * 1000}
    elif change == "earlier part":
        joined_path(tmp_path / "part0.h5").unlink()
        write(tmp_path / "part0.h5", range(20, 25), attribute_names=NAMES, side=256, compression="gzip")
    left = {path.name for path in tmp_path.glob("part*.h5")}
    with pytest.raises(DataError, match=r"joined\.h5: parts changed while they were joined; build those again"):
        join(sorted_parts(tmp_path), tmp_path / "joined.h5", **options)
    assert {path.name for path in tmp_path.iterdir()} == left


@pytest.mark.parametrize("free_parts", [True, False])
@pytest.mark.parametrize("compression", ["none", "lzf"])
def test_an_error_of_the_callback_stays_as_it_is(free_parts: bool, compression: str, tmp_path: Path) -> None:
    error = OSError(errno.EPIPE, "the terminal is gone")

    def report(_: int) -> None:
        raise error

    files, out = write_parts(tmp_path, compression=compression), tmp_path / "joined.h5"
    with pytest.raises(OSError, match="the terminal is gone") as raised:
        join(files, out, compression=compression, progress=report, free_parts=free_parts)
    assert raised.value is error


def test_tables_of_a_part(parts: Path, tmp_path: Path) -> None:
    part = Pyramid(parts / "part0.h5")
    chunks, pending = np.arange(6).reshape(2, 3), np.full((1, 3, 32, 32), 7, np.uint8)
    PartTables.of(part).write(tmp_path / "part0.h5.joined", Place(3, 9, "gzip", {16: 5}, {32: chunks}, {32: pending}))
    tables = PartTables.read(tmp_path / "part0.h5.joined")
    assert tables.place is not None
    assert (tables.place.first, tables.place.count, tables.place.compression) == (3, 9, "gzip")
    assert tables.place.offsets == {16: 5}
    assert np.array_equal(tables.place.chunks[32], chunks)
    assert np.array_equal(tables.place.pending[32], pending)
    assert (len(tables), tables.levels, tables.attribute_names) == (5, part.levels, part.attribute_names)
    for name in ("file_name", "score", "face"):
        assert tables.provenance(name).tolist() == part.provenance(name).tolist()
    (tmp_path / "cut").write_bytes((tmp_path / "part0.h5.joined").read_bytes()[:700])
    with pytest.raises(DataError, match="cut: is damaged; remove it"):
        PartTables.read(tmp_path / "cut")
