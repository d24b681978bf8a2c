"""The weights that come with the program: docs/restoration.md says what they were trained on and how good they are."""

from pathlib import Path

from datatools.errors import DataError
from datatools.restore.base import Variant

FOLDER = Path(__file__).with_name("data")


def bundled_weights(task: str, variant: Variant) -> Path:
    """Weight file for "jpeg" (of which there is one) or "sr"."""
    path = FOLDER / ("jpeg.safetensors" if task == "jpeg" else f"sr-{variant}.safetensors")
    if not path.is_file():
        raise DataError(f"{path} is missing: the installation is damaged, install the program again")
    return path
