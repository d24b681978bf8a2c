"""Photos that change at their size, or whose time stamps alone change: results are those of the photos as they are."""

import csv
import hashlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from datatools.errors import DataError
from datatools.files import file_stamp
from datatools.pyramid import Pyramid
from datatools.restore.weights import save_weights
from pipelines import freshness
from pipelines.build_shard import chosen_faces, write_build_shard
from pipelines.freshness import scores_are_fresh
from pipelines.layout import BuildLayout
from pipelines.photo_work import read_photo
from pipelines.rank import write_ranking
from pipelines.score_shard import read_score_shards, write_score_shard
from tests.support.builds import Photo, build, digest, file_states, make_tree
from tests.support.restore_samples import tiny_network

ALL = ("--selection", "all")
LONG_AGO = 10**18
"""A time stamp in nanoseconds."""


def photo_path(tree: Path, name: str) -> Path:
    return tree / "Img" / "img_celeba" / name


def write_in_place(path: Path, data: bytes, *, time: int | None) -> None:
    """Replace a photo's content at its size; `time`: of the change, None for the one that it had before."""
    before = path.stat()
    assert len(data) == before.st_size
    with path.open("r+b") as stream:
        stream.write(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns if time is None else time))


def touch_all(tree: Path, time: int) -> None:
    for path in (tree / "Img" / "img_celeba").iterdir():
        os.utime(path, ns=(time, time))


def without_stamps(out: Path) -> dict[str, tuple[int, int]]:
    return {name: state for name, state in file_states(out).items() if not name.endswith(".stamps")}


def rejected(out: Path) -> list[str]:
    with (out / "rejected.csv").open(newline="") as stream:
        return [row["file_name"] for row in csv.DictReader(stream)]


@pytest.fixture(scope="module")
def holed(photos: Mapping[str, Photo]) -> dict[str, Photo]:
    """The photos, of which the second is a download whose space is reserved and the third lost its end."""
    second, third = list(photos)[1:3]
    size, end = len(photos[second].data), len(photos[third].data) // 2
    return {
        **photos,
        second: replace(photos[second], data=bytes(size)),
        third: replace(photos[third], data=photos[third].data[:end] + bytes(len(photos[third].data) - end)),
    }


