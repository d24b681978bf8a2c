"""`pipelines.preflight`: options that cannot lead to a file, disk need, the lock."""

import io
import os
import shutil
import subprocess
import sys
from collections import namedtuple
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import luigi
import pytest
from PIL import Image

from datatools.errors import DataError
from datatools.pyramid.joined import joined_path
from datatools.sources.records import RejectionKind
from pipelines.dry_run import describe_plan
from pipelines.layout import BuildLayout
from pipelines.options import RunOptions
from pipelines.preflight import (
    NoPhotosError,
    check_options,
    check_space,
    describe_replaced,
    disk_need,
    free_space,
    job_count,
    lock_output,
    notes,
    still_needed,
)
from pipelines.tasks import BuildCelebAHQ
from pipelines.unfinished import unfinished_path
from tests.support.builds import CHOSEN, Photo, environment, file_names, make_tree

IMAGE = 3 * sum(4**power for power in range(2, 9))
"""Bytes of one image at 256, 128 ... 4."""

FACE = 3 * 256 * 256


SMALL = {"count": CHOSEN, "shard_size": 3, "resolution": 256}


@pytest.fixture
def settings(tiny_tree: Path, tmp_path: Path) -> BuildLayout:
    return BuildLayout(tiny_tree, tmp_path / "out", count=CHOSEN, shard_size=3, resolution=256, restore="none")


def write(path: Path, size: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))


def test_disk_need(settings: BuildLayout, finished_build: Path) -> None:
    need = disk_need(settings)
    assert need.finished == CHOSEN * IMAGE
    assert need.peak == (CHOSEN + settings.shard_size) * IMAGE + 8 * FACE
    assert disk_need(replace(settings, compression="lzf")) == need
    size = (finished_build / "celebahq.h5").stat().st_size
    assert need.finished <= size < need.finished + 100_000  # tables come on top
    few = replace(settings, count=2)  # faces are not kept
    assert disk_need(few).peak == 2 * disk_need(few).finished == 4 * IMAGE


def test_what_is_still_needed(settings: BuildLayout) -> None:
    assert still_needed(settings) == disk_need(settings).peak
    write(settings.score_path(1))
    assert still_needed(settings) == disk_need(settings).peak - 3 * FACE
    for index in (0, 2):
        write(settings.score_path(index))
    joined = 3  # images of a shard, which is freed once it is joined
    assert still_needed(settings) == (CHOSEN + joined) * IMAGE
    write(settings.build_path(0))
    assert still_needed(settings) == (1 + joined) * IMAGE
    # Unfinished files are written over: their bytes are there already.
    write(settings.work_dir / "build" / ".00001.h5.partial", 234)
    assert still_needed(settings) == (1 + joined) * IMAGE - 234
    write(unfinished_path(settings.build_path(1).with_suffix(".rgb")), 1000)
    assert still_needed(settings) == (1 + joined) * IMAGE - 1234
    # Work for other settings helps nobody.
    write(settings.work_dir / "build" / "00000-0123456789abcdef.h5", 10_000_000)
    write(settings.work_dir / "faces" / ".00000-0123456789abcdef-256.rgb.unfinished", 10_000_000)
    assert still_needed(settings) == (1 + joined) * IMAGE - 1234
    # A shard whose images are in the file that is being joined takes no room of its own.
    settings.build_path(0).rename(joined_path(settings.build_path(0)))
    assert still_needed(settings) == (CHOSEN + joined) * IMAGE - 1234
    write(settings.joining_path)
    assert still_needed(settings) == (1 + joined) * IMAGE - 1234


def test_nothing_is_needed_for_a_finished_file(settings: BuildLayout, finished_build: Path) -> None:
    assert still_needed(replace(settings, output_dir=finished_build)) == 0


def test_a_disk_that_is_too_small(settings: BuildLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    need = disk_need(settings).peak
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage(10**9, 0, need))
    check_space(settings)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage(10**9, 0, need - 1))
    with pytest.raises(DataError, match=r"the build needs up to 3.41 MB of free disk, there are 3.41 MB; free some"):
        check_space(settings)
    assert not settings.output_dir.exists()


