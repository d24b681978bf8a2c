"""A folder of square pictures becomes a pyramid; files that are of no use are counted by kind and left out."""

import io
import os
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from click.testing import CliRunner, Result
from numpy.typing import NDArray

from datatools.h5tool.__main__ import main
from datatools.images import save_png
from datatools.pyramid import Pyramid, verify
from datatools.pyramid.square import read_square


def picture(side: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["from-folder", *map(str, arguments)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three good pictures of different sizes, and files that are none."""
    path = tmp_path / "pictures"
    path.mkdir()
    save_png(path / "b.png", picture(16, 1))
    save_png(path / "a.png", picture(64, 2))
    save_png(path / "c.png", picture(50, 3))
    (path / "broken.png").write_bytes((path / "a.png").read_bytes()[:200])
    (path / "notes.txt").write_text("no picture")
    save_png(path / "small.png", picture(8))
    save_png(path / "wide.png", np.zeros((20, 30, 3), np.uint8))
    (path / ".hidden").write_text("")
    (path / "more").mkdir()
    return path


def test_pictures_in_order_and_the_others_named(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.h5"
    result = run(folder, out, "--resolution", 16)
    assert result.exit_code == 0, result.output
    for name, reason in (
        ("broken.png", "cannot be decoded"),
        ("notes.txt", "not a picture"),
        ("small.png", "8 x 8 pixels, smaller than 16"),
        ("wide.png", "30 x 20 pixels are not square"),
    ):
        assert [line for line in result.output.splitlines() if f"skipped {name}: " in line and reason in line]
    assert "3 images of 16 x 16 pixels, 4 files left out" in result.output
    pyramid = Pyramid(out)
    assert verify(out) == []
    assert pyramid.provenance("file_name").tolist() == ["a.png", "b.png", "c.png"]
    assert pyramid.levels == (16, 8, 4)
    assert np.array_equal(pyramid.image(1), picture(16, 1))
    mean = picture(64, 2).reshape(16, 4, 16, 4, 3).mean(axis=(1, 3))
    assert np.array_equal(pyramid.image(0), np.rint(mean).astype(np.uint8))


def test_skipped_files_are_summarized_by_kind(folder: Path, tmp_path: Path) -> None:
    for number in range(30):
        save_png(folder / f"x{number:02}.png", picture(8))
        save_png(folder / "more" / f"{number:02}.png", picture(16))
    for name in ("._a.png", ".DS_Store", "Thumbs.db", "desktop.ini"):
        (folder / name).write_bytes(b"\0\5\26\7")
    (folder / "__MACOSX").mkdir()
    (folder / "__MACOSX" / "a.png").write_bytes(b"\0\5\26\7")
    (folder / "gone.png").symlink_to(folder / "nowhere.png")
    result = run(folder, tmp_path / "out.h5", "--resolution", 16, "--no-recursive")
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert len(lines) == 6, result.output
    assert "skipped notes.txt: not a picture by its name's ending" in lines
    assert "skipped 30 files, such as more/00.png: lies in a subfolder" in result.output
    assert "skipped 2 files, such as broken.png: the PNG picture cannot be decoded" in result.output
    assert "skipped 31 files, such as small.png: 8 x 8 pixels, smaller than 16" in result.output
    assert "3 images of 16 x 16 pixels, 65 files left out" in lines[-1]


def test_what_is_no_regular_file_is_named_as_such(folder: Path, tmp_path: Path) -> None:
    os.mkfifo(folder / "pipe.png")
    result = run(folder, tmp_path / "out.h5", "--resolution", 16)
    assert "skipped pipe.png: no regular file" in result.output


def test_nothing_and_one_are_worded_as_such(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    save_png(tmp_path / "one" / "a.PNG", picture(16))
    result = run(tmp_path / "one", tmp_path / "out.h5", "--resolution", 16)
    assert result.output == f"{tmp_path / 'out.h5'}: 1 image of 16 x 16 pixels, 0 files left out\n"


def test_ranks_begin_with_one(folder: Path, tmp_path: Path) -> None:
    assert run(folder, tmp_path / "out.h5", "--resolution", 16).exit_code == 0
    assert Pyramid(tmp_path / "out.h5").provenance("rank").tolist() == [1, 2, 3]


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WebP", "TIFF"])
def test_pictures_stand_upright_and_their_corners_refer_to_stored_pixels(tmp_path: Path, file_format: str) -> None:
    (tmp_path / "turned").mkdir()
    upright = np.repeat(np.repeat(picture(4, 5), 8, axis=0), 8, axis=1)
    lossless = {"JPEG": {"quality": 100, "subsampling": 0}, "WebP": {"lossless": True}}.get(file_format, {})
    undo = dict(enumerate((None, None, 0, 3, 1, 5, 2, 6, 4)))  # Pillow's names of what undoes an orientation
    for orientation in range(1, 9):
        image = PIL.Image.fromarray(upright)
        if undo[orientation] is not None:
            image = image.transpose(PIL.Image.Transpose(undo[orientation]))
        exif = PIL.Image.Exif()
        exif[274] = orientation
        image.save(tmp_path / "turned" / f"{orientation}.{file_format.lower()}", file_format, exif=exif, **lossless)
    assert run(tmp_path / "turned", tmp_path / "out.h5", "--resolution", 16).exit_code == 0
    pyramid = Pyramid(tmp_path / "out.h5")
    for index in range(8):
        assert np.abs(pyramid.image(index).astype(int) - upright[::2, ::2]).max() <= 6
    if file_format != "TIFF":  # which Pillow turns by itself
        top_left = pyramid.provenance("quad")[:, 0].tolist()
        assert top_left == [[0, 0], [32, 0], [32, 32], [0, 32], [0, 0], [0, 32], [32, 32], [32, 0]]


def test_equal_folders_give_equal_files(folder: Path, tmp_path: Path) -> None:
    for name in ("one.h5", "two.h5"):
        assert run(folder, tmp_path / name, "--resolution", 8).exit_code == 0
    assert (tmp_path / "one.h5").read_bytes() == (tmp_path / "two.h5").read_bytes()


def test_other_ratios_weigh_the_edges() -> None:
    ramp = np.repeat(np.arange(0, 240, 20, dtype=np.uint8)[None, :, None], 12, axis=0).repeat(3, axis=2)
    stream = io.BytesIO()
    PIL.Image.fromarray(ramp).save(stream, "PNG")
    face, _ = read_square(stream.getvalue(), 8)  # boxes of 1.5 pixels
    assert face.shape == (8, 8, 3)
    assert face[0, :3, 0].tolist() == [7, 33, 67]


def test_mistakes_are_told_in_a_line(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.h5"
    empty = tmp_path / "empty"
    (empty / "sub").mkdir(parents=True)
    for arguments, message in (
        ((tmp_path / "absent", out, "--resolution", 16), "cannot be read as a folder"),
        ((empty, out, "--resolution", 16), "empty: holds no pictures\n"),
        (
            (tmp_path, out, "--resolution", 16, "--no-recursive"),
            "holds no pictures; it has 6 pictures in subfolders, such as ",
        ),
        ((folder, out, "--resolution", 48), "power of two"),
        ((folder, out, "--resolution", 512), "none of its 7 files"),
        ((folder, tmp_path / "no" / "out.h5", "--resolution", 16), "does not exist"),
    ):
        result = run(*arguments)
        assert result.exit_code != 0
        assert message in result.output
        assert "Traceback" not in result.output
        assert not out.exists()
    out.write_text("precious")
    assert "--overwrite" in run(folder, out, "--resolution", 16).output
    assert out.read_text() == "precious"
    assert run(folder, out, "--resolution", 16, "--overwrite").exit_code == 0
    assert len(Pyramid(out)) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "out.h5", "pictures"]
