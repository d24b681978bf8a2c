"""MTCNN as a source, on two portraits whose points were set by eye."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from datatools.errors import DataError
from datatools.landmarks import Face, Photo, get_landmark_source, select_faces
from datatools.landmarks.base import CROP_POINTS
from datatools.landmarks.cascade import Settings
from datatools.landmarks.mtcnn import Mtcnn
from datatools.sample import portraits

PORTRAITS = portraits()


def photo(name: str) -> Photo:
    return Photo(f"{name}.jpg", np.ascontiguousarray(PORTRAITS[name].pixels))


def most_prominent(faces: list[Face], name: str) -> Face:
    height, width = PORTRAITS[name].pixels.shape[:2]
    (face,) = select_faces(faces, width, height)
    return face


@pytest.mark.parametrize("name", PORTRAITS)
def test_points_are_where_a_person_sees_them(name: str) -> None:
    face = most_prominent(Mtcnn().find([photo(name)])[0], name)
    truth = PORTRAITS[name].landmarks
    distance = np.hypot(*(truth[1] - truth[0]))
    moved = np.hypot(*(face.points - truth)[list(CROP_POINTS)].T) / distance
    assert moved.max() < 0.1
    assert face.score > 0.99
    assert face.points.dtype == np.float64
    assert 1.5 < face.box[3] / face.eye_distance < 4


def test_a_mirrored_photo_has_mirrored_points() -> None:
    pixels = PORTRAITS["admiral"].pixels
    straight, mirrored = (
        most_prominent(faces, "admiral")
        for faces in Mtcnn().find([photo("admiral"), Photo("m.jpg", np.ascontiguousarray(pixels[:, ::-1]))])
    )
    back = (pixels.shape[1] - 1, 0) + mirrored.points[[1, 0, 2, 4, 3]] * (-1, 1)
    assert np.hypot(*(straight.points - back).T).max() < 0.1 * straight.eye_distance


def test_points_have_two_decimals_as_files_of_landmarks_have() -> None:
    face = most_prominent(Mtcnn().find([photo("astronaut")])[0], "astronaut")
    np.testing.assert_array_equal(face.points, np.round(face.points, 2))
    assert face.box == tuple(round(value, 2) for value in face.box)


def test_a_photo_among_others_gives_the_same_as_alone() -> None:
    source = Mtcnn()
    together = source.find([photo("astronaut"), photo("admiral")])
    for name, faces in zip(PORTRAITS, together, strict=True):
        alone = source.find([photo(name)])[0]
        assert len(alone) == len(faces)
        for one, other in zip(alone, faces, strict=True):
            np.testing.assert_allclose(one.points, other.points, atol=0.02)


def test_a_source_travels_to_workers_and_has_a_digest() -> None:
    source = get_landmark_source("mtcnn", Path("photos"))
    copy = pickle.loads(pickle.dumps(source))
    assert copy == source
    assert copy.digest == source.digest == Mtcnn(threads=4).digest
    assert source.digest != Mtcnn(settings=Settings(min_face=80)).digest
    assert (source.name, source.reads_pixels, source.batch_size) == ("mtcnn", True, 1)


def test_noise_and_flat_photos_have_no_face() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
    assert Mtcnn().find([Photo("flat.png", np.full((120, 160, 3), 90, np.uint8)), Photo("noise.png", noise)]) == [
        [],
        [],
    ]


def test_a_photo_without_pixels_is_refused() -> None:
    with pytest.raises(DataError, match=r"a.jpg: .* not NoneType"):
        Mtcnn().find([Photo("a.jpg")])


def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(DataError, match="--device cuda:99 is not available"):
        get_landmark_source("mtcnn", Path("photos"), device="cuda:99")
