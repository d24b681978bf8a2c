"""The library face-alignment as a source of landmarks: 68 points by FAN.

Bulat and Tzimiropoulos, "How far are we from solving the 2D & 3D Face Alignment problem?", ICCV 2017. The library takes
its weights from the network once, into torch's folder of weights; files that are put there by hand work as well.
"""

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from datatools.errors import DataError, reason
from datatools.files import as_data_error
from datatools.landmarks.base import Face, Photo, Picture, pixels_of

NAME = "face-alignment"
VERSION = 1
"""Raise it when the same weights give other landmarks."""
LARGEST_SIDE = 1280
"""Photos with a longer side are reduced to it for the detector, whose memory grows with the pixels; FAN then sees the
photo itself."""
FACES_AT_ONCE = 16
DIGITS = 2
"""Decimals of a point, as in `datatools.landmarks.cascade`."""

_SITE = "https://www.adrianbulat.com/downloads/python-fan"
_BLAZEFACE = "https://github.com/hollance/BlazeFace-PyTorch/blob/master"
POINTS = f"{_SITE}/2DFAN4-11f355bf06.pth.tar"
DETECTORS = {
    "sfd": (f"{_SITE}/s3fd-619a316812.pth",),
    "blazeface": (f"{_BLAZEFACE}/blazeface.pth?raw=true", f"{_BLAZEFACE}/anchors.npy?raw=true"),
    "yunet": (
        "https://github.com/opencv/opencv_zoo/raw/main/models/face_detection_yunet/face_detection_yunet_2023mar.onnx",
    ),
}
"""Detectors of the library that need no other library, and where their weights are."""

_LEFT_EYE, _RIGHT_EYE, _NOSE, _MOUTH = slice(36, 42), slice(42, 48), 30, (48, 54)


def five_points(points68: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (5, 2) points of (68, 2): the centres of the eyes, the tip of the nose, the corners of the mouth."""
    eyes = [points68[_LEFT_EYE].mean(axis=0), points68[_RIGHT_EYE].mean(axis=0)]
    return np.array([*eyes, points68[_NOSE], points68[_MOUTH[0]], points68[_MOUTH[1]]])


def weights_folder() -> Path:
    """Return the folder in which torch keeps weights that it downloads."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def weight_file(url: str) -> Path:
    """Return where the weights of that address belong."""
    return weights_folder() / url.rpartition("/")[2].partition("?")[0]


def missing_weights(detector: str) -> list[str]:
    """Return the addresses of the weights that are not on this machine."""
    return [url for url in _addresses(detector) if not weight_file(url).is_file()]


def _addresses(detector: str) -> tuple[str, ...]:
    if detector not in DETECTORS:
        raise DataError(f"face-alignment has no detector {detector!r}; choose {', '.join(DETECTORS)}")
    return (POINTS, *DETECTORS[detector])


def fetch_weights(detector: str) -> None:
    """Download the weights that are not on this machine.

    Raises:
        DataError: without a network; the message names the files, their addresses and the folder where they belong.
    """
    missing = missing_weights(detector)
    for url in missing:
        try:
            weights_folder().mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(weight_file(url)))
        except Exception as error:  # torch raises what urllib, the network and the disk raise
            files = " and ".join(f"{weight_file(each).name} ({each})" for each in missing)
            cause = reason(getattr(error, "reason", None) or error)
            raise DataError(
                f"the weights of face-alignment are missing and cannot be downloaded ({cause}): put {files} into "
                f"{weights_folder()}, or use the landmarks of mtcnn, which needs no download"
            ) from error


def check_weights(detector: str) -> str:
    """Return a hash of the weights. Raise DataError where one cannot be read, or is not what its name says."""
    hashes = []
    for url in _addresses(detector):
        path = weight_file(url)
        with as_data_error(path, "read"):
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
        # torch's custom: name-<first digits of the SHA-256>.ending
        beginning = path.name.partition(".")[0].rpartition("-")[2]
        if "-" in path.name and not digest.startswith(beginning):
            raise DataError(
                f"{path} is damaged: its SHA-256 should begin with {beginning}, not {digest[:10]}; remove it, or put "
                f"the file of {url} in its place"
            )
        hashes.append(digest)
    return " ".join(hashes)


@dataclass(frozen=True)
class FanLandmarks:
    """Finds faces and 68 points; see `datatools.landmarks.base.LandmarkSource`. weights: their hash."""

    detector: str
    weights: str
    device: str
    threads: int = 1
    name: str = NAME
    reads_pixels: bool = True
    batch_size: int = 1

    @property
    def digest(self) -> str:
        """Return a hash of the weights and of the kind of device, which changes rounding."""
        parts = [str(VERSION), self.detector, self.weights, self.device.partition(":")[0]]
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()

    def find(self, photos: Sequence[Photo], /) -> list[list[Face]]:
        """Return the faces of each photo, the highest score first."""
        pictures = [pixels_of(photo) for photo in photos]
        torch.set_num_threads(self.threads)
        aligner = load_aligner(self.detector, self.device)
        return [find_faces(aligner, picture) for picture in pictures]


@lru_cache(maxsize=2)
def load_aligner(detector: str, device: str) -> Any:
    """Return the library's object with its networks. They are not compiled: that takes minutes for each process."""
    import face_alignment  # here: loads numba, which takes seconds

    return face_alignment.FaceAlignment(
        face_alignment.LandmarksType.TWO_D,
        device=device,
        face_detector=detector,
        compile=False,
        max_batch_size=FACES_AT_ONCE,
    )


def find_faces(aligner: Any, picture: Picture) -> list[Face]:
    """Return the faces of a picture. aligner: a `face_alignment.FaceAlignment`, or what has its interface."""
    height, width = picture.shape[:2]
    shrink = min(LARGEST_SIDE / max(height, width), 1.0)
    size = (max(round(width * shrink), 1), max(round(height * shrink), 1))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA) if shrink < 1 else picture
    boxes = np.array(aligner.face_detector.detect_from_image(np.array(small)), np.float64).reshape(-1, 5)
    if not len(boxes):
        return []
    boxes[:, :4] *= np.array([width / size[0], height / size[1]] * 2)
    boxes = boxes[np.argsort(-boxes[:, 4], kind="stable")]
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        found = aligner.get_landmarks_from_image(picture, detected_faces=list(boxes))
    return [_face(points, box) for points, box in zip(found or (), boxes, strict=True)]


def _face(points: NDArray[np.floating], box: NDArray[np.float64]) -> Face:
    points68 = np.round(np.asarray(points, np.float64)[:, :2], DIGITS)
    left, top, right, bottom, score = (round(float(value), DIGITS) for value in box)
    place = (left, top, round(right - left, DIGITS), round(bottom - top, DIGITS))
    return Face(np.round(five_points(points68), DIGITS), place, min(max(score, 0.0), 1.0), points68)


def fan_source(detector: str, device: str, threads: int) -> FanLandmarks:
    """Return face-alignment as a source, with its weights on this machine; they are downloaded if they are missing.

    Raises: DataError where weights are missing or damaged, or the detector is unknown.
    """
    fetch_weights(detector)
    return FanLandmarks(detector, check_weights(detector), device, threads)
