"""Bad input, bad options, bad disks: a row of rejected.csv or one clear line, nothing lost, nothing half-written."""

import csv
import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import luigi.retcodes
import numpy as np
import pytest
from PIL import Image

import pipelines  # noqa: F401 - Luigi's defaults
from datatools.images import decode_rgb
from datatools.pyramid import Pyramid, verify
from datatools.restore import NoRestorer
from datatools.sources.published import celebahq_index_by_file
from pipelines.dry_run import describe_plan
from pipelines.tasks import BuildCelebAHQ
from tests.faults import pictures
from tests.faults.trees import landmark_row
from tests.support.builds import CHOSEN, HANGS, Photo, build, command, digest, environment, file_names, make_tree, run


def error_line(done: subprocess.CompletedProcess[str]) -> str:
    """The one line that tells what is wrong; the command must have failed without a traceback."""
    assert done.returncode != 0
    assert "Traceback" not in done.stdout + done.stderr
    (line,) = (line for line in done.stderr.splitlines() if "error:" in line)
    return line.split("error:", 1)[1].strip()


def temporary_files(folder: Path) -> list[str]:
    return [str(path) for path in folder.rglob("*") if ".partial" in path.name or ".previous" in path.name]


# --- photos and annotations ------------------------------------------------------------------------------------------

PLAIN = "900002.jpg"


def odd_photos(data: bytes) -> dict[str, bytes]:
    """The same photo in codings that must be accepted, all under .jpg."""
    image = Image.fromarray(decode_rgb(data))
    exif = Image.Exif()
    exif[274] = 6  # to be turned by a quarter, which is ignored: landmarks refer to stored pixels
    return {
        "webp.jpg": pictures.encode(image, "WEBP", lossless=True),
        "png.jpg": pictures.encode(image, "PNG"),
        "alpha.jpg": pictures.encode(image.convert("RGBA"), "PNG"),
        "rotated.jpg": pictures.encode(image, "JPEG", quality=95, subsampling=0, exif=exif),
        "cmyk.jpg": pictures.encode(image.convert("CMYK"), "JPEG", quality=95),
        "palette.jpg": pictures.encode(image.quantize(256), "PNG", transparency=bytes([255] * 256)),
        "grey.jpg": pictures.encode(image.convert("L"), "JPEG", quality=95),
        "grey16.jpg": pictures.encode(np.asarray(image.convert("L")).astype(np.uint16) * 257, "PNG"),
    }


