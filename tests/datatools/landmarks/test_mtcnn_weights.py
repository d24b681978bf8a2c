"""MTCNN's weights: the pinned files alone are read, and reading them runs no code."""

import hashlib
import io
import os
import pickle
from pathlib import Path
from typing import Any

import lz4.frame
import numpy as np
import pytest

from datatools.errors import DataError
from datatools.landmarks import mtcnn_weights
from datatools.landmarks.mtcnn_weights import read_weights, unpack_arrays


class Call:
    """Pickled as a call of `function`."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.function, self.arguments


def packed(value: Any) -> bytes:
    """Return a value as a compressed pickle."""
    return lz4.frame.compress(pickle.dumps(value, protocol=4))


@pytest.mark.parametrize(
    ("network", "count", "values"), [("pnet", 13, 6_632), ("rnet", 16, 100_178), ("onet", 21, 389_040)]
)
def test_the_installed_files_have_the_networks_weights(network: str, count: int, values: int) -> None:
    arrays = read_weights(network)
    assert [array.dtype for array in arrays] == [np.dtype(np.float32)] * count
    assert sum(array.size for array in arrays) == values
    assert all(np.isfinite(array).all() for array in arrays)
    assert all(0.005 < array.std() < 3 for array in arrays if array.ndim == 4)


def test_a_file_that_calls_a_function_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "made"
    with pytest.raises(ValueError, match="may not be loaded"):
        unpack_arrays(packed([Call(os.mkdir, str(target))]))
    assert not target.exists()


@pytest.mark.parametrize(
    "value",
    [[1, 2], {"a": 1}, [Call(np.dtype, "f8")], [Call(eval, "1")], [np.zeros(3)]],
    ids=["numbers", "dict", "dtype", "eval", "array"],
)
def test_anything_but_stored_arrays_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="no list of arrays"):
        unpack_arrays(packed(value))


@pytest.mark.parametrize("data", [b"", b"x" * 100, lz4.frame.compress(b""), lz4.frame.compress(b"\x80\x04")])
def test_damage_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="no list of arrays"):
        unpack_arrays(data)


def test_joblib_reads_the_same_arrays() -> None:
    joblib = pytest.importorskip("joblib")
    path = Path(str(mtcnn_weights.metadata.distribution("mtcnn").locate_file("mtcnn/assets/weights/onet.lz4")))
    for ours, theirs in zip(read_weights("onet"), joblib.load(path), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_stored_arrays_are_read_as_joblib_writes_them() -> None:
    joblib = pytest.importorskip("joblib")
    arrays = [np.arange(24, dtype=np.float32).reshape(2, 3, 4), np.array([1.5], np.float32)]
    stream = io.BytesIO()
    joblib.dump(arrays, stream)
    for ours, theirs in zip(unpack_arrays(lz4.frame.compress(stream.getvalue())), arrays, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    stream = io.BytesIO()
    joblib.dump([np.arange(3.0)], stream)
    with pytest.raises(ValueError, match="unexpected array: float64"):
        unpack_arrays(lz4.frame.compress(stream.getvalue()))


class Distribution:
    """A package whose files lie in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def locate_file(self, name: str) -> Path:
        return self.folder / Path(name).name


def test_a_damaged_or_missing_file_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mtcnn_weights.metadata, "distribution", lambda _: Distribution(tmp_path))
    with pytest.raises(DataError, match=r"pnet.lz4: cannot be read: .*pip install mtcnn==1.0.0"):
        read_weights("pnet")
    (tmp_path / "pnet.lz4").write_bytes(packed([]))
    with pytest.raises(DataError, match=r"pnet.lz4 is damaged, or not from mtcnn 1.0.0; .*pip install"):
        read_weights("pnet")
    monkeypatch.setitem(mtcnn_weights.SHA256, "pnet", hashlib.sha256(packed([])).hexdigest())
    assert read_weights("pnet") == []


def test_a_missing_package_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: str) -> None:
        raise mtcnn_weights.metadata.PackageNotFoundError

    monkeypatch.setattr(mtcnn_weights.metadata, "distribution", missing)
    with pytest.raises(DataError, match=r"not installed: pip install mtcnn==1\.0\.0"):
        read_weights("onet")
