"""A file of the 2017 layout becomes a pyramid: its images, levels checked, origin unknown."""

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from click.testing import CliRunner, Result
from numpy.typing import NDArray

from datatools.errors import DataError
from datatools.h5tool.__main__ import main
from datatools.pyramid import Pyramid, build_levels, convert, verify
from datatools.pyramid.labels import read_labels
from pggan.data.stream import Source
from tests.support.builds import HANGS, environment
from tests.support.pyramid_samples import face, write

COUNT = 5


def write_2017(
    path: Path, count: int = COUNT, side: int = 32, levels: Sequence[int] | None = None, **options: Any
) -> Path:
    """A file as the programs of 2017 wrote it: each level in chunks of whole images, down to 1 x 1."""
    made = [build_levels(face(index, side), 1) for index in range(count)]
    with h5py.File(path, "w") as file:
        for level in levels or made[0]:
            images = np.stack([each[level] for each in made])
            chunks = (-(-128 // (3 * level * level)), *images.shape[1:])
            filters = {"chunks": chunks, "compression": "gzip", "compression_opts": 4}
            limits = {"maxshape": (None, *images.shape[1:]), **filters, **options}
            file.create_dataset(f"data{level}x{level}", data=images, **limits)
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["convert", *map(str, arguments)])


def refused(*arguments: object) -> str:
    """The one line of a conversion that leaves nothing behind."""
    folder = Path(str(arguments[0])).parent
    before = sorted(folder.iterdir())
    result = run(*arguments)
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    (line,) = result.stderr.splitlines()
    assert sorted(folder.iterdir()) == before
    return line


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return write_2017(tmp_path / "old.h5")


def image(path: Path, index: int, side: int = 32) -> NDArray[np.uint8]:
    return Pyramid(path).image(index, side)


@pytest.mark.parametrize("compression", ["none", "gzip", "lzf"])
@pytest.mark.parametrize(
    ("levels", "smallest"), [(None, 1), ((32, 16, 8, 4), 4), ((32, 16, 8, 4, 2), 2), ((32, 16), 4), ((32,), 4)]
)
def test_images_and_levels(
    tmp_path: Path, levels: Sequence[int] | None, smallest: int, compression: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = sys.modules["datatools.pyramid.convert"]  # the package has a function of that name
    monkeypatch.setattr(module, "BATCH_BYTES", 3 * 32 * 32 * 2)  # several batches
    new, done = tmp_path / "new.h5", []
    found = convert(write_2017(tmp_path / "old.h5", levels=levels), new, compression=compression, progress=done.append)
    assert verify(new) == []
    pyramid = Pyramid(new)
    assert pyramid.levels[-1] == smallest
    assert pyramid.compression == compression
    for index in range(COUNT):
        for resolution, expected in build_levels(face(index), smallest).items():
            np.testing.assert_array_equal(pyramid[resolution][index], expected)
    assert done == [2, 2, 1]
    assert found.resolutions == pyramid.levels
    assert found.missing == tuple(r for r in pyramid.levels if levels and r not in levels)
    assert not any(difference.images for difference in found.differences.values())


@pytest.mark.parametrize("side", [4, 64])
def test_other_sizes_and_files_without_compression(tmp_path: Path, side: int) -> None:
    plain = dict.fromkeys(("maxshape", "chunks", "compression", "compression_opts"))
    old = write_2017(tmp_path / "old.h5", side=side, **plain)
    new = tmp_path / "new.h5"
    convert(old, new)
    np.testing.assert_array_equal(image(new, 3, side), face(3, side))


def test_the_origin_is_unknown_and_readers_cope(old: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.h5"
    assert run(old, new).stdout == f"{new}: 5 images of 32 x 32 pixels, without provenance\n"
    pyramid = Pyramid(new)
    assert pyramid.provenance("file_name").tolist() == [""] * COUNT
    assert pyramid.provenance("rank").tolist() == [-1] * COUNT
    assert np.isnan(pyramid.provenance("score")).all()
    assert pyramid.attribute_names == ()
    assert pyramid.settings == {"source": "2017 layout"}
    shown = CliRunner().invoke(main, ["inspect", str(new)])
    assert shown.exit_code == 0
    lines = [" ".join(line.split()) for line in shown.output.splitlines()]
    for line in ("file_name (5,) text, unknown", "score (5,) float64, unknown", "rank (5,) int32, unknown"):
        assert f"provenance {line}" in lines
    assert CliRunner().invoke(main, ["compare", str(new), str(new)]).exit_code == 0
    assert CliRunner().invoke(main, ["display", str(new), str(tmp_path / "sheet.png")]).exit_code == 0
    assert Source(new).count == COUNT


def test_opening_such_a_file_names_the_command(tmp_path: Path) -> None:
    old = write_2017(tmp_path / "the old one.h5")
    with pytest.raises(DataError) as caught:
        Pyramid(old)
    assert "\n" not in str(caught.value)
    command = str(caught.value).split("make a pyramid of it: ")[1].replace("NEW.h5", str(tmp_path / "new.h5"))
    words = shlex.split(command)
    assert words[0] == "python"
    subprocess.run(
        [sys.executable, *words[1:]], check=True, capture_output=True, env=environment(), cwd="/", timeout=HANGS
    )
    assert verify(tmp_path / "new.h5") == []


def test_levels_rounded_in_another_way_are_made_anew(old: Path, tmp_path: Path) -> None:
    with h5py.File(old, "r+") as file:
        for halvings, side in ((1, 16), (3, 4)):
            level = file[f"data{side}x{side}"]
            level[2, 1, 0, 0] = min(255, int(level[2, 1, 0, 0]) + halvings)
    result = run(old, tmp_path / "new.h5")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[:2] == [
        "data16x16: 1 of 5 images differed from the mean of the largest level by up to 1 (rounding); made anew",
        "data4x4: 1 of 5 images differed from the mean of the largest level by up to 3 (rounding); made anew",
    ]
    assert verify(tmp_path / "new.h5") == []


def test_levels_that_contradict_one_another(old: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.h5"
    with h5py.File(old, "r+") as file:
        file["data8x8"][3] = 255 - file["data8x8"][3]
    line = refused(old, new)
    assert "image 3 of data8x8 differs from the mean of data32x32 by up to" in line
    assert "with --rebuild-levels all levels are made from the largest one" in line
    result = run(old, new, "--rebuild-levels")
    assert result.exit_code == 0
    assert "data8x8: 1 of 5 images differed" in result.stdout
    assert "(1 by more than rounding); made anew" in result.stdout
    np.testing.assert_array_equal(Pyramid(new)[8][3], build_levels(face(3))[8])


def test_a_missing_level_is_made_and_named(tmp_path: Path) -> None:
    old = write_2017(tmp_path / "old.h5", levels=(32, 16, 4))
    result = run(old, tmp_path / "new.h5")
    assert f"data8x8: was not in {old}, made from the largest level" in result.stdout
    assert verify(tmp_path / "new.h5") == []


def _shorter(file: h5py.File) -> None:
    file["data8x8"].resize(3, axis=0)


def _replaced(name: str, values: NDArray) -> Any:
    def change(file: h5py.File) -> None:
        if name in file:
            del file[name]
        file[name] = values

    return change


def _emptied(file: h5py.File) -> None:
    for name in file:
        file[name].resize(0, axis=0)


def _without_levels(file: h5py.File) -> None:
    for name in list(file):
        del file[name]
    file["images"] = np.zeros(3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_shorter, "different numbers of images, so it was not finished: data1x1 5, data2x2 5, data4x4 5, data8x8 3"),
        (_replaced("data8x8", np.zeros((5, 3, 8, 8), np.float32)), "data8x8 has the type float32 instead of uint8"),
        (_replaced("data8x8", np.zeros((5, 1, 8, 8), np.uint8)), "data8x8 has the shape (5, 1, 8, 8) instead of"),
        (_replaced("data8x8", np.zeros((5, 8, 8, 3), np.uint8)), "data8x8 has the shape (5, 8, 8, 3) instead of"),
        (_replaced("data12x12", np.zeros((5, 3, 12, 12), np.uint8)), "data12x12 has the shape (5, 3, 12, 12)"),
        (_replaced("data2048x2048", np.zeros(1, np.uint8)), "the top level must be a power of two from 4 to 1024"),
        (_emptied, "holds no images"),
        (_without_levels, "has no levels called data4x4, data8x8 ...: not the 2017 layout"),
    ],
)  # fmt: skip
def test_what_is_not_of_this_layout_is_refused(old: Path, change: Any, message: str, tmp_path: Path) -> None:
    with h5py.File(old, "r+") as file:
        change(file)
    line = refused(old, tmp_path / "new.h5")
    assert message in line
    assert str(old) in line


def test_other_files_are_refused(old: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.h5"
    assert "is a pyramid already" in refused(write(tmp_path / "pyramid.h5", range(2)), new)
    (tmp_path / "text").write_text("no pyramid")
    assert "not an HDF5 file" in refused(tmp_path / "text", new)
    assert "no such file" in refused(tmp_path / "absent.h5", new)
    data = bytearray(old.read_bytes())
    (tmp_path / "cut.h5").write_bytes(data[: len(data) // 2])
    assert "truncated" in refused(tmp_path / "cut.h5", new)
    with h5py.File(old) as file:
        place = file["data32x32"].id.get_chunk_info(2)
    data[place.byte_offset + 20 : place.byte_offset + place.size] = bytes(place.size - 20)
    (tmp_path / "damaged.h5").write_bytes(data)
    assert "images 0 to 4 cannot be read" in refused(tmp_path / "damaged.h5", new)


def test_nothing_is_overwritten_unasked(old: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.h5"
    new.write_text("mine")
    assert "exists; --overwrite replaces it" in refused(old, new)
    assert "is the file to convert" in refused(old, old, "--overwrite")
    os.link(old, tmp_path / "link.h5")
    assert "is the file to convert" in refused(old, tmp_path / "link.h5", "--overwrite")
    assert "does not exist" in refused(old, tmp_path / "absent" / "new.h5")
    assert new.read_text() == "mine"
    assert run(old, new, "--overwrite").exit_code == 0
    assert verify(new) == []


def test_a_disk_that_is_too_small(old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("usage", (), {"free": 1000})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    for compression in ("none", "gzip"):
        assert "the disk is too full" in refused(old, tmp_path / "new.h5", "--compression", compression)


def test_labels_come_along(old: Path, tmp_path: Path) -> None:
    labels = np.eye(3, dtype=np.float32)[[0, 2, 1, 1, 0]]
    np.save(tmp_path / "old-labels.npy", labels)
    assert run(old, tmp_path / "new.h5").exit_code == 0
    found = read_labels(Pyramid(tmp_path / "new.h5"), "file")
    assert found is not None
    np.testing.assert_array_equal(found, labels)
    (tmp_path / "new.h5").unlink()
    assert "new-labels.npy: exists; --overwrite replaces it" in refused(old, tmp_path / "new.h5")
    np.save(tmp_path / "old-labels.npy", labels[:3])
    assert "old-labels.npy: 3 labels for 5 images" in refused(old, tmp_path / "other.h5")
    (tmp_path / "old-labels.npy").write_text("no array")
    assert "old-labels.npy: the labels cannot be read" in refused(old, tmp_path / "other.h5")
