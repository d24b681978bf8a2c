"""Find faces and their five points in photos: from annotations or a file, or with a detector.

Importing this does not load torch; using a detector does.
"""

from pathlib import Path

from datatools.errors import DataError
from datatools.landmarks.base import Face, LandmarkSource, Photo, nearest_face, select_faces

__all__ = [
    "DETECTORS",
    "SOURCES",
    "Face",
    "LandmarkSource",
    "Photo",
    "get_detector",
    "get_landmark_source",
    "nearest_face",
    "select_faces",
]

DETECTORS = ("auto", "face-alignment", "mtcnn")
"""What `get_detector` takes."""

SOURCES = ("auto", "annotations", "face-alignment", "mtcnn")
"""What `get_landmark_source` takes besides a file of landmarks."""


def get_landmark_source(
    name: str, folder: Path, *, device: str = "cpu", threads: int = 1, detector: str = "sfd"
) -> LandmarkSource:
    """Return the source of landmarks of that name, ready to be used or sent to worker processes.

    Args:
        name: "annotations": those of the CelebA tree at `folder`; "face-alignment" or "mtcnn": a detector; a file of
            landmarks (.csv); "auto": annotations if there are some, else face-alignment if its weights are on this
            machine, else mtcnn.
        folder: the photos; names of photos are relative to it.
        device: "cpu", "cuda", "cuda:1", "mps" or "auto", for detectors.
        threads: CPU threads for the networks' arithmetic; 1 suits photos that are spread over processes.
        detector: which of face-alignment's detectors finds the faces: "sfd", "blazeface" or "yunet".

    Raises:
        DataError: an unknown name, a file or tree that cannot be used, missing weights, a device that is not there.
    """
    if name == "auto":
        name = _automatic(Path(folder), detector)
    if name == "annotations":
        from datatools.landmarks.annotations import read_annotations

        return read_annotations(Path(folder))
    if name == "mtcnn":
        from datatools.landmarks.mtcnn import Mtcnn

        return Mtcnn(_device(device), threads)
    if name == "face-alignment":
        from datatools.landmarks.fan import fan_source  # loads torch

        return fan_source(detector, _device(device), threads)
    if "." in name or "/" in name:
        from datatools.landmarks.table import read_file_landmarks

        return read_file_landmarks(Path(name))
    raise DataError(f"unknown source of landmarks {name!r}; known: {', '.join(SOURCES)}, or a file of landmarks (.csv)")


def get_detector(name: str, *, device: str = "cpu", threads: int = 1, detector: str = "sfd") -> LandmarkSource:
    """Return the detector of that name, one of `DETECTORS`, to check landmarks with; see `get_landmark_source`."""
    name = _automatic_detector(detector) if name == "auto" else name
    return get_landmark_source(name, Path(), device=device, threads=threads, detector=detector)


def _automatic(folder: Path, detector: str) -> str:
    """Return the name of the source that "auto" means."""
    from datatools.landmarks.annotations import has_annotations

    return "annotations" if has_annotations(folder) else _automatic_detector(detector)


def _automatic_detector(detector: str) -> str:
    """Return the name of the detector that "auto" means."""
    from datatools.landmarks.fan import missing_weights  # loads torch

    return "mtcnn" if missing_weights(detector) else "face-alignment"


def _device(name: str) -> str:
    if name == "cpu":
        return name
    from datatools.restore.devices import torch_device  # loads torch

    return str(torch_device(name))
