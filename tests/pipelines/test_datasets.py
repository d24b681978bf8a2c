"""BuildCIFAR10, BuildLSUN and BuildCelebA128: finished files, resume after a kill, and presets that train on them."""

import csv
import os
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from datatools.errors import DataError
from datatools.pyramid import Pyramid, verify
from datatools.sources.celeba_aligned import AlignedCelebA
from datatools.sources.cifar10 import Cifar10
from datatools.sources.lsun import Lsun
from datatools.sources.pictures import PictureSource, SourcePicture
from pggan.config.presets import PRESETS
from pggan.train import main as train
from pipelines.dataset_shards import DataSetLayout, finish, lock, write_shard
from pipelines.datasets import BuildCIFAR10
from pipelines.preflight import free_space
from tests.support.builds import HANGS, digest, environment
from tests.support.datasets import cifar10_arrays, encoded, lsun_pictures, make_aligned, make_cifar10, make_lsun, noise
from tests.support.stuck import kill_when


def command(task: str, out: Path, *options: object) -> list[str]:
    luigi = str(Path(sys.executable).with_name("luigi"))
    return [luigi, "--module", "pipelines", task, "--output-dir", str(out), *map(str, options)]


def run(task: str, out: Path, *options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(task, out, *options), cwd="/", env=environment(), capture_output=True, text=True, timeout=HANGS
    )


def layout(source: PictureSource, out: Path, *, name: str = "set", count: int = 0, size: int = 4) -> DataSetLayout:
    return DataSetLayout(name, source, out, count or source.count, size, "none")


def build(made: DataSetLayout) -> Path:
    """Make every shard and the finished file, in this process."""
    made.work_dir.mkdir(parents=True, exist_ok=True)
    for index in range(made.shards):
        write_shard(made, index)
    finish(made)
    return made.path


@pytest.fixture(scope="module")
def cifar10_h5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cifar")
    return build(layout(Cifar10(make_cifar10(folder / "CIFAR-10")), folder / "out", name="cifar10", size=7))


def test_cifar10_with_its_labels(tmp_path: Path) -> None:
    folder, out = make_cifar10(tmp_path / "CIFAR-10", 8, "py"), tmp_path / "out"
    done = run("BuildCIFAR10", out, "--cifar10-dir", folder, "--shard-size", 15, "--workers", 2)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"pyramid   {out}/cifar10.h5", f"labels    {out}/cifar10-labels.npy"]
    assert sorted(os.listdir(out)) == ["cifar10-labels.npy", "cifar10.h5"]
    assert verify(out / "cifar10.h5") == []
    pyramid = Pyramid(out / "cifar10.h5")
    pictures = np.concatenate([data for data, _ in cifar10_arrays(8)]).reshape(-1, 3, 32, 32)
    assert np.array_equal(pyramid[32][:], pictures)
    labels = np.concatenate([of_batch for _, of_batch in cifar10_arrays(8)])
    assert np.array_equal(np.load(out / "cifar10-labels.npy"), np.eye(10, dtype=np.float32)[labels])
    assert pyramid.provenance("rank").tolist() == list(range(1, 41))
    assert pyramid.provenance("file_name")[-1] == "data_batch_5-00007"
    assert pyramid.settings["data_set"] == "CIFAR-10"
    assert str(pyramid.settings["classes"]).split()[9] == "truck"
    again = run("BuildCIFAR10", out, "--cifar10-dir", folder)
    assert again.stdout.startswith("already built\n")


def test_shards_of_any_size_give_the_same_bytes(tmp_path: Path, cifar10_h5: Path) -> None:
    source = Cifar10(make_cifar10(tmp_path / "CIFAR-10"))
    other = build(layout(source, tmp_path / "out", name="cifar10", size=100))
    assert digest(other) == digest(cifar10_h5)


def test_only_the_first_entries(tmp_path: Path) -> None:
    made = layout(Lsun(make_lsun(tmp_path / "LSUN", lsun_pictures(9))), tmp_path / "out", count=5, size=2)
    with Pyramid(build(made)) as pyramid:
        assert len(pyramid) == 5
        assert pyramid.settings["entries"] == 5


