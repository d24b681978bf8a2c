"""face-alignment as a source: the library with stand-in networks, and what is reported about its weights."""

import hashlib
import pickle
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from datatools.errors import DataError
from datatools.landmarks import Photo, fan, get_landmark_source
from datatools.landmarks.fan import FanLandmarks, find_faces, five_points, load_aligner, weight_file

SIDE = 120.0
"""Of the detector's boxes."""


class DotFinder(nn.Module):
    """Stands for FAN: a point's map is bright where the picture's red has the point's own level.

    The library shows each face mirrored, too. A blue spot is on the left of it, so it is known then, and the left point
    is taken for the right one, as by FAN.
    """

    def forward(self, crops: Tensor) -> Tensor:
        from face_alignment.utils import shuffle_lr

        maps = self.maps(crops)
        blue = (crops[:, 2] > 0.5).sum(dim=1)  # (n, columns)
        mirrored = blue[:, 128:].sum(dim=1) > blue[:, :128].sum(dim=1)
        return torch.where(mirrored.reshape(-1, 1, 1, 1), shuffle_lr(maps), maps)

    @staticmethod
    def maps(crops: Tensor) -> Tensor:
        red = crops[:, :1] * 255
        levels = torch.arange(68).reshape(1, 68, 1, 1) * 3 + 50.0
        green = (crops[:, 1:2] > 0.5).float()  # marks a dot
        return functional.avg_pool2d(((red - levels).abs() < 1.5).float() * green, 4)


class GivenBoxes:
    """Stands for the library's face detector: boxes around dots, the weakest first."""

    reference_scale = 195

    def __init__(self, **_: object) -> None:
        self.sizes: list[tuple[int, ...]] = []

    def detect_from_image(self, picture: NDArray[np.uint8]) -> list[NDArray[np.float64]]:
        self.sizes.append(picture.shape)
        columns = np.nonzero(picture[..., 1].max(axis=0))[0]
        groups = np.split(columns, np.nonzero(np.diff(columns) > 60)[0] + 1) if len(columns) else []
        boxes = []
        for number, group in enumerate(groups):
            rows = np.nonzero(picture[:, group[0] : group[-1] + 1, 1].max(axis=1))[0]
            middle = np.array([group[0] + group[-1], rows[0] + rows[-1]]) / 2
            boxes.append(np.array([*(middle - SIDE / 2), *(middle + SIDE / 2), 0.6 + 0.1 * number]))
        return boxes


def drawn_face(shape: tuple[int, int], left: int, top: int) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Return a black picture with 68 dots of 9 x 9 pixels, and their centres."""
    picture = np.zeros((*shape, 3), np.uint8)
    points = np.array([(left + 12 * (i % 9), top + 12 * (i // 9)) for i in range(68)], float)
    for i, (x, y) in enumerate(points.astype(int)):
        picture[y - 4 : y + 5, x - 4 : x + 5] = (3 * i + 50, 255, 0)
    picture[top : top + 40, left - 12 : left - 6, 2] = 255
    return picture, points


@pytest.fixture
def aligner(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The library's own object, with stand-ins for both networks."""
    import face_alignment
    from face_alignment.detection import sfd

    monkeypatch.setattr(face_alignment.FaceAlignment, "_load_native", lambda *_: DotFinder())
    monkeypatch.setattr(sfd, "FaceDetector", GivenBoxes)
    load_aligner.cache_clear()
    yield load_aligner("sfd", "cpu")
    load_aligner.cache_clear()


def test_points_are_where_the_networks_see_them(aligner: Any) -> None:
    picture, points = drawn_face((240, 300), 90, 60)
    (face,) = find_faces(aligner, picture)
    assert face.points68 is not None
    moved = face.points68 - points
    assert np.abs(moved.mean(axis=0)).max() < 1.5  # the library's own points are whole numbers
    assert np.hypot(*moved.T).max() < 4  # a step of the map
    np.testing.assert_array_equal(face.points, np.round(five_points(face.points68), 2))
    assert face.box[2:] == (SIDE, SIDE)
    assert face.score == 0.6


def test_faces_come_the_highest_score_first(aligner: Any) -> None:
    first, _ = drawn_face((240, 700), 60, 60)
    second, _ = drawn_face((240, 700), 460, 70)
    found = FanLandmarks("sfd", "", "cpu").find([Photo("two.jpg", np.maximum(first, second)), Photo("one.jpg", first)])
    assert [[face.score for face in faces] for faces in found] == [[0.7, 0.6], [0.6]]
    assert found[0][0].box[0] > found[0][1].box[0]
    assert aligner.max_batch_size > 1


