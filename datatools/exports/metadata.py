"""What is known about exported pictures: a row for each, their names and classes, and the files that hold these."""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datatools.errors import SettingError
from datatools.exports.base import ExportOptions, Layout, Named
from datatools.pyramid import Pyramid
from datatools.pyramid.format import COLUMNS, UNKNOWN
from datatools.pyramid.labels import read_labels, split_names
from datatools.pyramid.landmarks import landmarks_in_pictures
from datatools.pyramid.subset import SPLITS
from datatools.text import counted

OF_PROVENANCE = ("identity", "split")
"""Choices of labels besides those of `read_labels`."""


@dataclass(frozen=True)
class Classes:
    """Classes of pictures.

    Attributes:
        names: of the classes.
        labels: of each picture the number of its class, or a list of the weights of all classes.
        folders: names of folders for the classes, which sort in their order.
    """

    names: tuple[str, ...]
    labels: Sequence[int | list[float]]

    @property
    def weights(self) -> bool:
        return isinstance(self.labels[0], list)

    @property
    def folders(self) -> list[str]:
        safe = [re.sub(r"[/\\\0]|^\.|^$", "_", name) for name in self.names]
        if sorted({*safe}) == safe:
            return safe
        digits = len(str(len(safe) - 1))
        return [f"{number:0{digits}}-{name}" for number, name in enumerate(safe)]


def read_classes(pyramid: Pyramid, choice: str, chosen: NDArray[np.intp]) -> Classes | None:
    """Return the classes of the chosen images.

    choice: "none"; "identity" or "split", a class of each that occurs; "file" or attribute names, see `read_labels`.
    Raises SettingError for images of which the class is not known, and as `read_labels` does.
    """
    if choice in OF_PROVENANCE:
        values = pyramid.provenance(choice)[chosen]
        unknown = int(np.count_nonzero(values == UNKNOWN))
        if unknown:
            verb = "has" if unknown == 1 else "have"
            problem = f"{choice}: {unknown} of {counted(len(values), 'image')} {verb} none"
            raise SettingError("labels", f"{problem}; choose other images or labels")
        kinds, numbers = np.unique(values, return_inverse=True)
        digits = len(str(kinds[-1]))
        names = [SPLITS[kind] if choice == "split" else f"{kind:0{digits}}" for kind in kinds.tolist()]
        return Classes(tuple(names), numbers.tolist())
    labels = read_labels(pyramid, choice, chosen)
    if labels is None:
        return None
    one_hot = bool((np.count_nonzero(labels, axis=1) == 1).all())
    names = _class_names(pyramid, choice, labels.shape[1])
    return Classes(tuple(names), labels.argmax(axis=1).tolist() if one_hot else labels.tolist())


def _class_names(pyramid: Pyramid, choice: str, count: int) -> list[str]:
    if choice == "file":
        names = json.loads(str(pyramid.settings.get("classes", "[]")))
        return names if len(names) == count else [f"{number:0{len(str(count - 1))}}" for number in range(count)]
    attributes = split_names(choice)
    flags = [[number >> place & 1 for place in reversed(range(len(attributes)))] for number in range(count)]
    return ["-".join(n if on else f"not_{n}" for n, on in zip(attributes, row, strict=True)) for row in flags]


def picture_names(
    pyramid: Pyramid, chosen: NDArray[np.intp], layout: Layout, options: ExportOptions, classes: Classes | None
) -> list[str]:
    """Return the name of each picture in the export.

    Raises DataError for names of photos that cannot name pictures: not known, not UTF-8, or two that are equal.
    """
    digits = max(5, len(str(len(pyramid) - 1)))
    stems: Sequence[str | None] = [None] * len(chosen)
    if options.names == "source":
        stems = _stems(pyramid, chosen)
    folders: Sequence[str | None] = [None] * len(chosen)
    if layout.needs_classes:
        if classes is None or classes.weights:
            reason = "are needed: a folder is made for each class" if classes is None else "are weights of classes"
            raise SettingError("labels", f"{reason}; choose identity, split, or an attribute such as Smiling")
        folders = [classes.folders[label] for label in classes.labels if isinstance(label, int)]
    names = [
        layout.name(Named(number, digits, position, options.resolution, stem, folder, options.ending))
        for position, (number, stem, folder) in enumerate(zip(chosen.tolist(), stems, folders, strict=True))
    ]
    name, times = Counter(name.casefold() for name in names).most_common(1)[0]
    if times > 1:
        raise SettingError("names", f"source: {times} pictures would be called {name}; choose index")
    return names


