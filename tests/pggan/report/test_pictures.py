"""Pictures for the page: small enough to look at and to carry, and next to the right faces."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from datatools.errors import DataError
from datatools.images import save_png
from datatools.pyramid import Pyramid
from datatools.webpage import Picture
from pggan.media.grids import grid_size, tile
from pggan.report import pictures as report_pictures
from pggan.report.pictures import Sample, cut_grid, read_grids, read_reals, reduced, spread, with_neighbours
from tests.support.pggan_runs import write_pyramid

BLANK = Picture("data:,", 1, 1, "")


def pixels(picture: Picture) -> NDArray[np.uint8]:
    """What a browser makes of it."""
    kind, data = picture.source.split(";base64,")
    assert kind in ("data:image/png", "data:image/jpeg")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data, validate=True))))


def noise(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(len(shape)).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize(
    ("resolution", "columns", "rows", "side"),
    [(4, 8, 8, 4), (32, 8, 8, 32), (64, 8, 8, 64), (128, 4, 4, 128), (256, 4, 4, 128), (512, 3, 2, 256)],
)
def test_grids_are_cut_to_pictures_that_can_be_seen(resolution: int, columns: int, rows: int, side: int) -> None:
    all_columns, all_rows = grid_size(resolution)
    grid = np.zeros((all_rows * resolution, all_columns * resolution, 3), np.uint8)
    grid[:resolution, resolution : 2 * resolution] = 200
    found = cut_grid(grid, resolution)
    assert found.shape == (rows * side, columns * side, 3)
    assert np.unique(found[:side, side : 2 * side]).tolist() == [200]
    assert found[:side, :side].max() == found[:, 2 * side :].max() == 0


def test_small_grids_are_left_as_they_are() -> None:
    grid = noise(32, 48, 3)
    assert np.array_equal(cut_grid(grid, 16), grid)


@pytest.mark.parametrize("shape", [(30, 32, 3), (32, 40, 3), (8, 8, 3)])
def test_other_pictures_are_refused(shape: tuple[int, int, int]) -> None:
    with pytest.raises(DataError, match=f"{shape[1]} x {shape[0]} pixels are not a grid of pictures of 16"):
        cut_grid(np.zeros(shape, np.uint8), 16)


def test_reduction_is_the_average() -> None:
    image = noise(2, 8, 12, 3)
    expected = [[np.rint(image[1, 4:8, 8:12].reshape(-1, 3).mean(axis=0))]]
    assert np.array_equal(reduced(image, 4)[1, 1:2, 2:3], expected)
    assert reduced(image, 4).shape == (2, 2, 3, 3)


def test_evenly_spread_places() -> None:
    assert spread(0, 5) == []
    assert spread(1, 5) == [0]
    assert spread(5, 9) == [0, 1, 2, 3, 4]
    chosen = spread(1000, 60)
    assert (len(chosen), chosen[0], chosen[-1]) == (60, 0, 999)
    assert set(np.diff(chosen)) <= {16, 17}


def write_grids(folder: Path, count: int) -> list[tuple[int, Path]]:
    files = [(5 * place, folder / f"fakes{5 * place:06d}.png") for place in range(count)]
    for place, (_, path) in enumerate(files):
        save_png(path, tile(np.full((4, 16, 16, 3), 10 * place, np.uint8), 2))
    return files


def test_grids_over_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = write_grids(tmp_path, 9)
    grids, problems = read_grids(files, 16)
    assert [grid.kimg for grid in grids] == [kimg for kimg, _ in files]
    assert problems == []
    for place, grid in enumerate(grids):
        assert (grid.picture.width, grid.picture.height, grid.picture.enlarged) == (512, 512, True)
        assert np.abs(pixels(grid.picture).astype(int) - 10 * place).max() <= 2
    monkeypatch.setattr(report_pictures, "SNAPSHOTS", 3)
    assert [grid.kimg for grid in read_grids(files, 16)[0]] == [0, 20, 40]


def test_pages_stay_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = write_grids(tmp_path, 6)
    for _, path in files:
        save_png(path, noise(64, 64, 3))
    whole = [len(grid.picture.source) for grid in read_grids(files, 16)[0]]
    monkeypatch.setattr(report_pictures, "GRIDS_BYTES", int(0.65 * sum(whole) * 3 / 4))
    coarser = [len(grid.picture.source) for grid in read_grids(files, 16)[0]]
    assert len(coarser) == 6
    assert sum(coarser) < 0.66 * sum(whole)
    monkeypatch.setattr(report_pictures, "GRIDS_BYTES", int(0.5 * sum(coarser) * 3 / 4))
    fewer = read_grids(files, 16)[0]
    assert (fewer[0].kimg, fewer[-1].kimg) == (0, 25)
    assert sum(len(grid.picture.source) for grid in fewer) <= 0.6 * sum(coarser)


def test_bad_pictures_cost_themselves_only(tmp_path: Path) -> None:
    files = write_grids(tmp_path, 3)
    files[1][1].write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    grids, problems = read_grids(files, 16)
    assert [grid.kimg for grid in grids] == [0, 10]
    assert len(problems) == 1
    assert problems[0].startswith("fakes000005.png: ")
    with pytest.raises(DataError):
        read_reals(tmp_path / "reals.png", 16)
    assert pixels(read_reals(files[0][1], 16)).shape == (32, 32, 3)


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Pyramid:
    return Pyramid(write_pyramid(tmp_path_factory.mktemp("faces") / "ramps.h5"))


@pytest.mark.parametrize("mirror", [False, True])
def test_the_nearest_face_is_found(faces: Pyramid, mirror: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_pictures, "BATCH", 7)
    chosen = [3, 20, 49]
    pictures = faces[16][chosen].transpose(0, 2, 3, 1)
    if mirror:
        pictures = np.ascontiguousarray(pictures[:, :, ::-1])
    samples = [Sample(seed, BLANK, ()) for seed in range(3)]
    found = with_neighbours(samples, pictures, faces, mirror, "cpu")
    assert [sample.seed for sample in found] == [0, 1, 2]
    for sample, picture, index in zip(found, pictures, chosen, strict=True):
        first = sample.neighbours[0]
        assert (first.name, first.mirrored) == (f"{index}.png", mirror)
        assert first.distance == pytest.approx(0, abs=1e-3)
        assert np.array_equal(pixels(first.picture), picture)
        names = [face.name for face in sample.neighbours]
        assert len(set(names)) == len(names) == report_pictures.NEAREST
        distances = [face.distance for face in sample.neighbours]
        assert distances == sorted(distances)


def test_a_handful_of_faces_are_all_near(tmp_path: Path) -> None:
    few = Pyramid(write_pyramid(tmp_path / "few.h5", 2))
    (found,) = with_neighbours([Sample(0, BLANK, ())], noise(1, 16, 16, 3), few, True, "cpu")
    assert sorted(face.name for face in found.neighbours) == ["0.png", "1.png"]


def test_levels_that_the_pyramid_lacks_are_named(faces: Pyramid) -> None:
    with pytest.raises(DataError, match="no level 32"):
        with_neighbours([Sample(0, BLANK, ())], noise(1, 32, 32, 3), faces, False, "cpu")