def test_a_photo_without_a_face_has_none(aligner: Any, recwarn: pytest.WarningsRecorder) -> None:
    assert find_faces(aligner, np.zeros((50, 40, 3), np.uint8)) == []
    assert not recwarn.list


def test_the_detector_sees_large_photos_reduced(aligner: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fan, "LARGEST_SIDE", 150)
    picture, points = drawn_face((240, 300), 90, 60)
    (face,) = find_faces(aligner, picture)
    assert aligner.face_detector.sizes == [(120, 150, 3)]
    assert face.box[2:] == (2 * SIDE, 2 * SIDE)
    assert face.box[0] + SIDE == pytest.approx(points[:, 0].mean(), abs=4)


def test_five_points_are_made_of_sixty_eight() -> None:
    points = np.zeros((68, 2))
    points[36:42] = [(10, 20), (12, 18), (16, 18), (18, 20), (16, 22), (12, 22)]
    points[42:48] = points[36:42] + np.array([40, 0])
    points[30], points[48], points[54] = (34, 40), (20, 60), (48, 61)
    assert five_points(points).tolist() == [[14, 20], [54, 20], [34, 40], [20, 60], [48, 61]]


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of weights, and no network."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))

    def no_network(*_: object, **__: object) -> None:
        raise urllib.error.URLError(OSError(101, "Network is unreachable"))

    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    return tmp_path / "checkpoints"


def test_missing_weights_are_named_with_addresses_and_folder(weights: Path) -> None:
    with pytest.raises(DataError) as caught:
        get_landmark_source("face-alignment", Path("photos"))
    message = str(caught.value)
    assert "\n" not in message
    for part in (
        "Network is unreachable",
        "2DFAN4-11f355bf06.pth.tar (https://www.adrianbulat.com/downloads/python-fan/2DFAN4-11f355bf06.pth.tar)",
        "s3fd-619a316812.pth (https://www.adrianbulat.com/downloads/python-fan/s3fd-619a316812.pth)",
        f"into {weights}",
        "mtcnn",
    ):
        assert part in message


def test_files_put_there_by_hand_are_used(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights.mkdir()
    content = b"weights"
    digest = hashlib.sha256(content).hexdigest()
    monkeypatch.setattr(fan, "POINTS", f"https://example.org/2DFAN4-{digest[:10]}.pth.tar")
    monkeypatch.setattr(fan, "DETECTORS", {"sfd": (f"https://example.org/s3fd-{digest[:10]}.pth",)})
    assert len(fan.missing_weights("sfd")) == 2
    assert get_landmark_source("auto", weights).name == "mtcnn"
    for url in (fan.POINTS, *fan.DETECTORS["sfd"]):
        weight_file(url).write_bytes(content)
    source = get_landmark_source("auto", weights)
    assert source.name == "face-alignment"
    assert pickle.loads(pickle.dumps(source)) == source
    assert source.digest != FanLandmarks("sfd", "other", "cpu").digest


def test_damaged_weights_are_reported(weights: Path) -> None:
    weights.mkdir()
    for url in (fan.POINTS, *fan.DETECTORS["sfd"]):
        weight_file(url).write_bytes(b"half a download")
    with pytest.raises(
        DataError, match=r"2DFAN4-11f355bf06.pth.tar is damaged: its SHA-256 should begin with 11f355bf06"
    ):
        get_landmark_source("face-alignment", Path("photos"))


def test_addresses_are_those_of_the_library() -> None:
    import face_alignment.api
    from face_alignment.detection.blazeface import blazeface_detector
    from face_alignment.detection.sfd import sfd_detector
    from face_alignment.detection.yunet import yunet_detector

    assert face_alignment.api.models_urls["2DFAN-4"] == fan.POINTS
    assert fan.DETECTORS["sfd"] == tuple(sfd_detector.models_urls.values())
    assert set(fan.DETECTORS["blazeface"]) <= set(blazeface_detector.models_urls.values())
    assert fan.DETECTORS["yunet"] == (yunet_detector.model_url,)


def test_an_unknown_detector_is_refused(weights: Path) -> None:
    with pytest.raises(DataError, match="no detector 'dlib'; choose sfd, blazeface"):
        get_landmark_source("face-alignment", weights, detector="dlib")
