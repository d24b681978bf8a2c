"""Class labels of a data set, from a NumPy file or from the CelebA attributes that a pyramid stores."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datatools.errors import DataError, SettingError, reason
from datatools.files import open_array
from datatools.pyramid.convert import labels_path
from datatools.pyramid.reader import Pyramid

Labels = NDArray[np.float32]
"""(N, classes): one-hot, or weights of the classes; each row sums to 1."""

MAX_CLASSES = 64
"""Largest number of classes that combinations of attributes may make."""
SUM_TOLERANCE = 1e-3
"""How far the sum of a row may be from 1: weights stored as float16 are off by half of that."""
HOW = 'to make labels of class numbers: numpy.save(path, numpy.eye(classes, dtype="float32")[class_numbers])'


def read_labels(pyramid: Pyramid, choice: str, rows: NDArray[np.intp] | None = None) -> Labels | None:
    """Return the labels of that choice: None for "none", else (n, classes) float32.

    choice: "none"; "file" for `<stem>-labels.npy` in the pyramid's folder; or attribute names separated by commas.
    rows: indices of the images that need labels; None: all.
    Raises DataError for a file that holds anything but labels of this pyramid, and for unknown attributes.
    """
    if choice == "none":
        return None
    if choice == "file":
        labels = labels_of_file(labels_path(pyramid.path), len(pyramid))
        return labels if rows is None else labels[rows]
    return labels_of_attributes(pyramid, split_names(choice), rows)


def split_names(choice: str) -> list[str]:
    """Return the attribute names of a choice, which are separated by commas."""
    return [name.strip() for name in choice.split(",")]


def labels_of_attributes(pyramid: Pyramid, names: Sequence[str], rows: NDArray[np.intp] | None = None) -> Labels:
    """Make a class of every combination of the attributes: (n, 2^names), one-hot; the last name changes fastest."""
    choice = ",".join(names)
    if "" in names or len(set(names)) < len(names):
        raise SettingError("labels", f"{choice}: name each attribute once, such as Smiling,Male")
    if 2 ** len(names) > MAX_CLASSES:
        raise SettingError("labels", f"{choice}: {len(names)} attributes are {2 ** len(names)} classes; take fewer")
    try:
        flags = np.stack([pyramid.attribute(name) for name in names])  # (K, N): -1, 1; 0 where unknown
    except DataError as error:
        raise SettingError("labels", f'{choice}: {error}; the choice "file" reads a file of labels') from error
    flags = flags if rows is None else flags[:, rows]
    unknown = int((flags == 0).any(axis=0).sum())
    if unknown:
        raise SettingError(
            "labels",
            f"{choice}: {unknown} of {flags.shape[1]} images of {pyramid.path} have no attributes; "
            "build the file from photos that list_attr_celeba.txt names, or choose a file of labels",
        )
    classes = np.zeros(flags.shape[1], np.int64)
    for row in flags > 0:
        classes = classes * 2 + row
    return np.eye(2 ** len(names), dtype=np.float32)[classes]


def labels_of_file(path: Path, count: int) -> Labels:
    """Read an .npy file of shape (count, classes) of any real type, whose rows sum to 1; the order in memory is free.

    Pickled objects are never loaded. Raises DataError for everything else.
    """
    stored = _open(path)
    try:
        problem = _problem(stored, count)
        if not problem:
            return np.array(stored, np.float32, order="C")
    except MemoryError:
        problem = f"is {stored.shape}, more than fits into memory"
    raise SettingError("labels", f"file: {path} {problem}; {HOW}")


def _open(path: Path) -> NDArray:
    """Return the array on the disk; its values are not read yet, so that one of a wrong shape costs nothing."""
    try:
        if path.exists() and not path.is_file():
            raise ValueError("it is not a regular file")
        with path.open("rb") as stream:
            start = stream.read(6)
        if start.startswith(b"PK"):
            raise ValueError("it is an .npz archive; save its array alone, with numpy.save")
        if start != b"\x93NUMPY":
            raise ValueError("it is not a file that numpy.save wrote")
        return open_array(path)
    except Exception as error:  # NumPy raises what the damage leads to
        raise SettingError("labels", f"file: {path} cannot be read: {reason(error)}; {HOW}") from error


def _problem(labels: NDArray, count: int) -> str:
    """Return what is wrong with the array, "" for nothing."""
    shape = labels.shape
    if labels.dtype.kind not in "biuf":
        return f"holds values of type {labels.dtype}, expected numbers ({count}, classes)"
    if len(shape) != 2 or shape[0] != count or shape[1] < 2:
        hint = ""
        if shape in ((count,), (count, 1), (1, count)):
            hint = ": class numbers are not labels yet: those have a column for each class"
        elif len(shape) == 2 and shape[1] == count:
            hint = ": transpose it"
        return f"is {shape}, expected finite values ({count}, classes){hint}"
    with np.errstate(over="ignore", invalid="ignore"):  # a sum that is not finite is reported below
        sums = labels.sum(axis=1, dtype=np.float64)
    for wrong, fault in (
        (~np.isfinite(sums), "holds a value that is not finite"),
        ((labels < 0).any(axis=1), "holds a negative value"),
        (np.abs(sums - 1) > SUM_TOLERANCE, "sums to {:g}, not to 1"),
    ):
        if wrong.any():
            row = int(wrong.argmax())
            more = f", as do {wrong.sum() - 1} others" if wrong.sum() > 1 else ""
            return f"is wrong: row {row} {fault.format(sums[row])}{more}"
    return ""
