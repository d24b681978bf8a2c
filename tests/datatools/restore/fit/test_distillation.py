"""distillation: a teacher's results as targets, cut so that an example's three pictures show the same."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from datatools.images import save_png
from datatools.restore.base import Picture
from datatools.restore.fit.dataset import LARGE, Photos, turn
from datatools.restore.fit.degrade import reduce_picture
from datatools.restore.fit.distillation import TeacherExample, TeacherTargets
from datatools.restore.networks import PictureNetwork
from datatools.restore.tiling import best_precision, restore
from tests.support.portraits import Portrait, render
from tests.support.restore_samples import tiny_network

CPU = torch.device("cpu")


class Repeating(PictureNetwork):
    """A teacher whose result is known: every pixel becomes 4 x 4 of its negative."""

    scale, margin, grid = 4, 0, 1

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[tuple[int, int]] = []

    def forward(self, pictures: Tensor) -> Tensor:
        self.sizes.append((pictures.shape[3], pictures.shape[2]))
        return (1 - pictures).repeat_interleave(4, 2).repeat_interleave(4, 3)


class Drawn:
    """Random numbers as numpy draws them, of which the last, the way to turn, is chosen."""

    def __init__(self, seed: int, way: int) -> None:
        self.rng, self.way = np.random.default_rng(seed), way
        self.ways: list[int] = []

    def choice(self, *args: object, **named: object) -> int:
        return int(self.rng.choice(*args, **named))  # type: ignore[call-overload]

    def integers(self, stop: int) -> int:
        drawn = int(self.rng.integers(stop))
        if stop != 8:
            return drawn
        self.ways.append(self.way)
        return self.way


def folder_of(folder: Path, *sizes: tuple[int, int]) -> list[Path]:
    """Portraits of those widths and heights."""
    files = []
    for seed, (width, height) in enumerate(sizes):
        files.append(folder / f"{seed}.png")
        centre = (width // 2, height // 2)
        save_png(files[-1], render(Portrait(seed, size=(width, height), unit=40, centre=centre)))
    return files


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Photos:
    """One photo whose sides are multiples of 4, and two whose sides are not."""
    files = folder_of(tmp_path_factory.mktemp("photos"), (160, 144), (147, 133), (130, 155))
    return Photos(files, 128)


@pytest.fixture(scope="module")
def teacher_targets(photos: Photos) -> TeacherTargets:
    return TeacherTargets(photos, Repeating(), CPU)


def part(teacher_targets: TeacherTargets, size: int, seed: int, way: int) -> TeacherExample:
    drawn = Drawn(seed, way)
    found = teacher_targets.part(size, drawn)  # type: ignore[arg-type]
    assert drawn.ways == [way]
    return found


@pytest.mark.parametrize("way", range(8))
def test_the_three_pictures_show_the_same_part_turned_alike(teacher_targets: TeacherTargets, way: int) -> None:
    for seed in range(12):
        found = part(teacher_targets, 24, seed, way)
        assert found.small.shape == (24, 24, 3)
        assert found.clean.shape == found.target.shape == (96, 96, 3)
        assert found.small.dtype == found.clean.dtype == found.target.dtype == np.uint8
        assert all(picture.flags.c_contiguous for picture in (found.small, found.clean, found.target))
        # the kernel reaches two small pixels far; turned pictures are rounded in another order
        again = reduce_picture(found.clean).astype(int)
        assert np.abs(again - found.small)[2:-2, 2:-2].max() <= 2
        assert found.small.std() > 5
        assert np.array_equal(found.target, np.repeat(np.repeat(255 - found.small, 4, axis=0), 4, axis=1))


def test_eight_ways_are_drawn_and_are_turns_of_one_part(teacher_targets: TeacherTargets) -> None:
    upright, *others = (part(teacher_targets, 24, 5, way) for way in range(8))
    for way, found in enumerate(others, 1):
        for name in ("small", "clean", "target"):
            assert np.array_equal(getattr(found, name), turn(getattr(upright, name), way)), (way, name)
    assert len({found.small.tobytes() for found in (upright, *others)}) == 8
    rng = np.random.default_rng(0)
    one = TeacherTargets(teacher_targets.photos, Repeating(), CPU)
    one.examples = [[TeacherExample(upright.small, upright.clean, upright.target)]] * len(one.examples)
    assert {one.part(24, rng).small.tobytes() for _ in range(100)} == {
        found.small.tobytes() for found in (upright, *others)
    }


def places(whole: Picture, wanted: Picture) -> list[tuple[int, int]]:
    """(top, left) of every place where a picture holds that part."""
    windows = np.lib.stride_tricks.sliding_window_view(whole[..., 0], wanted.shape[:2])
    rows, columns = np.nonzero((windows == wanted[..., 0]).all(axis=(2, 3)))
    return list(zip(rows.tolist(), columns.tolist(), strict=True))


def test_the_target_is_cut_from_the_teachers_result_for_the_whole_photo(photos: Photos) -> None:
    teacher = tiny_network("sr")
    teacher_targets = TeacherTargets(photos, teacher, CPU)
    wholes = []
    for photo in photos.photos:
        height, width = (side // 4 * 4 for side in photo.versions[0].shape[:2])
        small = reduce_picture(photo.versions[0][:height, :width])
        target = restore(teacher, small, precision=best_precision(CPU))
        wholes.append((photo.versions[0], small, target))
    used = set()
    for seed in range(10):
        found = part(teacher_targets, 24, seed, way=0)
        hits = [(n, *place) for n, (_, small, _) in enumerate(wholes) for place in places(small, found.small)]
        assert len(hits) == 1
        number, top, left = hits[0]
        used.add(number)
        pixels, _, target = wholes[number]
        large = slice(4 * top, 4 * top + 96), slice(4 * left, 4 * left + 96)
        assert np.array_equal(found.clean, pixels[large])
        assert np.array_equal(found.target, target[large])
    assert used == {0, 1, 2}


def test_pictures_whose_sides_are_no_multiples_lose_the_last_pixels(tmp_path: Path) -> None:
    photos = Photos(folder_of(tmp_path, (131, 130), (129, 128)), 128)
    teacher = Repeating()
    teacher_targets = TeacherTargets(photos, teacher, CPU)
    assert teacher.sizes == [(32, 32), (32, 32)]
    for photo, (example,) in zip(photos.photos, teacher_targets.examples, strict=True):
        assert example.small.shape == (32, 32, 3)
        assert np.array_equal(example.clean, photo.versions[0][:128, :128])
        assert example.target.shape == (128, 128, 3)
    whole = part(teacher_targets, 32, 0, way=0)  # there is room for a part as large as the reduced photo
    assert any(np.array_equal(whole.clean, example.clean) for (example,) in teacher_targets.examples)


def test_the_teacher_runs_on_every_photo_once(photos: Photos) -> None:
    teacher, reported = Repeating(), []
    teacher_targets = TeacherTargets(photos, teacher, CPU, progress=lambda: reported.append(len(teacher.sizes)))
    assert teacher.sizes == [(40, 36), (36, 33), (32, 38)]
    assert reported == [1, 2, 3]
    teacher_targets.part(24, np.random.default_rng(0))
    assert len(teacher.sizes) == 3


def test_large_photos_have_targets_at_the_sizes_that_training_uses(tmp_path: Path) -> None:
    """At half their size: beside the whole where they are sharp, alone where they are soft."""
    sharp = np.random.default_rng(0).integers(0, 256, (LARGE, LARGE + 6, 3), dtype=np.uint8)
    save_png(tmp_path / "sharp.png", sharp)
    save_png(tmp_path / "soft.png", np.asarray(cv2.GaussianBlur(sharp, (0, 0), 2), np.uint8))
    photos = Photos([tmp_path / "sharp.png", tmp_path / "soft.png"], 100)
    teacher = Repeating()
    teacher_targets = TeacherTargets(photos, teacher, CPU)
    whole, half = ((LARGE + 6) // 4, LARGE // 4), ((LARGE + 6) // 8, LARGE // 8)
    sizes = [[example.small.shape[1::-1] for example in versions] for versions in teacher_targets.examples]
    assert sizes == [[whole, half], [half]]
    for photo, versions in zip(photos.photos, teacher_targets.examples, strict=True):
        assert np.array_equal(versions[-1].clean, photo.versions[-1][: LARGE // 8 * 4, : (LARGE + 6) // 8 * 4])
    rng = np.random.default_rng(0)
    everywhere = [example.small for versions in teacher_targets.examples for example in versions]
    counts = [0, 0, 0]
    for _ in range(120):
        found = teacher_targets.part(half[1], rng).small
        spread = [abs(float(found.std()) - float(small.std())) for small in everywhere]
        counts[int(np.argmin(spread))] += 1
    assert counts == pytest.approx([30, 30, 60], abs=16)


def test_parts_are_drawn_as_often_as_those_of_the_photos(photos: Photos, teacher_targets: TeacherTargets) -> None:
    rng = np.random.default_rng(0)
    sides = [versions[0].small for versions in teacher_targets.examples]
    counts = np.zeros(len(sides))
    for _ in range(300):
        found = teacher_targets.part(32, rng).small
        counts[[any(places(small, turn(found, way)) for way in range(8)) for small in sides].index(True)] += 1
    assert counts / 300 == pytest.approx(photos.chances, abs=0.09)


def test_a_seed_gives_the_same_parts(teacher_targets: TeacherTargets) -> None:
    first, second, other = (teacher_targets.part(24, np.random.default_rng(seed)) for seed in (7, 7, 8))
    for name in ("small", "clean", "target"):
        assert np.array_equal(getattr(first, name), getattr(second, name))
        assert not np.array_equal(getattr(first, name), getattr(other, name))
