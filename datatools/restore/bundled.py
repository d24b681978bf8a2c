"""Locate the bundled weights; docs/restoration.md describes their training and quality."""

from pathlib import Path

from datatools.errors import DataError
from datatools.restore.base import Variant

FOLDER = Path(__file__).with_name("data")


def bundled_weights(task: str, variant: Variant) -> Path:
    """Return the weight file for "jpeg" (there is only one) or "sr"."""
    path = FOLDER / ("jpeg.safetensors" if task == "jpeg" else f"sr-{variant}.safetensors")
    if not path.is_file():
        raise DataError(f"{path} is missing: the installation is damaged, install the program again")
    return path