def _stems(pyramid: Pyramid, chosen: NDArray[np.intp]) -> list[str]:
    """Return the photos' names without ending; a further face of a photo has its number behind it."""
    stems = []
    photos, faces = pyramid.provenance("file_name")[chosen], pyramid.provenance("face")[chosen]
    for number, photo, face in zip(chosen.tolist(), photos.tolist(), faces.tolist(), strict=True):
        if {*photo.split("/")} & {"", ".", ".."} or photo != _printable(photo):
            what = f"is {photo!r}, which is no name of a picture" if photo else "is not known"
            raise SettingError("names", f"source: the photo of image {number} {what}; choose index")
        folder, slash, base = photo.rpartition("/")
        stem = base.rpartition(".")[0] or base
        stems.append(f"{folder}{slash}{stem}" + (f"_{face}" if face else ""))
    return stems


def _printable(text: str) -> str:
    """Return a photo's name as UTF-8 can store it."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


class Facts:
    """The rows of an export: row(position) is a dictionary of plain values, None where something is not known.

    Args:
        resolution: side of the pictures, in whose pixels `picture_landmarks` are.
        names: of the pictures, in order.
        classes: None without labels.
    """

    def __init__(
        self,
        pyramid: Pyramid,
        chosen: NDArray[np.intp],
        resolution: int,
        names: Sequence[str],
        classes: Classes | None,
    ) -> None:
        self.chosen, self.names = chosen, names
        self.labels = None if classes is None else classes.labels
        self.attribute_names = pyramid.attribute_names
        self.columns = {column.name: pyramid.provenance(column.name)[chosen] for column in COLUMNS}
        quads, points = self.columns["quad"], self.columns["landmarks"]
        self.columns["picture_landmarks"] = landmarks_in_pictures(points, quads, resolution)
        self.flags = pyramid.provenance("attributes")[chosen] if pyramid.attribute_names else None

    def row(self, position: int) -> dict[str, Any]:
        """Return what is known about a picture, by the names of docs/exports.md."""
        values = {name: _plain(column[position]) for name, column in self.columns.items()}
        row = {"file_name": self.names[position], "index": int(self.chosen[position]), "photo": values["file_name"]}
        row |= {name: value for name, value in values.items() if name != "file_name"}
        row["split"] = None if row["split"] is None else SPLITS[row["split"]]
        if self.flags is not None:
            row["attributes"] = dict(zip(self.attribute_names, self.flags[position].tolist(), strict=True))
        if self.labels is not None:
            row["label"] = self.labels[position]
        return row

    def rows(self) -> Iterable[dict[str, Any]]:
        return (self.row(position) for position in range(len(self.names)))


def _plain(value: Any) -> Any:
    """Return a value of a column as JSON has it; None where it is not known."""
    if isinstance(value, str):
        return _printable(value) or None
    plain = value.tolist()
    unknown = plain == UNKNOWN if value.dtype.kind == "i" else not np.isfinite(value).all()
    return None if unknown else plain


def flat_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row without dictionaries: attributes.Smiling in place of attributes["Smiling"]."""
    flat: dict[str, Any] = {}
    for name, value in row.items():
        flat |= {f"{name}.{key}": each for key, each in value.items()} if isinstance(value, dict) else {name: value}
    return flat


def table(rows: Iterable[Mapping[str, Any]], kind: str) -> bytes:
    """Return the rows as JSON lines, or as CSV with a header line; in CSV, lists are JSON and unknown values empty."""
    if kind == "jsonl":
        return "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows).encode()
    text = io.StringIO()
    writer = None
    for row in map(flat_row, rows):
        if writer is None:
            writer = csv.DictWriter(text, list(row), lineterminator="\n")
            writer.writeheader()
        writer.writerow({name: json.dumps(value) if isinstance(value, list) else value for name, value in row.items()})
    return text.getvalue().encode()


def level_filter(pyramid: Pyramid, resolution: int) -> str:
    """Return in words how the pixels of a level were made from those of the top one."""
    block = pyramid.resolution // resolution
    if block == 1:
        return "none: the top level as it is stored"
    return f"box: rounded mean of {block} x {block} pixels of the top level"


def description(
    pyramid: Pyramid, options: ExportOptions, count: int, classes: Classes | None, selection: str
) -> dict[str, Any]:
    """Return what export.json says about an export."""
    return {
        "layout": options.to,
        "count": count,
        "level": options.resolution,
        "level_filter": level_filter(pyramid, options.resolution),
        "picture_format": options.picture_format,
        "quality": options.used_quality,
        "names": options.names,
        "selection": selection,
        "labels": options.labels,
        "classes": None if classes is None else list(classes.names),
        "attribute_names": list(pyramid.attribute_names),
        "source": pyramid.path.name,
        "source_digest": pyramid.digest(options.resolution),
        "source_settings": pyramid.settings,
    }
