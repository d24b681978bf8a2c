"""The weights of MTCNN: three data files of the PyPI package `mtcnn` 1.0.0 (MIT licence), 2 MB, in Keras's layout.

A file is a list of arrays, pickled by joblib and compressed with LZ4. Only the files with the known SHA-256 are opened.
No code of the package runs, and unpickling may make arrays' descriptions only: it calls nothing that a file names.
"""

import hashlib
import io
import math
import pickle
from importlib import metadata
from pathlib import Path
from typing import Any

import lz4.frame
import numpy as np
from numpy.typing import NDArray

from datatools.errors import DataError, one_line
from datatools.files import as_data_error

PACKAGE, VERSION = "mtcnn", "1.0.0"
FOLDER = "mtcnn/assets/weights"
INSTALL = f"pip install {PACKAGE}=={VERSION}"
SHA256 = {
    "pnet": "ea6b0c3e685ebee3165326ad6484acc95f2ef78f1c94fbf40a55704fa989f7b5",
    "rnet": "cb00e6460f3c98b0bfafaba3c0a0ded4bdf6e62cee7174d969e8670d7e757fee",
    "onet": "94f6ea2f4cf985275ee958cdd762d17b6009348a4fb9d8c6be39ba73ffd22ca3",
}
MAX_VALUES = 10_000_000
"""Values that an array may have; the largest one here has 294,912."""

Array = NDArray[np.float32]


class _StoredArray:
    """Stands for joblib's class: its attributes describe the array whose bytes follow in the stream."""

    stream: io.BytesIO
    value: Array

    def __setstate__(self, state: dict[str, Any]) -> None:
        shape, alignment = state["shape"], state.get("numpy_array_alignment_bytes")
        if state["dtype"] != np.dtype("<f4") or state["order"] != "C" or math.prod(shape) > MAX_VALUES:
            raise pickle.UnpicklingError(f"unexpected array: {state['dtype']} {shape} {state['order']}")
        if alignment is not None:
            self.stream.read(self.stream.read(1)[0])  # a byte with the number of bytes that fill up to the alignment
        data = self.stream.read(4 * math.prod(shape))
        self.value = np.frombuffer(data, "<f4").reshape(shape)


class _ArrayUnpickler(pickle.Unpickler):
    """Reads lists of float32 arrays as joblib writes them, and refuses everything else."""

    def __init__(self, stream: io.BytesIO) -> None:
        super().__init__(stream)
        self._stored = type("StoredArray", (_StoredArray,), {"stream": stream})

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("joblib.numpy_pickle", "NumpyArrayWrapper"):
            return self._stored
        if (module, name) == ("numpy", "ndarray"):
            return None  # named as an attribute, never called
        if (module, name) == ("numpy", "dtype"):
            return np.dtype
        raise pickle.UnpicklingError(f"{module}.{name} may not be loaded")

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError(f"{pid!r} may not be loaded")


def unpack_arrays(data: bytes) -> list[Array]:
    """Return the arrays of a compressed file.

    Raises: ValueError for anything but a list of float32 arrays.
    """
    try:
        arrays = _ArrayUnpickler(io.BytesIO(lz4.frame.decompress(data))).load()
        return [array.value for array in arrays]
    except Exception as error:  # damage leads the decoders anywhere
        raise ValueError(f"no list of arrays: {one_line(error)}") from error


def read_weights(network: str) -> list[Array]:
    """Return the arrays of "pnet", "rnet" or "onet" from the installed package, in the order of the layers.

    Raises: DataError where the package is missing, another version, or damaged.
    """
    try:
        distribution = metadata.distribution(PACKAGE)
    except metadata.PackageNotFoundError as error:
        raise DataError(f"the weights of MTCNN are not installed: {INSTALL}") from error
    path = Path(str(distribution.locate_file(f"{FOLDER}/{network}.lz4")))
    with as_data_error(path, "read", f"; install it again: {INSTALL}"):
        data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != SHA256[network]:
        raise DataError(f"{path} is damaged, or not from {PACKAGE} {VERSION}; install it again: {INSTALL}")
    return unpack_arrays(data)
