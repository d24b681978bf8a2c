"""Classes of pictures: from folder names, from the dataset.json of StyleGAN's tools, or from a CSV file."""

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datatools.errors import DataError, one_line
from datatools.files import read_lines
from datatools.images import ImageError
from datatools.pyramid.folder_source import PictureSource, natural_key, read_entry

NAME_COLUMNS = ("file_name", "filename", "file", "name", "image", "path")
LABEL_COLUMNS = ("label", "class", "class_name", "category")
DATASET_JSON = "dataset.json"
SUM_TOLERANCE = 1e-3
"""How far the sum of class weights may be from 1."""


@dataclass(frozen=True)
class ClassLabels:
    """The classes of pictures by name.

    Attributes:
        classes: names of the classes, two or more.
        by_name: class number, or weight of each class, of every picture that has a label.
        source: where the labels come from, in words.
    """

    classes: tuple[str, ...]
    by_name: Mapping[str, int | tuple[float, ...]]
    source: str

    def __post_init__(self) -> None:
        if len(self.classes) < 2:
            found = f"one, {self.classes[0]!r}" if self.classes else "none"
            raise DataError(f"{self.source}: labels need two classes or more, found {found}; leave out --labels")

    def rows(self, names: Iterable[str]) -> NDArray[np.float32]:
        """Return the labels of these pictures, (N, classes): one-hot or weights, each row sums to 1."""
        labels = [self.by_name[name] for name in names]
        table = np.zeros((len(labels), len(self.classes)), np.float32)
        for row, label in zip(table, labels, strict=True):
            if isinstance(label, int):
                row[label] = 1
            else:
                row[:] = label
        return table


def read_class_labels(choice: str, source: PictureSource) -> ClassLabels:
    """Return the labels of that choice: "folders", "json" for the source's dataset.json, or a .json or .csv file.

    Raises DataError for another choice, and for a file that is missing or holds something else.
    """
    if choice == "folders":
        return labels_of_folders([entry.name for entry in source.entries])
    if choice == "json":
        where = source.root / DATASET_JSON
        try:
            return labels_of_json(read_entry(source.root, DATASET_JSON), where)
        except ImageError as error:
            raise DataError(f"--labels json: {where}: {error}") from error
    path = Path(choice).expanduser()
    if path.suffix.lower() == ".json":
        return labels_of_json("\n".join(read_lines(path)).encode(), path)
    if path.suffix.lower() == ".csv":
        return labels_of_csv(path)
    raise DataError(f"--labels {choice}: expected folders, json, or a file that ends in .json or .csv")


def labels_of_folders(names: Sequence[str]) -> ClassLabels:
    """Make a class of every folder: the first one below the folder that holds all pictures.

    Pictures that lie in no folder have no label.
    """
    paths = [name.split("/") for name in names]
    shared = 0
    while paths and all(len(path) > shared + 2 and path[shared] == paths[0][shared] for path in paths):
        shared += 1
    folders = {name: path[shared] for name, path in zip(names, paths, strict=True) if len(path) > shared + 1}
    classes = tuple(sorted({*folders.values()}, key=natural_key))
    numbers = {name: number for number, name in enumerate(classes)}
    return ClassLabels(classes, {name: numbers[folder] for name, folder in folders.items()}, "--labels folders")


def labels_of_json(data: bytes, path: Path) -> ClassLabels:
    """Read labels as StyleGAN's tools write them: {"labels": [["00000/img00000000.png", 6], ...]}.

    A label is a class number or a list of class weights, which sum to 1. Raises DataError for everything else.
    """
    try:
        content = json.loads(data)
    except ValueError as error:
        raise DataError(f"{path}: is not JSON: {one_line(error)}") from error
    labels: Any = content.get("labels") if isinstance(content, dict) else None
    pairs = list(labels.items()) if isinstance(labels, dict) else labels
    if not isinstance(pairs, list) or not pairs:
        raise DataError(f'{path}: holds no labels; expected {{"labels": [["00000/img00000000.png", 6], ...]}}')
    by_name: dict[str, int | tuple[float, ...]] = {}
    for pair in pairs:
        name, label = pair if isinstance(pair, (list, tuple)) and len(pair) == 2 else (pair, None)
        by_name[str(name).replace("\\", "/")] = _json_label(label, name, path)
    numbers = [label for label in by_name.values() if isinstance(label, int)]
    lengths = {len(label) for label in by_name.values() if isinstance(label, tuple)}
    if len(lengths) + bool(numbers) > 1:
        raise DataError(f"{path}: some labels are of another kind or length than others")
    count = lengths.pop() if lengths else max(numbers) + 1
    return ClassLabels(tuple(map(str, range(count))), by_name, str(path))


def _json_label(label: Any, name: object, path: Path) -> int | tuple[float, ...]:
    if isinstance(label, int) and not isinstance(label, bool) and 0 <= label < 1_000_000:
        return label
    if isinstance(label, list) and all(isinstance(weight, (int, float)) for weight in label):
        weights = tuple(map(float, label))
        if all(weight >= 0 for weight in weights) and math.isclose(sum(weights), 1, abs_tol=SUM_TOLERANCE):
            return weights
    raise DataError(
        f"{path}: the label of {name!r} is {str(label)[:60]!r}; expected a class number, or class weights that sum to 1"
    )


def labels_of_csv(path: Path) -> ClassLabels:
    """Read labels from a table with a header line: a column of file names, and one of class names or numbers.

    The columns have names of NAME_COLUMNS and LABEL_COLUMNS, or there are two of them, in this order. File names are
    relative to the folder, with / between folders. Classes are numbered in natural order of their names.

    Raises DataError for another table, an empty cell, and a picture with two labels.
    """
    lines = read_lines(path)
    rows = list(csv.reader(lines, delimiter=_delimiter(lines)))
    if not rows:
        raise DataError(f"{path}: is empty; expected a header line such as file_name,label and a line for each picture")
    name_at, label_at = _columns(rows[0], path)
    labels: dict[str, str] = {}
    for number, row in enumerate(rows[1:], start=2):
        if not any(map(str.strip, row)):
            continue
        cells = [cell.strip() for cell in row]
        if len(cells) <= max(name_at, label_at) or not cells[name_at] or not cells[label_at]:
            raise DataError(f"{path}, line {number}: expected a file name and a label, found {row}")
        name = cells[name_at].replace("\\", "/").removeprefix("./")
        if labels.setdefault(name, cells[label_at]) != cells[label_at]:
            raise DataError(f"{path}, line {number}: {name} has the label {labels[name]!r} above")
    classes = tuple(sorted({*labels.values()}, key=natural_key))
    numbers = {name: number for number, name in enumerate(classes)}
    return ClassLabels(classes, {name: numbers[label] for name, label in labels.items()}, str(path))


def _delimiter(lines: Sequence[str]) -> str:
    return max(",;\t", key=lines[0].count) if lines else ","


def _columns(header: Sequence[str], path: Path) -> tuple[int, int]:
    names = [cell.strip().lower() for cell in header]
    name_at = next((names.index(name) for name in NAME_COLUMNS if name in names), None)
    label_at = next((names.index(name) for name in LABEL_COLUMNS if name in names), None)
    if name_at is None and label_at is None and len(names) == 2:
        return 0, 1
    if name_at is None or label_at is None:
        missing = NAME_COLUMNS[0] if name_at is None else LABEL_COLUMNS[0]
        raise DataError(f"{path}: has no column {missing}; its header line is {','.join(header)[:80]!r}")
    return name_at, label_at