def test_lsun_leaves_out_what_is_damaged(tmp_path: Path) -> None:
    entries = lsun_pictures(8)
    for index, key in enumerate(sorted(entries)):
        if index in (2, 4, 5):
            entries[key] = b"damaged" if index != 5 else encoded(noise(5, 100, 100))
    folder, out = make_lsun(tmp_path / "LSUN", entries), tmp_path / "out"
    done = run("BuildLSUN", out, "--lsun-dir", folder, "--shard-size", 2)
    assert done.returncode == 0, done.stderr
    assert "3 entries cannot be used, such as 0000000000000000000000000000000000000002: " in done.stdout
    assert f"unusable  {out}/lsun-unusable.csv" in done.stdout
    with (out / "lsun-unusable.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.reader(stream))
    assert rows[0] == ["name", "reason"]
    assert [row[0][-1] for row in rows[1:]] == ["2", "4", "5"]
    assert rows[3][1] == "has 100 x 100 pixels, less than 256"
    pyramid = Pyramid(out / "lsun.h5")
    assert verify(out / "lsun.h5") == []
    assert [name[-1] for name in pyramid.provenance("file_name")] == list("01367")
    expected = [entry for entry in Lsun(folder).entries(0, 8) if isinstance(entry, SourcePicture)]
    for index, entry in enumerate(expected):
        assert np.array_equal(pyramid.image(index), entry.pixels)
        assert pyramid.provenance("source_md5")[index] == entry.md5
    assert not (out / "lsun-labels.npy").exists()


def test_nothing_usable_is_an_error(tmp_path: Path) -> None:
    made = layout(Lsun(make_lsun(tmp_path / "LSUN", {b"a": b"x", b"b": b"y"})), tmp_path / "out")
    with pytest.raises(
        DataError, match=r"none of the 2 entries of LSUN, bedroom_train_lmdb gives a picture; .*csv lists"
    ):
        build(made)
    assert not made.path.exists()


def test_celeba128_after_a_kill_has_the_same_bytes(tmp_path: Path) -> None:
    root = make_aligned(tmp_path / "CelebA", 300)
    options = ("--celeba-dir", root, "--shard-size", 2)
    out = tmp_path / "killed"

    def three_shards_are_finished() -> bool:
        return len(list(out.glob("work-celeba128/*.h5"))) >= 3

    words = ["luigi", *command("BuildCelebA128", out, *options)[1:]]
    kill_when(three_shards_are_finished, "pipelines.datasets:write_shard", "75", words)
    assert not (out / "celeba128.h5").exists()
    kept = {path: path.stat().st_ino for path in out.glob("work-celeba128/*.h5")}
    assert 3 <= len(kept) < 150
    plan = run("BuildCelebA128", out, *options, "--dry-run")
    assert f"done      {len(kept)} of 150 shards" in plan.stdout
    assert {path: path.stat().st_ino for path in out.glob("work-celeba128/*.h5")} == kept
    done = run("BuildCelebA128", out, *options)
    assert done.returncode == 0, done.stderr
    again = {line.split()[2] for line in done.stderr.splitlines() if line.endswith("of 150 running")}
    assert len(again) == 150 - len(kept)
    assert again.isdisjoint({str(int(path.name[:5]) + 1) for path in kept})
    assert sorted(os.listdir(out)) == ["celeba128.h5"]
    undisturbed = build(layout(AlignedCelebA(root), tmp_path / "undisturbed", name="celeba128", size=300))
    assert digest(out / "celeba128.h5") == digest(undisturbed)
    pyramid = Pyramid(out / "celeba128.h5")
    assert pyramid.levels[0] == 128
    assert pyramid.attribute("Smiling")[:3].tolist() == [-1, 1, -1]
    assert pyramid.attribute("Smiling")[-1] == 0  # without a row
    assert pyramid.provenance("split")[:4].tolist() == [0, 1, 2, 0]


@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        ("BuildCIFAR10", ("--cifar10-dir", "/nowhere"), "/nowhere: holds no data_batch_1.bin"),
        ("BuildLSUN", ("--lsun-dir", "/nowhere"), "/nowhere: holds no data.mdb"),
        ("BuildCelebA128", ("--celeba-dir", "/nowhere"), "/nowhere: holds no aligned images"),
        ("BuildCIFAR10", ("--shard-size", "0"), "--shard-size 0: at least 1 is needed"),
        ("BuildCIFAR10", ("--max-images", "-3"), "--max-images -3: at least 0 is needed"),
    ],
)
def test_mistakes_end_in_one_line(task: str, options: tuple[str, ...], message: str, tmp_path: Path) -> None:
    done = run(task, tmp_path / "out", *options)
    assert done.returncode != 0
    assert done.stderr.startswith(f"error: {message}")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_two_builds_do_not_share_a_folder(tmp_path: Path) -> None:
    made = layout(Cifar10(make_cifar10(tmp_path / "CIFAR-10")), tmp_path / "out")
    made.work_dir.mkdir(parents=True)
    with lock(made), pytest.raises(DataError, match="another build is running in"):
        lock(made)
    lock(made).close()


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_disk_of_unknown_size_ends_in_one_line(
    dry_run: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_cifar10(tmp_path / "CIFAR-10")
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage(0, 0, 0))
    task = BuildCIFAR10(cifar10_dir=str(folder), output_dir=str(tmp_path / "out"), dry_run=dry_run)
    with pytest.raises(SystemExit, match=r"^error: --output-dir .*out: cannot be used: .* reports no size"):
        task.before_work()


