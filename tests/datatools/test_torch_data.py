"""datatools.torch_data.Faces: pictures and targets, in this process and in others."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from datatools.errors import DataError
from datatools.faces.geometry import face_quad
from datatools.pyramid import Provenance, Pyramid, PyramidWriter
from datatools.pyramid.format import UNKNOWN_ORIGIN
from datatools.torch_data import Faces
from tests.support.pyramid_samples import NAMES, face, write

COUNT = 12  # every third image, from 2 on, lacks attributes, identity and split


@pytest.fixture(scope="module")
def h5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("pyramid") / "a.h5", range(COUNT))


@pytest.mark.parametrize(("split", "expected"), [("train", [0, 3, 6, 9]), ("valid", [1, 4, 7, 10])])
def test_a_split(h5: Path, split: Any, expected: list[int]) -> None:
    faces = Faces(h5, 16, split)
    assert len(faces) == len(expected)
    for (picture, target), index in zip(faces, expected, strict=True):
        assert (picture.dtype, target.dtype) == (torch.uint8, torch.int64)
        assert np.array_equal(picture, Pyramid(h5)[16][index])
        assert target.tolist() == [1, 0, index % 2]
    assert faces.attr_names == NAMES
    assert np.array_equal(faces[-1][0], Pyramid(h5)[16][expected[-1]])


def test_targets_are_combined(h5: Path) -> None:
    picture, (identity, attributes) = Faces(h5, 8, target_type=["identity", "attr"])[1]
    assert picture.shape == (3, 8, 8)
    assert (identity.item(), attributes.tolist()) == (103, [1, 0, 1])
    assert Faces(h5, 8, "all", [])[2][1] is None
    assert len(Faces(h5, 8, "all", [])) == COUNT
    chosen = Faces(h5, 8, "train", "identity", indices=[9, 1, 3])
    assert [target.item() for _, target in chosen] == [109, 103]


def test_transforms(h5: Path) -> None:
    doubled, _ = Faces(h5, 8, transform=lambda picture: picture.float() * 2)[0]
    assert np.array_equal(doubled, 2.0 * Pyramid(h5)[8][0])
    halved = Faces(h5, 8, "train", "identity", lambda image: image.resize((4, 4)), lambda target: target + 1, pil=True)
    picture, target = halved[0]
    assert isinstance(picture, Image.Image)
    assert (picture.size, target.item()) == ((4, 4), 101)
    pixels = np.asarray(Faces(h5, 8, transform=lambda image: image, pil=True)[0][0])
    assert np.array_equal(pixels, Pyramid(h5).image(0, 8))


def test_landmarks_lie_in_the_picture(tmp_path: Path) -> None:
    """Of an upright face the rectangle is moved and scaled; turning the photo's points changes nothing."""
    upright = np.array([[40.0, 50], [60, 50], [50, 62], [42, 72], [58, 72]])
    turn = np.array([[0.6, 0.8], [-0.8, 0.6]])
    with PyramidWriter(tmp_path / "a.h5", 2, resolution=64) as writer:
        for number, points in enumerate((upright, upright @ turn + 200)):
            row = Provenance(f"{number}.jpg", "0" * 32, 0, 1, -1, face_quad(points), points)
            writer.append(face(number, 64), row)
    faces = Faces(tmp_path / "a.h5", 64, "all", "landmarks")
    quad = face_quad(upright)
    expected = (upright + 0.5 - quad[0]) / (quad[2] - quad[0]) * 64 - 0.5
    assert np.allclose(faces[0][1].reshape(5, 2), expected, atol=1e-4)
    assert np.allclose(faces[0][1], faces[1][1], atol=1e-4)
    half = Faces(tmp_path / "a.h5", 32, "all", "landmarks")[0][1]
    assert np.allclose(half + 0.5, (faces[0][1] + 0.5) / 2)


@pytest.mark.parametrize("pickled", [False, True])
def test_worker_processes_read_the_same(h5: Path, pickled: bool) -> None:
    faces = Faces(h5, 32, "all", [])
    expected = torch.stack([picture for picture, _ in faces])  # opens the file before the fork
    if pickled:
        data = pickle.dumps(faces)
        assert len(data) < 10_000
        faces = pickle.loads(data)
    loader = DataLoader(faces, batch_size=5, num_workers=2, collate_fn=list)
    assert torch.equal(torch.stack([picture for batch in loader for picture, _ in batch]), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resolution": 7}, "no level 7; it has 32, 16, 8, 4"),
        ({"split": "dev"}, "split dev: must be one of train, valid, test, all"),
        ({"split": "test"}, r'split test of 12 images; the split "all" has every image'),
        ({"target_type": "bbox"}, "target_type bbox: must be one of attr, identity, landmarks"),
        ({"split": "all", "target_type": "identity"}, "identity: not known of 4 of 12 images, the first is 2;"),
        ({"split": "all"}, "attr: not known of 4 of 12 images, the first is 2;"),
        ({"indices": [12]}, "indices must be numbers of images, 0 to 11"),
        ({"target_type": [], "target_transform": abs}, "target_transform has nothing to work on"),
    ],
)
def test_mistakes(h5: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Faces(h5, **{"resolution": 8, **options})


def test_a_pyramid_without_annotations(tmp_path: Path) -> None:
    with PyramidWriter(tmp_path / "a.h5", 1, resolution=8) as writer:
        writer.append(face(0, 8), UNKNOWN_ORIGIN)
    with pytest.raises(DataError, match="has no attributes; choose another target_type"):
        Faces(tmp_path / "a.h5", 8, "all")
    with pytest.raises(DataError, match="landmarks: not known of 1 of 1 image"):
        Faces(tmp_path / "a.h5", 8, "all", "landmarks")
