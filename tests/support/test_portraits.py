"""tests.support.portraits: painted portraits are of different people, with landmarks that are true."""

import numpy as np

from datatools.faces.duplicates import find_duplicates, perceptual_hash
from tests.support.portraits import Portrait, render


def test_portraits_are_different_people_with_eyes_where_they_are_said_to_be() -> None:
    portraits = [Portrait(seed, (320, 400), 95, (160, 190), roll=roll) for seed, roll in ((1, 0), (2, 20))]
    for portrait in portraits:
        picture = render(portrait)
        assert picture.shape == (400, 320, 3)
        assert picture.dtype == np.uint8
        for x, y in portrait.landmarks[:2]:
            pupil = picture[round(y) - 1 : round(y) + 2, round(x) - 1 : round(x) + 2]
            assert pupil.mean() < 80
        assert np.abs(np.diff(picture.astype(int), axis=0)).mean() > 2  # fine detail, not flat areas
    pictures = np.stack([perceptual_hash(render(portrait)[:300, :300]) for portrait in (*portraits, portraits[0])])
    assert [(pair.first, pair.second) for pair in find_duplicates(pictures)] == [(0, 2)]
