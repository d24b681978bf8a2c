"""The three kinds of file that pickled weights come in: a plain pickle, and PyTorch's old and new containers."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from datatools.errors import DataError, one_line
from datatools.files import as_data_error
from pggan.foreign.unpickle import Globals, Storage, UnpickleError, WeightUnpickler

TORCH_MAGIC, TORCH_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # that the old container begins with, each a pickle
ZIP, PICKLES = b"PK\x03\x04", tuple(bytes([0x80, protocol]) for protocol in range(2, 6))
MOST_BYTES = 4 << 30  # more than ten times the largest of these files


def is_pickled(path: Path) -> bool:
    """Return whether a file begins as pickles and PyTorch's files do. Raises OSError where it cannot be read."""
    with path.open("rb") as file:
        return file.read(4).startswith((ZIP, *PICKLES))


def read_pickled(path: Path, more: Globals) -> Any:
    """Return what a file holds, with `Stored` objects for arrays and what `more` makes of other globals.

    Raises DataError, in one line, for everything that cannot be read, and for a file that names anything but what
    arrays need and `more` has.
    """
    with as_data_error(path, "read"):
        if path.stat().st_size > MOST_BYTES:
            raise DataError(f"{path}: {path.stat().st_size / 1e9:.1f} GB is more than any known weight file has")
        data = path.read_bytes()
    try:
        return _of_zip(data, more) if data.startswith(ZIP) else _of_pickles(data, more)
    except UnpickleError as error:
        raise DataError(f"{path}: is not read: {one_line(error, 300)}") from error
    except Exception as error:  # damaged pickles and archives raise anything, in words about their own insides
        what = "cut off" if isinstance(error, EOFError) else f"damaged ({one_line(error, 100)})"
        raise DataError(f"{path}: the weight file is {what}; download it again") from error


def _of_zip(data: bytes, more: Globals) -> Any:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = {entry.filename.partition("/")[2]: entry for entry in archive.infolist()}
        if "data.pkl" not in entries:
            raise UnpickleError("it is a zip archive, but not one of PyTorch's")
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries.values()):
            raise UnpickleError("it is a compressed archive, as PyTorch never writes them")
        if sum(entry.file_size for entry in entries.values()) > len(data):
            raise UnpickleError("its parts claim more bytes than the file has")
        if "byteorder" in entries and archive.read(entries["byteorder"]) != b"little":
            raise UnpickleError("its numbers are big-endian")

        def storage(key: str) -> bytes:
            if f"data/{key}" not in entries:
                raise UnpickleError(f"it lacks the numbers of the storage {key[:20]!r}")
            return archive.read(entries[f"data/{key}"])

        return WeightUnpickler(io.BytesIO(archive.read(entries["data.pkl"])), more, storage).load()


def _of_pickles(data: bytes, more: Globals) -> Any:
    file = io.BytesIO(data)

    def load() -> Any:
        return WeightUnpickler(file).load()

    content = WeightUnpickler(file, more).load()
    if content != TORCH_MAGIC:
        return content
    if load() != TORCH_PROTOCOL or not load().get("little_endian"):
        raise UnpickleError("it is of another version of PyTorch's old container")
    unpickler = WeightUnpickler(file, more)
    content = unpickler.load()
    for key in load():
        storage = unpickler.storages[key]
        if int.from_bytes(_exactly(file.read, 8), "little") != storage.count:
            raise UnpickleError(f"its storage {key[:20]!r} has another size than its tensors say")
        storage.data = _exactly(file.read, storage.count * storage.kind.itemsize)
    return content


def bare_storage(data: Any) -> Storage:
    """Return the one storage that bytes within a pickle hold, as a whole file in the old container."""
    content = _of_pickles(data, {}) if isinstance(data, bytes) else None
    if not isinstance(content, Storage):
        raise UnpickleError("it has bytes that are not a storage of PyTorch")
    return content


def _exactly(read: Callable[[int], bytes], count: int) -> bytes:
    data = read(count)
    if len(data) != count:
        raise EOFError
    return data
