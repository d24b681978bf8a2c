"""Checkpoints: everything that resuming needs, written whole or not at all, and checked before it is trusted.

`checkpoint-000001234567.pt` (images seen) is a plain torch file that loads with weights_only=True. The `.json` next to
it has its size and SHA-256 and is written last: a checkpoint without it, or that does not match it, is no checkpoint.
"""

import hashlib
import io
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from datatools.errors import one_line
from datatools.files import atomic_path, partial_path

VERSION = 1
_NAME = re.compile(r"checkpoint-(\d{12})\.(pt|json)")

Values = dict[str, Any]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on the disk, not looked into yet."""

    path: Path
    images: int

    @property
    def mark(self) -> Path:
        """Return the file that says that it is complete."""
        return self.path.with_suffix(".json")

    def remove(self) -> None:
        """Remove both files, as far as they exist."""
        self.mark.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)


def checkpoint_at(folder: Path, images: int) -> Checkpoint:
    """Return the checkpoint of that many images seen, which need not exist."""
    return Checkpoint(folder / f"checkpoint-{images:012d}.pt", images)


def named_checkpoint(path: Path) -> Checkpoint | None:
    """Return the checkpoint that a path names, by either of its files; None for another name."""
    match = _NAME.fullmatch(path.name)
    return checkpoint_at(path.parent, int(match[1])) if match else None


def checkpoints(folder: Path) -> list[Checkpoint]:
    """Return all that claim to be complete, the newest first."""
    found = []
    for path in folder.glob("checkpoint-*.json") if folder.is_dir() else ():
        match = _NAME.fullmatch(path.name)
        if match:
            found.append(checkpoint_at(folder, int(match[1])))
    return sorted(found, key=lambda checkpoint: checkpoint.images, reverse=True)


def save_checkpoint(folder: Path, values: Values, keep: int) -> Checkpoint:
    """Write `values` (tensors, numbers, texts, lists and dicts of them) and remove all but the newest `keep`.

    `values["images"]` is the number of images seen.
    """
    folder.mkdir(exist_ok=True)
    checkpoint = checkpoint_at(folder, values["images"])
    buffer = io.BytesIO()
    torch.save({**values, "version": VERSION}, buffer)
    data = buffer.getbuffer()
    checkpoint.mark.unlink(missing_ok=True)  # an old one of that name is no longer what is described
    with atomic_path(checkpoint.path) as temporary, temporary.open("wb") as stream:
        stream.write(data)
    mark = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), "images": checkpoint.images}
    with atomic_path(checkpoint.mark) as temporary:
        temporary.write_text(json.dumps(mark) + "\n", encoding="utf-8")
    remove_old(folder, keep)
    return checkpoint


def remove_old(folder: Path, keep: int) -> None:
    """Leave the newest `keep` checkpoints, and nothing of those that were never finished."""
    kept = {checkpoint.images for checkpoint in checkpoints(folder)[:keep]}
    for path in folder.glob("checkpoint-*"):
        match = _NAME.fullmatch(path.name)
        if match and int(match[1]) not in kept:
            checkpoint_at(folder, int(match[1])).remove()
    for path in folder.glob(partial_path(folder / "checkpoint-*").name):
        path.unlink(missing_ok=True)


def remove_after(folder: Path, images: int) -> None:
    """Remove checkpoints of more than `images` seen: damaged ones, or of a future that will be trained anew."""
    for checkpoint in checkpoints(folder):
        if checkpoint.images > images:
            checkpoint.remove()


def load_checkpoint(checkpoint: Checkpoint) -> Values:
    """Return what `save_checkpoint` was given, tensors on the CPU; ValueError says what is wrong with it."""
    try:
        mark = json.loads(checkpoint.mark.read_text(encoding="utf-8"))
        data = checkpoint.path.read_bytes()
        if (len(data), hashlib.sha256(data).hexdigest()) != (mark["bytes"], mark["sha256"]):
            raise ValueError(f"{len(data)} bytes that are not the {mark['bytes']} bytes written")
        values: Values = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises nearly anything for bytes that it did not write
        raise ValueError(one_line(error)) from error
    if not isinstance(values, dict):
        raise ValueError("it holds no values by name")
    if values.get("version") != VERSION:
        raise ValueError(f"written by version {values.get('version')} of this program's checkpoints, not {VERSION}")
    return values


def newest_good(folder: Path, warn: Callable[[str], None]) -> Values | None:
    """Return the newest checkpoint that can be trusted, or None; `warn` gets a line about each that cannot."""
    for checkpoint in checkpoints(folder):
        try:
            return load_checkpoint(checkpoint)
        except ValueError as error:
            warn(f"{checkpoint.path.name} is damaged ({error}); trying the one before")
    return None
