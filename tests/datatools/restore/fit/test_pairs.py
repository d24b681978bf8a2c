"""Training pairs of photos."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from datatools.images import save_png
from datatools.restore.fit.dataset import Photos, matching, picture_files, training_pair
from tests.support.fit_runs import settings
from tests.support.portraits import Portrait, render


@pytest.mark.parametrize("task", ["jpeg", "sr"])
def test_pairs(task: str, photos: Photos) -> None:
    chosen = settings(task)
    scale = 4 if task == "sr" else 1
    for seed in range(20):
        given, wanted = training_pair(photos, chosen, np.random.default_rng(seed))
        assert given.shape == (24, 24, 3)
        assert wanted.shape == (24 * scale, 24 * scale, 3)
        assert given.dtype == wanted.dtype == np.uint8
        # the reduced target is about the input: nothing is shifted
        small = wanted.reshape(24, scale, 24, scale, 3).mean(axis=(1, 3))
        assert np.abs(small - given).mean() < 25


def test_super_resolution_pairs_are_in_place(photos: Photos) -> None:
    chosen = settings(bicubic=0.0)
    errors: dict[tuple[int, int], list[float]] = {shift: [] for shift in itertools.product((-1, 0, 1), repeat=2)}
    for seed in range(30):
        given, wanted = training_pair(photos, chosen, np.random.default_rng(seed))
        small = wanted.reshape(24, 4, 24, 4, 3).mean(axis=(1, 3))
        for shift, found in errors.items():
            found.append(float(np.abs(small - np.roll(given, shift, (0, 1)))[2:-2, 2:-2].mean()))
    assert min(errors, key=lambda shift: np.mean(errors[shift])) == (0, 0)


def test_photos_that_keep_their_size(tmp_path: Path) -> None:
    for name in ("whole", "large"):
        save_png(tmp_path / f"{name}.png", render(Portrait(1, size=(1010, 1004), unit=240, centre=(500, 480))))
    files = picture_files([tmp_path])
    kept = matching(files, ["*/whole.png"], "--keep-size")
    photos = {photo.name: photo for photo in Photos(files, 128, kept).photos}
    assert [picture.shape for picture in photos["whole.png"].versions] == [(1004, 1010, 3)]
    assert (502, 505, 3) in [picture.shape for picture in photos["large.png"].versions]
