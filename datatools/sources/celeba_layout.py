"""Where the parts of CelebA lie below a folder: the official tree, and the shapes that people's copies really have."""

import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path

from datatools.errors import DataError
from datatools.files import PICTURE_ENDINGS, SYSTEM_NAMES

HOW_TO_GET = (
    "CelebA (for non-commercial research only) is at https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html: "
    "run 'python -m datatools.download celeba --out DIR', or get the In-The-Wild Images (Img/img_celeba.7z.001 to "
    ".014; unpack with '7z x img_celeba.7z.001') and the folder Anno; "
    "the aligned images (img_align_celeba, list_landmarks_align_celeba.txt) cannot be used"
)
IMAGE_DIRS = ("img_celeba", "Img/img_celeba")
LANDMARKS = ("Anno/list_landmarks_celeba.txt", "list_landmarks_celeba.txt")

_PARTS = frozenset({"img", "anno", "eval", "img_celeba", "img_celeba.7z"})
"""The official tree's folders in lower case; on CelebA's Google Drive img_celeba.7z is a folder, too."""

_SEARCHED = _PARTS | {"data", "images"}

_DEPTH = 4
"""Folders below the root that are looked into: Img/img_celeba.7z/img_celeba/img_celeba."""


@dataclass(frozen=True)
class CelebALayout:
    """What was found. All paths exist.

    Attributes:
        photos: folders that hold photos, and the names of their files.
        landmarks, attributes, identities, partition: the annotation files; None where there is none.
        archive: a part of img_celeba.7z that is not unpacked.
    """

    photos: Mapping[Path, frozenset[str]]
    landmarks: Path | None
    attributes: Path | None
    identities: Path | None
    partition: Path | None
    archive: Path | None

    @property
    def complete(self) -> bool:
        return bool(self.photos) and self.landmarks is not None


def find_layout(root: Path) -> CelebALayout:
    """Find photos and annotations below `root`, in upper or lower case.

    `root` may also be one of the official tree's own folders (Img, img_celeba, Anno), or the folder that holds it.

    Raises DataError when there are no photos or no landmarks, or several trees; the message says what was found.
    """
    if not root.is_dir():
        wanted = ", ".join(str(root / place) for place in (*IMAGE_DIRS, *LANDMARKS))
        raise DataError(f"no folder {root} (looked for {wanted}); name yours with --celeba-dir; {HOW_TO_GET}")
    for base in (root, *_above(root)):
        layout = _look_below(base)
        if layout.complete:
            return layout
    children = [(root / name, _look_below(root / name)) for name in _look_into(root).folders]
    trees = [(child, layout) for child, layout in children if layout.complete]
    if len(trees) > 1:
        names = ", ".join(child.name for child, _ in trees)
        raise DataError(f"{root} holds several CelebA trees ({names}); name one of them with --celeba-dir")
    if trees:
        return trees[0][1]
    raise DataError(_what_is_missing(root, _look_below(root)))


def find_annotations(root: Path) -> CelebALayout:
    """Find attributes, identities or the split, as `find_layout` does; photos and landmarks need not be there.

    Raises DataError where there is none of the three.
    """
    for base in (root, *_above(root), *(root / name for name in _look_into(root).folders)):
        layout = _look_below(base)
        if layout.attributes or layout.identities or layout.partition:
            return layout
    raise DataError(
        f"{root}: holds none of list_attr_celeba.txt, identity_CelebA.txt and list_eval_partition.txt; name CelebA's "
        "folder, or its Anno"
    )


def _above(root: Path) -> Iterator[Path]:
    """Yield the folders above one that is a part of the tree itself."""
    folder = Path(os.path.abspath(root))
    while folder.name.lower() in _PARTS:
        folder = folder.parent
        yield folder


@dataclass(frozen=True)
class _Folder:
    """What is in a folder, without hidden files and those that systems put there."""

    path: Path
    folders: tuple[str, ...]
    files: frozenset[str]
    broken: tuple[str, ...]
    """Links that lead nowhere, or to themselves."""


def _look_into(path: Path) -> _Folder:
    """List a folder; nothing for one that cannot be read. Types come with the names, without a stat per file."""
    folders, files, broken = [], [], []
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                try:
                    if entry.is_file():
                        files.append(entry.name)
                    elif entry.is_dir():
                        folders.append(entry.name)
                    elif not os.path.exists(entry):
                        broken.append(entry.name)
                except OSError:  # a link that leads to itself
                    broken.append(entry.name)
    except OSError:
        pass
    shown = frozenset(map(sys.intern, filter(_is_shown, files)))
    return _Folder(path, tuple(sorted(filter(_is_shown, folders))), shown, tuple(sorted(filter(_is_shown, broken))))


def _is_shown(name: str) -> bool:
    """Return whether a name is neither hidden nor one that systems put into folders."""
    return name[0] != "." and name.lower() not in SYSTEM_NAMES


