"""Photos to train on: which files, which sizes, which parts."""

import shlex
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from datatools.errors import DataError
from datatools.images import read_rgb, save_png
from datatools.restore.base import Picture
from datatools.restore.fit.dataset import LARGE, SHARP, Photos, halve, picture_files, sharpness, split, turn


def noise(height: int, width: int, seed: int = 0) -> Picture:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """a.png 40 x 60, b.JPG (a PNG inside) 30 x 30, sub/c.png 50 x 20, and what is no picture."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "sub").mkdir()
    save_png(folder / "a.png", noise(60, 40, 1))
    save_png(folder / "b.JPG", noise(30, 30, 2))
    save_png(folder / "sub" / "c.png", noise(20, 50, 3))
    (folder / "readme.md").write_text("text")
    (folder / "folder.png").mkdir()
    return folder


def names(files: list[Path]) -> list[str]:
    return [path.name for path in files]


def test_files_are_found_below_in_order(folder: Path) -> None:
    assert names(picture_files([folder])) == ["a.png", "b.JPG", "c.png"]
    assert names(picture_files([folder / "sub", folder])) == ["c.png", "a.png", "b.JPG", "c.png"]


def test_files_of_other_systems_are_no_photos(folder: Path, tmp_path: Path) -> None:
    """They are left out; a damaged photo is named, with the way to leave it out."""
    shutil.copytree(folder, tmp_path / "photos")
    (tmp_path / "photos" / "__MACOSX").mkdir()
    for name in ("._a.png", "sub/._c.png", "__MACOSX/a.png", "Thumbs.db"):
        (tmp_path / "photos" / name).write_bytes(b"\0\5\26\7")
    files = picture_files([tmp_path / "photos"])
    assert names(files) == ["a.png", "b.JPG", "c.png"]
    assert len(Photos(files, 20)) == 3
    (tmp_path / "photos" / "d.png").write_bytes(b"damaged")
    with pytest.raises(
        DataError, match=r"d\.png: not a picture .*; remove it or leave it out with --exclude '\*/d\.png'"
    ):
        Photos(picture_files([tmp_path / "photos"]), 20)
    assert names(picture_files([tmp_path / "photos"], ["*/d.png"])) == ["a.png", "b.JPG", "c.png"]
    (tmp_path / "photos" / "d.png").rename(tmp_path / "photos" / "it's [1].png")
    with pytest.raises(DataError, match="--exclude ") as caught:
        Photos(picture_files([tmp_path / "photos"]), 20)
    (pattern,) = shlex.split(str(caught.value).split("--exclude ")[1])
    assert names(picture_files([tmp_path / "photos"], [pattern])) == ["a.png", "b.JPG", "c.png"]


def test_photos_are_turned_as_exif_asks(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(noise(20, 30)).save(tmp_path / "a.png", exif=exif)
    (photo,) = Photos(picture_files([tmp_path]), 8).photos
    np.testing.assert_array_equal(photo.versions[0], np.rot90(noise(20, 30), -1))


def test_files_are_excluded_by_pattern(folder: Path) -> None:
    assert names(picture_files([folder], ["*/sub/*"])) == ["a.png", "b.JPG"]
    assert names(picture_files([folder], ["*/a.png", "*.JPG"])) == ["c.png"]


def test_mistaken_folders_and_patterns(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: cannot be read as a folder: No such file"):
        picture_files([folder, tmp_path / "nowhere"])
    with pytest.raises(DataError, match="no photos in"):
        picture_files([tmp_path])
    with pytest.raises(DataError, match=r"--exclude z\*.png matches no photo"):
        picture_files([folder], ["z*.png"])
    with pytest.raises(DataError, match="no photos in"):
        picture_files([folder], ["*"])


def test_halving_averages_blocks() -> None:
    picture = noise(9, 7)
    expected = picture[:8, :6].reshape(4, 2, 3, 2, 3).mean(axis=(1, 3))
    assert np.abs(halve(picture) - expected).max() <= 0.5


def natural(side: int, seed: int = 0) -> Picture:
    """Noise whose amplitude falls like 1 / frequency, as in photos."""
    radius = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None, :])
    radius[0, 0] = np.inf
    plane = np.fft.irfft2(np.fft.rfft2(np.random.default_rng(seed).normal(size=(side, side))) / radius, (side, side))
    return np.repeat(np.clip(plane / plane.std() * 35 + 128, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def test_enlarged_pictures_are_not_sharp() -> None:
    sharp = natural(256)
    soft = np.asarray(cv2.resize(sharp, (512, 512), interpolation=cv2.INTER_CUBIC), np.uint8)
    assert sharpness(sharp) > 1.2 * SHARP
    assert sharpness(soft) < SHARP
    assert sharpness(np.zeros((32, 32, 3), np.uint8)) == 0


def test_small_photos_are_left_out(folder: Path) -> None:
    files = picture_files([folder])
    assert len(Photos(files, 20)) == 3
    photos = Photos(files, 30)
    assert [photo.name for photo in photos.photos] == ["a.png", "b.JPG"]
    assert photos.least == 30
    with pytest.raises(DataError, match="none of the 3 photos is 61 pixels"):
        Photos(files, 61)


def test_a_damaged_photo_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_text("text")
    with pytest.raises(DataError, match=r"bad\.png: "):
        Photos([tmp_path / "bad.png"], 8)


def test_photos_are_picked_as_often_as_they_have_pixels(folder: Path) -> None:
    photos = Photos(picture_files([folder]), 20)
    assert photos.chances == pytest.approx(np.array([2400, 900, 1000]) / 4300)
    rng = np.random.default_rng(0)
    picked = [photos.pick(rng).shape[0] for _ in range(600)]
    assert picked.count(60) / 600 == pytest.approx(2400 / 4300, abs=0.08)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """sharp.png and soft.png, both just large enough to be halved."""
    folder = tmp_path_factory.mktemp("large")
    sharp = noise(LARGE, LARGE)
    save_png(folder / "sharp.png", sharp)
    save_png(folder / "soft.png", np.asarray(cv2.GaussianBlur(sharp, (0, 0), 2), np.uint8))
    return folder


def test_large_photos_are_halved(large: Path) -> None:
    """Half of the time where they are sharp, always where they are not."""
    rng = np.random.default_rng(0)
    for name, share in (("sharp.png", 0.5), ("soft.png", 0.0)):
        photos = Photos([large / name], 100)
        whole = np.mean([photos.pick(rng).shape[0] == LARGE for _ in range(200)])
        assert whole == pytest.approx(share, abs=0.12)
        assert photos.least == LARGE // 2


def test_versions_of_a_photo(large: Path, folder: Path) -> None:
    """Sharp photos at both sizes, soft ones at half, small ones as they are."""
    for name, sizes in (("sharp.png", [LARGE, LARGE // 2]), ("soft.png", [LARGE // 2])):
        (photo,) = Photos([large / name], 100).photos
        versions = photo.versions
        assert [version.shape for version in versions] == [(size, size, 3) for size in sizes]
        pixels = read_rgb(large / name)
        assert np.array_equal(versions[-1], halve(pixels))
        assert np.array_equal(versions[0], pixels) == (name == "sharp.png")
    for file, photo in zip(picture_files([folder]), Photos(picture_files([folder]), 20).photos, strict=True):
        (version,) = photo.versions
        assert np.array_equal(version, read_rgb(file))


def test_every_part_fits_into_halved_photos(large: Path) -> None:
    """A photo whose half is too small for the parts is not halved."""
    rng = np.random.default_rng(0)
    for least in (LARGE // 2, LARGE // 2 + 1, LARGE):
        photos = Photos(picture_files([large]), least)
        assert all(photos.part(photos.least, rng).shape == (photos.least, photos.least, 3) for _ in range(6))


def test_a_seed_gives_the_same_parts(folder: Path) -> None:
    photos = Photos(picture_files([folder]), 16)
    first, second = (photos.part(16, np.random.default_rng(7)) for _ in range(2))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, photos.part(16, np.random.default_rng(8)))


def test_eight_ways_to_turn() -> None:
    square = noise(4, 4)
    ways = [turn(square, way) for way in range(8)]
    assert len({way.tobytes() for way in ways}) == 8
    assert np.array_equal(ways[0], square)
    assert all(way.flags.c_contiguous for way in ways)


def test_the_same_photos_are_held_out_whatever_else_is_there(tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.png" for number in range(50)]
    training, held_out = split(files, 8)
    assert len(held_out) == 8
    assert sorted(training + held_out) == sorted(files)
    for fewer in (files[:30], files[::-1]):
        there, out = split(fewer, 8)
        assert not set(there) & set(out)
        assert {path for path in held_out if path in fewer} <= set(out)
