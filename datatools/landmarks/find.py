"""Find the faces in all photos of a folder: reads files, spreads the work, and draws the results."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from datatools.errors import DataError
from datatools.files import as_data_error, list_pictures
from datatools.images import ImageError, read_bytes, read_rgb, save_jpeg
from datatools.landmarks.annotations import has_annotations
from datatools.landmarks.base import Face, LandmarkSource, Photo, Picture, select_faces
from datatools.landmarks.check import Action, Comparison, Verdict, compare
from datatools.landmarks.draw import draw_faces
from datatools.parallel import Report, map_in_groups, map_in_processes
from datatools.sources.celeba import read_tree
from datatools.sources.own_pictures import decode_own


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

    def read(self, name: str) -> Picture:
        """Return the pixels of a photo. Raise ImageError where it cannot be used."""
        path = self.folder / name
        return decode_own(read_bytes(path)) if self.own else read_rgb(path)


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
    """A photo before the faces are looked for; pixels: None for one that cannot be used, or need not be read."""

    photo: Photo
    error: str = ""


@dataclass(frozen=True)
class Work:
    """Function object, name of a photo -> `Result`; picklable, so that it reaches worker processes."""

    photos: PhotoFolder
    source: LandmarkSource
    options: Options = field(default_factory=Options)

    def __call__(self, name: str) -> Result:
        read = self.read(name)
        return self.finish(read, self.find([read])[0])

    def read(self, name: str) -> _Read:
        """Read a photo."""
        try:
            return _Read(Photo(name, self.photos.read(name)))
        except ImageError as error:
            return _Read(Photo(name), str(error))

    def find(self, reads: Sequence[_Read]) -> list[tuple[list[Face], list[Face]]]:
        """Return the faces of photos by the source and by the detector that checks it."""
        good = [read.photo for read in reads if not read.error]
        faces = iter(self.source.find(good))
        detected = iter(self.options.check.find(good) if self.options.check else [[] for _ in good])
        return [([], []) if read.error else (next(faces), next(detected)) for read in reads]

    def finish(self, read: _Read, found: tuple[list[Face], list[Face]]) -> Result:
        """Choose among the faces of a photo, check them, and draw them."""
        name, pixels = read.photo.name, read.photo.pixels
        if pixels is None:
            return Result(name, error=read.error)
        height, width = pixels.shape[:2]
        faces, detected = found
        options = self.options
        chosen = select_faces(faces, width, height, all_faces=options.all_faces, min_face=options.min_face)
        result = Result(name, tuple(chosen), self.source.name)
        if options.check is not None:
            result = _checked(result, detected, (width, height), options.check.name, options.action)
        if options.draw is not None:
            path = options.draw / f"{name}.jpg"
            with as_data_error(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                others = [face for face in (*faces, *detected) if face not in result.faces]
                save_jpeg(path, draw_faces(pixels, result.faces, others))
        return result


def _checked(result: Result, detected: Sequence[Face], size: tuple[int, int], detector: str, action: Action) -> Result:
    """Return a result after the check of its faces."""
    comparisons = [compare(face.points, detected, *size) for face in result.faces]
    wrong = tuple(comparison.detail for comparison in comparisons if comparison.verdict is Verdict.WRONG)
    unchecked = sum(comparison.verdict is Verdict.NOT_DETECTED for comparison in comparisons)
    faces = list(_after(action, result.faces, comparisons))
    repaired = action == "repair" and bool(wrong) and bool(faces)
    return Result(result.name, tuple(faces), detector if repaired else result.source, "", wrong, unchecked)


def _after(action: Action, faces: Iterable[Face], comparisons: Iterable[Comparison]) -> Iterator[Face]:
    """Yield the faces to use: wrong ones as they are, left out, or as they were detected, each of these once."""
    used: list[Face] = []
    for face, comparison in zip(faces, comparisons, strict=True):
        if comparison.verdict is not Verdict.WRONG or action == "report":
            yield face
        elif action == "repair" and comparison.face is not None and comparison.face not in used:
            used.append(comparison.face)
            yield comparison.face


def find_all(work: Work, workers: int, progress: Report | None = None) -> Iterator[Result]:
    """Yield the results of all photos in their order, by processes; by threads for a source that takes batches."""
    sizes = [work.source.batch_size, work.options.check.batch_size if work.options.check else 1]
    if max(sizes) == 1:
        yield from map_in_processes(work, work.photos.names, workers, progress)
    else:
        yield from map_in_groups(
            work.read, work.find, work.finish, work.photos.names, size=max(sizes), threads=workers, progress=progress
        )