def test_free_space_of_a_folder_that_does_not_exist_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert free_space(tmp_path / "a" / "b") > 0
    monkeypatch.chdir(tmp_path)
    assert free_space(Path("a/b")) > 0
    assert list(tmp_path.iterdir()) == []


def test_lock(settings: BuildLayout) -> None:
    with lock_output(settings):
        with pytest.raises(DataError, match="another build is running in"):
            lock_output(settings)
        assert file_names(settings.output_dir) == {"work/lock"}
    lock_output(settings).close()  # free again


def test_the_lock_goes_with_the_process_that_held_it(settings: BuildLayout) -> None:
    code = (
        "import os, sys, signal; from pathlib import Path; from pipelines.preflight import lock_output; "
        "from pipelines.layout import BuildLayout; "
        "kept = lock_output(BuildLayout(Path(sys.argv[1]), Path(sys.argv[2]))); os.kill(os.getpid(), signal.SIGKILL)"
    )
    words = [sys.executable, "-c", code, str(settings.celeba_dir), str(settings.output_dir)]
    assert subprocess.run(words, env=environment()).returncode < 0
    assert (settings.work_dir / "lock").exists()
    lock_output(settings).close()


@pytest.mark.parametrize("name", ["work", "out"])
def test_an_output_that_cannot_be_written(name: str, settings: BuildLayout) -> None:
    path = settings.work_dir if name == "work" else settings.output_dir
    write(path)
    with pytest.raises(DataError, match=r"--output-dir .*out: cannot be written: "):
        lock_output(settings)