def test_other_entries_or_settings_are_another_build(tmp_path: Path) -> None:
    source = Cifar10(make_cifar10(tmp_path / "CIFAR-10"))
    made = layout(source, tmp_path / "out")
    build(made)
    assert made.is_finished()
    assert made.plan()[1] == "done      all"
    assert not layout(source, tmp_path / "out", count=39).is_finished()
    assert layout(source, tmp_path / "out", size=9).is_finished()  # the same file in other shards
    assert made.bytes_needed() > layout(source, tmp_path / "out", count=20).bytes_needed() > 0
    assert free_space(tmp_path / "deep" / "er") > 0


def dry_run(h5: Path, preset: str, monkeypatch: pytest.MonkeyPatch, *options: object) -> str:
    """The plan of a run, without measuring: as of a slow CPU."""
    monkeypatch.setattr("pggan.training.plan.measure", lambda *_: None)
    arguments = ["--h5", h5, "--preset", preset, "--dry-run", "--device", "cpu", *options]
    result = CliRunner().invoke(train, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_cifar10_trains_a_step_with_labels(cifar10_h5: Path, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    options = ("--preset", "cifar10", "--labels", "file", "--total-kimg", 0.016, "--device", "cpu", "--workers", 0)
    arguments = ["--h5", cifar10_h5, "--out", tmp_path / "run", *options]
    result = CliRunner().invoke(train, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    assert "finished after 64 images" in result.output


def test_lsun_preset_reads_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    h5 = build(layout(Lsun(make_lsun(tmp_path / "LSUN", lsun_pictures(3))), tmp_path / "out", name="lsun"))
    assert "preset lsun-256: 256 x 256" in dry_run(h5, "lsun-256", monkeypatch)


def test_table_1_presets_read_aligned_celeba(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    h5 = build(layout(AlignedCelebA(make_aligned(tmp_path / "CelebA", 3)), tmp_path / "out", name="celeba128"))
    assert "preset table1-a: 128 x 128" in dry_run(h5, "table1-a", monkeypatch)
    others = [preset for name, preset in PRESETS.items() if name.startswith("table1-")]
    assert len(others) == 9
    assert {preset.network.resolution for preset in others} == {Pyramid(h5).resolution}
