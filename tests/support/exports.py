"""Plain readers of exported layouts, after the descriptions of the projects that define them."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]


def decode(data: bytes) -> Pixels:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def read_tree(root: Path) -> dict[str, bytes]:
    """The files below a folder, or the one file, by name."""
    if root.is_file():
        return {root.name: root.read_bytes()}
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def read_stylegan_zip(path: Path) -> tuple[list[str], list[Pixels], NDArray[Any] | None]:
    """Names, pictures and labels as StyleGAN2-ADA's `ImageFolderDataset` reads them: pictures in order of their names.

    Labels are class numbers (N,), or vectors (N, K).
    """
    Image.init()
    with zipfile.ZipFile(path) as archive:
        names = sorted(name for name in archive.namelist() if Path(name).suffix.lower() in Image.EXTENSION)
        labels = json.loads(archive.read("dataset.json"))["labels"]
        by_name = None if labels is None else dict(labels)
        pictures = [decode(archive.read(name)) for name in names]
    return names, pictures, None if by_name is None else np.array([by_name[name] for name in names])


def read_class_folders(root: Path) -> tuple[list[str], list[tuple[Pixels, int]]]:
    """Classes and (picture, class) as torchvision's `ImageFolder` has them: sorted folders, sorted files in them."""
    classes = sorted(path.name for path in root.iterdir() if path.is_dir())
    files = [(path, number) for number, name in enumerate(classes) for path in sorted((root / name).rglob("*.png"))]
    return classes, [(decode(path.read_bytes()), number) for path, number in files]
