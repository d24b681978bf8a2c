"""The command line on pyramid files: what it prints, writes and returns."""

import os
import subprocess
import sys
import termios
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from datatools.h5tool.__main__ import main
from datatools.pyramid import Provenance, Pyramid, PyramidWriter
from tests.support.builds import HANGS
from tests.support.pyramid_samples import face, write


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def h5(tmp_path: Path) -> Path:
    return write(tmp_path / "a.h5", range(12))


def test_inspect(h5: Path) -> None:
    result = run("inspect", h5)
    assert result.exit_code == 0
    lines = [" ".join(line.split()) for line in result.output.splitlines()]
    assert lines[0] == f"{h5}: complete, {h5.stat().st_size:,} bytes, compression none"
    assert "images 12" in lines
    assert "level data32x32 (12, 3, 32, 32) uint8, 36,864 bytes of pixels" in lines
    assert "level data4x4 (12, 3, 4, 4) uint8, 576 bytes of pixels" in lines
    assert "provenance file_name (12,) text, first été_0.jpg" in lines
    assert "provenance identity (12,) int32, known for 8" in lines
    assert "provenance attributes (12, 3) int8, known for 8" in lines
    assert "attributes 5_o_Clock_Shadow, Smiling, Young" in lines
    assert "setting restore = none" in lines


def test_inspect_of_nothing_and_of_an_unfinished_file(tmp_path: Path) -> None:
    assert run("inspect", write(tmp_path / "none.h5", range(0))).exit_code == 0
    path = write(tmp_path / "a.h5", range(1))
    with h5py.File(path, "r+") as file:
        del file.attrs["complete"]
    result = run("inspect", path)
    assert result.exit_code == 1
    assert "completeness mark is missing" in result.output


def test_verify(h5: Path) -> None:
    result = run("verify", h5)
    assert (result.exit_code, result.output) == (0, f"{h5}: whole and unchanged\n")
    with h5py.File(h5, "r+") as file:
        file["data32x32"][3, 0, 0, 0] ^= 1
    result = run("verify", h5)
    assert result.exit_code == 1
    assert result.stdout == "data32x32: changed since it was written (checksum): 1 image: 3\n"
    assert result.stderr == f"Error: {h5}: 1 problem\n"


@pytest.mark.parametrize("command", ["inspect", "verify", "display", "extract", "compare"])
def test_unusable_files_are_one_line_on_stderr(tmp_path: Path, command: str) -> None:
    """As a user sees it: exit code, no traceback."""
    path = tmp_path / "a.h5"
    path.write_text("no pyramid")
    rest = [] if command in ("inspect", "verify") else [str(tmp_path / "out.png")]
    done = subprocess.run(
        [sys.executable, "-m", "datatools.h5tool", command, str(path), *rest],
        capture_output=True,
        text=True,
        timeout=HANGS,
    )
    assert done.returncode == 1
    assert "not an HDF5 file" in done.stdout + done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_compare_equal_files_of_different_compression(h5: Path, tmp_path: Path) -> None:
    result = run("compare", h5, write(tmp_path / "b.h5", range(12), compression="gzip", settings={"seed": 8}))
    assert result.exit_code == 0
    assert "data32x32: 12 of 12 images equal, largest difference 0, PSNR infinite" in result.output
    assert "setting seed: 7 against 8" in result.output
    assert result.output.endswith("equal\n")


def test_compare_different_files(h5: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "b.h5", range(12))
    with h5py.File(other, "r+") as file:
        file["data32x32"][5, 0, 0, 0] += 10
        file["provenance/rank"][2] = 99
        file["provenance/score"][3] = np.nan
    result = run("compare", h5, other)
    assert result.exit_code == 1
    psnr = 10 * np.log10(255**2 * 12 * 3 * 32 * 32 / 100)
    assert f"data32x32: 11 of 12 images equal, largest difference 10, PSNR {psnr:.2f} dB" in result.output
    assert "data16x16: 12 of 12 images equal" in result.output
    assert "provenance rank: 1 row differs, the first is 2: 2 against 99" in result.output
    assert "provenance score: 1 row differs, the first is 3" in result.output
    assert result.output.endswith("different\n")


def test_compare_other_sizes(h5: Path, tmp_path: Path) -> None:
    result = run("compare", h5, write(tmp_path / "b.h5", range(9), min_level=1, attribute_names=("A", "B", "C")))
    assert result.exit_code == 1
    assert "12 against 9 images; the first 9 are compared" in result.output
    assert "levels 32 to 4 against 32 to 1" in result.output
    assert "data32x32: 9 of 9 images equal" in result.output
    assert "or of other names" in result.output


def test_not_a_number_equals_itself(tmp_path: Path) -> None:
    paths = [write(tmp_path / name, range(3)) for name in ("a.h5", "b.h5")]
    for path in paths:
        with h5py.File(path, "r+") as file:
            file["provenance/score"][1] = np.nan
    assert run("compare", *paths).exit_code == 0


def test_extract(h5: Path, tmp_path: Path) -> None:
    result = run("extract", h5, tmp_path / "out", "--indices", "0-2,11")
    assert result.exit_code == 0
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["00000.png", "00001.png", "00002.png", "00011.png"]
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out" / "00011.png")), face(11))


def test_extract_a_lower_level_completely(h5: Path, tmp_path: Path) -> None:
    assert run("extract", h5, tmp_path / "out", "--level", 8).exit_code == 0
    assert len(list((tmp_path / "out").iterdir())) == 12
    assert Image.open(tmp_path / "out" / "00000.png").size == (8, 8)


