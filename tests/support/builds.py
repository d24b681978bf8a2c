"""A tiny CelebA tree of rendered portraits, and the real command line on it."""

import hashlib
import io
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import h5py
import numpy as np
from PIL import Image

from datatools.sources.published import published_files
from tests.faults.trees import landmark_row, write_tree
from tests.support.paths import ROOT
from tests.support.portraits import Portrait, render

BASE = ("--resolution", "256", "--shard-size", "3", "--jobs", "1", "--restore", "none")
"""Options of every build here, so that it is quick."""

HANGS = 1800
"""Seconds after which a process counts as hanging: far more than any takes on a machine busy with other work."""

CHOSEN = 4
"""`--count` of the build that others are compared with: more than half of the photos, so that faces are kept."""


@dataclass(frozen=True)
class Photo:
    """One photo of the tree."""

    data: bytes
    row: str
    """Its line of the landmarks file."""


def _portrait(seed: int) -> Portrait:
    """Different enough from all others not to be taken for a duplicate."""
    random = np.random.default_rng(seed)
    skin, hair, wall, cloth = (tuple(colour) for colour in random.integers(20, 240, (4, 3)).tolist())
    return Portrait(
        seed=seed,
        size=(240, 300),
        unit=75,
        centre=(120, 140),
        roll=5 * seed - 15,
        turn=random.uniform(-0.15, 0.15),
        skin=skin,
        hair=hair,
        wall=wall,
        cloth=cloth,
        light=random.uniform(-1, 1),
        smile=random.uniform(-0.2, 0.3),
        open_mouth=random.uniform(0, 1),
        long_hair=seed % 2 == 0,
        fringe=random.uniform(0, 0.3),
        beard=random.uniform(0, 1),
        glasses=seed % 3 == 0,
    )


def _photo(name: str, portrait: Portrait, *, blur: float = 0, quality: int = 92) -> Photo:
    pixels = render(portrait)
    if blur:
        pixels = np.asarray(cv2.GaussianBlur(pixels, (0, 0), blur), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="JPEG", quality=quality)
    return Photo(stream.getvalue(), landmark_row(name, portrait.landmarks.round(1).ravel().tolist()))


def make_photos() -> dict[str, Photo]:
    """Eight photos by name, in the order of CelebA's rows: three of the published set, and one that occurs twice."""
    published = sorted(published_files()[index] for index in (11, 5, 20))
    names = [*published, "900001.jpg", "900002.jpg", "900003.jpg", "900004.jpg"]
    photos = {name: _photo(name, _portrait(seed), blur=0.1 * seed) for seed, name in enumerate(names[:6])}
    photos[names[6]] = _photo(names[6], _portrait(0), blur=0.4, quality=85)  # the first one, worse
    photos["900005.jpg"] = _photo("900005.jpg", replace(_portrait(8), centre=(70, 140)), quality=70)  # needs padding
    return photos


def make_tree(root: Path, photos: Mapping[str, Photo]) -> Path:
    """Write the photos as a CelebA tree; returns `root`."""
    rows = [photo.row for photo in photos.values()]
    return write_tree(root, {name: photo.data for name, photo in photos.items()}, rows=rows)


def command(tree: Path, out: Path, *options: object, task: str = "BuildCelebAHQ") -> list[str]:
    """The command line of a build, as a user types it. `task`: where to stop."""
    luigi = str(Path(sys.executable).with_name("luigi"))
    module = "pipelines" if task == "BuildCelebAHQ" else "pipelines.tasks"
    folders = ("--celeba-dir", str(tree), "--output-dir", str(out))
    return [luigi, "--module", module, task, *folders, "--local-scheduler", *BASE, *map(str, options)]


def environment(**extra: object) -> dict[str, str]:
    """This process's environment, with the packages to be found from any folder."""
    kept = {name: value for name, value in os.environ.items() if name != "LUIGI_CONFIG_PATH"}
    return kept | {"PYTHONPATH": str(ROOT)} | {name: str(value) for name, value in extra.items()}


def run(
    tree: Path, out: Path, *options: object, task: str = "BuildCelebAHQ", prefix: Sequence[str] = (), **extra: object
) -> subprocess.CompletedProcess[str]:
    """Run a build to its end, in a folder without luigi.cfg. `extra`: environment variables; `prefix`: a launcher."""
    return subprocess.run(
        [*prefix, *command(tree, out, *options, task=task)],
        cwd="/",
        env=environment(**extra),
        capture_output=True,
        text=True,
        timeout=HANGS,
    )


def build(tree: Path, out: Path, *options: object, task: str = "BuildCelebAHQ") -> subprocess.CompletedProcess[str]:
    """`run` that has to succeed."""
    done = run(tree, out, *options, task=task)
    assert done.returncode == 0, done.stderr
    return done


def file_names(folder: Path) -> set[str]:
    """All files below `folder`, those of its report aside, which depend on what there is to show."""
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    return {name for name in names if not name.startswith("report/") or name == "report/index.html"}


def file_states(folder: Path) -> dict[str, tuple[int, int]]:
    """(inode, time of the last change) of every file below `folder`: equal when nothing was written again."""
    states = {}
    for path in folder.rglob("*"):
        if path.is_file():
            status = path.stat()
            states[str(path.relative_to(folder))] = (status.st_ino, status.st_mtime_ns)
    return states


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def datasets(path: Path) -> dict[str, str]:
    """Name of every dataset in an HDF5 file -> digest of its shape, type and contents."""
    found: dict[str, str] = {}

    def note(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            values = item[...]
            found[name] = hashlib.sha256(f"{values.shape}{values.dtype}".encode() + values.tobytes()).hexdigest()

    with h5py.File(path) as file:
        file.visititems(note)
    return found