def test_every_bad_entry_is_a_row_and_every_odd_one_a_face(photos: Mapping[str, Photo], tmp_path: Path) -> None:
    plain = photos[PLAIN]
    good = {PLAIN: plain.data} | odd_photos(plain.data)
    rows = {name: plain.row.replace(PLAIN, name) for name in good}
    bad = {
        "zero.jpg": b"",
        "text.jpg": pictures.text(),
        "truncated.jpg": plain.data[: len(plain.data) // 2],
        "bomb.jpg": pictures.jpeg_bomb(),
        "bomb_png.jpg": pictures.png_bomb(),
        "degenerate.jpg": plain.data,
        "outside.jpg": plain.data,
        "mangled.jpg": plain.data,
        "not_a_number.jpg": plain.data,
        "without_row.jpg": plain.data,
        "without_file.jpg": None,
        "folder.jpg": None,
    }
    rows |= {name: plain.row.replace(PLAIN, name) for name in bad if name != "without_row.jpg"}
    rows["degenerate.jpg"] = landmark_row("degenerate.jpg", [50] * 10)
    rows["outside.jpg"] = landmark_row("outside.jpg", [5000, 40, 5030, 41, 5015, 55, 5003, 70, 5028, 71])
    rows["mangled.jpg"] = "mangled.jpg 12 abc 4 5 6 7 8 9 10 11"
    rows["not_a_number.jpg"] = landmark_row("not_a_number.jpg", ["nan", *range(40, 49)])
    entries = {name: data for name, data in (good | bad).items() if data is not None}
    tree = make_tree(tmp_path / "CelebA", {name: Photo(data, rows.get(name, "")) for name, data in entries.items()})
    (tree / "Img" / "img_celeba" / "folder.jpg").mkdir()
    heading = (tree / "Anno" / "list_landmarks_celeba.txt").read_text().splitlines()[1]
    lines = [str(len(rows)), heading, *rows.values()]
    (tree / "Anno" / "list_landmarks_celeba.txt").write_text("\n".join(lines) + "\n")

    out = tmp_path / "out"
    build(tree, out, "--selection", "all", "--order", "source")
    with (out / "rejected.csv").open(newline="") as stream:
        rejected = list(csv.DictReader(stream))
    stages = {row["file_name"]: row["stage"] for row in rejected}
    assert stages == {
        "zero.jpg": "photo",
        "text.jpg": "photo",
        "truncated.jpg": "photo",
        "bomb.jpg": "photo",
        "bomb_png.jpg": "photo",
        "without_file.jpg": "photo",
        "folder.jpg": "photo",
        "degenerate.jpg": "face",
        "outside.jpg": "face",
        "mangled.jpg": "annotation",
        "not_a_number.jpg": "annotation",
        "without_row.jpg": "annotation",
    }
    assert {row["file_name"]: row["kind"] for row in rejected} == {
        "zero.jpg": "empty-photo",
        "text.jpg": "unknown-format",
        "truncated.jpg": "damaged-photo",
        "bomb.jpg": "too-large",
        "bomb_png.jpg": "too-large",
        "without_file.jpg": "no-file",
        "folder.jpg": "not-readable",
        "degenerate.jpg": "bad-landmarks",
        "outside.jpg": "outside-photo",
        "mangled.jpg": "mangled-row",
        "not_a_number.jpg": "not-finite",
        "without_row.jpg": "no-row",
    }
    assert len(rejected) == len(stages)
    assert all(row["reason"] and "\n" not in row["reason"] for row in rejected)
    with (out / "ranking.csv").open(newline="") as stream:
        chosen = {row["file_name"]: row["chosen"] for row in csv.DictReader(stream)}
    assert chosen == {name: str(int(name in good)) for name in [*good, *bad]}

    assert verify(out / "celebahq.h5") == []
    with Pyramid(out / "celebahq.h5") as faces:
        assert faces.provenance("file_name").tolist() == list(good)
        images = dict(zip(good, faces[256][:].astype(float), strict=True))
    luma = np.array([0.299, 0.587, 0.114])[:, None, None]
    for name, image in images.items():
        colours = "grey" not in name
        difference = image - images[PLAIN] if colours else (image * luma).sum(0) - (images[PLAIN] * luma).sum(0)
        assert np.abs(difference).mean() < 6, name
    assert np.array_equal(images["png.jpg"], images[PLAIN])
    assert np.array_equal(images["webp.jpg"], images[PLAIN])


def test_rows_that_contradict_themselves(photos: Mapping[str, Photo], tmp_path: Path) -> None:
    """Left and right eye exchanged turned the face by up to 162 degrees; the photos with right rows are used."""
    first, second, *_ = photos
    spoilt = {name: photo.row.split() for name, photo in photos.items()}
    spoilt[first][1:5] = spoilt[first][3:5] + spoilt[first][1:3]
    spoilt[second][7:11] = spoilt[second][9:11] + spoilt[second][7:9]
    tree = make_tree(tmp_path / "CelebA", {n: Photo(p.data, " ".join(spoilt[n])) for n, p in photos.items()})
    out = tmp_path / "out"
    build(tree, out, "--selection", "all", "--order", "source", task="Verify")
    with (out / "rejected.csv").open(newline="") as stream:
        rejected = {row["file_name"]: (row["stage"], row["reason"]) for row in csv.DictReader(stream)}
    assert rejected == {
        first: ("face", "the eyes contradict the mouth: left and right eye seem to be exchanged"),
        second: ("face", "the corners of the mouth contradict the eyes: left and right corner seem to be exchanged"),
    }
    with Pyramid(out / "celebahq.h5") as faces:
        assert faces.provenance("file_name").tolist() == [name for name in photos if name not in rejected]


def test_photos_that_are_missing_are_counted_on_the_console(photos: Mapping[str, Photo], tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "CelebA", photos)
    gone = sorted(photos)[3:]
    for name in gone:
        (tree / "Img" / "img_celeba" / name).unlink()
    note = f"5 of 8 rows name files that are not there, such as {gone[0]}: check that "
    options = ("--selection", "official", "--count", 5)
    for more in ((), ("--dry-run",)):
        done = run(tree, tmp_path / "out", *options, *more, task="BuildCelebAHQ")
        assert done.returncode == 0, done.stderr
        assert note in done.stdout
        assert "3 of the 5 wanted photos of the published set are there" in done.stdout
    with Pyramid(tmp_path / "out" / "celebahq.h5") as faces:
        assert faces.provenance("file_name").tolist() == published_first(photos)[:3]


def published_first(photos: Mapping[str, Photo]) -> list[str]:
    indices = celebahq_index_by_file()
    return sorted((name for name in photos if name in indices), key=lambda name: indices[name])


def test_when_no_row_has_a_photo(
    photos: Mapping[str, Photo], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree, out = make_tree(tmp_path / "CelebA", photos), tmp_path / "out"
    for name in photos:
        path = tree / "Img" / "img_celeba" / name
        path.rename(path.with_name(f"face-{name}"))
    first = next(iter(photos))
    line = refused(capsys, *command(tree, out, "--dry-run")[1:])
    assert f"8 of 8 rows name files that are not there, such as {first}; the folder has face-" in line
    assert not out.exists()
    line = refused(capsys, *command(tree, out)[1:])
    assert line.endswith(f"; {out / 'rejected.csv'} lists the rejected entries")
    with (out / "rejected.csv").open(newline="") as stream:
        rejected = [row["file_name"] for row in csv.DictReader(stream)]
    assert sorted(rejected) == sorted([*photos, *(f"face-{name}" for name in photos)])


def test_when_too_few_rows_have_a_photo(
    photos: Mapping[str, Photo], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree, out = make_tree(tmp_path / "CelebA", photos), tmp_path / "out"
    first, second = list(photos)[:2]
    for name in (first, second):
        (tree / "Img" / "img_celeba" / name).unlink()
    (tmp_path / "names.txt").write_text("".join(f"{name}\n" for name in list(photos)[2:]))
    too_many = ["--count", "7"]
    assert "rejected.csv" not in refused(capsys, *command(tree, out, *too_many, "--dry-run")[1:])
    assert not out.exists()
    for options, start in (
        (too_many, f"error: --count 7, but {tree} has only 6 rows with a photo; 2 of 8 rows name files that are not"),
        (["--selection", "all", "--exclude", str(tmp_path / "names.txt")], f"error: none of the rows of {tree} has a"),
    ):
        line = refused(capsys, *command(tree, out, *options)[1:])
        assert line.startswith(start)
        assert line.endswith(f"; {out / 'rejected.csv'} lists the rejected entries")
        with (out / "rejected.csv").open(newline="") as stream:
            rejected = {row["file_name"]: row["kind"] for row in csv.DictReader(stream)}
        assert rejected[first] == rejected[second] == "no-file"
        (out / "rejected.csv").unlink()


def test_an_earlier_result_keeps_its_rejections(
    finished_build: Path, photos: Mapping[str, Photo], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong --celeba-dir must not write over what belongs to a finished file."""
    tree, out = make_tree(tmp_path / "CelebA", photos), tmp_path / "out"
    for name in photos:
        path = tree / "Img" / "img_celeba" / name
        path.rename(path.with_name(f"face-{name}"))
    shutil.copytree(finished_build, out)
    before = (out / "rejected.csv").read_bytes()
    assert "rejected.csv" not in refused(capsys, *command(tree, out)[1:])
    assert (out / "rejected.csv").read_bytes() == before


def test_when_no_photo_can_be_used(photos: Mapping[str, Photo], tmp_path: Path) -> None:
    broken = {name: Photo(b"", photo.row) for name, photo in photos.items()}
    out = tmp_path / "out"
    done = run(make_tree(tmp_path / "CelebA", broken), out, "--count", 2)
    assert "none of 8 photos gave a face" in error_line(done)
    assert len((out / "rejected.csv").read_text().splitlines()) == 9
    assert not (out / "celebahq.h5").exists()
    assert not temporary_files(out)


def test_fewer_faces_than_asked_for_is_told_and_no_failure(photos: Mapping[str, Photo], tmp_path: Path) -> None:
    """Rows and files were there: what turns out bad only when it is opened must not cost the night's work."""
    first = next(iter(photos))
    tree = make_tree(tmp_path / "CelebA", {**photos, first: Photo(b"", photos[first].row)})
    done = build(tree, tmp_path / "out", "--count", len(photos), task="Verify")
    assert "7 images instead of 8: 1 photo could not be used" in done.stderr
    with Pyramid(tmp_path / "out" / "celebahq.h5") as faces:
        assert len(faces) == 7
    times = [json.loads(path.read_text()) for path in (tmp_path / "out" / "work" / "times").glob("*.json")]
    images = {timing["stage"]: timing["images"] for timing in times}
    assert images["join"] == images["verify"] == 7


# --- reported before work starts ------------------------------------------------------------------------------------


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Run the command in this process, which is quicker; returns the line with which it is refused."""
    with pytest.raises(SystemExit) as stopped:
        luigi.retcodes.run_with_retcodes(list(words))
    assert isinstance(stopped.value.code, str), capsys.readouterr()  # Python prints it and exits with 1
    assert stopped.value.code.startswith("error: ")
    assert "\n" not in stopped.value.code
    return stopped.value.code


OPTIONS = MappingProxyType(
    {
        "--count 0": "--count 0: at least 1",
        "--count -5": "--count -5: at least 1",
        "--count many": "--count many: a whole number",
        "--count 9": "has only 8 rows with a photo; give --count 8",
        "--selection best": "--selection best: one of score, official, all",
        "--shard-size 0": "--shard-size 0: at least 1",
        "--shard-size 1.5": "--shard-size 1.5: a whole number",
        "--resolution 300": "--resolution 300: one of 256, 512, 1024",
        "--restore magic": "unknown restorer 'magic'",
        "--score-on both": "--score-on both: one of original, restored",
        "--final-filter cubic": "--final-filter cubic: one of lanczos, box",
        "--compression zip": "--compression zip: one of",
        "--min-level 2": "--min-level 2: one of 4, 1",
        "--order random": "--order random: one of",
        "--duplicates maybe": "--duplicates maybe: one of report, drop",
        "--jobs -1": "--jobs -1: a number of processes",
        "--device nonsense": "--device nonsense is not available here",
        "--exclude /no/such/list": "--exclude /no/such/list: cannot be read",
        "--celeba-dir /no/such/folder": "no folder /no/such/folder",
    }
)


def test_several_workers_cannot_share_a_graphics_processor(
    tiny_tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.layout.get_restorer", lambda *_, **__: NoRestorer(batch_size=2))
    out = tmp_path / "out"
    words = command(tiny_tree, out, "--device", "cuda", "--workers", 2, "--count", 8)[1:]
    assert "--device cuda works in one process: leave --workers at 1" in refused(capsys, *words)
    assert not out.exists()
    # the threads around it may be several
    task = BuildCelebAHQ(celeba_dir=str(tiny_tree), output_dir=str(out), device="cuda", jobs=3)
    assert task.job_count == 3
    assert " with 3 threads (" in describe_plan(task.layout, task.job_count)


@pytest.mark.parametrize("option", OPTIONS)
def test_bad_option(option: str, tiny_tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    words = command(tiny_tree, out)[1:]
    assert OPTIONS[option] in refused(capsys, *words, *option.split())
    assert not out.exists()


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("Img", ("photos", "img_celeba", "mmlab.ie.cuhk.edu.hk", "non-commercial", "img_celeba.7z.001")),
        ("Anno/list_landmarks_celeba.txt", ("landmarks", "Anno/list_landmarks_celeba.txt", "mmlab.ie.cuhk.edu.hk")),
    ],
)
def test_incomplete_tree(missing: str, message: tuple[str, ...], tiny_tree: Path, tmp_path: Path) -> None:
    tree, out = tmp_path / "CelebA", tmp_path / "out"
    shutil.copytree(tiny_tree, tree)
    path = tree / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    line = error_line(run(tree, out, "--count", CHOSEN))
    for word in message:
        assert word in line
    assert not out.exists()


def test_the_bare_command_where_there_are_no_photos(tmp_path: Path) -> None:
    bare = command(tmp_path, tmp_path)[:4]
    assert bare[1:] == ["--module", "pipelines", "BuildCelebAHQ"]
    done = subprocess.run(bare, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=HANGS)
    line = error_line(done)
    assert line.startswith("no folder CelebA")
    assert "(for non-commercial research only) is at https://mmlab.ie.cuhk.edu.hk/" in line
    assert list(tmp_path.iterdir()) == []


def test_landmarks_of_another_format(tiny_tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree = tmp_path / "CelebA"
    shutil.copytree(tiny_tree, tree)
    (tree / "Anno" / "list_landmarks_celeba.txt").write_text("image,x,y\n000001.jpg,1,2\n")
    assert "is not in CelebA's format" in refused(capsys, *command(tree, tmp_path / "out")[1:])


@pytest.mark.parametrize("place", ["below a file", "/proc/celebahq"])
def test_output_that_cannot_be_made(
    place: str, tiny_tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("mine")
    out = Path(place) if place.startswith("/") else tmp_path / "file" / "out"
    assert f"--output-dir {out}" in refused(capsys, *command(tiny_tree, out, "--count", CHOSEN)[1:])
    assert (tmp_path / "file").read_text() == "mine"


def test_output_folder_that_may_not_be_written(
    tiny_tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tmp_path.chmod(0o555)
    if os.access(tmp_path, os.W_OK):
        pytest.skip("this user may write everywhere")
    assert "cannot be written: Permission denied" in refused(
        capsys, *command(tiny_tree, tmp_path, "--count", CHOSEN)[1:]
    )


def test_a_report_folder_of_somebody_else(tiny_tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "thesis.txt").write_text("mine")
    line = refused(capsys, *command(tiny_tree, tmp_path, "--count", CHOSEN)[1:])
    assert "is not an earlier report and is left alone" in line
    assert [path.name for path in tmp_path.rglob("*")] == ["report", "thesis.txt"]


def test_a_second_build_in_the_same_folder(tiny_tree: Path, finished_build: Path, tmp_path: Path) -> None:
    build(tiny_tree, tmp_path, "--count", CHOSEN, task="Rank")
    with (tmp_path / "work" / "lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        before = file_names(tmp_path)
        line = error_line(run(tiny_tree, tmp_path, "--count", CHOSEN))
        assert line.startswith("another build is running in ")
        assert file_names(tmp_path) == before
    build(tiny_tree, tmp_path, "--count", CHOSEN)
    assert digest(tmp_path / "celebahq.h5") == digest(finished_build / "celebahq.h5")


WITHOUT_SEMAPHORES = """
import multiprocessing.synchronize, sys
import luigi.cmdline

def refuse(*_, **__):
    raise FileNotFoundError(2, "No such file or directory")

multiprocessing.synchronize.SemLock.__init__ = refuse
sys.exit(luigi.cmdline.luigi_run(sys.argv[2:]))
"""
"""The luigi command where there is no /dev/shm."""


def test_a_system_without_shared_memory(tiny_tree: Path, finished_build: Path, tmp_path: Path) -> None:
    prefix = (sys.executable, "-c", WITHOUT_SEMAPHORES)
    for options in ("--jobs 2", "--jobs 2 --dry-run", "--workers 2"):
        line = error_line(run(tiny_tree, tmp_path, "--count", CHOSEN, *options.split(), prefix=prefix))
        assert "semaphores, and the system has none (No such file or directory)" in line
        assert "--jobs 1 --workers 1" in line
        assert list(tmp_path.iterdir()) == []
    done = run(tiny_tree, tmp_path, "--count", CHOSEN, prefix=prefix)  # with --jobs 1
    assert done.returncode == 0, done.stderr
    assert digest(tmp_path / "celebahq.h5") == digest(finished_build / "celebahq.h5")


# --- disks -----------------------------------------------------------------------------------------------------------

LIMITED = "import os, resource, sys; n = int(sys.argv[1]); resource.setrlimit(resource.RLIMIT_FSIZE, (n, n)); "
LIMITED += "os.execv(sys.argv[2], sys.argv[2:])"


@pytest.mark.parametrize(
    ("limit", "place"),
    [(400_000, "score shard 1 of 3"), (700_000, "work/build"), (1_500_000, "celebahq.h5")],
)
def test_a_write_that_fails_half_way(
    limit: int, place: str, tiny_tree: Path, tmp_path_factory: pytest.TempPathFactory, everything: Path
) -> None:
    """No file may grow beyond `limit`: what a full disk does, at a place of our choice."""
    out = tmp_path_factory.mktemp("limited")
    options = ("--selection", "all")
    done = run(tiny_tree, out, *options, prefix=(sys.executable, "-c", LIMITED, str(limit)))
    lines = [line for line in done.stderr.splitlines() if "error:" in line]
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert any(place in line and "File too large" in line for line in lines), lines
    assert not temporary_files(out)
    assert not (out / "celebahq.h5").exists()
    build(tiny_tree, out, *options)
    assert digest(out / "celebahq.h5") == digest(everything / "celebahq.h5")


@pytest.fixture(scope="module")
def everything(tiny_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed build of all photos."""
    out = tmp_path_factory.mktemp("everything")
    build(tiny_tree, out, "--selection", "all", task="Verify")
    return out


def test_a_report_that_cannot_be_written(tiny_tree: Path, finished_build: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished_build, out, ignore=shutil.ignore_patterns("report", "reported-*", "finished-*"))
    done = run(tiny_tree, out, "--count", CHOSEN, prefix=(sys.executable, "-c", LIMITED, "2000"))
    assert "File too large" in error_line(done)
    assert not (out / "report").exists()
    assert not temporary_files(out)
    build(tiny_tree, out, "--count", CHOSEN)
    assert (out / "report" / "index.html").exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(mount, capture_output=True, timeout=HANGS).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("this user cannot mount a small file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True, timeout=HANGS)


def test_a_disk_that_is_too_small_then_full_then_read_only(small_disk: Path, tiny_tree: Path, everything: Path) -> None:
    out, options = small_disk / "out", ("--selection", "all")
    line = error_line(run(tiny_tree, out, *options))
    assert "the build needs up to" in line
    assert "free some" in line
    assert not out.exists()

    # The tasks below the main one do not look at the disk beforehand: this one fills up in the middle.
    done = run(tiny_tree, out, *options, task="Join")
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "No space left on device" in done.stderr or "the disk is too full" in done.stderr
    assert not temporary_files(out)

    subprocess.run(["mount", "-o", "remount,ro,size=32m", str(small_disk)], check=True)
    assert "Read-only file system" in error_line(run(tiny_tree, out, *options))

    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    build(tiny_tree, out, *options)
    assert digest(out / "celebahq.h5") == digest(everything / "celebahq.h5")


def test_output_on_another_file_system(tiny_tree: Path, finished_build: Path, tmp_path: Path) -> None:
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK) or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second file system that can be written")
    out = memory / f"celebahq-test-{os.getpid()}"
    try:
        build(tiny_tree, out, "--count", CHOSEN)
        assert digest(out / "celebahq.h5") == digest(finished_build / "celebahq.h5")
    finally:
        shutil.rmtree(out, ignore_errors=True)


def test_scores_that_were_damaged_from_outside(tiny_tree: Path, finished_build: Path, tmp_path: Path) -> None:
    shutil.copytree(finished_build / "work" / "scores", tmp_path / "work" / "scores")
    shard = sorted((tmp_path / "work" / "scores").iterdir())[1]
    shard.write_bytes(shard.read_bytes()[:100])
    assert "was damaged" in error_line(run(tiny_tree, tmp_path, "--count", CHOSEN))
    build(tiny_tree, tmp_path, "--count", CHOSEN, task="Verify")
    assert digest(tmp_path / "celebahq.h5") == digest(finished_build / "celebahq.h5")