def test_extract_does_not_overwrite(h5: Path, tmp_path: Path) -> None:
    (tmp_path / "00003.png").write_text("mine")
    result = run("extract", h5, tmp_path)
    assert result.exit_code == 1
    assert "00003.png exists; --overwrite replaces it" in result.output
    assert (tmp_path / "00003.png").read_text() == "mine"
    assert not (tmp_path / "00000.png").exists()
    assert run("extract", h5, tmp_path, "--overwrite").exit_code == 0
    assert Image.open(tmp_path / "00003.png").size == (32, 32)


def test_extract_into_what_is_no_folder(h5: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = run("extract", h5, tmp_path / "file" / "out")
    assert result.exit_code == 1
    assert "cannot be written: Not a directory" in result.output


def test_unknown_level(h5: Path, tmp_path: Path) -> None:
    for command in ("extract", "display"):
        result = run(command, h5, tmp_path / "out.png", "--level", 64)
        assert result.exit_code == 1
        assert "no level 64; it has 32, 16, 8, 4" in result.output


@pytest.mark.parametrize(
    ("indices", "expected"),
    [(None, range(12)), ("3", [3]), ("0-2", [0, 1, 2]), (" 4, 1-2,2", [1, 2, 4]), ("10-", [10, 11])],
)
def test_extract_writes_each_index_once(indices: str | None, expected: Sequence[int], h5: Path, tmp_path: Path) -> None:
    options = () if indices is None else ("--indices", indices)
    result = run("extract", h5, tmp_path / "out", "--level", 4, *options)
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [f"{index:05d}.png" for index in expected]


def test_display(h5: Path, tmp_path: Path) -> None:
    result = run("display", h5, tmp_path / "sheet.png", "--count", 6, "--level", 16)
    assert result.exit_code == 0, result.output
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert sheet.ndim == 3
    assert sheet.shape[0] >= 16
    assert sheet.shape[1] >= 6 * 16
    assert sheet.std() > 5


@pytest.mark.parametrize(
    ("count", "level", "size"),
    [(12, 4, (532, 400)), (12, 32, (532, 400)), (1, 32, (136, 136)), (2, 8, (268, 136)), (5, 16, (400, 268))],
)
def test_sheets_of_small_pictures_can_be_seen(
    h5: Path, tmp_path: Path, count: int, level: int, size: tuple[int, int]
) -> None:
    result = run("display", h5, tmp_path / "sheet.png", "--count", count, "--level", level)
    assert result.exit_code == 0, result.output
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == size
        first = np.asarray(sheet)[4:132, 4:132]
    factor = 128 // level
    np.testing.assert_array_equal(first[::factor, ::factor], Pyramid(h5).image(0, level))
    np.testing.assert_array_equal(first, first[::factor, ::factor].repeat(factor, axis=0).repeat(factor, axis=1))


def test_large_pictures_make_no_strip(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with PyramidWriter(path, 6, resolution=1024) as out:
        for number in range(6):
            place = Provenance(f"{number}.png", "0" * 32, 0.0, number + 1, -1, np.zeros((4, 2)), np.zeros((5, 2)))
            out.append(np.full((1024, 1024, 3), number, np.uint8), place)
    assert run("display", path, tmp_path / "sheet.png", "--level", 1024).exit_code == 0
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (3 * 1028 + 4, 2 * 1028 + 4)


def test_display_without_images(tmp_path: Path) -> None:
    result = run("display", write(tmp_path / "a.h5", range(0)), tmp_path / "sheet.png")
    assert result.exit_code == 1
    assert "holds no images" in result.output


def test_no_progress_bar_where_there_is_no_terminal(h5: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "datatools.h5tool", "verify", str(h5)], capture_output=True, text=True, timeout=HANGS
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_progress_bar_on_a_terminal(h5: Path) -> None:
    terminal, its_other_end = os.openpty()
    termios.tcsetwinsize(its_other_end, (24, 80))
    command_line = [sys.executable, "-m", "datatools.h5tool", "verify", str(h5)]
    done = subprocess.run(command_line, stderr=its_other_end, stdout=subprocess.PIPE, timeout=HANGS)
    shown = os.read(terminal, 10_000)
    os.close(its_other_end)
    os.close(terminal)
    assert done.returncode == 0
    assert b"verify:" in shown


def test_help_shows_examples() -> None:
    output = run("--help").output
    assert "Examples:" in output
    assert "python -m datatools.h5tool extract celebahq.h5 pictures --level 256 --indices 0-99,500\n" in output
    for command in ("inspect", "verify", "compare", "extract", "display"):
        assert f"  {command}" in output


def test_display_refuses_what_it_cannot_write(h5: Path, tmp_path: Path) -> None:
    for name, options, message in (("a.jpg", (), "ends in .png"), ("a.png", ("--count", 1000), None)):
        result = run("display", h5, tmp_path / name, *options)
        assert (result.exit_code == 0) == (message is None)
        assert (tmp_path / name).exists() == (message is None)
        assert message is None or message in result.output


def test_display_refuses_sheets_that_no_viewer_opens(h5: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datatools.h5tool.pictures.SHEET_PIXELS", 1000)
    result = run("display", h5, tmp_path / "a.png", "--level", 32)
    assert result.exit_code == 1
    assert "--count" in result.output
    assert not (tmp_path / "a.png").exists()