@pytest.fixture(scope="module")
def damaged(holed: dict[str, Photo], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tree of photos with holes and its finished build; not to be changed."""
    folder = tmp_path_factory.mktemp("damaged")
    tree = make_tree(folder / "CelebA", holed)
    touch_all(tree, LONG_AGO)
    build(tree, folder / "out", *ALL)
    return folder


@pytest.fixture(scope="module")
def everything(tiny_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed build of all photos."""
    out = tmp_path_factory.mktemp("everything")
    build(tiny_tree, out, *ALL, task="Verify")
    return out


@pytest.fixture
def folder(damaged: Path, tmp_path: Path) -> Path:
    """A copy of `damaged` with its time stamps."""
    return Path(shutil.copytree(damaged, tmp_path / "copy"))


@pytest.mark.parametrize("time", [LONG_AGO + 10**9, None], ids=["new time", "time set back"])
def test_photos_that_are_completed_at_their_size_are_used(
    time: int | None, folder: Path, photos: Mapping[str, Photo], everything: Path
) -> None:
    tree, out = folder / "CelebA", folder / "out"
    names = list(photos)[1:3]
    assert names[0] in rejected(out)
    assert "already built" in build(tree, out, *ALL).stdout  # of the copy
    for name in names:
        write_in_place(photo_path(tree, name), photos[name].data, time=time)
    plan = build(tree, out, *ALL, "--dry-run").stdout
    assert "5 of 8 photos scored, 0 of 8 faces made" in plan
    assert "holds a build of other photos" in plan
    build(tree, out, *ALL)
    assert rejected(out) == []
    for name in ("celebahq.h5", "ranking.csv", "rejected.csv"):
        assert digest(out / name) == digest(everything / name), name
    assert "already built" in build(tree, out, *ALL).stdout


def test_a_good_photo_that_is_replaced_at_its_size(
    tiny_tree: Path, photos: Mapping[str, Photo], everything: Path, tmp_path: Path
) -> None:
    tree, out = Path(shutil.copytree(tiny_tree, tmp_path / "CelebA")), tmp_path / "out"
    shutil.copytree(everything, out)
    large, small = sorted(photos, key=lambda name: -len(photos[name].data))[:2]
    data = photos[small].data.ljust(len(photos[large].data), b"\0")
    write_in_place(photo_path(tree, large), data, time=None)
    build(tree, out, *ALL, task="Verify")
    fresh = tmp_path / "fresh"
    build(tree, fresh, *ALL, task="Verify")
    assert digest(out / "celebahq.h5") == digest(fresh / "celebahq.h5") != digest(everything / "celebahq.h5")
    assert digest(out / "ranking.csv") == digest(fresh / "ranking.csv")
    with Pyramid(out / "celebahq.h5") as faces:
        md5 = dict(zip(faces.provenance("file_name"), faces.provenance("source_md5"), strict=True))
    assert md5[large] == hashlib.md5(data).hexdigest()


def test_a_touch_and_a_copy_of_the_tree_make_nothing_again(folder: Path) -> None:
    tree, out = folder / "CelebA", folder / "out"
    touch_all(tree, LONG_AGO + 10**9)
    before = without_stamps(out)
    done = build(tree, out, *ALL)
    assert "already built" in done.stdout
    assert "comparing their contents" in done.stderr
    assert without_stamps(out) == before
    elsewhere = Path(shutil.copytree(tree, folder / "elsewhere"))
    touch_all(elsewhere, LONG_AGO - 10**9)
    assert "already built" in build(elsewhere, out, *ALL).stdout
    assert without_stamps(out) == before
    again = build(elsewhere, out, *ALL)
    assert "already built" in again.stdout
    assert "comparing" not in again.stderr  # stamps are known now


def test_only_photos_with_new_stamps_are_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    original = hashlib.file_digest

    def counted(stream: Any, name: str) -> Any:
        if str(stream.name).startswith(str(folder / "CelebA" / "Img")):
            read.append(Path(stream.name).name)
        return original(stream, name)

    def look() -> bool:
        """As a process that has just begun."""
        read.clear()
        freshness._photos_are_those_of.cache_clear()
        settings = BuildLayout(folder / "CelebA", folder / "out", "all", 30000, 3, 256, "none")
        return all(scores_are_fresh(settings, index) for index in range(settings.score_shards))

    assert look()  # a copy has other times than its original
    monkeypatch.setattr(hashlib, "file_digest", counted)
    assert look()
    assert read == []
    touched = photo_path(folder / "CelebA", "900001.jpg")
    os.utime(touched, ns=(LONG_AGO, LONG_AGO + 1))
    assert look()
    assert read == ["900001.jpg"]
    assert look()
    assert read == []
    data = bytearray(touched.read_bytes())
    data[-1] ^= 1
    write_in_place(touched, bytes(data), time=None)
    assert not look()
    assert read == ["900001.jpg"]


def test_work_of_an_unfinished_build_is_that_of_todays_photos(
    folder: Path, photos: Mapping[str, Photo], everything: Path
) -> None:
    """Faces that the first pass kept at this size, and a shard of the second pass, are from before the change."""
    tree, out = folder / "CelebA", folder / "unfinished"
    build(tree, out, *ALL, "--index", 0, task="BuildShard")
    assert len(list((out / "work" / "faces").iterdir())) == 3
    for name in list(photos)[1:3]:
        write_in_place(photo_path(tree, name), photos[name].data, time=None)
    build(tree, out, *ALL, "--resolution", 512, task="Rank")  # makes the scores again, and keeps other faces
    build(tree, out, *ALL, task="Verify")
    assert digest(out / "celebahq.h5") == digest(everything / "celebahq.h5")


def test_scores_that_were_deleted_are_made_again_and_the_file_is_kept(folder: Path) -> None:
    tree, out = folder / "CelebA", folder / "out"
    before = file_states(out)["celebahq.h5"]
    shutil.rmtree(out / "work")
    build(tree, out, *ALL)
    assert file_states(out)["celebahq.h5"] == before
    assert "already built" in build(tree, out, *ALL).stdout


def test_photos_of_an_interrupted_shard_that_changed_are_made_again(
    photos: Mapping[str, Photo], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = make_tree(tmp_path / "CelebA", dict(list(photos.items())[:4]))
    settings = BuildLayout(tree, tmp_path, count=1, resolution=256, restore="none")
    records = settings.candidates
    done: list[int] = []

    def interrupt(photos: int) -> None:
        done.append(photos)
        if sum(done) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_score_shard(settings, 0, 1, interrupt)
    os.utime(records[0].path, ns=(LONG_AGO, LONG_AGO))
    write_in_place(records[1].path, bytes(records[1].path.stat().st_size), time=None)
    read: list[Path] = []
    monkeypatch.setattr("pipelines.photo_work.read_photo", lambda path: (read.append(path), read_photo(path))[1])
    write_score_shard(settings, 0, 1)
    assert read == [record.path for record in records[1:]]  # the first was there, though touched
    table = read_score_shards(settings)
    assert table.position.tolist() == [0, 2, 3]
    assert [rejection.file_name for rejection in table.rejections] == [records[1].file_name]


def test_a_photo_that_changes_between_the_passes(photos: Mapping[str, Photo], tmp_path: Path) -> None:
    """The row of provenance would tell of another file."""
    settings = BuildLayout(make_tree(tmp_path / "CelebA", photos), tmp_path, count=1, resolution=256, restore="none")
    write_score_shard(settings, 0, 1)
    write_ranking(settings)
    ((position, provenance),) = chosen = chosen_faces(settings, 0)
    done: list[int] = []
    write_build_shard(settings, 0, chosen, 1, done.append, done.append)
    with Pyramid(settings.build_path(0)) as faces:
        assert faces[256].shape == (1, 3, 256, 256)
    path = settings.candidates[position].path
    data = path.read_bytes()
    assert hashlib.md5(data).hexdigest() == provenance.source_md5
    write_in_place(path, data[:-1] + b"\0", time=None)
    with pytest.raises(DataError, match=r"00\d+.jpg changed since it was scored; run the same command again"):
        write_build_shard(settings, 0, chosen, 1, done.append, done.append)
    assert done == [1]


def test_a_weight_file_that_changes_at_its_size(tiny_tree: Path, tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    save_weights(path, tiny_network("sr"), "sr", {})
    settings = BuildLayout(tiny_tree, tmp_path, count=4, resolution=256, restore=str(path))
    before = settings.build_digest
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    write_in_place(path, bytes(data), time=None)
    assert replace(settings).build_digest != before


def test_a_stamp_tells_every_change(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"one")
    os.utime(path, ns=(LONG_AGO, LONG_AGO))
    before = file_stamp(path)
    assert (before.size, before.modified) == (3, LONG_AGO)
    assert file_stamp(path) == before
    os.utime(path, ns=(LONG_AGO, LONG_AGO + 1))
    assert file_stamp(path).modified == LONG_AGO + 1
    assert file_stamp(path).changed >= before.changed
