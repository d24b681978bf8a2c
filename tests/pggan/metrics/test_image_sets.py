"""Sets of images: the same images in the same order whatever the batches, as the training's networks saw them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from datatools.errors import DataError
from datatools.images import save_png
from datatools.pyramid import Pyramid
from pggan.config.settings import NetworkConfig
from pggan.metrics.image_sets import UNLIMITED, FolderSet, ImageSet, ModelSet, PyramidSet, open_set
from pggan.model.files import Model
from pggan.model.losses import fade
from pggan.model.networks import Discriminator, Generator
from pggan.pixels import to_bytes
from tests.support.pggan_runs import write_pyramid
from tests.support.style_runs import noisy_style_model

COUNT = 20


@pytest.fixture(scope="module")
def h5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return write_pyramid(tmp_path_factory.mktemp("pyramid") / "ramps.h5", COUNT)


@pytest.fixture
def folder(h5: Path, tmp_path: Path) -> Path:
    """The level of 16 pixels as PNG files."""
    path = tmp_path / "pictures"
    path.mkdir()
    for index, picture in enumerate(Pyramid(h5)[16]):
        save_png(path / f"{index:03d}.png", np.ascontiguousarray(picture.transpose(1, 2, 0)))
    (path / "notes.txt").write_text("no picture")
    (path / "more").mkdir()
    return path


def model_of(classes: int = 0, lod: float = 0.0) -> Model:
    torch.manual_seed(3)
    config = NetworkConfig(16, fmap_base=64, fmap_max=8, latent_size=8, classes=classes)
    return Model(Generator(config).eval(), Generator(config), Discriminator(config), lod, 0)


def read(images: ImageSet, count: int, size: int = 7, **options: Any) -> NDArray[np.uint8]:
    batches = list(images.batches(count, size, **options))
    assert [len(batch) for batch in batches[:-1]] == [size] * (len(batches) - 1)
    assert all(batch.flags.c_contiguous and batch.dtype == np.uint8 for batch in batches)
    return np.concatenate(batches)


def test_a_pyramid_in_the_order_of_the_file(h5: Path) -> None:
    images = PyramidSet(h5)
    assert (images.count, images.resolution) == (COUNT, 16)
    assert np.array_equal(read(images, COUNT), Pyramid(h5)[16][:])
    assert np.array_equal(read(images, 5, start=6), Pyramid(h5)[16][6:11])
    assert PyramidSet(h5, 8).resolution == 8
    with pytest.raises(DataError, match="no level 32"):
        PyramidSet(h5, 32)


@pytest.mark.parametrize("kind", ["pyramid", "folder", "model"])
def test_neither_batches_nor_their_number_matter(kind: str, h5: Path, folder: Path) -> None:
    sets = {"pyramid": PyramidSet(h5, shuffle=4), "folder": FolderSet(folder, shuffle=4), "model": ModelSet(model_of())}
    images = sets[kind]
    whole = read(images, 12, 12, mirror_seed=1)
    for size, start in ((1, 0), (5, 0), (5, 3)):
        part = read(images, 12 - start, size, start=start, mirror_seed=1)
        difference = np.abs(part.astype(int) - whole[start:])
        assert difference.max() <= (1 if kind == "model" else 0)  # a network rounds as its batches are
    assert not np.array_equal(whole, read(images, 12, mirror_seed=2))


def test_shuffled_sets_hold_every_image_once(h5: Path) -> None:
    plain, shuffled = read(PyramidSet(h5), COUNT), read(PyramidSet(h5, shuffle=1), COUNT)
    assert not np.array_equal(plain, shuffled)
    assert sorted(image.tobytes() for image in plain) == sorted(image.tobytes() for image in shuffled)
    first, rest = read(PyramidSet(h5, shuffle=1), 10), read(PyramidSet(h5, shuffle=1), 10, start=10)
    assert not {image.tobytes() for image in first} & {image.tobytes() for image in rest}


def test_half_of_the_reals_are_mirrored(h5: Path) -> None:
    plain, found = read(PyramidSet(h5), COUNT), read(PyramidSet(h5), COUNT, mirror_seed=0)
    flips = [np.array_equal(image, original[..., ::-1]) for image, original in zip(found, plain, strict=True)]
    same = [np.array_equal(image, original) for image, original in zip(found, plain, strict=True)]
    assert all(one or other for one, other in zip(flips, same, strict=True))
    assert 4 < sum(flips) < 16


def test_reals_fade_as_the_networks_see_them(h5: Path) -> None:
    plain = Pyramid(h5)[16][:]
    found = read(PyramidSet(h5, fading=0.25), COUNT)
    seen = fade(torch.from_numpy(plain).float() / 127.5 - 1, 0.25)
    assert np.array_equal(found, to_bytes(seen).transpose(0, 3, 1, 2))
    blurred = plain.reshape(COUNT, 3, 8, 2, 8, 2).mean(axis=(3, 5)).repeat(2, axis=2).repeat(2, axis=3)
    assert np.abs(found - (0.75 * plain + 0.25 * blurred)).max() <= 0.51
    assert not np.array_equal(found, plain)


def test_digests_tell_data_apart(h5: Path, folder: Path, tmp_path: Path) -> None:
    same, other = write_pyramid(tmp_path / "same.h5", COUNT), write_pyramid(tmp_path / "other.h5", COUNT - 1)
    assert PyramidSet(h5).digest == PyramidSet(same).digest
    assert len({PyramidSet(h5).digest, PyramidSet(other).digest, PyramidSet(h5, 8).digest}) == 3
    assert FolderSet(folder).digest is None
    assert PyramidSet(h5, fading=0.5).settings != PyramidSet(h5).settings


def test_a_folder_is_the_pyramid_that_it_was_written_from(h5: Path, folder: Path) -> None:
    images = open_set(folder)
    assert isinstance(images, FolderSet)
    assert (images.count, images.resolution) == (COUNT, 16)
    assert np.array_equal(read(images, COUNT), Pyramid(h5)[16][:])
    assert isinstance(open_set(h5, 8), PyramidSet)
    with pytest.raises(DataError, match="from a pyramid file"):
        open_set(folder, fading=0.5)


def test_pictures_that_do_not_fit(folder: Path, tmp_path: Path) -> None:
    def spoiled(picture: Image.Image | None) -> str:
        path = folder / "010.png"
        if picture is None:
            path.write_bytes(path.read_bytes()[:20])
        else:
            picture.save(path)
        with pytest.raises(DataError) as caught:
            FolderSet(folder)
        return str(caught.value)

    assert "010.png: a picture of mode L, not RGB; convert it" in spoiled(Image.new("L", (16, 16)))
    assert "010.png: a picture of mode RGBA, not RGB" in spoiled(Image.new("RGBA", (16, 16)))
    assert "16 x 20 pixels; pictures that are measured are square" in spoiled(Image.new("RGB", (16, 20)))
    assert "32 x 32 pixels, 000.png has 16; make all" in spoiled(Image.new("RGB", (32, 32)))
    assert "010.png: cannot be read as a picture" in spoiled(None)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no pictures"):
        FolderSet(tmp_path / "empty")
    with pytest.raises(DataError, match="cannot be read as a folder"):
        FolderSet(tmp_path / "absent")


def test_files_of_other_systems_are_left_out_and_subfolders_counted(h5: Path, folder: Path) -> None:
    (folder / "__MACOSX").mkdir()
    for name in ("._000.png", "__MACOSX/000.png", "Thumbs.db", "desktop.ini"):
        (folder / name).write_bytes(b"\0\5\26\7")
    (folder / "more" / "000.png").write_bytes((folder / "000.png").read_bytes())
    images = FolderSet(folder)
    assert (images.count, images.below) == (COUNT, 1)
    assert np.array_equal(read(images, COUNT), Pyramid(h5)[16][:])
    with pytest.raises(
        DataError, match=r"holds no pictures; it has 21 pictures in subfolders, such as .*: name one of"
    ):
        FolderSet(folder.parent)
    (folder / "gone.png").symlink_to(folder / "nowhere.png")
    with pytest.raises(DataError, match=r"gone\.png: cannot be read as a picture: .*No such file"):
        FolderSet(folder)


def test_folders_are_read_as_viewers_show_them(h5: Path, folder: Path) -> None:
    first = Pyramid(h5)[16][0].transpose(1, 2, 0)
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(np.ascontiguousarray(np.rot90(first))).save(folder / "000.png", exif=exif)
    assert np.array_equal(read(FolderSet(folder), COUNT), Pyramid(h5)[16][:])


def test_damage_inside_a_picture_names_it(folder: Path) -> None:
    path = folder / "003.png"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match=r"003\.png: the PNG picture cannot be decoded"):
        read(FolderSet(folder), COUNT)


def test_a_model_makes_pictures_of_the_level_it_has_reached() -> None:
    images = ModelSet(model_of(lod=0.5), seed=1)
    assert (images.count, images.resolution, images.digest) == (UNLIMITED, 16, None)
    assert read(images, 3).shape == (3, 3, 16, 16)
    assert ModelSet(model_of(lod=1.0)).resolution == 8
    found, other = read(images, 3), read(ModelSet(model_of(lod=0.5), seed=2), 3)
    assert not np.array_equal(found[0], found[1])
    assert not np.array_equal(found, other)


def test_each_picture_of_a_style_based_model_has_noise_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    model = noisy_style_model()
    monkeypatch.setattr("pggan.metrics.image_sets.normals", lambda *_: torch.ones(8))
    found = read(ModelSet(model, seed=1), 6)
    assert len({picture.tobytes() for picture in found}) == 6
    assert np.abs(read(ModelSet(model, seed=1), 4, 1, start=2).astype(int) - found[2:]).max() <= 1
    assert not np.array_equal(found, read(ModelSet(model, seed=2), 6))


def test_classes_come_as_in_the_labels() -> None:
    model = model_of(classes=2)
    only = np.array([[0.0, 1.0]], np.float32)
    as_second = read(ModelSet(model, 0, only), 12)
    as_first = read(ModelSet(model, 0, only[:, ::-1].copy()), 12)
    either = read(ModelSet(model), 12)
    second = [np.array_equal(a, b) for a, b in zip(either, as_second, strict=True)]
    first = [np.array_equal(a, b) for a, b in zip(either, as_first, strict=True)]
    assert all(one != other for one, other in zip(first, second, strict=True))
    assert 0 < sum(first) < 12


def test_a_damaged_picture_is_named_once(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(b"no picture")
    with pytest.raises(DataError) as caught:
        open_set(tmp_path)[:1]
    reason = "not a picture of a known format: it begins with the text 'no picture'"
    assert str(caught.value) == f"{tmp_path / 'a.jpg'}: cannot be read as a picture: {reason}"
