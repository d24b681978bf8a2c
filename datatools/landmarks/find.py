"""Find the faces in all photos of a folder: reads files, spreads the work, and draws the results."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from datatools.errors import DataError
from datatools.files import as_data_error, list_pictures
from datatools.images import ImageError, read_bytes, save_jpeg
from datatools.landmarks.annotations import has_annotations
from datatools.landmarks.base import Face, LandmarkSource, select_faces
from datatools.landmarks.check import Action, Verdict, compare_all, repairs
from datatools.landmarks.draw import draw_faces
from datatools.landmarks.views import View, find_faces, load_detectors, view_photo
from datatools.parallel import Report, map_steps
from datatools.sources.celeba import read_tree


@dataclass(frozen=True)
class PhotoFolder:
    """The photos to look at.

    Attributes:
        folder: names are relative to it.
        names: of the photos, with / between folders.
        own: whether photos are turned as EXIF asks, and converted to sRGB; CelebA's landmarks refer to stored pixels.
    """

    folder: Path
    names: tuple[str, ...]
    own: bool

    def view(self, name: str) -> View:
        """Decode a photo. Raise ImageError where it cannot be used."""
        return view_photo(name, read_bytes(self.folder / name), own=self.own)


def list_photos(folder: Path) -> PhotoFolder:
    """Return the photos of a folder and its subfolders; of a CelebA tree, those of its photo folder.

    Raises: DataError where there are none.
    """
    annotated = has_annotations(folder)
    if annotated:
        folder = read_tree(folder).image_dir
    found = list_pictures(folder, recursive=True)
    if not found.pictures:
        raise DataError(f"{folder} has no pictures: name the folder that has the photos")
    names = [path.relative_to(folder).as_posix() for path in found.pictures]
    return PhotoFolder(folder, tuple(names), own=not annotated)


@dataclass(frozen=True)
class Options:
    """What to do with the faces of a photo.

    Attributes:
        all_faces, min_face: see `select_faces`.
        check: detector that the source's landmarks are compared with; None for no check.
        action: what to do with landmarks that are wrong.
        draw: folder for pictures with points; None for none.
    """

    all_faces: bool = False
    min_face: float = 0
    check: LandmarkSource | None = None
    action: Action = "report"
    draw: Path | None = None


@dataclass(frozen=True, eq=False)
class Result:
    """What was found in a photo.

    Attributes:
        name: of the photo.
        faces: those to use.
        source: where they come from.
        error: why the photo cannot be used; "" if it can.
        wrong: the checked landmarks that are wrong, as reasons.
        unchecked: how many landmarks could not be checked, since the detector found no face.
    """

    name: str
    faces: tuple[Face, ...] = ()
    source: str = ""
    error: str = ""
    wrong: tuple[str, ...] = ()
    unchecked: int = 0


@dataclass(frozen=True, eq=False)
class _Read:
    """A photo before the faces are looked for. view: None where it cannot be used, error: why."""

    name: str
    view: View | None = None
    error: str = ""


@dataclass(frozen=True)
class Work:
    """What is done with each photo, name -> `Result`; picklable, so that it reaches worker processes."""

    photos: PhotoFolder
    source: LandmarkSource
    options: Options = field(default_factory=Options)

    @property
    def sources(self) -> list[LandmarkSource]:
        """Return the source, and the detector that checks it, if one does."""
        return [self.source, self.options.check] if self.options.check else [self.source]

    def read(self, name: str) -> _Read:
        """Read a photo."""
        try:
            return _Read(name, self.photos.view(name))
        except ImageError as error:
            return _Read(name, None, str(error))

    def find(self, reads: Sequence[_Read]) -> list[list[list[Face]]]:
        """Return the faces of each photo, by each of the sources."""
        views = [read.view for read in reads]
        return [list(found) for found in zip(*(find_faces(source, views) for source in self.sources), strict=True)]

    def finish(self, read: _Read, found: list[list[Face]]) -> Result:
        """Choose among the faces of a photo, check them, and draw them."""
        if (view := read.view) is None:
            return Result(read.name, error=read.error)
        faces, detected = found[0], found[-1] if self.options.check else []
        options = self.options
        chosen = select_faces(faces, *view.size, all_faces=options.all_faces, min_face=options.min_face)
        result = Result(read.name, tuple(chosen), self.source.name)
        if options.check is not None:
            result = _checked(result, detected, view.size, options.check.name, options.action)
        if options.draw is not None:
            others = [face for face in (*faces, *detected) if face not in result.faces]
            _draw(options.draw / f"{read.name}.jpg", view, result.faces, others)
        return result


def _draw(path: Path, view: View, faces: Sequence[Face], others: Sequence[Face]) -> None:
    """Write a photo with the points and boxes of faces."""
    assert view.photo.pixels is not None
    shown, grey = ([face.scaled(1 / view.reduce) for face in group] for group in (faces, others))
    with as_data_error(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        save_jpeg(path, draw_faces(view.photo.pixels, shown, grey))


def _checked(result: Result, detected: Sequence[Face], size: tuple[int, int], detector: str, action: Action) -> Result:
    """Return a result after the check of its faces."""
    points = np.array([face.points for face in result.faces]).reshape(-1, 5, 2)
    comparisons = compare_all(points, [detected] * len(points), [size] * len(points))
    wrong = tuple(comparison.detail for comparison in comparisons if comparison.verdict is Verdict.WRONG)
    unchecked = sum(comparison.verdict is Verdict.NOT_DETECTED for comparison in comparisons)
    replaced = repairs(comparisons) if action == "repair" else [None] * len(comparisons)
    faces = [
        face if action == "report" or comparison.verdict is not Verdict.WRONG else repair
        for face, comparison, repair in zip(result.faces, comparisons, replaced, strict=True)
    ]
    source = detector if any(replaced) else result.source
    return Result(result.name, tuple(face for face in faces if face is not None), source, "", wrong, unchecked)


def find_all(work: Work, workers: int, progress: Report | None = None) -> Iterator[Result]:
    """Yield the results of all photos in their order, by processes; by threads for a source that takes batches."""
    if workers > 1:
        load_detectors(*work.sources)
    size = max(source.batch_size for source in work.sources)
    return map_steps(work.read, work.find, work.finish, work.photos.names, workers, size=size, progress=progress)
