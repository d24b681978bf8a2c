"""CIFAR-10's training pictures, from its binary or its Python batches: 50,000 of 32 x 32 pixels in 10 classes.

Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009. The Python batches are pickles; nothing but
arrays is read from them, so that a file from elsewhere cannot run code.
"""

import hashlib
import io
import pickle
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datatools.errors import DataError, one_line
from datatools.files import as_data_error, unlike
from datatools.sources.pictures import SourcePicture, Unusable, square

RESOLUTION = 32
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
HOW_TO_GET = "get it with: python -m datatools.download cifar10 --out DIR"
_FOLDERS = ("", "cifar-10-batches-bin", "cifar-10-batches-py")
_PIXELS = 3 * RESOLUTION * RESOLUTION


class Cifar10:
    """CIFAR-10 below a folder. Raises DataError where batches are missing or are not CIFAR-10's."""

    title = "CIFAR-10"
    resolution = RESOLUTION
    classes = CLASSES
    attribute_names: tuple[str, ...] = ()
    settings: Mapping[str, str | int] = {"data_set": "CIFAR-10", "pictures": "training"}

    def __init__(self, folder: Path) -> None:
        self._batches = find_batches(folder)

    @cached_property
    def _read(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8], list[str]]:
        """Return the pictures (N, 3, 32, 32), their labels (N,) and names."""
        read = [read_batch(path) for path in self._batches]
        names = [
            f"{batch}-{index:05}"
            for batch, (_, labels) in zip(BATCHES, read, strict=True)
            for index in range(len(labels))
        ]
        return np.concatenate([pictures for pictures, _ in read]), np.concatenate([labels for _, labels in read]), names

    @property
    def count(self) -> int:
        return len(self._read[1])

    @cached_property
    def digest(self) -> str:
        """The MD5 of all pictures and labels: the same for both kinds of batches."""
        pictures, labels, _ = self._read
        return hashlib.md5(pictures.tobytes() + labels.tobytes(), usedforsecurity=False).hexdigest()

    def entries(self, start: int, stop: int) -> Iterator[SourcePicture | Unusable]:
        pictures, labels, names = self._read
        for index in range(start, min(stop, self.count)):
            data = pictures[index].tobytes()
            yield SourcePicture(
                file_name=names[index],
                md5=hashlib.md5(data, usedforsecurity=False).hexdigest(),
                pixels=np.ascontiguousarray(pictures[index].transpose(1, 2, 0)),
                quad=square(0, 0, RESOLUTION),
                label=int(labels[index]),
                split=0,
            )


def find_batches(folder: Path) -> list[Path]:
    """Return the five training batches. Raises DataError where some are missing, and says what is there instead."""
    for name in _FOLDERS:
        for ending in (".bin", ""):
            paths = [folder / name / f"{batch}{ending}" for batch in BATCHES]
            there = [path for path in paths if path.is_file()]
            if len(there) == len(paths):
                return paths
            if there:
                missing = next(path for path in paths if not path.is_file())
                raise DataError(f"{missing}: no such file, though {there[0].name} is there; {HOW_TO_GET}")
    archive = next(iter(sorted(folder.glob("cifar-10-*.tar.gz"))), None) if folder.is_dir() else None
    if archive is not None:
        raise DataError(f"{archive}: is not unpacked: python -m datatools.download cifar10 --out {folder}")
    raise DataError(f"{folder}: holds no {BATCHES[0]}.bin and no {BATCHES[0]}; {HOW_TO_GET}")


def read_batch(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the pictures (n, 3, 32, 32) and labels (n,) of a binary or a Python batch."""
    with as_data_error(path, "read"):
        data = path.read_bytes()
    if path.suffix == ".bin":
        if not data or len(data) % (1 + _PIXELS):
            other = unlike(path) or f"its {len(data):,} bytes are not a multiple of {1 + _PIXELS}"
            raise DataError(f"{path}: is not a binary batch of CIFAR-10 ({other}); {HOW_TO_GET}")
        rows = np.frombuffer(data, np.uint8).reshape(-1, 1 + _PIXELS)
        pictures, labels = rows[:, 1:], rows[:, 0]
    else:
        pictures, labels = _read_pickle(path, data)
    if labels.max(initial=0) >= len(CLASSES):
        raise DataError(f"{path}: has the label {labels.max()}, CIFAR-10 has {len(CLASSES)} classes; {HOW_TO_GET}")
    return pictures.reshape(-1, 3, RESOLUTION, RESOLUTION), labels


def _read_pickle(path: Path, data: bytes) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    try:
        batch = _ArraysOnly(data).load()
        pictures, labels = np.asarray(batch[b"data"], np.uint8), np.array(batch[b"labels"], np.uint8)
        if pictures.shape != (len(labels), _PIXELS):
            raise ValueError(f"its pictures are {pictures.shape} for {len(labels)} labels")
    except Exception as error:  # a damaged pickle raises anything
        other = unlike(path, (b"\x80\x02", b"\x80\x03", b"\x80\x04")) or one_line(error, 80)
        raise DataError(f"{path}: is not a Python batch of CIFAR-10 ({other}); {HOW_TO_GET}") from error
    return pictures, labels


class _ArraysOnly(pickle.Unpickler):
    """Reads arrays, lists, texts and numbers, and refuses to call anything else."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data), encoding="bytes")

    def find_class(self, module: str, name: str) -> Any:
        known = {
            ("multiarray", "_reconstruct"): np.zeros(0).__reduce__()[0],
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
            ("_codecs", "encode"): _encode,
        }
        found = known.get((module.rpartition(".")[2], name))
        if found is None or module.partition(".")[0] not in ("numpy", "_codecs"):
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return found


def _encode(text: str, encoding: str) -> bytes:
    """Return the bytes that protocol 2 keeps as a text."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it asks for the encoding {encoding}")
    return text.encode("latin1")