def test_whether_a_build_is_complete_may_be_asked_at_any_time(
    settings: BuildLayout, finished_build: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It prints, locks and makes nothing."""
    options = {"count": CHOSEN, "shard_size": 3, "resolution": "256", "restore": "none"}
    folders = [str(settings.output_dir), str(finished_build)]
    before = file_names(finished_build)
    answers = [
        BuildCelebAHQ(celeba_dir=str(settings.celeba_dir), output_dir=folder, **options).complete()
        for folder in folders
    ]
    assert answers == [False, True]
    assert capsys.readouterr().out == ""
    assert not settings.output_dir.exists()
    assert file_names(finished_build) == before
    lock_output(replace(settings, output_dir=finished_build)).close()  # nobody holds it


def test_luigi_lets_the_build_look_for_mistakes_first(
    settings: BuildLayout, capsys: pytest.CaptureFixture[str]
) -> None:
    task = BuildCelebAHQ(celeba_dir=str(settings.celeba_dir), output_dir=str(settings.output_dir), count=9)
    with pytest.raises(SystemExit, match=r"^error: --count 9, but .* has only 8 rows with a photo; give --count 8$"):
        luigi.build([task], local_scheduler=True, workers=1)
    assert not settings.output_dir.exists()
    assert "Traceback" not in capsys.readouterr().err


def test_jobs_fill_the_machine(settings: BuildLayout) -> None:
    available = len(os.sched_getaffinity(0))
    assert job_count(settings, RunOptions(workers=1)) == available
    assert job_count(settings, RunOptions(workers=2)) == max(available // 2, 1)
    assert job_count(settings, RunOptions(workers=10 * available)) == 1


def test_an_output_folder_that_is_on_no_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage(0, 0, 0))
    with pytest.raises(DataError, match=r"cannot be used: .* reports no size; choose another folder"):
        free_space(tmp_path / "out")


def test_a_file_that_will_be_replaced_is_named(settings: BuildLayout, finished_build: Path) -> None:
    there = replace(settings, output_dir=finished_build)
    path = there.pyramid_path
    assert describe_replaced(settings) == describe_replaced(there) == ""
    other = replace(there, selection="all", count=7)
    assert describe_replaced(other) == (
        f"{path} holds a build with other settings (selection score, count 4) and will be replaced"
    )
    assert describe_replaced(other) in notes(other)
    assert describe_replaced(other) in describe_plan(other, 1)
    write(settings.pyramid_path)
    assert describe_replaced(settings) == f"{settings.pyramid_path} is not a complete pyramid file and will be replaced"
    copy = settings.output_dir / "celebahq.h5"
    shutil.copy(path, copy)
    with h5py.File(copy, "r+") as file:
        file["settings"].attrs["build_digest"] = "another"
    assert "of other photos, annotations, weights or versions" in describe_replaced(settings)


# --- options that cannot lead to a file, and what is said of a source -----------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"count": 0}, "--count 0"),
        ({"shard_size": -1}, "--shard-size -1"),
        ({"resolution": 128}, "--resolution 128"),
        ({"restore": "magic"}, "unknown restorer"),
        ({"count": 9}, "give --count 8"),
    ],
)
def test_check(settings: BuildLayout, change: dict[str, Any], message: str) -> None:
    check_options(settings)
    with pytest.raises(DataError, match=message):
        check_options(replace(settings, **change))


def test_official_takes_what_there_is(settings: BuildLayout) -> None:
    official = replace(settings, selection="official", count=4)
    check_options(official)
    assert official.chosen_count == len(official.candidates) == 3
    assert "3 of the 4 wanted photos of the published set are there" in notes(official)
    assert notes(replace(official, count=3)) == []


def test_missing_photos_are_counted_before_another_count_is_advised(
    photos: Mapping[str, Photo], tmp_path: Path
) -> None:
    """A half-unpacked archive: what to check comes first."""
    tree = make_tree(tmp_path / "CelebA", photos)
    for name in sorted(photos)[2:]:
        (tree / "Img" / "img_celeba" / name).unlink()
    settings = BuildLayout(tree, tmp_path / "out", **SMALL)
    with pytest.raises(DataError) as caught:
        check_options(settings)
    line = str(caught.value)
    assert "6 of 8 rows name files that are not there" in line
    assert "unpacked whole (7z x img_celeba.7z.001)" in line
    assert line.endswith("; or give --count 2")
    enough = replace(settings, count=2)
    check_options(enough)
    (note,) = notes(enough)
    assert note.startswith("6 of 8 rows name files that are not there, such as ")
    assert note in describe_plan(replace(enough, restore="none"), jobs=1)


def test_a_landmarks_file_that_was_cut_off(photos: Mapping[str, Photo], tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "CelebA", photos)
    path = tree / "Anno" / "list_landmarks_celeba.txt"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:5]))
    settings = BuildLayout(tree, tmp_path / "out", **SMALL)
    with pytest.raises(DataError, match=r"only 3 rows with a photo; 5 files in .* without a row .*; or give --count 3"):
        check_options(settings)
    (note,) = notes(replace(settings, count=3))
    assert note.startswith("5 files in ")


def test_no_photo_fits(photos: Mapping[str, Photo], tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "CelebA", photos)
    for name in photos:
        path = tree / "Img" / "img_celeba" / name
        path.rename(path.with_name(f"img_{name}"))
    with pytest.raises(NoPhotosError) as caught:
        check_options(BuildLayout(tree, tmp_path / "out", **SMALL))
    first = next(iter(photos))
    assert f"8 of 8 rows name files that are not there, such as {first}; the folder has img_" in str(caught.value)


@pytest.mark.parametrize("selection", ["score", "official", "all"])
def test_photos_of_the_aligned_set(selection: Any, photos: Mapping[str, Photo], tmp_path: Path) -> None:
    """Under the wild photos' names and folder, with the wild landmarks."""
    stream = io.BytesIO()
    Image.new("RGB", (178, 218)).save(stream, format="JPEG")
    tree = make_tree(tmp_path / "CelebA", {name: Photo(stream.getvalue(), photos[name].row) for name in photos})
    with pytest.raises(DataError, match=r"are the aligned pictures: [38] of [38] looked at have 178 x 218 pixels"):
        check_options(BuildLayout(tree, tmp_path / "out", selection=selection, **SMALL))


def test_photos_that_were_made_smaller(photos: Mapping[str, Photo], tmp_path: Path) -> None:
    first = next(iter(photos))
    stream = io.BytesIO()
    Image.new("RGB", (64, 64)).save(stream, format="JPEG")
    small = {name: Photo(stream.getvalue(), photos[name].row) for name in photos}
    with pytest.raises(DataError, match=r"do not belong together: those of \d+\.jpg reach to .* has 64 x 64 pixels"):
        check_options(BuildLayout(make_tree(tmp_path / "all", small), tmp_path / "out", **SMALL))
    # one of them is a row of rejected.csv
    check_options(BuildLayout(make_tree(tmp_path / "one", {**photos, first: small[first]}), tmp_path / "out", **SMALL))


@pytest.mark.parametrize("ending", [".JPG", ".png", ".jpeg"])
def test_exclusions_with_another_ending(ending: str, settings: BuildLayout, tmp_path: Path) -> None:
    names = [record.file_name for record in settings.candidates]
    unwanted = tmp_path / "unwanted.txt"
    unwanted.write_bytes(b"\xef\xbb\xbf" + f"{Path(names[0]).stem}{ending}\r\n{names[1]} \r\nno.jpg\r\n".encode())
    excluding = replace(settings, exclude=str(unwanted))
    assert excluding.excluded == {names[0], names[1], "no.jpg"}
    assert [record.file_name for record in excluding.usable] == names[2:]
    assert excluding.candidates == settings.candidates
    (note,) = notes(excluding)
    assert note.startswith("2 of 3 names in --exclude ")
    assert note.endswith("; not so no.jpg")


def test_listed_photos_alone_are_candidates(settings: BuildLayout, tmp_path: Path) -> None:
    names = [record.file_name for record in settings.candidates]
    wanted = tmp_path / "names.txt"
    wanted.write_text(f"file_name,why\n{names[2]},good\n{Path(names[0]).stem}.JPG\nno.jpg\n")
    listing = replace(settings, ids=str(wanted), count=30000)
    check_options(listing)
    assert [record.file_name for record in listing.candidates] == [names[0], names[2]]
    assert (listing.needed_count, listing.chosen_count) == (2, 2)
    assert {rejection.kind for rejection in listing.left_out} == {RejectionKind.NOT_LISTED}
    assert [rejection.file_name for rejection in listing.left_out] == [
        n for n in names if n not in (names[0], names[2])
    ]
    (note,) = notes(listing)
    assert note.startswith(f"2 of 3 names in --ids {wanted} are photos of ")
    both = replace(listing, exclude=str(wanted))
    for selection in ("score", "official", "all"):
        with pytest.raises(DataError, match=r"--ids .*names.txt: none of its names is a photo of .* to be used"):
            check_options(replace(both, selection=selection))
    assert replace(settings, ids=str(wanted)).build_digest != settings.build_digest
    one = replace(listing, selection="official", count=3)
    published = [record for record in listing.candidates if record.celebahq_index >= 0]
    assert (one.needed_count, len(one.candidates)) == (len(published), len(published))
    wanted.write_text("a/b.jpg\n")
    with pytest.raises(DataError, match=r"--ids .*names.txt: 'a/b.jpg' is not a file name"):
        check_options(replace(settings, ids=str(wanted), min_score=1.0))


def test_converted_photos_are_used_and_noted(photos: Mapping[str, Photo], tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "CelebA", photos)
    first, second, *_ = sorted(photos)
    folder = tree / "Img" / "img_celeba"
    (folder / first).rename(folder / first.replace(".jpg", ".png"))
    (folder / second).rename(folder / second.replace(".jpg", ".JPG"))
    settings = BuildLayout(tree, tmp_path / "out", **SMALL)
    check_options(settings)
    assert {record.file_name for record in settings.candidates} == set(photos)
    (note,) = notes(settings)
    assert note.startswith(
        f"1 photo found under another ending than in the annotations, such as {Path(first).stem}.png"
    )


def test_check_when_everything_is_excluded(settings: BuildLayout, tmp_path: Path) -> None:
    unwanted = tmp_path / "unwanted.txt"
    unwanted.write_text("\n".join(record.file_name for record in settings.candidates))
    for selection in ("score", "official", "all"):
        with pytest.raises(DataError, match=r"has no|none of the rows|has only"):
            check_options(replace(settings, exclude=str(unwanted), selection=selection))