def _look_below(base: Path) -> CelebALayout:
    level = [_look_into(base)]
    folders = list(level)
    for _ in range(_DEPTH):
        level = [
            _look_into(folder.path / name) for folder in level for name in folder.folders if name.lower() in _SEARCHED
        ]
        folders += level
    others = {folder.path: [name for name in folder.files if not name.endswith(".jpg")] for folder in folders}
    # a folder or a broken link of that name too: reading it says so
    names = ((folder.path, (*others[folder.path], *folder.folders, *folder.broken)) for folder in folders)
    texts = [path / name for path, in_folder in names for name in in_folder if name[-4:].lower() == ".txt"]

    def annotation(name: str, place: str) -> Path | None:
        # a browser calls a second download "name (1).txt"
        pattern = re.compile(re.escape(name) + r"( ?\(\d+\))?\.txt", re.IGNORECASE)
        found = [path for path in texts if pattern.fullmatch(path.name)]
        return min(
            found,
            key=lambda path: (not os.path.exists(path), "(" in path.name, path.parent.name.lower() != place),
            default=None,
        )

    photos = [folder for folder in folders if any(is_photo(name) for name in folder.files)]
    archives = (folder.path / name for folder in folders for name in sorted(filter(_is_archive, others[folder.path])))
    return CelebALayout(
        photos={folder.path: folder.files for folder in photos},
        landmarks=annotation("list_landmarks_celeba", "anno"),
        attributes=annotation("list_attr_celeba", "anno"),
        identities=annotation("identity_CelebA", "anno"),
        partition=annotation("list_eval_partition", "eval"),
        archive=next(archives, None),
    )


def is_photo(name: str) -> bool:
    """Return whether a file name has the ending of a picture."""
    return os.path.splitext(name)[1].lower() in PICTURE_ENDINGS


def _is_archive(name: str) -> bool:
    return name.lower().startswith("img_celeba") and ".7z" in name.lower()


def _what_is_missing(root: Path, layout: CelebALayout) -> str:
    missing = []
    if not layout.photos:
        empty = next((root / place for place in IMAGE_DIRS if (root / place).is_dir()), None)
        if empty is not None and not os.access(empty, os.R_OK | os.X_OK):
            return f"cannot list {empty}: permission denied"
        if empty is not None and layout.landmarks is not None and layout.archive is None:
            there = min(_look_into(empty).files, default="")
            return f"no photos in {empty}{f' (but {there})' if there else _pictures_elsewhere(root)}; {HOW_TO_GET}"
        missing.append("photos (looked for " + ", ".join(str(root / place) for place in IMAGE_DIRS) + ")")
        if layout.archive is not None:
            missing[-1] += f", though {layout.archive} waits to be unpacked"
        missing[-1] += _pictures_elsewhere(root)
    if layout.landmarks is None:
        missing.append("landmarks (looked for " + ", ".join(str(root / place) for place in LANDMARKS) + ")")
        similar = [path for folder in ("Anno", ".") for path in sorted((root / folder).glob("list_landmarks_celeba*"))]
        if similar:
            missing[-1] += f", though {similar[0]} is there"
    return f"found no {' and no '.join(missing)}{_broken_parts(root)}{_aligned_parts(root)}; {HOW_TO_GET}"


def _broken_parts(root: Path) -> str:
    """Name a part of the tree that is a link which leads nowhere."""
    parts = [*IMAGE_DIRS, *LANDMARKS, "Img", "Anno", "Eval"]
    broken = [root / part for part in parts if os.path.islink(root / part) and not os.path.exists(root / part)]
    return f"; {broken[0]} is a link that leads nowhere, or to itself" if broken else ""


def _pictures_elsewhere(root: Path) -> str:
    """Name a folder below that holds pictures but is not looked into, because of its name."""
    level = [_look_into(root)]
    for _ in range(_DEPTH - 1):
        level = [_look_into(folder.path / name) for folder in level for name in folder.folders if "align" not in name]
        for folder in level:
            if pictures := [name for name in folder.files if is_photo(name)]:
                place = root / IMAGE_DIRS[-1]
                return f", though {folder.path} holds {min(pictures)}; if those are the photos, move them to {place}"
    return ""


def _aligned_parts(root: Path) -> str:
    """Name what is there of the aligned pictures, which are taken for the wild ones most often."""
    folders = [root, *(root / name for name in ("Img", "Anno") if (root / name).is_dir())]
    found = [path for folder in folders for path in sorted(folder.glob("*align*celeba*"))]
    return f"; {found[0]} belongs to the aligned images" if found else ""


class PhotoNames:
    """Which file of a folder an annotation's name means: the same name, in another case, or with another ending."""

    def __init__(self, files: Set[str], annotated: Iterable[str]) -> None:
        self._files = files
        self._used = set(annotated).intersection(files)
        self._by_name: dict[str, list[str]] = {}
        self._by_stem: dict[str, list[str]] = {}
        for name in sorted(files - self._used):
            self._by_name.setdefault(name.lower(), []).append(name)
            if is_photo(name):
                self._by_stem.setdefault(_stem(name), []).append(name)

    def find(self, name: str) -> str | None:
        """Return the name of the file; None where there is none, or several could be meant. No file is found twice."""
        if name in self._files:
            return name
        converted = self._by_stem.get(_stem(name), []) if is_photo(name) else []
        for found in (self._by_name.get(name.lower(), []), converted):
            unused = [file for file in found if file not in self._used]
            if len(unused) == 1:
                self._used.add(unused[0])
                return unused[0]
        return None


def _stem(name: str) -> str:
    return os.path.splitext(name)[0].lower()
